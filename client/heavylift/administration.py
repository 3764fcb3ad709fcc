"""What people change of jobs and queues, without I/O: promote, change, retry, purge; one core for both clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from heavylift.allowed import check_allowed
from heavylift.contract import ids, limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import (
    BatchError,
    HeavyliftError,
    InvalidInputError,
    JobNotFoundError,
    JobStateError,
    StoreCorruptError,
)
from heavylift.jobs import JobInfo
from heavylift.operations import not_found, parse_state, record
from heavylift.options import RetryOptions, check_priority, duration_ms, stored_options
from heavylift.requests import data_json
from heavylift.store import ops
from heavylift.store.model import Change, JobRecord, Reply, Verdict
from heavylift.store.steps import Op

Progress = Callable[[int, int], None]
"""Told how many are done, and of how many, after each step of a bulk operation."""


def _raise(job: str, done: Reply, what: str) -> None:
    if done.verdict is Verdict.MISSING:
        raise not_found(job)
    if done.verdict is Verdict.CORRUPT:
        raise StoreCorruptError(done.message)
    if done.verdict not in {Verdict.APPLIED, Verdict.ALREADY}:
        raise JobStateError(f"job {job} cannot be {what}: {done.message}{_remedy(done.message)}")


def _remedy(message: str) -> str:
    """Return what to do about a refusal of the store that does not say it, or nothing."""
    held = message.endswith("holds its deduplication key")
    return ": wait for its end, cancel it, or free the key (queue.release_key)" if held else ""


# -- one job ----------------------------------------------------------------------------------------------------------
def promote(job: str) -> Op[bool]:
    """Let a delayed job wait now; False = it waits already.

    Raises:
        JobNotFoundError: no such job.
        JobStateError: it is neither delayed nor waiting.
    """
    ids.check_job_id(job)
    done = yield from ops.promote(job)
    _raise(job, done, "promoted")
    return done.verdict is Verdict.APPLIED


def change(job: str, changes: Mapping[str, Any]) -> Op[None]:
    """Change priority, delay or data of a job that has not ended.

    Raises:
        JobNotFoundError: no such job.
        InvalidInputError: a change is not usable; NotAllowedError, JobStateError: queue or state do not admit it.
    """
    ids.check_job_id(job)
    if other := [name for name in changes if name not in _CHANGEABLE]:
        raise InvalidInputError(f"{other[0]} cannot be changed: give priority=, delay= or data=, or retry with options")
    found = yield from record(job)
    settings = yield from ops.get_settings(found.queue)
    done = yield from ops.change(found, _change(changes, settings))
    _raise(job, done, "changed")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHANGEABLE = ("priority", "delay", "data")
_OF_THE_PLACE = ("lifo", "key", "dedupe")


def _change(changes: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Change:
    """Return what is to change; ``priority``, ``delay``, ``data``, and the options of a job."""
    own = {name: value for name, value in changes.items() if name not in _CHANGEABLE}
    if fixed := [name for name in _OF_THE_PLACE if name in own]:
        raise InvalidInputError(f"{fixed[0]} stays as the job was enqueued with: leave it out, or enqueue another job")
    options = stored_options(own, RetryOptions.__annotations__)
    priority, delay = changes.get("priority"), changes.get("delay")
    change = Change(
        priority=None if priority is None else check_priority(priority),
        delay_ms=None if delay is None else duration_ms("delay", delay),
        data_json=None if changes.get("data") is None else data_json(changes["data"], settings),
        options=options,
    )
    if change == Change():
        raise InvalidInputError("nothing is to change: give priority=, delay= or data=")
    asked = options if change.priority is None else {**options, "priority": change.priority}
    check_allowed(asked, change.delay_ms or 0, settings)
    return change


def remove(job: str) -> Op[None]:
    """Remove a job that is not active, with all that is kept of it.

    Raises:
        JobNotFoundError: no such job.
        JobStateError: it is active, or its Kubernetes Job is not let go yet.
    """
    ids.check_job_id(job)
    _raise(job, (yield from ops.remove(job)), "removed")


def retry(job: str, by: str, changes: Mapping[str, Any]) -> Op[None]:
    """Run a failed or cancelled job again.

    Raises:
        JobNotFoundError: no such job.
        InvalidInputError: an option is not usable; NotAllowedError, JobStateError: queue or state do not admit it.
    """
    ids.check_job_id(job)
    changed = _retry_change(changes)
    found = yield from record(job)
    if changed is not None:
        settings = yield from ops.get_settings(found.queue)
        changed = _change(changes, settings)
    reply = yield from ops.retry(job, changed, by=by)
    if reply.verdict is Verdict.REFUSED:
        over = found.state in {JobState.FAILED, JobState.CANCELLED}
        hint = _remedy(reply.message) if over else ": only failed and cancelled jobs can be retried"
        raise JobStateError(f"job {job} cannot be retried, {reply.message or f'it is {found.state.value}'}{hint}")
    _raise(job, reply, "retried")


def _retry_change(changes: Mapping[str, Any]) -> Change | None:
    """Return the change of a retry before its queue is known, so that bad options are refused first."""
    given = {name: value for name, value in changes.items() if value is not None}
    if "delay" in given:
        raise InvalidInputError("a retry starts at once: leave delay out, or use job.change(delay=...) after it")
    if not given:
        return None
    own = {name: value for name, value in given.items() if name not in {"priority", "data"}}
    if not stored_options(own, RetryOptions.__annotations__) and not {"priority", "data"} & given.keys():
        return None
    return _change(given, None)


# -- many jobs --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which ended jobs of a queue are meant."""

    state: JobState = JobState.FAILED
    cls: str = ""
    """An outcome class; empty = any."""
    since: int = 0
    """Ended at this time (ms) or later."""
    labels: Mapping[str, str] | None = None

    @classmethod
    def of(cls, state: str | JobState, outcome: object, since: object, labels: Mapping[str, str] | None) -> Filter:
        """Return a checked filter.

        Raises:
            InvalidInputError: no such state or class, a state that has no outcome, or a time that is none.
        """
        wanted = parse_state(state)
        if (outcome is not None or since is not None) and not wanted.terminal:
            raise InvalidInputError(
                f"cls and since filter ended jobs: {wanted.value} ones have no outcome; leave them out"
            )
        try:
            found = "" if outcome is None else OutcomeClass(str(outcome)).value
        except ValueError:
            names = ", ".join(each.value for each in OutcomeClass)
            raise InvalidInputError(f"there is no outcome class {str(outcome)[:40]!r}: classes are {names}") from None
        return cls(state=wanted, cls=found, since=_since_ms(since), labels=labels)

    def admits(self, found: JobRecord) -> bool:
        """Whether a job's labels are those wanted; state, class and time are filtered in Redis."""
        stored = found.options.get("labels")
        labels = stored if isinstance(stored, Mapping) else {}
        return all(labels.get(name) == value for name, value in (self.labels or {}).items())


