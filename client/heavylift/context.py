"""What a task sees of its job, and what it may raise to steer it; standard library only."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from heavylift.contract.durations import Duration, to_ms
from heavylift.contract.names import ExitCode
from heavylift.errors import ConfigurationError, HeavyliftError
from heavylift.kept import Kept

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
    """Raised by a task: what it calls asks for a pause; no job of its queue starts before that, no attempt is spent.

    The queue is held back for an hour at most (limits.HOLD_MAX_MS); jobs that run go on. For this job alone: Snooze.
    """

    def __init__(self, delay: Duration, message: str = "") -> None:
        super().__init__(delay, message or f"rate limited for {delay}")


class Stopped(SystemExit):
    """SIGTERM, raised where the task stands, so that its ``finally`` blocks run; the process ends with 143."""


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
    restored: Mapping[str, Any] | None = None
    """What ``checkpoint`` kept in an earlier attempt; None in the first, and when none was kept."""
    _stop: StopFlag = field(default_factory=StopFlag, repr=False, compare=False)
    _kept: Kept = field(default_factory=Kept, repr=False, compare=False)

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

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep state for the next attempt of this job, should there be one; it finds it in ``restored``.

        Written at once, so that it outlives SIGTERM, an error, a snooze and an end as oom; not the loss of the node.

        Args:
            state: a JSON object, at most limits.CHECKPOINT_MAX bytes; it takes the place of the one before.

        Raises:
            InvalidPayloadError: not plain JSON, or it has the key ``$resume``; the message starts with the path.
            PayloadTooLargeError: store it elsewhere and keep a reference.
        """
        self._kept.keep(state)

    def resume(self, items: Iterable[T], name: str = "") -> Iterator[T]:
        """Yield the items that no earlier attempt has finished; an item is finished when the next one is asked for.

        SIGTERM lets the item at hand end, then stops the attempt there. A loop that was finished is skipped whole.

        Args:
            items: the same ones in the same order in each attempt.
            name: tells a task's loops apart; one loop may do without. A loop inside an item starts anew with each item.

        Raises:
            ConfigurationError: another loop of this name went before.
        """
        self._kept.begin(name)
        self._stop.watched = True
        done = self._kept.position(name)
        for item in itertools.islice(items, done, None):
            before = self._kept.begun()
            yield item
            done += 1
            self._kept.passed(name, done, before)
            if self._stop.seen:
                raise Stopped(ExitCode.TERMINATED)


def _needs_api(what: str) -> NoReturn:
    raise ConfigurationError(
        f"ctx.{what} needs the Heavylift API, which is off (HEAVYLIFT_JOB_API_URL is not set): "
        "write to a volume or object store, or return the value as part of the result"
    )
