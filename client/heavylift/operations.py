"""What the client does, without I/O: operations are generators of the store's steps; both clients run the same ones."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from heavylift.allowed import Admission
from heavylift.contract import ids, limits
from heavylift.contract.states import JobState
from heavylift.errors import (
    ConfigurationError,
    DuplicateJobError,
    HeavyliftError,
    InvalidInputError,
    InvalidQueueNameError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    RedisUnavailableError,
    StoreCorruptError,
    UnknownQueueError,
    WaitTimeoutError,
)
from heavylift.jobs import JobEvent, JobInfo, Outcome, failure_message, read_result
from heavylift.options import duration_ms
from heavylift.requests import Draft, admit
from heavylift.store import ops
from heavylift.store.model import Enqueued, JobRecord, Verdict
from heavylift.store.steps import Op

POLL_S = 1.0
"""Seconds between two looks at a job somebody waits for; its end is published, this covers a lost message."""
OUTAGE_S = 60.0
"""Seconds a wait goes on without Redis before it gives up."""
EVENTS_AT_ONCE = 500
_EVENT_ID = re.compile(r"\$|[0-9]{1,19}(?:-[0-9]{1,19})?")
_ADMISSIONS_MAX = 1000
_SETTINGS_READS = 3
"""How often an enqueue reads settings that change under it before it takes what it read."""


def redis_settings(url: object) -> dict[str, Any]:
    """Return how to connect: the URL given, else what HEAVYLIFT_REDIS_* say.

    Raises:
        ConfigurationError: neither is there, or the URL is no text.
    """
    if url is not None:
        if not isinstance(url, str):
            raise ConfigurationError(
                f"the URL is a {type(url).__name__}: write redis://host:6379/0, or pass an existing client as redis="
            )
        return {"url": url}
    found = os.environ.get("HEAVYLIFT_REDIS_URL", "")
    if not found:
        raise ConfigurationError(
            "no Redis is named: set HEAVYLIFT_REDIS_URL=redis://host:6379/0, or pass the URL (Client('redis://...'), "
            "heavylift --redis URL)"
        )
    return {
        "url": found,
        "username": os.environ.get("HEAVYLIFT_REDIS_USERNAME") or None,
        "password": os.environ.get("HEAVYLIFT_REDIS_PASSWORD") or None,
        "password_file": os.environ.get("HEAVYLIFT_REDIS_PASSWORD_FILE") or None,
    }


# -- enqueue ----------------------------------------------------------------------------------------------------------
class Admissions:
    """What queues admit, as read last; one for each client, so that an enqueue is one round trip."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Admission, str]] = {}

    def get(self, queue: str) -> tuple[Admission, str] | None:
        """Return what a queue admits and the tag of the settings that say so, None when it was not read yet."""
        return self._known.get(queue)

    def read(self, queue: str) -> Op[tuple[Admission, str]]:
        """Read a queue's settings and keep what they say."""
        settings, tag = yield from ops.read_settings(queue)
        if len(self._known) >= _ADMISSIONS_MAX:
            self._known.clear()
        self._known[queue] = found = (Admission.of(settings), tag)
        return found


def enqueue(queue: str, checked: Draft, admissions: Admissions, *, strict: bool) -> Op[Enqueued]:
    """Enqueue one job, held against the settings that stand when it is accepted.

    Raises:
        PayloadTooLargeError, InvalidInputError: as of ``requests.request``.
        DuplicateJobError: the id is taken.
        UnknownQueueError: no HeavyQueue serves the queue.
    """
    known = admissions.get(queue)
    for left in range(_SETTINGS_READS, -1, -1):
        fresh = known is None
        admission, tag = known or (yield from admissions.read(queue))
        known = None
        try:
            entry = admit(checked, queue, admission, strict=strict, tag=tag if left else "")
        except InvalidInputError:
            if fresh:
                raise
            continue  # newer settings may admit it
        made = yield from ops.enqueue(entry)
        if made.error != "stale":
            break
    error = refusal(made, queue)
    if error is not None:
        raise error
    return made


def refusal(made: Enqueued, queue: str) -> HeavyliftError | None:
    """Return the error of a refused request, None for an accepted one."""
    match made.error:
        case "":
            return None
        case "exists":
            return DuplicateJobError(
                f"job {made.id} exists already and is {made.state.value}: choose another id, or if_exists='return'"
            )
        case "conflict":
            why = made.message or f"job {made.id} exists already with other data or in another queue"
            return DuplicateJobError(f"{why}: choose another id, or remove that job first")
        case "unknown-queue":
            return UnknownQueueError(
                f"no HeavyQueue serves queue {queue!r}: apply one (kubectl apply -f queue.yaml), check the name, or "
                "accept jobs beforehand with Client(strict=False)"
            )
        case "corrupt":
            return StoreCorruptError(made.message or f"keys of job {made.id} have a wrong type in Redis")
        case other:
            return InvalidInputError(f"job {made.id} was refused: {made.message or other}")


# -- one job ----------------------------------------------------------------------------------------------------------
def record(job: str) -> Op[JobRecord]:
    """Return a job.

    Raises:
        JobNotFoundError: no such job.
    """
    found = yield from ops.get_job(job, position=True)
    if found is None:
        raise not_found(job)
    return found


def info(job: str) -> Op[JobInfo]:
    """Return a job's JobInfo; raises as ``record``."""
    found = yield from record(job)
    return JobInfo.read(found)


