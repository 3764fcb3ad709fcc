"""Deduplication as a producer asks for it: values checked where they are made, standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from heavylift.contract.durations import Duration, to_ms
from heavylift.errors import InvalidDurationError, InvalidInputError

_MODES = ("first", "keep_last", "debounce")
_KEY_MAX = 200


def check_key(what: str, value: object) -> str:
    """Return a deduplication or concurrency key if it is usable.

    Raises:
        InvalidInputError: it is not; the message begins with ``what``.
    """
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= _KEY_MAX:
        raise InvalidInputError(f"{what} is {str(value)[:60]!r}: give 1 to {_KEY_MAX} bytes of printable text")
    return value


def _ttl_ms(ttl: Duration) -> int:
    try:
        return to_ms(ttl)
    except InvalidDurationError as error:
        raise InvalidDurationError(f"dedupe ttl: {error}") from None


DedupeMode = Literal["first", "keep_last", "debounce"]


@dataclass(frozen=True, slots=True)
class Dedupe:
    """At most one unfinished job per key and queue; an enqueue that meets it returns the job there (not ``created``).

    Raises:
        InvalidInputError: on creation, if a part is not usable (InvalidDurationError for ``ttl``).
    """

    key: str
    """1 to 200 bytes of text; free again once its job completed, failed for good, was cancelled or removed."""
    mode: DedupeMode = "first"
    """What an enqueue does while the key is held:

    - ``first``: nothing. With ``ttl`` it is a throttle: the key is held for exactly so long, whether the job ended or
      not, and free earlier only when the job is cancelled or removed.
    - ``keep_last``: the latest data wins. It replaces that of a job that has not started; once it has, one follower
      waits for its end, and further enqueues replace the follower's data.
    - ``debounce``: the job starts ``ttl`` after the last enqueue, with its data; a job that became due is left alone
      and a new one is made.
    """
    ttl: Duration | None = None
    """Of a throttle or a debounce; a debounce needs it and has no other ``delay``."""

    def __post_init__(self) -> None:
        check_key("dedupe: the key", self.key)
        if self.mode not in _MODES:
            raise InvalidInputError(f"dedupe: the mode is {self.mode!r:.40}: use one of {', '.join(_MODES)}")
        if self.mode == "debounce" and self.ttl is None:
            raise InvalidInputError("dedupe: debounce needs a ttl: how long it must be quiet before the job starts")
        if self.mode == "keep_last" and self.ttl is not None:
            raise InvalidInputError("dedupe: keep_last has no ttl: its key is held until the job ended; leave it out")
        if self.ttl is not None and _ttl_ms(self.ttl) == 0:
            raise InvalidInputError("dedupe: ttl is 0: give a positive duration, or leave it out")

    def to_json(self) -> dict[str, Any]:
        """Return the shape the store takes: ``{"id", "mode", "ttl" (ms)}``, None left out."""
        shape: dict[str, Any] = {"id": self.key, "mode": self.mode}
        return shape if self.ttl is None else {**shape, "ttl": _ttl_ms(self.ttl)}


def dedupe_of(value: object) -> Dedupe | None:
    """Return a ``dedupe`` as a Dedupe; a text is ``Dedupe(text)``, None is none.

    Raises:
        InvalidInputError: it is neither.
    """
    given = Dedupe(value) if isinstance(value, str) else value
    if given is None or isinstance(given, Dedupe):
        return given
    raise InvalidInputError(f"dedupe is {value!r:.80}: give the key as text, or Dedupe(key, mode=..., ttl=...)")
