"""Why a job is where it is: one sentence per reason, from what Redis knows; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heavylift.cli.output import iso, until
from heavylift.contract.durations import format_ms
from heavylift.contract.states import JobState, Phase
from heavylift.jobs import Attempt, JobInfo, failure_message, moment
from heavylift.spec import quantities
from heavylift.store.model import QueueGauges
from heavylift.store.ops import KeyStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What else decides about a job."""

    now: datetime
    settings: Mapping[str, Any] | None = None
    """Of its queue; None = no HeavyQueue serves it."""
    paused: Mapping[str, Any] | None = None
    """``by``, ``at`` (ms), ``reason`` of a pause by a client."""
    troubles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: QueueGauges | None = None
    key: KeyStanding | None = None
    """What its concurrency key runs; None = it has none."""
    dispatchers: int | None = None
    """Live ones of the install that serves the queue; None = unknown."""
    inflight: int = 0
    """Executions of the install."""
    breaker: datetime | None = None
    """When the next probe of the queue's open breaker may go; None = it is closed."""
    schedule: str = ""
    """Id of the schedule that enqueued it; empty = none did."""
    dependencies: Mapping[str, JobState | None] = field(default_factory=dict)
    """Ids it depends on; None = not there."""


def why(info: JobInfo, around: Surroundings) -> list[str]:
    """Return one sentence per reason, the strongest first."""
    tell = {
        JobState.WAITING: _waiting,
        JobState.DELAYED: _delayed,
        JobState.WAITING_CHILDREN: _deferred,
        JobState.ACTIVE: _active,
        JobState.COMPLETED: _completed,
        JobState.FAILED: _failed,
        JobState.CANCELLED: _cancelled,
    }[info.state]
    return [*tell(info, around), *_origin(around)]


def _origin(around: Surroundings) -> Iterator[str]:
    if around.schedule:
        yield f"Schedule {around.schedule} enqueued it (heavylift schedules show {around.schedule})."


