"""Waiting for conditions, with a limit and words for what was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis.exceptions

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, limit: float = 30.0, every: float = 0.05) -> T:
    """Return the condition's first true value, asked for every ``every`` seconds.

    Errors of a connection count as "not yet": the servers under proof are restarted on purpose.

    Raises:
        TimeoutError: it was not true within ``limit`` seconds; names what was waited for and the last value.
    """
    end = time.monotonic() + limit
    last: object = None
    while time.monotonic() < end:
        try:
            value = condition()
        except (OSError, redis.exceptions.RedisError) as error:
            last = error
        else:
            if value:
                return value
            last = value
        time.sleep(every)
    raise TimeoutError(f"waited {limit:g} s for {what}; last seen: {last!r:.300}")
