"""Values that go into and come out of the store; all frozen, all times integer milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase

Json = dict[str, Any]


# -- enqueue ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueRequest:
    """One job to accept, already validated and encoded by the client."""

    queue: str
    task: str
    data: bytes
    """RQ's ``data`` field as stored: zlib of JSON ``[func, null, [task, data], {}]``."""
    id: str
    incarnation: str = ""
    """Tells a repeat of this request from another one; not needed without a fingerprint."""
    if_exists: str = "raise"
    """``raise`` | ``return`` | ``retry_failed`` | ``replace``; other data or queue under the id always refuses."""
    fingerprint: str = ""
    """Hash of task and data, compared under ``if_exists``; empty = the id is random, nobody else means this job."""
    delay_ms: int = 0
    expires_ms: int | None = None
    """From now; not started by then = failed as expired."""
    depends_on: tuple[str, ...] = ()
    options: Json = field(default_factory=dict)
    """Only what was set explicitly: maxAttempts, backoff, timeouts, resources, env, labels, args; and priority, lifo
    (bool), key, dedupe ``{id, mode: first | keep_last | debounce, ttl: ms}``, which are kept in fields of their own."""
    description: str = ""
    origin_trace: str = ""
    strict: bool = True
    """Refuse when the queue has no settings (no HeavyQueue)."""
    settings_tag: str = ""
    """Which settings it was held against (``ops.read_settings``); others = refused as ``stale``; empty = any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of one request."""

    id: str
    """Another job's when that one holds the deduplication key (and ``created`` is False)."""
    created: bool
    state: JobState
    error: str = ""
    """Empty, or why it was refused: exists | conflict | unknown-queue | corrupt | stale | levels."""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be another than before; None and empty = as it is."""

    priority: int | None = None
    delay_ms: int | None = None
    data_json: str | None = None
    """Compact JSON of the task's data."""
    options: Json = field(default_factory=dict)
    """Stored options (without those in fields of their own) that replace those of the same name."""


# -- claim ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A dispatcher asks for up to ``max`` jobs over its queues, in the order given."""

    worker: str
    request: str
    """Random id; asking again with the same one returns the same claims."""
    install: str
    queues: tuple[str, ...]
    max: int
    slots: int
    """Width = slots x live dispatchers."""
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claimed job: an execution without a Job so far."""

    job: str
    queue: str
    namespace: str
    install: str
    worker: str
    execution: str
    incarnation: str
    seq: int
    attempt: int
    """1-based: attempts spent so far + 1."""
    task: str
    """Empty for plain RQ jobs (it is inside ``data``)."""
    data: bytes
    claimed_at: int
    deadline: int
    options: Json
    """As the producer set them."""
    frozen: Json
    """Resolved for this attempt: maxAttempts, timeouts{pending,run}, generation, payload{format,maxSize}, totalDue."""
    rq: Mapping[str, str]
    """RQ's own fields of a plain job that matter: timeout, retries_left, callbacks, webhooks, repeat, rate_limit..."""
    traceparent: str = ""
    epoch: str = ""
    """Which data it was claimed from (``Keys.epoch``); empty when Redis' key holds none of ours."""
    silent: int = 0
    """Claims before this one that went silent in the dispatcher's hands; above 0 say ``attend`` first."""
    memory: int | None = None
    """Bytes of memory this attempt asks for at least, grown after an end as ``oom``; None = as written."""
    checkpoint: str = ""
    """JSON text an earlier attempt left for this one: hostile; empty = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReply:
    """Claims, and why there are not more of them."""

    claims: tuple[Claim, ...]
    blocked: Mapping[str, str]
    """queue -> paused | suspended | cap | rate | width | no-heavyqueue | empty | corrupt."""
    next_due_ms: int | None = None
    """Milliseconds until the earliest delayed job (or rate window) of these queues, or None."""


# -- fences and verdicts ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Who may change an execution: a dispatcher by worker, the operator by Job UID (architecture: "State in Redis")."""

    job: str
    execution: str
    worker: str | None = None
    uid: str | None = None
    """Compared when Redis has a UID recorded; filled in when it has none."""


class Verdict(StrEnum):
    """What a fenced script answers."""

    APPLIED = "applied"
    ALREADY = "already"
    """The same operation was applied before; nothing changed."""
    REFUSED = "refused"
    """The fence does not match (late, zombie, another execution); counted, nothing changed."""
    MISSING = "missing"
    """No such job hash."""
    CANCELLED = "cancelled"
    """Applied, and a cancel is requested: delete the Job."""
    CORRUPT = "corrupt"
    """A key has the wrong type; quarantined, nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A verdict with a message for people."""

    verdict: Verdict
    message: str = ""


# -- evidence and outcome ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the operator saw of a Job or pod, to be merged into the stored evidence."""

    phase: Phase
    reason: str = ""
    running_at: int | None = None
    evidence: Json = field(default_factory=dict)
    """See heavylift_operator.core.evidence; terminal parts are never overwritten by later, poorer ones."""
    terminal: bool = False


class Next(StrEnum):
    """Where finish sends the job."""

    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"
    """Run again after ``delay_ms``; spends what ``spend`` says."""