def _since_ms(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInputError(
                "since has no time zone: pass datetime(..., tzinfo=UTC), or how long ago, like '24h'"
            )
        return -((_EPOCH - value) // timedelta(milliseconds=1))  # an end is told in whole ms: none from before it
    return int(time.time() * 1000) - duration_ms("since", value if not isinstance(value, timedelta) else abs(value))


def check_limit(value: object) -> int:
    """Return a limit of jobs if it is a whole number of 1 or more.

    Raises:
        InvalidInputError: it is not; a negative one would count from the end.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"limit is {value!r}: give a whole number of 1 or more")
    return value


def jobs(queue: str, wanted: Filter, limit: int) -> Op[list[JobInfo]]:
    """Return up to ``limit`` jobs: ended ones newest first, others in their order.

    Raises:
        InvalidInputError: the limit is not usable.
    """
    check_limit(limit)
    found: list[JobInfo] = []
    start, more = 0, True
    while more and len(found) < limit:
        if wanted.cls or wanted.since or wanted.state in {JobState.COMPLETED, JobState.FAILED}:
            page, looked, more = yield from ops.find_ended(
                queue, wanted.state, cls=wanted.cls, since=wanted.since, start=start
            )
        else:
            page, more = yield from ops.page_jobs(queue, wanted.state, start=start, count=limits.FIND_STEP)
            looked = limits.FIND_STEP
        found += [JobInfo.read(entry) for entry in page if wanted.admits(entry)]
        start += looked
    return found[:limit]


def _matching(queue: str, wanted: Filter, limit: int | None) -> Op[list[JobRecord]]:
    """Return the ended jobs meant, oldest first, with what a retry needs of them."""
    found: list[JobRecord] = []
    start, more = 0, True
    while more:
        page, looked, more = yield from ops.find_ended(
            queue, wanted.state, cls=wanted.cls, since=wanted.since, start=start
        )
        found += [_slim(entry) for entry in page if wanted.admits(entry)]
        start += looked
    found.reverse()
    return found if limit is None else found[:limit]


def _slim(entry: JobRecord) -> JobRecord:
    return replace(entry, history=(), evidence={}, outcome={}, result=None, frozen={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of a bulk retry."""

    jobs: tuple[str, ...]
    """Ids that wait again, in the order they failed."""
    errors: tuple[HeavyliftError, ...]
    """Why others do not; those gone or retried by somebody else meanwhile are not among them."""

    def refused(self, handles: tuple[Any, ...]) -> BatchError | None:
        """Return the error to raise, None when none was refused."""
        if not self.errors:
            return None
        error = BatchError(f"{len(self.errors)} jobs were not retried, {len(handles)} were", list(self.errors))
        error.jobs = handles
        return error


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRetry:
    """A retry of all ended jobs of a queue that a filter names."""

    queue: str
    wanted: Filter
    changes: Mapping[str, Any]
    limit: int | None = None
    progress: Progress | None = None

    def run(self, by: str) -> Op[Retried]:
        """Retry them, in bounded steps; each job for itself.

        Raises:
            InvalidInputError: a change is not usable or not allowed, or the limit is not usable.
        """
        if self.limit is not None:
            check_limit(self.limit)
        change = _retry_change(self.changes)
        if change is not None:
            settings = yield from ops.get_settings(self.queue)
            change = _change({name: value for name, value in self.changes.items() if value is not None}, settings)
        found = yield from _matching(self.queue, self.wanted, self.limit)
        retried: list[str] = []
        errors: list[HeavyliftError] = []
        for start in range(0, len(found), limits.RETRY_STEP):
            part = found[start : start + limits.RETRY_STEP]
            replies = yield from ops.retry_many(part, change, by=by)
            for entry, done in zip(part, replies, strict=True):
                error = _unless_moved(entry.id, done)
                if done.verdict is Verdict.APPLIED:
                    retried.append(entry.id)
                elif error is not None:
                    errors.append(error)
            if self.progress is not None:
                self.progress(min(start + len(part), len(found)), len(found))
        return Retried(jobs=tuple(retried), errors=tuple(errors))


def _unless_moved(job: str, done: Reply) -> HeavyliftError | None:
    """Return why a job was not retried; None when somebody else was faster."""
    try:
        _raise(job, done, "retried")
    except JobNotFoundError:
        return None
    except HeavyliftError as error:
        return None if done.message.startswith("it is ") else error
    return None


def purge(queue: str, state: str | JobState, *, dry_run: bool, progress: Progress | None) -> Op[int]:
    """Remove the jobs of one state that are there now; returns how many went, or with ``dry_run`` how many there are.

    Raises:
        InvalidInputError: no such state, or active.
    """
    wanted = parse_state(state)
    if wanted is JobState.ACTIVE:
        raise InvalidInputError("active jobs cannot be purged: pause the queue and cancel them")
    counted = yield from ops.counts(queue)
    total = getattr(counted, wanted.value.replace("-", "_"))
    if dry_run:
        return int(total)
    removed = 0
    while removed < total:
        step = min(limits.PURGE_STEP * 10, total - removed)
        gone = yield from ops.purge(queue, wanted, step)
        removed += gone
        if progress is not None:
            progress(removed, total)
        if gone < step:
            break
    return removed
