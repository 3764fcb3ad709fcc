"""Enqueue, claim and finish per second, beside RQ's own client and worker and, where it can be had, BullMQ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.backing import Backing
from tests.benchmarks.bullmq import AbsentError, BullMq, bullmq
from tests.benchmarks.load import DATA, QUEUE, TASK
from tests.benchmarks.rounds import LEAST, Effort, by_turns, timed
from tests.benchmarks.rows import Row, Target
from tests.benchmarks.rq_peer import Theirs, theirs
from tests.benchmarks.stores import Ours, ours

RATE: Final = "jobs/s"
CLIENT: Final = "RQ"
"""RQ's client, which enqueues."""
WORKER: Final = "RQ's worker"
"""RQ's worker as it runs, heartbeats and states included: what targets are held against."""
ALONE: Final = "RQ's transactions alone"
"""The steps of RQ's worker that concern a job, and nothing else of its loop."""
BULLMQ: Final = "BullMQ"
_CLIENT_LIMIT: Final = "one connection, one core for this process and one for Redis"
_CLAIM_LIMIT: Final = "the script's time in Redis; RQ's worker asks Redis twelve times for a job, four of them about it"
_END_LIMIT: Final = (
    "the script's time in Redis: outcome, history, result, streams, channels, retention; ten share some; "
    "RQ's worker asks Redis eight times at an end, three of them about the job"
)


@contextlib.contextmanager
def _bullmq(backing: Backing) -> Iterator[BullMq | str]:
    """Give BullMQ, or why there is none."""
    with contextlib.ExitStack() as stack:
        try:
            peer: BullMq | str = stack.enter_context(bullmq(backing))
        except AbsentError as error:
            peer = f"no BullMQ here: {error}"
        yield peer


def _rates(count: int, sides: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], float]]:
    return {name: lambda work=work: count / timed(work) for name, work in sides.items()}  # type: ignore[misc]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question: what its rows are called, and what is demanded of the ratio to the first peer."""

    bench: str
    what: str
    targets: tuple[Target, ...] = ()
    limit: str = ""

    def rows(self, found: Mapping[str, Sequence[float]]) -> Iterator[Row]:
        """Make a row beside each peer; targets are held against the first."""
        peers = [name for name in found if name != "ours"]
        for peer in peers:
            yield Row(
                bench=self.bench, what=self.what, unit=RATE, runs=found["ours"], peer=peer, peer_runs=found[peer],
                targets=self.targets if peer == peers[0] else (), limit=self.limit,
            )  # fmt: skip


# -- enqueue ----------------------------------------------------------------------------------------------------------
def enqueue(effort: Effort) -> Iterator[Row]:
    """Enqueue one by one and in batches of 100 and of 1,000, beside RQ's client."""
    with ours(effort.backing) as us, theirs(effort.backing) as them, _bullmq(effort.backing) as other:
        client = us.client.queue(QUEUE)
        singles = effort.of(1_000, 200)

        def one_by_one() -> None:
            for _ in range(singles):
                client.enqueue(TASK, DATA)

        sides = _rates(singles, {"ours": one_by_one, CLIENT: lambda: them.enqueue(singles)})
        if isinstance(other, BullMq):
            sides[BULLMQ] = lambda: singles / other.do("enqueue", singles)
        limit = _CLIENT_LIMIT if isinstance(other, BullMq) else f"{_CLIENT_LIMIT}; {other}"
        asked = _Asked(bench="enqueue", what="one by one", limit=limit)
        yield from asked.rows(by_turns(sides, effort.runs))
        for size in (100, 1_000):
            times = effort.of(3_000, 1_000) // size
            yield from _batches(us, them, other, size, times, effort.runs)


def _batches(us: Ours, them: Theirs, other: BullMq | str, size: int, times: int, runs: int) -> Iterator[Row]:
    total = size * times
    sides = _rates(
        total, {"ours": lambda: us.enqueue_many(size, times), CLIENT: lambda: them.enqueue_many(size, times)}
    )
    if isinstance(other, BullMq):
        sides[BULLMQ] = lambda: total / sum(other.do("enqueueMany", size) for _ in range(times))
    yield from _Asked(
        bench="enqueue", what=f"enqueue_many, {size:,} at once", targets=(Target(2.0),) if size == 1_000 else (),
        limit="encoding and checking each job in Python, then one script's time in Redis per job",
    ).rows(by_turns(sides, runs))  # fmt: skip


# -- claims and ends --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pace:
    """How fast jobs were claimed and ended, in jobs per second."""

    claims: float
    ends: float


@dataclass(frozen=True, slots=True)
class _Peers:
    """Who else claims and ends so many jobs; what each run takes was enqueued just before, so that the depth stays."""

    them: Theirs
    bullmq: BullMq | None
    count: int

    def sides(self) -> dict[str, Callable[[], Pace]]:
        """Return what measures each, the one that targets are held against first."""
        found = {WORKER: self._worker, ALONE: self._alone}
        return found if self.bullmq is None else {**found, BULLMQ: self._bullmq}

    def claims(self) -> dict[str, Callable[[], float]]:
        """Return what measures the claims of each."""
        return {name: lambda run=run: run().claims for name, run in self.sides().items()}  # type: ignore[misc]

    def ends(self) -> dict[str, Callable[[], float]]:
        """Return what measures the ends of each."""
        return {name: lambda run=run: run().ends for name, run in self.sides().items()}  # type: ignore[misc]

    def _worker(self) -> Pace:
        self.them.enqueue_many(self.count + 1)
        spent = self.them.work(self.count)
        return Pace(self.count / spent.claims, self.count / spent.ends)

    def _alone(self) -> Pace:
        self.them.enqueue_many(self.count)
        claims = self.count / timed(lambda: self.them.claim_alone(self.count))
        return Pace(claims, self.count / timed(lambda: self.them.finish_alone(self.count)))

    def _bullmq(self) -> Pace:
        if self.bullmq is None:
            raise LookupError("BullMQ takes no part")
        self.bullmq.do("enqueueMany", self.count)
        claims = self.count / self.bullmq.do("claim", self.count)
        return Pace(claims, self.count / self.bullmq.do("finish", self.count))


