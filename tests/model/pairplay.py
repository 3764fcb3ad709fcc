"""Rows of the covering array, played: enqueue, claim, record, run, end; then the first id once more.

A row is played by the public client on the model and on Redis at once: each step goes to both, and after each
operation all that can be seen of both is compared, and the invariants are checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import rq.job
import rq.queue
from rq.serializers import JSONSerializer
from typing_extensions import override

from heavylift import Backoff, Dedupe, DuplicateJobError, HeavyliftError, JobRequest, JobState, Timeouts, testing
from heavylift.store import Event, JobRecord, ops
from heavylift.store.steps import AheadOp, Call, Step
from heavylift.testing.store import MemoryStore, answer
from tests.model import strangers
from tests.model.clocked import ClockedStore
from tests.model.pair import JOB_IDS, MismatchError, Pair
from tests.model.pairpods import BY_RQ, DELAY_MS, OTHER, PLAIN, QUEUE, SCHEDULE, WORK, Pods, spec_of
from tests.model.pairs import Row
from tests.model.views import QUEUES

T = TypeVar("T")
_ROUNDS = 200
_MADE = {None: 3, "first": 1, "throttle": 1, "keep_last": 1, "debounce": 1}
"""Deduplication -> jobs that three enqueues make."""
_TICKS = {None: 0, "Allow": 2, "Forbid": 1, "Replace": 2}
"""Concurrency policy of the schedule -> jobs that two ticks make."""
_READS = {"get_job", "schedule_due"}


class Both(MemoryStore):
    """A store that takes each step on the model and on Redis, and compares what can be seen after each operation."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.engine)
        self.pair = pair
        self._changes = True
        self._micros = 0

    @override
    def _take(self, step: Step) -> Any:
        self._changes |= isinstance(step, Call) and step.script not in _READS
        if self._micros != self.engine.state.clock.micros:
            self._micros = self.engine.state.clock.micros
            self.pair.real.set_time(self._micros)
        answer(self.engine, step, self.idle)
        return self.pair.real._take(step)

    @override
    def run(self, op: AheadOp[T]) -> T:
        self._changes = False
        try:
            return super().run(op)
        finally:
            if self._changes:
                self.pair.compare()