class Spend(StrEnum):
    """What an ended attempt costs."""

    ATTEMPT = "attempt"
    BUDGET = "budget"
    """One of the outcome class's own retries."""
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Why an attempt ended, with the evidence a person needs."""

    cls: OutcomeClass
    message: str
    """One sentence, at most 2,048 bytes."""
    exit_code: int | None = None
    evidence: Json = field(default_factory=dict)
    """Log tail, kubelet's words, limits, node, pod name; bounded to 8 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequest:
    """One outcome to write; applied once per execution."""

    fence: Fence
    outcome: Outcome
    next: Next
    spend: Spend = Spend.NONE
    delay_ms: int = 0
    result: str | None = None
    """JSON text of the result, at most 4 KiB; None = null."""
    started_at: int | None = None
    ended_at: int | None = None
    memory: int | None = None
    """Bytes of memory the next attempt shall ask for; None = as before."""
    checkpoint: str | None = None
    """JSON text (at most limits.CHECKPOINT_MAX bytes) for the next attempt; None = what is stored stays."""
    hold_ms: int = 0
    """Claim nothing of this queue for so long: its program was told to slow down."""
    job_exists: bool = True
    """A Job stands in Kubernetes for this execution: remember it until its finishing PATCH is confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishReply:
    """What finish did, and what stands in Redis now."""

    verdict: Verdict
    state: JobState | None = None
    stored: Json = field(default_factory=dict)
    """The outcome Redis holds for this execution (also when ALREADY): what the PATCH must carry."""
    message: str = ""


# -- reading ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Everything Redis knows of one job, decoded; hostile bytes have become replacement characters or were dropped."""

    id: str
    queue: str
    state: JobState
    rq_status: str
    task: str
    incarnation: str
    seq: int
    attempts_made: int
    max_attempts: int | None
    starts: int
    priority: int
    phase: Phase | None
    reason: str
    execution: str
    worker: str
    install: str
    namespace: str
    job_name: str
    job_uid: str
    enqueued_at: int | None
    claimed_at: int | None
    deadline: int | None
    running_at: int | None
    ended_at: int | None
    due: int | None
    expires: int | None
    options: Json
    frozen: Json
    evidence: Json
    budgets: Mapping[str, int]
    history: tuple[Json, ...]
    outcome: Json
    result: str | None
    cancel: Json
    dependencies: tuple[str, ...] = ()
    position: int | None = None
    """0-based place in the queue, or among those of its key, when asked for and found within the first 1,000."""
    key: str = ""
    """Concurrency key; empty = none."""
    result_ttl: int | None = None
    """Seconds, as plain RQ's producer asked; capped by retention."""
    failure_ttl: int | None = None
    first_claimed_at: int | None = None
    """When the first attempt was claimed; ``timeouts.total`` counts from here."""
    memory: int | None = None
    """Bytes of memory the next attempt asks for, grown after an end as ``oom``; None = as written."""
    checkpoint: str = ""
    """JSON text the last attempts left for the next one; empty = none."""
    lifo: bool = False
    dedupe: str = ""
    """Deduplication key it was enqueued with; empty = none."""
    retry_delays: tuple[int, ...] = ()
    """Ms to wait after each failed attempt, as plain RQ's producer asked; empty = as the queue says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """Jobs of one queue by state; delayed jobs that are due count as waiting too."""

    waiting: int
    delayed: int
    active: int
    waiting_children: int
    completed: int
    failed: int
    cancelled: int
    oldest_waiting: int | None = None
    quarantined: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGauges(QueueCounts):
    """Counts of one queue, what holds its jobs back, and what may start now; one moment of Redis."""

    demand: int
    """Executions now plus ``startable``: what an autoscaler should follow."""
    startable: int
    """Jobs that may start now: 0 while paused, suspended or without settings; cap, rate and keys applied."""
    aside: int
    """Waiting jobs that nothing but their key's cap holds back."""
    held: str
    """What holds the whole queue back: paused | suspended | no-heavyqueue | corrupt | breaker; empty = nothing."""
    cap: int | None
    """Executions at once at most; None = no cap."""
    rate_left: int | None
    """Starts left in the rate limit's window; None = no limit."""
    rate_next: int | None
    """Milliseconds until the window has room for one more; None = it has now."""
    slowed: int | None = None
    """Milliseconds for which a program of the queue holds it back (RateLimited); None = none does."""
    slowed_by: str = ""
    """Id of that program's job; empty = not known."""
    install: str
    """Whose queue it is; empty = nobody's."""
    counters: Mapping[str, int]
    """Everything scripts count: enqueued, claimed, completed, dropped, quarantined, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All gauges of an install at one moment."""

    at: int
    inflight: int
    """Executions of the install."""
    dispatchers: int
    """Live ones."""
    unfinalized: int
    """Jobs finished here whose PATCH is not confirmed."""
    schedules: int = 0
    suspended: int = 0
    """Schedules that are suspended or over."""
    oldest_due: int | None = None
    """When the tick was due (ms) that waits longest to be fired; None = none is due."""
    queues: Mapping[str, QueueGauges]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a queue's event stream."""

    id: str
    name: str
    """BullMQ's names: added, waiting, delayed, active, completed, failed, retries-exhausted, stalled, removed, ..."""
    job: str
    at: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """One member of the install's in-flight set."""

    job: str
    execution: str
    claimed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsOwner:
    """Who wrote a queue's settings."""

    install: str
    namespace: str
    uid: str
    generation: int
