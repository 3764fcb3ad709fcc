"""What a producer may set for a job: values checked where they are made, standard library only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

from heavylift.contract import limits
from heavylift.contract.durations import Duration, to_ms
from heavylift.dedupe import Dedupe, check_key, dedupe_of
from heavylift.elsewhere import unknown
from heavylift.errors import InvalidDurationError, InvalidInputError
from heavylift.remembered import remembered

IfExists = Literal["return", "raise", "retry_failed", "replace"]
IF_EXISTS: tuple[IfExists, ...] = ("return", "raise", "retry_failed", "replace")

ATTEMPTS_MAX = 100
"""Attempts of one job; a queue's ``allow.maxAttempts`` is usually far below."""
ENV_MAX, LABELS_MAX = 64, 32
_VALUE_MAX = 4096
_PERCENT = 100
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_RESOURCE = re.compile(r"[a-z0-9](?:[a-z0-9./-]{0,251}[a-z0-9])?", re.IGNORECASE)
_QUANTITY = re.compile(r"(?:\d+(?:\.\d+)?|\.\d+)(?:m|k|Ki|[MGTPE]i?|[eE][+-]?\d+)?")


def duration_ms(option: str, value: object) -> int:
    """Return the milliseconds of an option's duration.

    Raises:
        InvalidDurationError: not a duration; the message names the option.
    """
    if not isinstance(value, timedelta | str | int | float):
        raise InvalidDurationError(f"{option} is {value!r}: write 90s, 15m, 168h, a timedelta or seconds")
    try:
        return to_ms(value)
    except InvalidDurationError as error:
        raise InvalidDurationError(f"{option}: {error}") from None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt; made by ``exponential`` or ``fixed``."""

    type: Literal["Exponential", "Fixed"]
    delay_ms: int
    max_ms: int | None = None
    jitter_percent: int = 0
    """The wait is drawn between ``100 - jitter`` and 100 percent of the computed one."""

    @classmethod
    def exponential(cls, delay: Duration, *, max: Duration | None = None, jitter: float = 0.5) -> Backoff:  # noqa: A002 - the field it sets
        """Return waits of ``delay``, twice that, four times that ... at most ``max``.

        Args:
            delay: wait after the first failure.
            max: the longest wait; None = the queue's.
            jitter: 0 to 1, the share of the wait that is random.

        Raises:
            InvalidDurationError: not a duration.
            InvalidInputError: a jitter outside 0 to 1, or ``max`` below ``delay``.
        """
        return _backoff("Exponential", delay, max, jitter)

    @classmethod
    def fixed(cls, delay: Duration, *, jitter: float = 0.0) -> Backoff:
        """Return the same wait after each failure; ``jitter`` as in ``exponential``."""
        return _backoff("Fixed", delay, None, jitter)

    def to_json(self) -> dict[str, Any]:
        """Return the shape stored with the job; durations in ms, None left out."""
        shape = {"type": self.type, "delay": self.delay_ms, "max": self.max_ms, "jitterPercent": self.jitter_percent}
        return {key: value for key, value in shape.items() if value is not None}


@remembered
def _backoff(kind: Any, delay: Duration, longest: Duration | None, jitter: float) -> Backoff:
    max_ms = None if longest is None else duration_ms("backoff max", longest)
    made = Backoff(kind, duration_ms("backoff delay", delay), max_ms, _percent(jitter))
    if max_ms is not None and max_ms < made.delay_ms:
        raise InvalidInputError("backoff: max is shorter than delay; give a longer max")
    return made


def _percent(jitter: object) -> int:
    if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        raise InvalidInputError(f"jitter {jitter!r} is not a share: use a number from 0 to 1, for example 0.5")
    return round(jitter * _PERCENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits on a job's time; None = the queue's.

    Raises:
        InvalidDurationError: on creation, if one is not a duration.
    """

    pending: Duration | None = None
    """Job created -> container running."""
    run: Duration | None = None
    """Each attempt's running time."""
    heartbeat: Duration | None = None
    """Between two reports of progress."""
    total: Duration | None = None
    """From the first claim to the end of the last attempt; over = the job fails as ``timeout``, with no retry."""

    def __post_init__(self) -> None:
        for name, ms in self.to_json().items():
            if ms == 0:
                raise InvalidInputError(f"timeouts: {name} is 0; give a positive duration, or leave it out")

    def to_json(self) -> dict[str, int]:
        """Return the shape stored with the job: ms by name, None left out."""
        given = {"pending": self.pending, "run": self.run, "heartbeat": self.heartbeat, "total": self.total}
        return {name: duration_ms(f"timeouts {name}", value) for name, value in given.items() if value is not None}