def not_found(job: str) -> JobNotFoundError:
    """Return the error for a job that is not there."""
    return JobNotFoundError(
        f"there is no job {ids.printable(job)}: it was never enqueued, was deleted, or is past its retention"
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A job completed; ``value`` is its result."""

    value: Any


def ended(job: str) -> Op[Ended | None]:
    """Return the result once the job completed, None while it has not ended.

    Raises:
        JobFailedError, JobCancelledError, JobNotFoundError: it ended otherwise.
    """
    found = yield from ops.get_job(job)
    if found is None:
        raise not_found(job)
    if found.state is JobState.COMPLETED:
        return Ended(read_result(found))
    if found.state is JobState.FAILED:
        raise JobFailedError(failure_message(job, Outcome.read(found.outcome)), found.outcome)
    if found.state is JobState.CANCELLED:
        raise JobCancelledError(_cancelled(job, found))
    return None


def _cancelled(job: str, found: JobRecord) -> str:
    by, reason = found.cancel.get("by"), found.cancel.get("reason") or found.outcome.get("message")
    return f"job {job} was cancelled" + (f" by {by}" if by else "") + (f": {reason}" if reason else "")


@dataclass(slots=True)
class Patience:
    """When a wait is over; pure, told the time (seconds of a monotonic clock)."""

    over: str
    """What to say when the time is over."""
    deadline: float | None
    lost_since: float | None = None

    @classmethod
    def until(cls, job: str, timeout: object, now: float) -> Patience:
        """Return the patience of a wait that begins now.

        Raises:
            InvalidDurationError: the timeout is no duration.
        """
        ids.check_job_id(job)
        over = f"job {job} has not ended yet; it goes on, wait again or look at it later"
        return cls(over, None if timeout is None else now + duration_ms("timeout", timeout) / 1000)

    @classmethod
    def until_idle(cls, queue: str, wait: object, now: float) -> Patience:
        """Return the patience of a wait for the last active job of a paused queue.

        Raises:
            InvalidDurationError: the time is no duration.
        """
        over = f"jobs of queue {queue} still run; it stays paused"
        return cls(over, now + duration_ms("wait", wait) / 1000)

    def pause(self, now: float) -> float:
        """Return how long to listen before the next look.

        Raises:
            WaitTimeoutError: the time is over.
        """
        self.lost_since = None
        return self._left(now)

    def after_outage(self, error: RedisUnavailableError, now: float) -> float:
        """Return how long to listen before the next try after a failed look.

        Raises:
            RedisUnavailableError: Redis has been away for too long.
            WaitTimeoutError: the time is over.
        """
        self.lost_since = now if self.lost_since is None else self.lost_since
        if now - self.lost_since > OUTAGE_S:
            raise error
        return self._left(now)

    def _left(self, now: float) -> float:
        if self.deadline is None:
            return POLL_S
        if now >= self.deadline:
            raise WaitTimeoutError(self.over)
        return min(POLL_S, self.deadline - now)


def cancel(job: str, by: str, reason: str) -> Op[bool]:
    """Cancel a job; False = too late.

    Raises:
        JobNotFoundError: no such job.
    """
    ids.check_job_id(job)
    reply = yield from ops.cancel(job, by=by, reason=(reason or "")[: limits.MESSAGE_MAX])
    if reply.verdict is Verdict.MISSING:
        raise not_found(job)
    if reply.verdict is Verdict.CORRUPT:
        raise StoreCorruptError(reply.message)
    if reply.verdict is Verdict.ALREADY:  # asked for before, or over
        found = yield from ops.get_job(job)
        return found is not None and (not found.state.terminal or found.state is JobState.CANCELLED)
    return reply.verdict in {Verdict.APPLIED, Verdict.CANCELLED}


# -- events -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events, where to go on, and whether anything can follow."""

    events: tuple[JobEvent, ...]
    after: str
    done: bool


def job_events(job: str, after: str, *, follow: bool, idle: bool) -> Op[Page]:
    """Return the next events of one job; the state is read first, so that no final event is missed.

    Args:
        job: its id.
        after: id of the last event seen, ``0`` = from the oldest kept.
        follow: whether to go on until the job ended.
        idle: the page before was empty: wait up to a second for something new.
    """
    found = yield from record(job)
    block_ms = 1000 if idle and follow and not found.state.terminal else None
    page = yield from ops.events(found.queue, after, EVENTS_AT_ONCE, block_ms)
    return Page(
        events=tuple(JobEvent.read(event) for event in page if event.job == job),
        after=page[-1].id if page else after,
        done=not page and (not follow or found.state.terminal),
    )


def queue_events(queue: str, after: object, *, follow: bool) -> Op[Page]:
    """Return the next events of a queue, waiting up to a second for them when following.

    Raises:
        InvalidInputError: ``after`` is no event's id.
    """
    if not isinstance(after, str) or not _EVENT_ID.fullmatch(after):
        raise InvalidInputError(f"after is {str(after)[:40]!r}: pass the id of an event, or '0' for all that are kept")
    page = yield from ops.events(queue, after, EVENTS_AT_ONCE, 1000 if follow else None)
    return Page(
        events=tuple(JobEvent.read(event) for event in page),
        after=page[-1].id if page else after,
        done=not page and not follow,
    )


# -- queues -----------------------------------------------------------------------------------------------------------
def queues() -> Op[list[str]]:
    """Return the names of all queues in this Redis that Heavylift can serve, sorted; RQ takes any text as a name."""
    names = yield from ops.queues()
    return sorted(name for name in names if _usable(name))


def _usable(name: str) -> bool:
    try:
        ids.check_queue_name(name)
    except InvalidQueueNameError:
        return False
    return True


def parse_state(state: str | JobState) -> JobState:
    """Return the state of this name.

    Raises:
        InvalidInputError: there is none.
    """
    try:
        return JobState(state)
    except ValueError:
        names = ", ".join(each.value for each in JobState)
        raise InvalidInputError(f"there is no state {str(state)[:40]!r}: states are {names}") from None
