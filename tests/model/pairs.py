"""Pairwise combinations of a job's options, its queue's settings and its end: a covering array, and its rows played.

A row is played by the public client on the model and on Redis at once: each step goes to both, and after each
operation all that can be seen of both is compared, and the invariants are checked.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from typing_extensions import override

import heavylift
from heavylift import Backoff, Dedupe, DuplicateJobError, HeavyliftError, JobRequest, JobState, Timeouts, testing
from heavylift.store import Op, ops
from heavylift.store.steps import Step
from heavylift.testing.store import MemoryStore, answer
from heavylift.testing.work import Worker
from tests.model.clocked import ClockedStore
from tests.model.pair import MismatchError, Pair
from tests.model.views import QUEUES

T = TypeVar("T")
QUEUE = QUEUES[0]
_CANDIDATES, _ROUNDS = 12, 200

Row = Mapping[str, Any]
PARAMETERS: dict[str, Sequence[Any]] = {
    "priority": (0, -5, 7),
    "lifo": (False, True),
    "key": (None, "red"),
    "dedupe": (None, "first", "throttle", "keep_last", "debounce"),
    "delay": (None, "5s"),
    "expires": (None, "1h", "4s"),
    "max_attempts": (None, 1, 3),
    "backoff": (None, "exponential", "fixed"),
    "if_exists": ("return", "raise", "retry_failed", "replace"),
    "total": (None, "30s"),
    "depends": (False, True),
    "way": ("one", "many"),
    "perKey": (None, 1, 2),
    "order": ("Fifo", "RoundRobin"),
    "cap": (None, 1, 3),
    "rate": (None, {"limit": 2, "period": "30s"}),
    "retention": (None, {"completed": {"count": 1}, "failed": {"count": 1}}),
    "end": ("complete", "retry", "fail", "oom", "cancel"),
}


def pairs_of(row: Row) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yield the pairs of choices of a row, each as parameter and index of its value."""
    chosen = [(name, values.index(row[name])) for name, values in PARAMETERS.items()]
    yield from itertools.combinations(chosen, 2)


@functools.cache
def covering_array(seed: int = 0) -> list[Row]:
    """Return rows in which each two values of any two parameters meet: the best of some greedy rows at a time."""
    choices = [[(name, index) for index in range(len(values))] for name, values in PARAMETERS.items()]
    left = {pair for one, other in itertools.combinations(choices, 2) for pair in itertools.product(one, other)}
    random, rows = Random(seed), list[Row]()
    while left:
        best = max((_candidate(random, left) for _ in range(_CANDIDATES)), key=lambda row: _covers(row, left))
        rows.append({name: PARAMETERS[name][index] for name, index in best.items()})
        left -= set(pairs_of(rows[-1]))
    return rows


def _covers(row: dict[str, int], left: set[Any]) -> int:
    chosen = [(name, row[name]) for name in PARAMETERS]
    return sum(pair in left for pair in itertools.combinations(chosen, 2))


def _candidate(random: Random, left: set[Any]) -> dict[str, int]:
    """Return a row that begins with a pair still left, and takes for each parameter what covers most of the others."""
    order = {name: place for place, name in enumerate(PARAMETERS)}
    row = dict(random.choice(sorted(left)))
    for name in random.sample(list(PARAMETERS), len(PARAMETERS)):
        if name in row:
            continue

        def gain(index: int, name: str = name) -> tuple[int, float]:
            pairs = (sorted(((name, index), other), key=lambda each: order[each[0]]) for other in row.items())
            return sum(tuple(pair) in left for pair in pairs), random.random()

        row[name] = max(range(len(PARAMETERS[name])), key=gain)
    return row


