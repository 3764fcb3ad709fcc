"""What a task sees of its job, and what it may raise to steer it; standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from heavylift.contract.durations import Duration, to_ms
from heavylift.errors import ConfigurationError, HeavyliftError

T = TypeVar("T")


class UnrecoverableError(HeavyliftError):
    """Raised by a task: another attempt would end the same way; the job fails now, whatever attempts are left."""


class RetryAfter(Exception):  # noqa: N818 - says what shall happen; it is no error of Heavylift
    """Raised by a task: this attempt failed; the next one starts after ``delay``, not after the queue's backoff."""

    def __init__(self, delay: Duration, message: str = "") -> None:
        self.delay_ms = to_ms(delay)
        super().__init__(message or f"retry after {delay}")


class Snooze(Exception):  # noqa: N818 - as RetryAfter
    """Raised by a task: not now; run again after ``delay`` and spend no attempt."""

    def __init__(self, delay: Duration, message: str = "") -> None:
        self.delay_ms = to_ms(delay)
        super().__init__(message or f"snoozed for {delay}")


class RateLimited(Snooze):
    """Raised by a task: what it calls asks for a pause; this job runs again after ``delay`` and spends no attempt."""

    def __init__(self, delay: Duration, message: str = "") -> None:
        super().__init__(delay, message or f"rate limited for {delay}")


@dataclass(slots=True)
class StopFlag:
    """Whether SIGTERM was seen, and whether the task ever asked."""

    seen: bool = False
    watched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The job as its task sees it; make one yourself to call a task in a test."""

    job_id: str = "local"
    task: str = ""
    queue: str = ""
    attempt: int = 1
    """1-based."""
    execution: str = "local-1"
    """Fencing token: another attempt has another one."""
    _stop: StopFlag = field(default_factory=StopFlag, repr=False, compare=False)

    @property
    def stopping(self) -> bool:
        """Whether the pod was asked to end (SIGTERM).

        A task that reads this may finish its step and return; one that never does is ended at once by an exception.
        Either way the attempt counts as stopped (exit code 143).
        """
        self._stop.watched = True
        return self._stop.seen

    def progress(self, value: float | str | dict[str, Any]) -> None:
        """Report progress: needs the Heavylift API.

        Raises:
            ConfigurationError: this installation has no API.
        """
        _needs_api(f"progress({value!r})")

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Keep state for the next attempt: needs the Heavylift API.

        Raises:
            ConfigurationError: this installation has no API.
        """
        _needs_api(f"checkpoint of {len(state)} keys")

    def resume(self, items: Iterable[T]) -> Iterable[T]:
        """Go on after the last checkpoint: needs the Heavylift API.

        Raises:
            ConfigurationError: this installation has no API.
        """
        _needs_api(f"resume of {type(items).__name__}")


def _needs_api(what: str) -> NoReturn:
    raise ConfigurationError(
        f"ctx.{what} needs the Heavylift API, which is off (HEAVYLIFT_JOB_API_URL is not set): "
        "write to a volume or object store, or return the value as part of the result"
    )