class EnqueueOptions(TypedDict, total=False):
    """Options of one enqueue; what is left out is the task's, then the queue's."""

    id: str
    """Letters, digits, ``-`` and ``_``; a random one when left out."""
    if_exists: IfExists
    """What to do when a job of this id exists; other data or another queue under the id always raises."""
    delay: Duration
    """Not before this much later."""
    expires: Duration
    """Not started by then = failed as expired."""
    max_attempts: int
    backoff: Backoff
    timeouts: Timeouts
    resources: Mapping[str, str | int]
    """Request and limit of the job's container, for example ``{"memory": "4Gi"}``."""
    env: Mapping[str, str]
    labels: Mapping[str, str]
    depends_on: Sequence[Any]
    """Jobs or ids that must complete first."""
    priority: int
    """-1000 to 1000, lower is sooner; first in, first out within one. 0 when neither job nor queue say otherwise."""
    lifo: bool
    """To the front of those of its priority, before what waits there already."""
    key: str
    """Jobs of one key share ``spec.concurrency.perKey`` of their queue, and their turn."""
    dedupe: str | Dedupe
    """At most one unfinished job per key; a text is ``Dedupe(text)``."""


class JobRequest:
    """One job of ``enqueue_many``: the same arguments as ``enqueue``."""

    __slots__ = ("data", "options", "task")

    def __init__(self, task: str, data: Any = None, **options: Unpack[EnqueueOptions]) -> None:
        self.task = task
        self.data = data
        self.options: EnqueueOptions = options

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        given = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"JobRequest({self.task!r}, {self.data!r}{given})"


