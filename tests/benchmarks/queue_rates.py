"""Enqueue, claim and finish per second, beside RQ's own client and worker and, where it can be had, BullMQ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from tests.benchmarks.bullmq import AbsentError, BullMq, bullmq
from tests.benchmarks.rounds import Effort, by_turns, timed
from tests.benchmarks.rows import Row, Target
from tests.benchmarks.stores import DATA, QUEUE, TASK, Ours, Theirs, ours, theirs

RATE: Final = "jobs/s"
CLIENT_LIMIT: Final = "one connection, one core for this process and one for Redis"


@contextlib.contextmanager
def _bullmq() -> Iterator[BullMq | str]:
    """Give BullMQ, or why there is none."""
    with contextlib.ExitStack() as stack:
        try:
            peer: BullMq | str = stack.enter_context(bullmq())
        except AbsentError as error:
            peer = f"no BullMQ here: {error}"
        yield peer


def _rates(count: int, **sides: Callable[[], object]) -> dict[str, Callable[[], float]]:
    return {name: lambda work=work: count / timed(work) for name, work in sides.items()}  # type: ignore[misc]


def _rows(
    bench: str, what: str, found: dict[str, list[float]], targets: tuple[Target, ...] = (), limit: str = ""
) -> Iterator[Row]:
    """Make a row beside RQ, and one beside BullMQ where it took part."""
    for peer, name in (("rq", "RQ"), ("bullmq", "BullMQ")):
        if peer in found:
            yield Row(
                bench=bench, what=what, unit=RATE, runs=found["ours"], peer=name, peer_runs=found[peer],
                targets=targets if peer == "rq" else (), limit=limit,
            )  # fmt: skip


def enqueue(effort: Effort) -> Iterator[Row]:
    """Enqueue one by one and in batches of 100 and of 1,000."""
    with ours() as us, theirs() as them, _bullmq() as other:
        client = us.client.queue(QUEUE)
        singles = effort.of(1_000, 200)

        def one_by_one() -> None:
            for _ in range(singles):
                client.enqueue(TASK, DATA)

        sides = _rates(singles, ours=one_by_one, rq=lambda: them.enqueue(singles))
        if isinstance(other, BullMq):
            sides["bullmq"] = lambda: singles / other.do("enqueue", singles)
        yield from _rows("enqueue", "one by one", by_turns(sides, effort.runs), limit=CLIENT_LIMIT)
        for size in (100, 1_000):
            times = effort.of(3_000, 1_000) // size
            yield from _batches(us, them, other, size, times, effort.runs)
    if isinstance(other, str):
        yield Row(bench="enqueue", what="beside BullMQ", unit="", runs=[0.0], limit=other)


def _batches(us: Ours, them: Theirs, other: BullMq | str, size: int, times: int, runs: int) -> Iterator[Row]:
    total = size * times
    sides = _rates(
        total,
        ours=lambda: us.enqueue_many(size, times),
        rq=lambda: them.enqueue_many(size, times),
    )
    if isinstance(other, BullMq):
        sides["bullmq"] = lambda: total / sum(other.do("enqueueMany", size) for _ in range(times))
    targets = (Target(2.0),) if size == 1_000 else ()
    limit = "encoding and checking each job in Python, then one script's time in Redis per job"
    yield from _rows("enqueue", f"enqueue_many, {size:,} at once", by_turns(sides, runs), targets, limit)


def claim(effort: Effort) -> Iterator[Row]:
    """Claim beside RQ's worker at 1,000 and at 1,000,000 waiting jobs; and how the time grows with the depth."""
    yield from _at_depths((1_000, effort.of(1_000_000, 20_000)), _claims, effort)


def _at_depths(
    depths: tuple[int, ...], measure: Callable[[Ours, Theirs, BullMq | str, int, Effort], Iterator[Row]], effort: Effort
) -> Iterator[Row]:
    """Measure with so many jobs waiting on each side; BullMQ takes part at the first depth."""
    for depth in depths:
        with ours() as us, theirs() as them, _bullmq() as other:
            us.fill(depth)
            them.fill(depth)
            if isinstance(other, BullMq) and depth == depths[0]:
                other.do("enqueueMany", depth)
            yield from measure(us, them, other if depth == depths[0] else "", depth, effort)


