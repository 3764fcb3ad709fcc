"""Durations as users write them: Go-style strings, timedelta, or seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

from heavylift.errors import InvalidDurationError

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_TEXT_MAX = 100
"""Characters; none that anybody means is longer, and what was parsed is kept for a while."""
_PART = re.compile(r"(\d{1,18})(ms|s|m|h)")
_LONGEST_MS = 876_000 * 3_600_000
"""A hundred years: later moments are beyond what scripts and calendars hold."""

Duration = timedelta | str | float | int


def to_ms(value: Duration) -> int:
    """Return whole milliseconds of ``90s``, ``1h30m``, ``250ms``, a timedelta or a number of seconds.

    Raises:
        InvalidDurationError: negative, over a hundred years, not finite, or not of that form (Go's strings, no days).
    """
    if isinstance(value, timedelta):
        return _checked(value.total_seconds())
    if isinstance(value, bool):
        raise InvalidDurationError(f"{value!r} is not a duration: write 90s, 15m, 168h, a timedelta or seconds")
    if isinstance(value, int | float):
        if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN is the one value unlike itself
            raise InvalidDurationError(f"{value!r} is not a duration: write 90s, 15m, 168h, a timedelta or seconds")
        return _checked(value)
    if len(value) > _TEXT_MAX:
        raise _not_one(value)
    return _checked(_parse(str.__str__(value)) / 1000)  # as plain text: one of a user's own type may be no key


@lru_cache(maxsize=256)  # jobs of one batch mostly say the same
def _parse(text: str) -> int:
    if text == "0":
        return 0
    position = total = 0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        total += int(part.group(1)) * _UNITS_MS[part.group(2)]
        position = part.end()
    if not text or position != len(text):
        raise _not_one(text)
    return total


def _not_one(text: str) -> InvalidDurationError:
    return InvalidDurationError(f"{text[:40]!r} is not a duration: write it like 90s, 15m, 1h30m or 168h (no days)")


def _checked(seconds: float) -> int:
    if abs(seconds) > _LONGEST_MS / 1000:  # before it is shown: an integer may have any number of digits
        raise InvalidDurationError("a duration is at most 876000h (a hundred years)")
    if seconds < 0:
        raise InvalidDurationError(f"{seconds!r} is negative: a duration is 0 or more")
    return round(seconds * 1000)


def format_ms(ms: int) -> str:
    """Return the shortest Go-style string of a whole number of milliseconds, for example ``1h30m``."""
    if ms == 0:
        return "0s"
    parts = []
    for unit in ("h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNITS_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
