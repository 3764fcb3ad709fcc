"""What a producer sees of a job: frozen values, and the handle that asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar, Unpack

from heavylift.contract.durations import Duration
from heavylift.contract.states import JobState, Phase
from heavylift.options import ChangeOptions, RetryOptions
from heavylift.store import decode
from heavylift.store.model import Event, JobRecord, QueueCounts

__all__ = ["Attempt", "Job", "JobEvent", "JobInfo", "Outcome", "QueueCounts"]

R = TypeVar("R")


def moment(ms: int | None) -> datetime | None:
    """Return milliseconds since the epoch as UTC time; None when absent or beyond what a calendar holds."""
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why a job or an attempt ended."""

    cls: str
    """One of OutcomeClass's values, for example ``oom``."""
    message: str
    """One sentence."""
    exit_code: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Log tail, kubelet's words, limits, node, pod name: what was seen."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Outcome | None:
        """Return the outcome of a stored mapping; None when there is none."""
        name = stored.get("class")
        if not name:
            return None
        code, evidence = stored.get("exitCode"), stored.get("evidence")
        return cls(
            cls=str(name),
            message=str(stored.get("message") or ""),
            exit_code=code if isinstance(code, int) else None,
            evidence=evidence if isinstance(evidence, Mapping) else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One ended attempt, or the end of a job while no attempt was under way: cancelled between two of them, expired."""

    seq: int
    """Number of the execution, from 1; requeues that spent no attempt count too. 0 = no attempt was under way."""
    attempt: int
    """1-based; 0 = no attempt was under way."""
    execution: str
    """Empty when no attempt was under way."""
    outcome: Outcome | None
    started_at: datetime | None
    ended_at: datetime | None
    next: str
    """``complete`` | ``fail`` | ``cancel`` | ``retry``."""
    delay_ms: int = 0
    """Wait before the next start."""
    spent: str = "none"
    """What it cost: ``attempt`` | ``budget`` (one of its class's own retries) | ``none``."""
    next_memory: int | None = None
    """Bytes of memory the attempt after it was given, if they grew with it."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Attempt:
        """Return the attempt of a history entry; what is missing or odd becomes 0, empty or None."""
        execution = str(stored.get("execution") or "")
        return cls(
            seq=_whole(stored.get("seq")) if execution else 0,  # stored: the last one there was, and the one to come
            attempt=_whole(stored.get("attempt")) if execution else 0,
            execution=execution,
            outcome=Outcome.read(stored),
            started_at=moment(_optional(stored.get("startedAt"))),
            ended_at=moment(_optional(stored.get("endedAt"))),
            next=str(stored.get("next") or ""),
            delay_ms=_whole(stored.get("delayMs")),
            spent=str(stored.get("spend") or "none"),
            next_memory=_optional(stored.get("memory")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as Redis knew it when asked; times are UTC."""

    id: str
    queue: str
    task: str
    state: JobState
    phase: Phase | None
    """Of an active job: ``claimed`` | ``pending`` | ``running``."""
    reason: str
    """Why it is pending, or why it was put back last."""
    attempt: int
    """1-based while active; the last one afterwards; 0 before the first."""
    max_attempts: int | None
    """None until the first claim, unless the producer set it."""
    attempts_made: int = 0
    """Attempts spent by failures so far; a success, a snooze and a retry from its class's own budget spend none."""
    starts: int = 0
    """Executions that got a Job, whatever became of them; at most 100 (limits.STARTS_MAX)."""
    priority: int
    position: int | None
    """0-based place in the queue, behind all sooner priorities; where keys are kept apart, among those of its key, or
    without one. None when not waiting, or beyond the first 1,000 of its priority."""
    key: str = ""
    """Concurrency key; empty = none."""
    progress: None = None
    """Reported by the task through the API, which is not available yet."""
    outcome: Outcome | None = None
    result: Any = None
    history: tuple[Attempt, ...] = ()
    """Ended attempts, newest last, at most 20; with the end of the job itself, if that came between them."""
    labels: Mapping[str, str] = field(default_factory=dict)
    lifo: bool = False
    """Whether it goes to the front of its priority."""
    dedupe: str = ""
    """Deduplication key it was enqueued with; empty = none."""
    depends_on: tuple[str, ...] = ()
    execution: str = ""
    namespace: str = ""
    job_name: str = ""
    """The Kubernetes Job of the current or last execution."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cancel: Mapping[str, Any] = field(default_factory=dict)
    """``by``, ``at`` (ms) and ``reason`` of a cancel."""
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    """When the current or last execution's container was seen running."""
    ended_at: datetime | None = None
    not_before: datetime | None = None
    """A delayed job starts no earlier."""
    expires_at: datetime | None = None
    memory: int | None = None
    """Bytes of memory the next attempt asks for, grown after an end as ``oom``; None = as template and options say."""
    checkpoint: Any = None
    """What the last attempts kept for the next one (``ctx.checkpoint``, ``ctx.resume``); None = nothing."""
    total_due: datetime | None = None
    """When the time for all attempts is over (``timeouts.total``); None before the first claim, without a limit, and
    when the job completed."""

    @classmethod
    def read(cls, record: JobRecord) -> JobInfo:
        """Return what a record says, decoded."""
        labels, asked = record.options.get("labels"), record.options.get("maxAttempts")
        return cls(
            id=record.id,
            queue=record.queue,
            task=record.task,
            state=record.state,
            phase=record.phase if record.state is JobState.ACTIVE else None,
            reason=record.reason,
            attempt=_attempt(record),
            max_attempts=_optional(asked) or record.max_attempts,  # a retry may ask for more than what is frozen still
            attempts_made=record.attempts_made,
            starts=record.starts,
            priority=record.priority,
            lifo=record.lifo,
            dedupe=record.dedupe,
            position=record.position,
            key=record.key,
            outcome=Outcome.read(record.outcome),
            result=read_result(record),
            history=tuple(Attempt.read(entry) for entry in record.history),
            labels=labels if isinstance(labels, Mapping) else {},
            depends_on=record.dependencies,
            execution=record.execution,
            namespace=record.namespace,
            job_name=record.job_name,
            evidence=record.evidence,
            cancel=record.cancel,
            enqueued_at=moment(record.enqueued_at),
            started_at=moment(record.running_at),
            ended_at=moment(record.ended_at) if record.state.terminal else None,
            not_before=moment(record.due) if record.state is JobState.DELAYED else None,
            expires_at=moment(record.expires),
            memory=record.memory,
            checkpoint=decode.parsed(record.checkpoint),
            total_due=_total_due(record),
        )


def read_result(record: JobRecord) -> Any:
    """Return a completed job's result; None when it has none or it is not JSON."""
    if record.state is not JobState.COMPLETED or record.result is None:
        return None
    return decode.parsed(record.result)


def _attempt(record: JobRecord) -> int:
    if record.state is JobState.ACTIVE:
        return record.attempts_made + 1
    last = next((entry for entry in reversed(record.history) if entry.get("execution")), None)
    if record.seq == 0 or last is None:  # never started
        return record.attempts_made
    return max(record.attempts_made, _whole(last.get("attempt")))


def _total_due(record: JobRecord) -> datetime | None:
    if record.first_claimed_at is None:  # a retry begins anew: what is frozen is of the claim before
        return None
    return moment(_optional(record.frozen.get("totalDue")))


def _whole(value: object) -> int:
    return _optional(value) or 0


def _optional(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():  # Lua's numbers
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One thing that happened to a job."""

    id: str
    """Place in the queue's stream: pass it as ``after=`` to go on from here."""
    name: str
    """``added``, ``waiting``, ``delayed``, ``active``, ``running``, ``completed``, ``failed``, ``cancelled`` ..."""
    job_id: str
    at: datetime | None
    fields: Mapping[str, str]
    """What else was recorded: execution, attempt, class, reason ..."""

    @classmethod
    def read(cls, event: Event) -> JobEvent:
        """Return an event of the store."""
        return cls(id=event.id, name=event.name, job_id=event.job, at=moment(event.at), fields=event.fields)


class Asks(Protocol):
    """What a handle needs of its client."""

    def _info(self, job: str) -> JobInfo: ...
    def _wait(self, job: str, timeout: object) -> Any: ...
    def _cancel(self, job: str, reason: str) -> bool: ...
    def _retry(self, job: str, options: Mapping[str, Any]) -> None: ...
    def _promote(self, job: str) -> bool: ...
    def _change(self, job: str, changes: Mapping[str, Any]) -> None: ...
    def _remove(self, job: str) -> None: ...
    def _job_events(self, job: str, *, follow: bool) -> Iterator[JobEvent]: ...


class Job(Generic[R]):
    """A handle of one job: attributes cost nothing, methods ask Redis."""

    __slots__ = ("_client", "created", "id", "queue_name")

    def __init__(self, client: Asks, id: str, *, created: bool = False, queue_name: str = "") -> None:  # noqa: A002 - as in ``job.id``
        self._client = client
        self.id = id
        self.created = created
        """Whether this enqueue made it; False: it existed, or the handle came from ``client.job``."""
        self.queue_name = queue_name
        """Empty when the handle came from ``client.job``."""

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<Job {self.id!r}>"

    def info(self) -> JobInfo:
        """Return what Redis knows of the job now.

        Raises:
            JobNotFoundError: no such job.
            RedisUnavailableError: Redis cannot be reached.
        """
        return self._client._info(self.id)  # noqa: SLF001 - the handle is the client's other half

    def wait(self, timeout: Duration | None = None) -> R:
        """Return the job's result as soon as it completes.

        Args:
            timeout: seconds, ``"10m"`` or a timedelta; None = no limit.

        Raises:
            JobFailedError: it failed; ``outcome`` says why.
            JobCancelledError: it was cancelled.
            WaitTimeoutError: the time is over; the job goes on.
            JobNotFoundError: no such job, or it was deleted meanwhile.
            RedisUnavailableError: Redis cannot be reached for longer than a minute.
        """
        result: R = self._client._wait(self.id, timeout)  # noqa: SLF001 - as above
        return result

    def cancel(self, reason: str = "") -> bool:
        """Cancel the job; one that runs is stopped within seconds. Return False when it is too late.

        Raises:
            JobNotFoundError: no such job.
        """
        return self._client._cancel(self.id, reason)  # noqa: SLF001 - as above

    def retry(self, **options: Unpack[RetryOptions]) -> None:
        """Run a failed or cancelled job again from its first attempt; its history stays.

        Args:
            options: set anew for the coming attempts: data, priority, max_attempts, backoff, timeouts, resources, env,
                labels. Resources, times, variables and labels that are not named stay.

        Raises:
            JobNotFoundError: no such job.
            InvalidInputError: an option is not usable; NotAllowedError: its queue does not allow it.
            JobStateError: the job is neither failed nor cancelled, or another one holds its deduplication key.
        """
        self._client._retry(self.id, options)  # noqa: SLF001 - as above

    def promote(self) -> bool:
        """Let the delayed job wait now, behind those that wait already. Return False when it waits already.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it is neither delayed nor waiting.
        """
        return self._client._promote(self.id)  # noqa: SLF001 - as above

    def change(self, **changes: Unpack[ChangeOptions]) -> None:
        """Change a job that has not ended: its priority at any time, its delay and data while it is not active.

        Args:
            changes: ``priority``: it goes behind those that have it already; of an active job it counts from the next
                attempt on. ``delay``: from now, 0 = wait now; a waiting job becomes delayed. ``data``: all of it.

        Raises:
            JobNotFoundError: no such job.
            InvalidInputError: a change is not usable; NotAllowedError, JobStateError: queue or state do not admit it.
        """
        self._client._change(self.id, changes)  # noqa: SLF001 - as above

    def remove(self) -> None:
        """Remove the job with all that is kept of it; whoever waits for it gets JobNotFoundError.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it is active (cancel it), or its Kubernetes Job is not let go yet.
        """
        self._client._remove(self.id)  # noqa: SLF001 - as above

    def events(self, *, follow: bool = True) -> Iterator[JobEvent]:
        """Yield what happened to the job, oldest first, and with ``follow`` what happens until its end.

        Raises:
            JobNotFoundError: no such job.
        """
        return self._client._job_events(self.id, follow=follow)  # noqa: SLF001 - as above


def failure_message(job: str, outcome: Outcome | None) -> str:
    """Return one sentence on a failed job."""
    if outcome is None:
        return (
            f"job {job} failed; nothing is recorded about why, as a worker of RQ does that takes it: stop the one that "
            "listens to its queue (rq info)"
        )
    message = f"job {job} failed: {outcome.cls}"
    if outcome.message:
        message += f": {outcome.message}"
    elif outcome.exit_code is not None:
        message += f" (exit code {outcome.exit_code})"
    return message
