"""Redis keys: RQ's own, with RQ's formats, and ours (architecture: "State in Redis")."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key any part reads or writes; ``{job}`` and ``{queue}`` are raw ids."""

    rq: str = "rq"
    """RQ's prefix (``RQ_KEY_PREFIX``)."""
    ours: str = "heavylift"
    """Our prefix."""

    @classmethod
    def from_env(cls) -> Keys:
        """Return the keys for RQ's environment variable ``RQ_KEY_PREFIX``; another prefix moves ours with it."""
        prefix = os.environ.get("RQ_KEY_PREFIX", "rq")
        return cls(rq=prefix, ours="heavylift" if prefix == "rq" else f"heavylift:{prefix}")

    # -- RQ's keys ------------------------------------------------------------------------------------------------
    def queues(self) -> str:
        """Set of queue keys (``rq:queue:Q``) RQ knows."""
        return f"{self.rq}:queues"

    def queue(self, queue: str) -> str:
        """List of waiting job ids."""
        return f"{self.rq}:queue:{queue}"

    def level(self, queue: str, priority: int) -> str:
        """List of waiting ids of one priority; priority 0 is the queue's own list."""
        return self.queue(queue) if priority == 0 else f"{self.rq}:queue:{queue}@{priority}"

    def job(self, job: str) -> str:
        """Hash of one job."""
        return f"{self.rq}:job:{job}"

    def dependents(self, job: str) -> str:
        """Set of ids that depend on this job."""
        return f"{self.rq}:job:{job}:dependents"

    def dependencies(self, job: str) -> str:
        """Set of ids this job depends on; the double colon is RQ's."""
        return f"{self.rq}:job::{job}:dependencies"

    def started(self, queue: str) -> str:
        """Zset of ``job:execution``; our members score +inf."""
        return f"{self.rq}:wip:{queue}"

    def registry(self, name: str, queue: str) -> str:
        """Zset ``scheduled`` | ``finished`` | ``failed`` | ``deferred`` | ``canceled`` of one queue."""
        return f"{self.rq}:{name}:{queue}"

    def execution(self, job: str, execution: str) -> str:
        """Hash of one execution; ours never expires while current."""
        return f"{self.rq}:execution:{job}:{execution}"

    def executions(self, job: str) -> str:
        """Zset of a job's execution ids."""
        return f"{self.rq}:executions:{job}"

    def worker_executions(self, worker: str) -> str:
        """Set of ``job:execution`` a worker shows in RQ's tools."""
        return f"{self.rq}:worker:{worker}:executions"

    def results(self, job: str) -> str:
        """Stream of results."""
        return f"{self.rq}:results:{job}"

    def rq_limit(self, key: str) -> str:
        """Hash ``concurrency`` of a rate limit of RQ's; beside it the zsets ``:allowed`` and ``:rate_limited``."""
        return f"{self.rq}:rl:{key}"

    def suspended(self) -> str:
        """Exists while ``rq suspend`` holds."""
        return f"{self.rq}:suspended"

    # -- ours -----------------------------------------------------------------------------------------------------
    def settings(self, queue: str) -> str:
        """Hash: ``json``, ``generation``, ``install``, ``namespace``, ``uid``; written by the operator only."""
        return f"{self.ours}:settings:{queue}"

    def pause(self, queue: str) -> str:
        """Hash of ``queue.pause()``: ``by``, ``at`` (ms), ``reason``; absent = not paused by a client."""
        return f"{self.ours}:pause:{queue}"

    def levels(self, queue: str) -> str:
        """Zset priority -> priority of levels in use."""
        return f"{self.ours}:levels:{queue}"

    def rate(self, queue: str) -> str:
        """Zset ``job:execution`` -> ms of the starts in the rate limit's window; expires a window after the last."""
        return f"{self.ours}:rate:{queue}"

    def lanes(self, queue: str) -> str:
        """Zset of one score: key, NUL, level, rank and job of each job that waits by its concurrency key."""
        return f"{self.ours}:lanes:{queue}"

    def heads(self, queue: str) -> str:
        """Zset concurrency key -> ms its first waiting job came; follows from ``lanes``, as the next two do."""
        return f"{self.ours}:heads:{queue}"

    def ring(self, queue: str) -> str:
        """Zset of one score: place, NUL and key of keys that have room, in order of service; no key = the lists."""
        return f"{self.ours}:ring:{queue}"

    def slots(self, queue: str) -> str:
        """Hash key -> its place in ``ring``."""
        return f"{self.ours}:slots:{queue}"

    def back(self, queue: str) -> str:
        """The highest rank that was given at the back of any lane; absent = look into each. Expires after a day."""
        return f"{self.ours}:back:{queue}"

    def keyof(self, queue: str) -> str:
        """Hash ``job:execution`` -> key of what runs: ``keyed`` the other way round."""
        return f"{self.ours}:keyof:{queue}"

    def full(self, queue: str) -> str:
        """Zset key -> ms it was last found at its cap."""
        return f"{self.ours}:full:{queue}"

    def keyed(self, queue: str) -> str:
        """Zset of one score: key, NUL and ``job:execution`` of what runs; follows from the started registry."""
        return f"{self.ours}:keyed:{queue}"

    def lane_list(self, queue: str) -> str:
        """List of fillers by which RQ's tools count the jobs in ``lanes``, as a queue ``Q@keys``."""
        return f"{self.rq}:queue:{queue}@keys"

    def breaker(self, queue: str) -> str:
        """Hash of image failures in a row and, while it is open, the next probe; the first start deletes it."""
        return f"{self.ours}:breaker:{queue}"

    def dedup(self, queue: str) -> str:
        """Hash deduplication key -> job that holds it: ``job``, ``job|until ms`` or ``job||follower``."""
        return f"{self.ours}:dedup:{queue}"

    def delayed(self, queue: str) -> str:
        """Zset id -> due time in ms; RQ's scheduled registry mirrors it in seconds."""
        return f"{self.ours}:delayed:{queue}"

    def inflight(self, install: str) -> str:
        """Zset of ``job:execution`` scored by claim time in ms: what this install runs."""
        return f"{self.ours}:inflight:{install}"

    def dispatchers(self, install: str) -> str:
        """Zset worker -> time (ms) its registration ends; live dispatchers are those above now."""
        return f"{self.ours}:dispatchers:{install}"

    def replies(self, worker: str) -> str:
        """Hash ``request`` -> reply of the last claim, so that a lost reply can be asked for again."""
        return f"{self.ours}:replies:{worker}"

    def hold(self, queue: str) -> str:
        """Text that exists for as long as nothing of this queue may be claimed: a program raised RateLimited."""
        return f"{self.ours}:hold:{queue}"

    def trouble(self, queue: str) -> str:
        """Hash kind -> JSON note: what only the dispatcher knows."""
        return f"{self.ours}:trouble:{queue}"

    def quarantine(self, queue: str) -> str:
        """List of JSON notes on bad entries, newest first, bounded."""
        return f"{self.ours}:quarantine:{queue}"

    def events(self, queue: str) -> str:
        """Stream of the queue's events, MAXLEN about 10,000."""
        return f"{self.ours}:events:{queue}"

    def counters(self, queue: str) -> str:
        """Hash of counters scripts keep (dropped ghosts, quarantined, conflicts, enqueued...)."""
        return f"{self.ours}:counters:{queue}"

    def outbox(self) -> str:
        """Stream of what must follow a finish."""
        return f"{self.ours}:outbox"

    def dependents_todo(self) -> str:
        """Set of ended jobs with more dependents than one script lets go; claims go on with them."""
        return f"{self.ours}:dependents"

    def installs(self) -> str:
        """Set of install ids seen here (few; never removed)."""
        return f"{self.ours}:installs"

    def finished_index(self, queue: str, state: str) -> str:
        """Zset id -> end time in ms for retention by count and age; ``completed``, ``failed`` or ``cancelled``."""
        return f"{self.ours}:ended:{state}:{queue}"

    def epoch(self) -> str:
        """``<ms it began>-<random>``, set by the first write; absent, or another than a Job's = not the Job's data."""
        return f"{self.ours}:epoch"

    def lock(self, name: str) -> str:
        """A lock that only saves double work (who reconciles, who exports gauges)."""
        return f"{self.ours}:lock:{name}"

    def unfinalized(self, install: str) -> str:
        """Zset ``namespace/name`` -> ms of Jobs finished in Redis whose PATCH is not confirmed yet."""
        return f"{self.ours}:unfinalized:{install}"

    def unfinalized_jobs(self, install: str) -> str:
        """Hash ``namespace/name`` -> ``job:execution`` of the entries of ``unfinalized``."""
        return f"{self.ours}:unfinalized-jobs:{install}"

    def schedules(self) -> str:
        """Zset schedule id -> ms when somebody should look at it next; +inf while suspended or over."""
        return f"{self.ours}:schedules"

    def failing_schedules(self) -> str:
        """Zset schedule id -> ms its tick was due that cannot be fired; it leaves with the next decision."""
        return f"{self.ours}:schedules-failing"

    def schedule(self, schedule: str) -> str:
        """Hash of one schedule; lives until it is deleted, by its client or with its HeavySchedule."""
        return f"{self.ours}:schedule:{schedule}"

    # -- channels -------------------------------------------------------------------------------------------------
    def doorbell(self) -> str:
        """Pub/sub: a job may be claimable; the message is the queue's name."""
        return f"{self.ours}:doorbell"

    def wake(self) -> str:
        """Pub/sub: the operator should look at this job (cancel); the message is the job id."""
        return f"{self.ours}:wake"

    def done(self, job: str) -> str:
        """Pub/sub: the job reached a terminal state."""
        return f"{self.ours}:done:{job}"