def _many(count: object, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _jobs(count: object) -> str:
    return _many(count, "job")


_PLACES = 1000
"""How far a job's place in its queue is looked for."""


def _waiting(info: JobInfo, around: Surroundings) -> Iterator[str]:
    blocked = [*_queue_blocks(info.queue, around), *_key_blocks(info, around)]
    yield from blocked
    if info.position is not None:
        ahead = f"{_jobs(info.position)}{_whose(info, around)} {'is' if info.position == 1 else 'are'}"
        yield f"It waits in queue {info.queue}; {ahead} ahead of it."
    elif around.counts is not None and around.counts.waiting <= _PLACES:
        yield (
            f"It stands in no list of queue {info.queue}, so nothing starts it: a worker of RQ took it and was killed, "
            "or RQ's rate limit parked it. To queue it again: "
            f"heavylift jobs cancel {info.id}, then jobs retry {info.id}."
        )
    else:
        yield f"It waits in queue {info.queue}, behind more than {_PLACES:,} others."
    if info.reason:
        yield f"It was put back last because of: {info.reason}."
    yield from _last_failure(info, around.now)
    if not blocked and info.position == 0:
        yield from _next(_whose(info, around))
    if not blocked and around.inflight and around.dispatchers:
        have = f"{_many(around.dispatchers, 'dispatcher')} {'has' if around.dispatchers == 1 else 'have'}"
        flight = _many(around.inflight, "execution")
        yield f"{have} {flight} in flight: a job starts when a slot is free (dispatcher.slots)."
    yield from _expiry(info, around)


def _expiry(info: JobInfo, around: Surroundings) -> Iterator[str]:
    if info.expires_at is None or info.starts:
        return
    if info.expires_at <= around.now:
        yield f"It expired at {iso(info.expires_at)}: it never starts, and ends as failed when its turn comes."
    elif info.not_before is not None and info.expires_at <= info.not_before:
        yield f"It expires at {iso(info.expires_at)}, before its delay is over: it never starts."
    else:
        yield f"It expires at {iso(info.expires_at)} if it has not started by then."


def _whose(info: JobInfo, around: Surroundings) -> str:
    """Return among which jobs its place is counted; empty = all of its queue."""
    settings = around.settings or {}
    if settings.get("concurrencyPerKey") is None and settings.get("concurrencyOrder") != "RoundRobin":
        return ""
    return f" of its key {info.key!r}" if info.key else " without a key"


def _next(whose: str) -> Iterator[str]:
    first = f"It is the first of those{whose}; others may have their turn before it" if whose else "It is next"
    yield f"{first}: a dispatcher claims it within seconds; if not, check that one runs (heavylift doctor)."


def _queue_blocks(queue: str, around: Surroundings) -> Iterator[str]:
    if around.settings is None:
        yield f"No HeavyQueue serves queue {queue}: apply one, or wait for the operator to pick it up."
        return
    if around.settings.get("paused") is True:
        yield f"Queue {queue} is paused by its HeavyQueue (spec.paused: true)."
    if around.paused is not None:
        yield _paused(queue, around.paused)
    yield from _held(queue, around)
    for kind, note in around.troubles.items():
        yield f"The dispatcher reports {kind}: {note.get('message') or 'no details'}."
    if around.dispatchers == 0:
        yield "No dispatcher is running: jobs wait until one is (kubectl get pods, heavylift doctor)."
    cap = around.settings.get("concurrencyMax")
    if isinstance(cap, int) and around.counts is not None and around.counts.active >= cap:
        yield f"Queue {queue} runs {_jobs(around.counts.active)}, the most it may (spec.concurrency.max: {cap})."
    yield from _rate(queue, around)


def _held(queue: str, around: Surroundings) -> Iterator[str]:
    """Say what else holds the whole queue back."""
    held = around.counts.held if around.counts is not None else ""
    if held == "suspended":
        yield "All queues of this Redis are suspended (rq suspend): rq resume lets them go on."
    elif held == "corrupt":
        yield f"The settings of queue {queue} in Redis cannot be read: edit its HeavyQueue to have them written anew."
    if around.breaker is not None:
        yield (
            f"The breaker of queue {queue} is open (spec.breaker): until one starts, only one job is tried at a time, "
            f"the next {until(around.breaker, around.now)}."
        )


def _rate(queue: str, around: Surroundings) -> Iterator[str]:
    left, wait = (around.counts.rate_left, around.counts.rate_next) if around.counts is not None else (None, None)
    if left != 0 or around.settings is None:
        return
    limit = around.settings.get("rateLimit")
    following = f"; the next may start in {format_ms(wait)}" if wait else ""
    if around.counts is not None and around.counts.slowed:
        who = f"Job {around.counts.slowed_by}" if around.counts.slowed_by else "A job of it"
        yield f"Queue {queue} is held back: {who} raised RateLimited{following}."
    elif isinstance(limit, Mapping) and isinstance(limit.get("period"), int):
        most = f"{_jobs(limit.get('limit'))} in {format_ms(limit['period'])}"
        yield f"Queue {queue} may start {most} (spec.rateLimit), and did{following}."


def _key_blocks(info: JobInfo, around: Surroundings) -> Iterator[str]:
    standing = around.key
    if standing is not None and standing.cap is not None and standing.running >= standing.cap:
        yield (
            f"Its key {info.key!r} runs {_jobs(standing.running)}, the most it may "
            f"(spec.concurrency.perKey: {standing.cap}); {standing.waiting} wait{'s' * (standing.waiting == 1)}."
        )


def _paused(queue: str, note: Mapping[str, Any]) -> str:
    when = moment(note.get("at")) if isinstance(note.get("at"), int) else None
    since = f" since {iso(when)}" if when else ""
    reason = f": {note['reason']}" if note.get("reason") else ""
    return f"Queue {queue} is paused by {note.get('by') or 'a client'}{since}{reason}."


def _delayed(info: JobInfo, around: Surroundings) -> Iterator[str]:
    if info.not_before is None:
        yield "It is delayed."
    else:
        yield f"It is delayed until {iso(info.not_before)} ({until(info.not_before, around.now)})."
    yield from _last_failure(info, around.now)
    yield from _queue_blocks(info.queue, around)
    yield from _expiry(info, around)


def _last_failure(info: JobInfo, now: datetime) -> Iterator[str]:
    last = info.history[-1] if info.history else None
    if last is None or last.outcome is None:
        return
    yield f"{_name(last)} ended as {last.outcome.cls}: {last.outcome.message or 'no details'}."
    yield from _inherited(info, now)


def _inherited(info: JobInfo, now: datetime) -> Iterator[str]:
    """Say what the attempts so far mean for the one that runs or comes."""
    if info.memory is not None:
        yield f"Its memory has grown to {quantities.memory(info.memory)}, since it ran out of less."
    if info.checkpoint is not None:
        yield "It goes on from a checkpoint of an earlier attempt."
    if info.total_due is not None and info.total_due <= now and info.state is not JobState.ACTIVE:
        yield f"Its total time was over at {iso(info.total_due)} (timeouts.total): it fails when its turn comes."
    elif info.total_due is not None:
        yield f"All its attempts together may take until {iso(info.total_due)} (timeouts.total)."


def _name(attempt: Attempt) -> str:
    return f"Attempt {attempt.attempt} (start {attempt.seq})" if attempt.seq else "It had"


_FOLLOWS = "follows "


def _deferred(info: JobInfo, around: Surroundings) -> Iterator[str]:
    for job, state in around.dependencies.items():
        if state is None:
            yield f"It waits for job {job}, which is gone: if no other it waits for can complete, it is cancelled soon."
        elif state in {JobState.FAILED, JobState.CANCELLED}:
            ended = "failed" if state is JobState.FAILED else "was cancelled"
            yield f"It waits for job {job}, which {ended}: retry that one (heavylift jobs retry {job})."
        elif state is JobState.WAITING_CHILDREN:
            yield f"It waits for job {job}, which waits for others itself."
        elif state is not JobState.COMPLETED:
            yield f"It waits for job {job}, which is {state.value}."
    if info.reason.startswith(_FOLLOWS):
        holder = info.reason.removeprefix(_FOLLOWS)
        yield f"It waits for the end of job {holder}, which has the same deduplication key, {info.dedupe!r}."
    elif not around.dependencies:
        yield "It waits for other jobs to complete."
    yield from _queue_blocks(info.queue, around)
    yield from _expiry(info, around)


def _active(info: JobInfo, around: Surroundings) -> Iterator[str]:
    where = f" as Job {info.namespace}/{info.job_name}" if info.job_name else ""
    if info.phase is Phase.RUNNING:
        yield f"It runs{where}{_since(info)}."
    elif info.phase is Phase.PENDING:
        yield f"It is pending{where}: {info.reason.rstrip('.') or 'its pod has not started yet'}."
        yield from _pending_words(info)
    else:
        yield "A dispatcher has claimed it; its Kubernetes Job is being created."
    if info.attempt > 1:
        yield f"This is attempt {info.attempt} of {info.max_attempts or 1}."
        yield from _last_failure(info, around.now)
    if info.cancel:
        yield f"A cancel by {info.cancel.get('by') or 'somebody'} is under way{_because(info.cancel)}."


def _since(info: JobInfo) -> str:
    return f" since {iso(info.started_at)}" if info.started_at else ""


_WORDS = ("refused", "unscheduled_message", "waiting_message", "disruption_message", "message")
"""Where evidence keeps what the scheduler, the kubelet or the Job controller said."""


def _pending_words(info: JobInfo) -> Iterator[str]:
    pod = info.evidence.get("pod")
    seen = info.reason
    for part in (info.evidence, pod if isinstance(pod, Mapping) else {}):
        for key in _WORDS:
            words = part.get(key)
            if isinstance(words, str) and words and words.rstrip(".") not in seen:
                seen += words
                yield f"Kubernetes says: {words.rstrip('.')}."


def _completed(info: JobInfo, _around: Surroundings) -> Iterator[str]:
    yield f"It completed at {iso(info.ended_at) or 'an unknown time'}, in attempt {max(info.attempt, 1)}."
    warning = info.outcome.evidence.get("warning") if info.outcome is not None else None
    if isinstance(warning, str):
        yield f"{warning[:1].upper()}{warning[1:].rstrip('.')}."


def _failed(info: JobInfo, _around: Surroundings) -> Iterator[str]:
    message = failure_message(info.id, info.outcome)
    yield f"{message[0].upper()}{message[1:].rstrip('.')}."
    if info.max_attempts and info.max_attempts > 1:
        yield f"It was attempt {max(info.attempt, 1)} of {info.max_attempts}."
    if info.starts > max(info.attempts_made, 1):
        yield f"It was started {info.starts} times: not every end spends an attempt."
    yield f"To run it again: heavylift jobs retry {info.id}"


def _cancelled(info: JobInfo, _around: Surroundings) -> Iterator[str]:
    when = f" at {iso(info.ended_at)}" if info.ended_at else ""
    if info.cancel:
        yield f"It was cancelled by {info.cancel.get('by') or 'somebody'}{when}{_because(info.cancel)}."
    elif info.outcome is not None and info.outcome.message:
        yield f"It was cancelled{when}: {info.outcome.message.rstrip('.')}."
    else:
        yield f"It was cancelled{when}."


def _because(note: Mapping[str, Any]) -> str:
    return f": {str(note['reason']).rstrip('.')}" if note.get("reason") else ""