def _claims(us: Ours, them: Theirs, other: BullMq | str, depth: int, effort: Effort) -> Iterator[Row]:
    count = 200  # of each side and run, given back after it: the depth stays

    def taking(most: int) -> float:
        seconds = timed(lambda: us.claim(most, count // most))
        us.record()
        us.finish_many(len(us.claims))
        us.confirm()
        us.fill(count)
        return count / seconds

    def rqs() -> float:
        seconds = timed(lambda: them.claim(count))
        them.finish(count)
        them.fill(count)
        return count / seconds

    def bullmqs() -> float:
        if not isinstance(other, BullMq):
            raise TypeError(other)
        seconds = other.do("claim", count)
        other.do("finish", count)
        other.do("enqueueMany", count)
        return count / seconds

    for most in (1, 10, 20):
        sides: dict[str, Callable[[], float]] = {"ours": lambda most=most: taking(most), "rq": rqs}  # type: ignore[misc]
        if isinstance(other, BullMq):
            sides["bullmq"] = bullmqs
        targets = (Target(10.0),) if most == 10 else ()
        what = f"claim, {most} at once, {depth:,} waiting"
        limit = "the script's time in Redis; RQ needs three round trips a job"
        yield from _rows("claim", what, by_turns(sides, max(effort.runs, 5)), targets, limit)


def finish(effort: Effort) -> Iterator[Row]:
    """Finish one by one and ten in a pipeline, beside RQ's worker, at 1,000 and at 1,000,000 waiting jobs."""
    yield from _at_depths((1_000, effort.of(1_000_000, 5_000)), _finishes, effort)


def _finishes(us: Ours, them: Theirs, other: BullMq | str, depth: int, effort: Effort) -> Iterator[Row]:
    count = effort.of(500, 100)

    def ends(work: Callable[[int], None]) -> float:
        us.enqueue_many(count)
        us.claim(20, count // 20)
        us.record()
        seconds = timed(lambda: work(count))
        us.confirm()
        return count / seconds

    def rqs() -> float:
        them.enqueue_many(count)
        them.claim(count)
        return count / timed(lambda: them.finish(count))

    def bullmqs() -> float:
        if not isinstance(other, BullMq):
            raise TypeError(other)
        other.do("enqueueMany", count)
        other.do("claim", count)
        return count / other.do("finish", count)

    for what, work, targets in (
        ("finish, one by one", us.finish, ()),
        ("finish, ten in a pipeline", us.finish_many, (Target(9.0),)),
    ):
        sides: dict[str, Callable[[], float]] = {"ours": lambda work=work: ends(work), "rq": rqs}  # type: ignore[misc]
        if isinstance(other, BullMq):
            sides["bullmq"] = bullmqs
        limit = "the script's time in Redis: outcome, history, result, streams, channels, retention; ten share some"
        yield from _rows("finish", f"{what}, {depth:,} waiting", by_turns(sides, effort.runs), targets, limit)


_ON: Final = {
    "concurrencyMax": 1_000_000,
    "concurrencyPerKey": 1_000_000,
    "rateLimit": {"limit": 1_000_000, "period": 60_000},
}
"""All bounds on, none of them reached: what they cost, not what they hold back."""


def options(effort: Effort) -> Iterator[Row]:
    """Batches, claims and finishes with every option on, beside RQ's without any: it has none of them."""
    size, count = effort.of(1_000, 200), effort.of(500, 100)
    with ours() as us, theirs() as them:
        us.serve(**_ON)
        sides = _rates(size, ours=lambda: us.enqueue_with_all(size), rq=lambda: them.enqueue_many(size))
        words = ", every option on"
        yield from _rows(
            "options", f"enqueue_many, {size:,} at once{words}", by_turns(sides, effort.runs), (Target(2.0),)
        )

        def taken() -> float:
            return count / timed(lambda: us.claim(10, count // 10))

        def ended() -> float:
            us.record()
            seconds = timed(lambda: us.finish_many(count))
            us.confirm()
            return count / seconds

        found: dict[str, list[float]] = {"claim": [], "finish": [], "rq claim": [], "rq finish": []}
        for _ in range(effort.runs):
            us.enqueue_with_all(count)
            found["claim"].append(taken())
            found["finish"].append(ended())
            them.enqueue_many(count)
            found["rq claim"].append(count / timed(lambda: them.claim(count)))
            found["rq finish"].append(count / timed(lambda: them.finish(count)))
        for name, what, target in (("claim", "claim, 10 at once", 10.0), ("finish", "finish, ten in a pipeline", 9.0)):
            beside = {"ours": found[name], "rq": found[f"rq {name}"]}
            yield from _rows("options", f"{what}{words}", beside, (Target(target),))