# -- checks of single options -----------------------------------------------------------------------------------------
def check_attempts(value: object) -> int:
    """Return ``max_attempts`` if it is a whole number from 1 to ATTEMPTS_MAX.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ATTEMPTS_MAX:
        raise InvalidInputError(f"max_attempts is {value!r}: give a whole number from 1 to {ATTEMPTS_MAX}")
    return value


def check_resources(value: object) -> dict[str, str]:
    """Return resources as name -> Kubernetes quantity.

    Raises:
        InvalidInputError: not such a mapping; the message names the entry.
    """
    checked: dict[str, str] = {}
    for name, amount in _entries("resources", value, '{"memory": "4Gi"}'):
        text = str(amount) if isinstance(amount, int) and not isinstance(amount, bool) else amount
        if not _RESOURCE.fullmatch(name):
            raise InvalidInputError(f"resources: {name[:60]!r} is no resource name, for example memory or cpu")
        if not isinstance(text, str) or not _QUANTITY.fullmatch(text):
            raise InvalidInputError(f"resources: {name} is {amount!r}: give a quantity such as 500m, 2 or 4Gi")
        checked[name] = text
    return checked


def check_env(value: object) -> dict[str, str]:
    """Return env as name -> text; names starting with HEAVYLIFT_ are ours.

    Raises:
        InvalidInputError: not such a mapping; the message names the entry.
    """
    checked: dict[str, str] = {}
    for name, text in _entries("env", value, '{"LOG_LEVEL": "debug"}', ENV_MAX):
        if not _ENV_NAME.fullmatch(name):
            raise InvalidInputError(f"env: {name[:60]!r} is no variable name: use letters, digits and '_'")
        if name.startswith("HEAVYLIFT_"):
            raise InvalidInputError(f"env: {name[:60]} is set by Heavylift itself; choose another name")
        if not isinstance(text, str) or _NO_TEXT.search(text) or len(text) > _VALUE_MAX:
            raise InvalidInputError(
                f"env: {name} must be text of at most {_VALUE_MAX} characters without NUL and lone surrogates"
            )
        checked[name] = text
    return checked


def check_labels(value: object) -> dict[str, str]:
    """Return labels as Kubernetes takes them; ``heavylift.dev/`` is ours.

    Raises:
        InvalidInputError: not such a mapping; the message names the entry.
    """
    checked: dict[str, str] = {}
    for name, text in _entries("labels", value, '{"team": "bi"}', LABELS_MAX):
        if not _LABEL_NAME.fullmatch(name):
            raise InvalidInputError(f"labels: {name[:60]!r} is no label key, for example team or example.com/team")
        if name.startswith("heavylift.dev/"):
            raise InvalidInputError(f"labels: {name[:60]} is set by Heavylift itself; choose another key")
        if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
            raise InvalidInputError(
                f"labels: {name} is {str(text)[:80]!r}: a value has at most 63 letters, digits, '-', '_' and '.'"
            )
        checked[name] = text
    return checked


def _entries(option: str, value: object, example: str, most: int = 16) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidInputError(f"{option} is not a mapping with text keys: write it like {option}={example}")
    if len(value) > most:
        raise InvalidInputError(f"{option} has {len(value)} entries, more than {most}")
    return list(value.items())


# -- all options of one enqueue ---------------------------------------------------------------------------------------
class ChangeOptions(TypedDict, total=False):
    """What ``Job.change`` may set anew."""

    priority: int
    delay: Duration
    """From now; 0 = wait now."""
    data: Any


class RetryOptions(TypedDict, total=False):
    """What ``Job.retry`` may set anew."""

    data: Any
    priority: int
    max_attempts: int
    backoff: Backoff
    timeouts: Timeouts
    resources: Mapping[str, str | int]
    env: Mapping[str, str]
    labels: Mapping[str, str]


def stored_options(
    options: Mapping[str, Any], known: Collection[str] = EnqueueOptions.__annotations__
) -> dict[str, Any]:
    """Return the shape in which a job's own options are stored: only what was set, durations in ms.

    Args:
        options: some of those in ``known`` that say how a job is run.
        known: names of all that may be given there, told when one is unknown.

    Raises:
        InvalidInputError: an option is unknown, not available yet, or not usable; the message names it.
    """
    stored: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _CHECKS:
            raise unknown(name, known)
        if value is not None:
            _CHECKS[name](stored, value)
    return stored


def _set_attempts(stored: dict[str, Any], value: object) -> None:
    stored["maxAttempts"] = check_attempts(value)


def _set_backoff(stored: dict[str, Any], value: object) -> None:
    if not isinstance(value, Backoff):
        raise InvalidInputError(f"backoff is {value!r}: make one with Backoff.exponential(...) or Backoff.fixed(...)")
    stored["backoff"] = value.to_json()


def _set_timeouts(stored: dict[str, Any], value: object) -> None:
    if not isinstance(value, Timeouts):
        raise InvalidInputError(f"timeouts is {value!r}: write it like Timeouts(run='30m')")
    if value.heartbeat is not None:
        raise InvalidInputError("Timeouts(heartbeat=...) is not available yet: leave it out")
    if given := value.to_json():
        stored["timeouts"] = given


def _set_resources(stored: dict[str, Any], value: object) -> None:
    if given := check_resources(value):
        stored["resources"] = given


def _set_env(stored: dict[str, Any], value: object) -> None:
    if given := check_env(value):
        stored["env"] = given


def _set_labels(stored: dict[str, Any], value: object) -> None:
    if given := check_labels(value):
        stored["labels"] = given


def check_priority(value: object) -> int:
    """Return a priority if it is a whole number from -1000 to 1000.

    Raises:
        InvalidInputError: it is not.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not -limits.PRIORITY_MAX <= value <= limits.PRIORITY_MAX
    ):
        most = limits.PRIORITY_MAX
        raise InvalidInputError(f"priority is {value!r}: give a whole number from -{most} to {most}; lower is sooner")
    return value


def _set_priority(stored: dict[str, Any], value: object) -> None:
    stored["priority"] = check_priority(value)


def _set_lifo(stored: dict[str, Any], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidInputError(f"lifo is {value!r}: use True or False")
    if value:
        stored["lifo"] = True


def _set_key(stored: dict[str, Any], value: object) -> None:
    stored["key"] = check_key("key", value)


def _set_dedupe(stored: dict[str, Any], value: object) -> None:
    if given := dedupe_of(value):
        stored["dedupe"] = given.to_json()


_CHECKS = {
    "max_attempts": _set_attempts,
    "backoff": _set_backoff,
    "timeouts": _set_timeouts,
    "resources": _set_resources,
    "env": _set_env,
    "labels": _set_labels,
    "priority": _set_priority,
    "lifo": _set_lifo,
    "key": _set_key,
    "dedupe": _set_dedupe,
}
