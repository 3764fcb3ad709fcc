"""What went wrong between us and Redis, told apart; and how often to try again. Pure: no I/O, no clock of its own."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from redis import exceptions as redis_errors

from heavylift.contract.failpoints import ReplyDroppedError
from heavylift.errors import HeavyliftError, RedisUnavailableError, StoreCorruptError

_FIRST_S = 0.05
_LONGEST_S = 1.0
_JITTER = random.Random()
"""Shared: seeding one for every call costs more than the call's own Python."""

FAULTS: tuple[type[Exception], ...] = (redis_errors.RedisError, OSError, ReplyDroppedError)
"""What a client call may raise."""


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (redis_errors.AuthenticationError, "NOAUTH"),
    (redis_errors.AuthorizationError, "NOAUTH"),
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.NoPermissionError, "NOPERM"),
    (redis_errors.NoScriptError, "NOSCRIPT"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
)
"""redis-py cuts the server's error word off the text of these."""
_PASSING = {"LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN"}


def word(error: Exception) -> str:
    """Return the server's word for an error (``OOM``, ``NOSCRIPT``, ``WRONGTYPE``, ...), empty where there is none.

    Redis 6 puts the word of an error inside a script further back in the text.
    """
    for kind, name in _WORDS:
        if isinstance(error, kind):
            return name
    if not isinstance(error, redis_errors.ResponseError):
        return ""
    found = re.match(r"([A-Z]{3,})\b", text) if (text := str(error)) else None
    if found and found[1] != "ERR":
        return found[1]
    inner = re.search(r"@user_script[^A-Z]*([A-Z]{3,})\b", text)
    return inner[1] if inner else ""


def missing_script(error: Exception) -> bool:
    """Whether Redis does not know the script (it was restarted, or its cache was cleared)."""
    return word(error) == "NOSCRIPT"


def busy(error: Exception) -> bool:
    """Whether a call that was about several things did enough before it came to this one: it can be asked for alone."""
    return word(error) == "TRYAGAIN"


def transient(error: Exception) -> bool:
    """Whether trying again may help within seconds: the outcome of such a call is unknown."""
    name = word(error)
    if name:
        return name in _PASSING
    return isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError | OSError | ReplyDroppedError)


_SAYS = {
    "LOADING": "is still loading its data; wait, it answers when that is done",
    "READONLY": "is a read-only replica; point the URL at the primary",
    "MASTERDOWN": "is a replica that lost its primary; point the URL at the primary",
    "OOM": "is out of memory (maxmemory); give it more, or shorten retention",
    "MISCONF": "refuses writes because it cannot save to disk; its log says why (disk full, rights)",
    "NOPERM": "does not allow this user the command; see the ACL in the documentation",
    "BUSY": "is busy with a script that does not end; SCRIPT KILL ends it",
}


def translate(error: Exception, where: str, key: str = "") -> HeavyliftError:
    """Return the error a user gets, with what to check.

    Args:
        error: what the client raised.
        where: ``host:port/db`` without credentials.
        key: the key a plain command was about.
    """
    text, name = str(error) or type(error).__name__, word(error)
    if name in {"NOAUTH", "WRONGPASS"}:
        return RedisUnavailableError(f"Redis at {where} refuses the credentials: check user and password ({text})")
    if name == "WRONGTYPE":
        named = f"the key {key}" if key else "a key"
        return StoreCorruptError(
            f"{named} in Redis at {where} has the wrong type: something else wrote it; look at it, then delete it "
            f"({text})"
        )
    if name in _SAYS:
        return RedisUnavailableError(f"Redis at {where} {_SAYS[name]}")
    if isinstance(error, redis_errors.TimeoutError):
        return RedisUnavailableError(
            f"Redis at {where} does not answer in time: check that it runs and is not overloaded"
        )
    if isinstance(error, redis_errors.ConnectionError | OSError):
        return RedisUnavailableError(
            f"Redis at {where} cannot be reached: check that it runs and that host and port are right ({text})"
        )
    return RedisUnavailableError(f"Redis at {where} answered with an error: {text}")


@dataclass(slots=True)
class Patience:
    """How long one step is tried again: exponential waits with jitter, up to ``limit_s`` after the first failure."""

    limit_s: float
    rng: random.Random = field(default_factory=lambda: _JITTER)
    first_at: float | None = None
    tries: int = 0

    def wait(self, error: Exception, now: float) -> float | None:
        """Return seconds to wait before the next try, or None to give up; ``now`` is monotonic seconds."""
        if not transient(error):
            return None
        if self.first_at is None:
            self.first_at = now
        self.tries += 1
        delay = min(_FIRST_S * 2 ** min(self.tries - 1, 10), _LONGEST_S) * self.rng.uniform(0.5, 1.0)
        return delay if now + delay - self.first_at <= self.limit_s else None

    def pause(self, error: Exception, now: float, where: str, key: str = "") -> float:
        """Return seconds to wait before the next try; arguments as of ``wait`` and ``translate``.

        Raises:
            HeavyliftError: no further try would help, or the patience is over.
        """
        delay = self.wait(error, now)
        if delay is None:
            raise translate(error, where, key) from error
        return delay