_Measure = Callable[[Ours, _Peers, int, Effort], Iterator[Row]]


def _at_depths(depths: tuple[int, ...], measure: _Measure, count: int, effort: Effort) -> Iterator[Row]:
    """Measure with so many jobs waiting on each side; BullMQ takes part at the first depth."""
    for depth in depths:
        bullmqs = _bullmq(effort.backing) if depth == depths[0] else contextlib.nullcontext("at the first depth only")
        with ours(effort.backing) as us, theirs(effort.backing) as them, bullmqs as found:
            other = found if isinstance(found, BullMq) else None
            us.fill(depth)
            them.fill(depth)
            if other is not None:
                other.do("enqueueMany", depth)
            yield from measure(us, _Peers(them, other, count), depth, effort)


def claim(effort: Effort) -> Iterator[Row]:
    """Claim 1, 10 and 20 at once beside RQ's worker, at 1,000 and at 1,000,000 waiting jobs."""
    yield from _at_depths((1_000, effort.of(1_000_000, 20_000)), _claims, 200, effort)


def _claims(us: Ours, peers: _Peers, depth: int, effort: Effort) -> Iterator[Row]:
    count = peers.count

    def taking(most: int) -> float:
        seconds = us.signs.with_dispatchers(timed(lambda: us.claim(most, count // most)))
        us.record()
        us.finish_many(len(us.claims))
        us.confirm()
        us.fill(count)
        return count / seconds

    for most in (1, 10, 20):
        sides: dict[str, Callable[[], float]] = {"ours": lambda most=most: taking(most), **peers.claims()}  # type: ignore[misc]
        yield from _Asked(
            bench="claim", what=f"{most} at once, {depth:,} waiting", targets=(Target(10.0),) if most == 10 else (),
            limit=_CLAIM_LIMIT,
        ).rows(by_turns(sides, max(effort.runs, LEAST)))  # fmt: skip


def finish(effort: Effort) -> Iterator[Row]:
    """Finish one by one and ten in a pipeline beside RQ's worker, at 1,000 and at 1,000,000 waiting jobs."""
    depths = (1_000, effort.of(1_000_000, 5_000))
    yield from _at_depths(depths, _finishes, effort.of(500, 100), effort)


def _finishes(us: Ours, peers: _Peers, depth: int, effort: Effort) -> Iterator[Row]:
    count = peers.count

    def ends(work: Callable[[int], None]) -> float:
        us.enqueue_many(count)
        us.claim(20, count // 20)
        us.record()
        seconds = us.signs.with_operators(timed(lambda: work(count)))
        us.confirm()
        return count / seconds

    for what, work, targets in (
        ("one by one", us.finish, ()),
        ("ten in a pipeline", us.finish_many, (Target(9.0),)),
    ):
        sides: dict[str, Callable[[], float]] = {"ours": lambda work=work: ends(work), **peers.ends()}  # type: ignore[misc]
        asked = _Asked(bench="finish", what=f"{what}, {depth:,} waiting", targets=targets, limit=_END_LIMIT)
        yield from asked.rows(by_turns(sides, effort.runs))


# -- every option on --------------------------------------------------------------------------------------------------
_ON: Final = {
    "concurrencyMax": 1_000_000,
    "concurrencyPerKey": 1_000_000,
    "rateLimit": {"limit": 1_000_000, "period": 60_000},
}
"""All bounds on, none of them reached: what they cost, not what they hold back."""
_WORDS: Final = ", every option on"


def options(effort: Effort) -> Iterator[Row]:
    """Batches, claims and finishes with every option on, beside RQ's without any: it has none of them."""
    size, count = effort.of(1_000, 200), effort.of(500, 100)
    with ours(effort.backing) as us, theirs(effort.backing) as them:
        us.serve(**_ON)
        sides = _rates(size, {"ours": lambda: us.enqueue_with_all(size), CLIENT: lambda: them.enqueue_many(size)})
        asked = _Asked(bench="options", what=f"enqueue_many, {size:,} at once{_WORDS}", targets=(Target(2.0),))
        yield from asked.rows(by_turns(sides, effort.runs))
        paces = by_turns({"ours": lambda: _with_all(us, count), **_Peers(them, None, count).sides()}, effort.runs)
    claims = {name: [pace.claims for pace in runs] for name, runs in paces.items()}
    yield from _Asked(bench="options", what=f"claim, 10 at once{_WORDS}", targets=(Target(10.0),)).rows(claims)
    ends = {name: [pace.ends for pace in runs] for name, runs in paces.items()}
    yield from _Asked(bench="options", what=f"finish, ten in a pipeline{_WORDS}", targets=(Target(9.0),)).rows(ends)


def _with_all(us: Ours, count: int) -> Pace:
    """Claim and end so many jobs that use every option."""
    us.enqueue_with_all(count)
    claims = us.signs.with_dispatchers(timed(lambda: us.claim(10, count // 10)))
    us.record()
    ends = us.signs.with_operators(timed(lambda: us.finish_many(count)))
    us.confirm()
    return Pace(count / claims, count / ends)