class Both(MemoryStore):
    """A store that takes each step on the model and on Redis, and compares what can be seen after each operation."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.engine)
        self.pair = pair

    @override
    def _take(self, step: Step) -> Any:
        self.pair.real.set_time(self.engine.state.clock.micros)
        answer(self.engine, step, self.idle)
        return self.pair.real._take(step)

    @override
    def run(self, op: Op[T]) -> T:
        try:
            return super().run(op)
        finally:
            self.pair.compare()


@heavylift.task(name="pairs.work")
def work(n: int) -> int:
    """Give back what came."""
    return n


@heavylift.task(name="pairs.other")
def other() -> None:
    """Do nothing."""


@dataclass(slots=True)
class Play:
    """One row, played."""

    row: Row
    client: testing.Client
    both: Both
    ended: dict[str, int] = field(default_factory=dict)
    """Job -> how often it may have ended: once for each time it was accepted or run again."""

    @classmethod
    def on(cls, real: ClockedStore, row: Row) -> Play:
        """Set up a row."""
        client = testing.Client({})
        queues = client.queues_
        both = Both(Pair(real, queues.engine))
        queues.store, client._store, queues.worker = both, both, Worker(both, ())
        concurrency = {"max": row["cap"], "perKey": row["perKey"], "order": row["order"]}
        spec = {"concurrency": concurrency, "rateLimit": row["rate"], "retention": row["retention"],
                "allow": {"minPriority": -10, "delay": "1h"}}  # fmt: skip
        client.serve(QUEUE, {name: value for name, value in spec.items() if value is not None})
        return cls(row, client, both)

    def options(self) -> dict[str, Any]:
        """Return the row's options of an enqueue; those that exclude one another (the client says so) not together."""
        row = self.row
        dedupe = {
            "first": Dedupe("d"),
            "throttle": Dedupe("d", mode="first", ttl="20s"),
            "keep_last": Dedupe("d", mode="keep_last"),
            "debounce": Dedupe("d", mode="debounce", ttl="10s"),
        }.get(row["dedupe"])
        backoff = {"exponential": Backoff.exponential("2s", max="3s", jitter=0), "fixed": Backoff.fixed("4s")}
        given = {
            **{name: row[name] for name in ("priority", "lifo", "key", "expires", "max_attempts")},
            "delay": None if row["dedupe"] == "debounce" else row["delay"],
            "dedupe": dedupe,
            "backoff": backoff.get(row["backoff"]),
            "timeouts": row["total"] and Timeouts(total=row["total"]),
            "depends_on": ["j3"] if row["depends"] and row["dedupe"] != "keep_last" else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def enqueue(self) -> None:
        """Enqueue a neighbour without options, then three jobs with all of them, one by one or together."""
        queue = self.client.queue(QUEUE)
        queue.enqueue("pairs.other", id="j3")
        wanted = [JobRequest("pairs.work", {"n": n}, id=f"j{n}", **self.options()) for n in range(3)]
        if self.row["way"] == "many":
            made = queue.enqueue_many(wanted)
        else:
            made = [queue.enqueue("pairs.work", {"n": n}, id=f"j{n}", **self.options()) for n in range(3)]
        self.ended = {"j3": 1, **{job.id: 1 for job in made}}

    def repeat(self) -> None:
        """Enqueue the first id once more, as ``if_exists`` of the row says."""
        queue, mode = self.client.queue(QUEUE), self.row["if_exists"]
        before = self.state("j0")
        try:
            job = queue.enqueue("pairs.work", {"n": 0}, id="j0", if_exists=mode, **self.options())
        except DuplicateJobError:
            replaced = self.row["dedupe"] in {"keep_last", "debounce"}  # another job's data took the place of its own
            if before is None or (mode == "return" and not replaced):
                raise
            return
        if before is not None and mode == "raise":
            raise MismatchError("an id that exists was accepted again")
        self.ended[job.id] = self.ended.get(job.id, 0) + 1

    def state(self, job: str) -> JobState | None:
        """Return a job's state, None when it is not there."""
        record = self.both.run(ops.get_job(job))
        return None if record is None else record.state

    def run(self) -> None:
        """Let all that can start run, side by side, to the end of the row; time goes on when nothing can."""
        self._plan()
        queues = self.client.queues_
        for _ in range(_ROUNDS):
            reply = queues.worker.ask()
            self.both.pair.bounded(reply)
            for claim in reply.claims:
                if self.row["end"] == "cancel" and claim.job == "j1":
                    self.client.job("j1").cancel()
                queues.worker.work(claim)
            if not reply.claims and reply.next_due_ms is None:
                return
            if not reply.claims and reply.next_due_ms is not None:
                queues.engine.state.clock.advance(max(reply.next_due_ms, 1))
        raise MismatchError("jobs are left that never start")

    def _plan(self) -> None:
        end = self.row["end"]
        if end == "cancel" and self.state("j0") not in {None, JobState.CANCELLED}:
            self.client.job("j0").cancel()
        if end in {"retry", "oom", "fail"}:
            cls = "oom" if end == "oom" else "error"
            self.client.fail_next(cls, task="pairs.work", times=100 if end == "fail" else 1)

    def check(self) -> None:
        """Nothing is left behind: all have ended, as often as they were accepted, and a sweep mends nothing.

        Raises:
            MismatchError: something is.
        """
        self.client.queues_.worker.planned.clear()
        finals: dict[str, int] = {}
        for event in self.both.run(ops.events(QUEUE, count=10_000)):
            finals[event.job] = finals.get(event.job, 0) + (event.fields.get("final") == "1")
        for job, times in self.ended.items():
            state = self.state(job)
            if state not in {None, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}:
                raise MismatchError(f"{job} is {state}")
            if not 1 <= finals.get(job, 0) <= times:
                raise MismatchError(f"{job} ended {finals.get(job, 0)} times, it was accepted {times} times")
        _, mended = self.both.run(ops.sweep_keys(QUEUE))
        _, stale = self.both.run(ops.sweep_dedupe(QUEUE))
        if mended or stale:
            raise MismatchError(f"left behind: {mended} entries of keys, {stale} of deduplication")


def play(real: ClockedStore, row: Row) -> str:
    """Play a row: enqueue, claim, record, run, end; then the first id once more. Returns what was wrong, or nothing."""
    try:
        one = Play.on(real, row)
        one.enqueue()
        one.repeat()
        one.run()
        one.check()
        one.repeat()
        one.run()
        one.check()
    except (MismatchError, HeavyliftError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