@dataclass(slots=True)
class Play:
    """One row, played."""

    row: Row
    """What is asked for; ``pods.row`` is what must be seen."""
    client: testing.Client
    both: Both
    pods: Pods
    ended: dict[str, int] = field(default_factory=dict)
    """Job -> how often it may have ended: once for each time it was accepted or run again."""

    @classmethod
    def on(cls, real: ClockedStore, row: Row, asked: Row) -> Play:
        """Set up a row: what must be seen, and what is asked for."""
        client = testing.Client({})
        queues = client.queues_
        both = Both(Pair(real, queues.engine))
        pods = Pods(both, row, asked)
        queues.store, client._store, queues.worker = both, both, pods
        client.serve(QUEUE, spec_of(asked))
        return cls(asked, client, both, pods)

    # -- what is asked for --------------------------------------------------------------------------------------------
    def options(self) -> dict[str, Any]:
        """Return the row's options of an enqueue; those that exclude one another (the client says so) not together."""
        row = self.row
        dedupe = {
            "first": Dedupe("d"),
            "throttle": Dedupe("d", mode="first", ttl="20s"),
            "keep_last": Dedupe("d", mode="keep_last"),
            "debounce": Dedupe("d", mode="debounce", ttl="10s"),
        }.get(row["dedupe"])
        given = {
            **self.templated(),
            "delay": None if row["dedupe"] == "debounce" else row["delay"],
            "dedupe": dedupe,
            "depends_on": ["j3"] if row["depends"] and row["dedupe"] != "keep_last" else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def templated(self) -> dict[str, Any]:
        """Return the row's options that go with a schedule, too."""
        row = self.row
        backoff = {
            "exponential": Backoff.exponential("2s", max="3s", jitter=row["jitter"]),
            "fixed": Backoff.fixed("4s", jitter=row["jitter"]),
        }
        given = {
            **{name: row[name] for name in ("priority", "lifo", "key", "expires", "max_attempts", "delay")},
            "backoff": backoff.get(row["backoff"]),
            "timeouts": Timeouts(pending=row["pending"], run=row["run"], total=row["total"]),
            "resources": row["resources"] and {"memory": row["resources"]},
        }
        return {name: value for name, value in given.items() if value is not None}

    def data(self, n: int) -> dict[str, Any]:
        """Return the data of a job."""
        return {"n": n, "fails": {"retry": 1, "fail": 100}.get(self.row["end"], 0), "keeps": self.row["checkpoint"]}

    def enqueue(self) -> None:
        """Enqueue a neighbour without options and three jobs with all of them; a schedule and RQ come on top."""
        queue = self.client.queue(QUEUE)
        queue.enqueue(OTHER, id="j3", resources={"memory": "1Gi"})
        wanted = [JobRequest(WORK, self.data(n), id=f"j{n}", **self.options()) for n in range(3)]
        if self.row["way"] == "many":
            made = queue.enqueue_many(wanted)
        else:
            made = [queue.enqueue(WORK, self.data(n), id=f"j{n}", **self.options()) for n in range(3)]
        self.ended = {"j3": 1, **{job.id: 1 for job in made}}
        wanted_ids = _MADE[self.pods.row["dedupe"]]
        if len({job.id for job in made}) != wanted_ids:
            raise MismatchError(f"{wanted_ids} jobs were to be made, not {[job.id for job in made]}")
        if self.row["delay"] and not self.row["dedupe"]:
            self.pods.due = {job.id: self.pods.now + DELAY_MS for job in made}
        if self.row["rq"]:
            self._by_rq()
        if self.row["schedule"]:
            self._by_schedule()

    def _by_schedule(self) -> None:
        """Let a schedule tick twice, the second time while its first job waits."""
        end = self.client.now + timedelta(seconds=2)
        often: dict[str, Any] = {"every": "1s", "end": end, "concurrency": self.row["schedule"]}
        self.client.queue(QUEUE).schedule(SCHEDULE, WORK, self.data(9), **often, **self.templated())
        self.both.engine.state.clock.advance(2_000)
        self.pods.tick()

    def _by_rq(self) -> None:
        """Let RQ's own client enqueue."""
        pair, how = self.both.pair, self.row["rq"]
        there = rq.queue.Queue(QUEUE, connection=pair.real.redis, serializer=JSONSerializer)
        with strangers.at(self.both.engine.state.clock.micros):
            if how == "in":
                there.enqueue_in(timedelta(milliseconds=DELAY_MS), PLAIN, 1, job_id=BY_RQ)
                self.pods.due[BY_RQ] = self.pods.now + DELAY_MS
            else:
                retry = rq.job.Retry(max=2, interval=[3, 5] if how == "intervals" else 0)
                there.enqueue_call(PLAIN, args=(1,), job_id=BY_RQ, retry=retry)
        strangers.take_over(pair.real.redis, self.both.engine.state, QUEUES, JOB_IDS)
        self.ended[BY_RQ] = 1
        pair.compare()
        found = self.both.run(ops.get_job(BY_RQ))
        if found is None or found.due != self.pods.due.get(BY_RQ):
            raise MismatchError(f"what RQ's client enqueued is due at {self.pods.due.get(BY_RQ)}: {found}")

    def repeat(self) -> None:
        """Enqueue the first id once more, as ``if_exists`` of the row says."""
        queue, mode = self.client.queue(QUEUE), self.row["if_exists"]
        before = self.both.run(ops.get_job("j0"))
        try:
            job = queue.enqueue(WORK, self.data(0), id="j0", if_exists=mode, **self.options())
        except DuplicateJobError:
            replaced = self.row["dedupe"] in {"keep_last", "debounce"}  # another job's data took the place of its own
            if before is None or (mode == "return" and not replaced):
                raise
            self._check_repeat(before, raised=True)
            return
        self._check_repeat(before, raised=False)
        self.ended[job.id] = self.ended.get(job.id, 0) + 1
        if mode == "retry_failed":
            self.pods.anew(job.id)

    def _check_repeat(self, before: JobRecord | None, *, raised: bool) -> None:
        """Hold what a repeat did against the row's ``if_exists``."""
        mode = self.pods.row["if_exists"]
        if before is None or (self.row["dedupe"] and not (mode == "raise" and not raised)):
            return  # a deduplication key has a say, too
        after = self.both.run(ops.get_job("j0"))
        if after is None or raised != (mode == "raise"):
            raise MismatchError(f"an id that exists was enqueued again, to {mode}: raised {raised}, then {after}")
        if (after.incarnation != before.incarnation) != (mode == "replace"):
            raise MismatchError(f"an id that exists, to {mode}: {before.incarnation}, then {after.incarnation}")
        runs = mode == "retry_failed" and before.state in {JobState.FAILED, JobState.CANCELLED}
        if mode != "replace" and (after.state is before.state) == runs:
            raise MismatchError(f"an id that exists, to {mode}: {before.state}, then {after.state}")

    def state(self, job: str) -> JobState | None:
        """Return a job's state, None when it is not there."""
        record = self.both.run(ops.get_job(job))
        return None if record is None else record.state

    # -- what happens -------------------------------------------------------------------------------------------------
    def hold(self) -> None:
        """Pause the queue: nothing of it starts, whatever comes due; then let it go on."""
        queue = self.client.queue(QUEUE)
        if self.row["pause"]:
            queue.pause("as the row says")
        if not self.pods.row["pause"]:
            return
        self.both.engine.state.clock.advance(DELAY_MS)
        reply = self.pods.ask()
        if reply.claims or reply.blocked.get(QUEUE) != "paused":
            raise MismatchError(f"the queue is paused, and a claim gave {reply}")
        queue.resume()

    def run(self) -> None:
        """Let all that can start run, side by side, to the end of the row; time goes on when nothing can."""
        if self.row["end"] == "cancel" and self.state("j0") not in {None, JobState.CANCELLED}:
            self.client.job("j0").cancel()
        clock = self.both.engine.state.clock
        for _ in range(_ROUNDS):
            tick = self.pods.tick()
            reply = self.pods.ask()
            self.both.pair.bounded(reply)
            for claim in reply.claims:
                if self.row["end"] == "cancel" and claim.job == "j1":
                    self.client.job("j1").cancel()
                self.pods.work(claim)
            following = [ms for ms in (tick, reply.next_due_ms) if ms is not None]
            if not reply.claims and not following:
                return
            if not reply.claims:
                clock.advance(max(min(following), 1))
        raise MismatchError("jobs are left that never start")

    def check(self) -> None:
        """Nothing is left behind: all have ended, as often as they were accepted, and a sweep mends nothing.

        Raises:
            MismatchError: something is.
        """
        events = self.both.run(ops.events(QUEUE, count=10_000))
        finals = Counter(event.job for event in events if event.fields.get("final") == "1")
        self._check_ticks(events)
        if (BY_RQ in finals) != (self.pods.row["rq"] is not None):
            raise MismatchError("what RQ's client enqueued is not there, or nobody asked for it")
        for job, times in self.ended.items():
            state = self.state(job)
            if state not in {None, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}:
                raise MismatchError(f"{job} is {state}")
            if not 1 <= finals[job] <= times:
                raise MismatchError(f"{job} ended {finals[job]} times, it was accepted {times} times")
            if state is None and not self.pods.row["retention"]:
                raise MismatchError(f"{job} is gone, and nothing was to be forgotten")
        counts = self.both.run(ops.counts(QUEUE))
        if self.pods.row["retention"] and max(counts.completed, counts.failed) > 1:
            raise MismatchError(f"more is kept than one of each: {counts}")
        _, mended = self.both.run(ops.sweep_keys(QUEUE))
        _, stale = self.both.run(ops.sweep_dedupe(QUEUE))
        if mended or stale:
            raise MismatchError(f"left behind: {mended} entries of keys, {stale} of deduplication")

    def _check_ticks(self, events: Sequence[Event]) -> None:
        """Two ticks of the schedule: the second skipped by Forbid, the first one's job cancelled by Replace."""
        policy = self.pods.row["schedule"]
        ticks = [event.job for event in events if event.name == "added" and event.job.startswith(f"{SCHEDULE}-")]
        self.ended |= dict.fromkeys(ticks, 1)
        if len(ticks) != _TICKS[policy]:
            raise MismatchError(f"the schedule enqueued {ticks}")
        seen = {
            "Forbid": any(event.name == "schedule-skipped" for event in events),
            "Replace": any(event.name == "cancelled" and event.job in ticks for event in events),
        }
        if seen != {name: name == policy for name in seen}:
            raise MismatchError(f"the policy of the schedule is {policy}, what was seen {seen}")


def play(real: ClockedStore, row: Row, asked: Row | None = None) -> str:
    """Play a row: enqueue, claim, record, run, end; then the first id once more. Returns what was wrong, or nothing.

    Args:
        real: Redis.
        row: what must be seen.
        asked: what is asked for, where that is to differ.
    """
    try:
        one = Play.on(real, row, asked or row)
        one.enqueue()
        one.repeat()
        one.hold()
        one.run()
        one.check()
        one.repeat()
        one.run()
        one.check()
    except (MismatchError, HeavyliftError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