FIELD_PREFIX = "hl:"
"""Side fields of the job hash: RQ ignores them on load, keeps them on save, and they die with the job."""


class Field:
    """Names of the side fields in a job's hash (values are UTF-8 text; times are integer ms since the epoch)."""

    INCARNATION = "hl:inc"
    SOURCE = "hl:src"  # what the incarnation comes from, if it is not its beginning; another value = enqueued anew
    SEQ = "hl:seq"  # sequence number of the current or last execution, from 1
    EXECUTION = "hl:exec"  # current execution id; absent when none
    WORKER = "hl:worker"
    INSTALL = "hl:install"
    NAMESPACE = "hl:ns"
    PHASE = "hl:phase"
    REASON = "hl:reason"  # why it is pending, or why it was released last
    JOB_NAME = "hl:job"
    JOB_UID = "hl:uid"
    CLAIMED_AT = "hl:claimed"
    DEADLINE = "hl:deadline"  # claim deadline
    RUNNING_AT = "hl:running"  # container start as seen
    EVIDENCE = "hl:evidence"  # JSON, merged by observe
    TASK = "hl:task"
    PRIORITY = "hl:priority"
    DUE = "hl:due"  # not before
    EXPIRES = "hl:expires"  # not after, while not started
    OPTIONS = "hl:options"  # JSON: what the producer set explicitly (EnqueueOptions)
    FROZEN = "hl:frozen"  # JSON: what claim resolved for the current attempt
    ATTEMPTS_MADE = "hl:attempts"  # attempts spent so far
    STARTS = "hl:starts"  # executions that got a Job, whatever became of them
    ATTENDED = "hl:attended"  # the claim (its time) a dispatcher has in hand although the one before went silent
    SILENT_CLAIMS = "hl:silent"  # claims in a row that passed their deadline without a word from the dispatcher
    BUDGETS = "hl:budgets"  # JSON: class -> retries spent of that class
    HISTORY = "hl:history"  # JSON list of ended attempts, newest last, at most 20
    OUTCOME = "hl:outcome"  # JSON of the last outcome
    RESULT = "hl:result"  # JSON text of the result
    CANCEL = "hl:cancel"  # JSON: by, at, reason; a request while active
    DEDUP = "hl:dedup"  # the deduplication key this job was enqueued with
    KEY = "hl:key"  # concurrency key
    LIFO = "hl:lifo"  # "1": it goes to the front of its level
    ENQUEUED_AT = "hl:enqueued"  # ms
    ENDED_AT = "hl:ended"  # ms
    PROGRESS = "hl:progress"
    FINGERPRINT = "hl:fp"  # hash of task and data, compared under if_exists
    TOP_SEQ = "hl:top"  # highest seq ever claimed; another install or namespace goes on after it
    OPERATION = "hl:op"  # token of the last release or retry, so that a repeat of it changes nothing
    TRACE = "hl:trace"  # traceparent
    RQ_ATTEMPTS = "hl:rqmax"  # plain RQ jobs: attempts their Retry asked for
    FIRST_CLAIM = "hl:first"  # ms of the first claim; timeouts.total counts from here
    MEMORY = "hl:memory"  # bytes of memory the next attempt asks for, grown after an end as oom
    CHECKPOINT = "hl:checkpoint"  # JSON text the last attempts left for the next one
