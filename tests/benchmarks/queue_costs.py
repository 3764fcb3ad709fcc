"""What waiting costs: bytes per job, time by depth and options, and how long one script holds Redis at its bounds."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import redis

from heavylift import JobRequest
from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Next, Outcome, scripts
from tests.benchmarks.backing import COMPACT, Backing
from tests.benchmarks.bullmq import AbsentError, bullmq
from tests.benchmarks.load import DATA, QUEUE, TASK
from tests.benchmarks.rounds import LEAST, Effort, by_turns
from tests.benchmarks.rows import Row, Target
from tests.benchmarks.rq_peer import theirs
from tests.benchmarks.stores import SETTINGS, Ours, ours

MS: Final = "ms"


# -- bytes ------------------------------------------------------------------------------------------------------------
def memory(effort: Effort) -> Iterator[Row]:
    """Bytes per waiting and per finished job, with the store at its defaults and as the chart sets it up."""
    count = effort.of(5_000, 1_000)
    if effort.backing.settings == "defaults":
        yield from _space(count, effort.runs, effort.backing)
    yield from _space(count, effort.runs, replace(effort.backing, settings="chart"))


def _space(count: int, runs: int, backing: Backing) -> Iterator[Row]:
    """Measure on a store; as the chart sets it up a waiting job has a bound."""
    of_chart = backing.settings == "chart"
    words = ", as the chart sets it up" if of_chart else ""
    limit = f"RQ's fields and ours in one hash; {COMPACT} says up to which length values share its memory"
    with ours(backing) as us, theirs(backing) as them:
        found = by_turns(
            {
                "ours": lambda: _grown(us.redis, lambda: us.enqueue_many(count)) / count,
                "RQ": lambda: _grown(them.redis, lambda: them.enqueue_many(count)) / count,
            },
            runs,
        )
    for peer, peer_runs in (("RQ", found["RQ"]), ("BullMQ", _bullmqs(count, runs, backing))):
        if peer_runs:
            yield Row(
                bench="memory", what=f"a waiting job{words}", unit="B", runs=found["ours"], peer=peer,
                peer_runs=peer_runs, targets=(Target(800, "value", "most"),) if of_chart and peer == "RQ" else (),
                limit=limit,
            )  # fmt: skip
    yield _finished(min(count, 2_000), runs, backing, words)


def _bullmqs(count: int, runs: int, backing: Backing) -> list[float]:
    try:
        with bullmq(backing) as other, contextlib.closing(other.server.client()) as client:
            return [_grown(client, lambda: other.do("enqueueMany", count)) / count for _ in range(runs)]
    except AbsentError:
        return []


def _finished(count: int, runs: int, backing: Backing, words: str) -> Row:
    with ours(backing) as us, theirs(backing) as them:
        us.serve(retention={**SETTINGS["retention"], "completed": {"count": 10_000_000, "age": 86_400_000}})

        def finish_ours() -> None:
            us.enqueue_many(count)
            us.claim(20, count // 20)
            us.record()
            us.finish_many(count)

        def finish_theirs() -> None:
            them.enqueue_many(count)
            them.claim_alone(count)
            them.finish_alone(count)

        found = by_turns(
            {
                "ours": lambda: _grown(us.redis, finish_ours) / count,
                "rq": lambda: _grown(them.redis, finish_theirs) / count,
            },
            runs,
        )
    return Row(
        bench="memory",
        what=f"a finished job{words}",
        unit="B",
        runs=found["ours"],
        peer="RQ",
        peer_runs=found["rq"],
        limit="its outcome and history, and RQ's result stream of its own; the bounded streams of events grow here too",
    )


def _grown(client: redis.Redis, work: Callable[[], object]) -> float:
    before = client.info("memory")["used_memory"]
    work()
    return float(client.info("memory")["used_memory"] - before)


# -- time in Redis ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Spent:
    """How long calls of one script held Redis, in ms."""

    script: str
    times: Sequence[float]


def held(client: redis.Redis, work: Callable[[], object]) -> dict[str, list[float]]:
    """Return how long each script call of some work held Redis (ms), by the script's name, as SLOWLOG tells."""
    names = {scripts.load(name).sha: name for name in scripts.names()}
    client.config_set("slowlog-max-len", 100_000)
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    work()
    entries = client.slowlog_get(100_000)
    client.config_set("slowlog-log-slower-than", -1)
    found: dict[str, list[float]] = {}
    for entry in entries:
        words = entry["command"].split(b" ", 2)
        if words[0].upper() == b"EVALSHA":
            found.setdefault(names.get(words[1].decode(), "?"), []).append(entry["duration"] / 1000)
    return found


def depth(effort: Effort) -> Iterator[Row]:
    """How a claim's time in Redis grows from 1,000 and 100,000 to 1,000,000 waiting, plain and with every option on."""
    on = effort.backing
    least, low, high = 1_000, effort.of(100_000, 2_000), effort.of(1_000_000, 20_000)
    for load in _LOADS:
        with ours(on) as small, ours(on) as shallow, ours(on) as deep:
            for side, count in ((small, least), (shallow, low), (deep, high)):
                side.serve(**load.settings)
                load.fill(side, count)
            sides = {
                "deep": lambda: _claim_ms(deep, load),  # noqa: B023 - used at once
                "shallow": lambda: _claim_ms(shallow, load),  # noqa: B023
                "small": lambda: _claim_ms(small, load),  # noqa: B023
            }
            found = by_turns(sides, max(effort.runs, LEAST))
        for peer, count, targets in (("shallow", low, (Target(1.1, at="most"),)), ("small", least, ())):
            yield Row(
                bench="depth", what=f"claim of 10, {high:,} waiting{load.words}", unit=MS, runs=found["deep"],
                peer=f"at {count:,}", peer_runs=found[peer], targets=targets,
                limit="the script's time in Redis, by its own clock",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What waits, and what a queue's settings make of it."""

    words: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    priorities: tuple[int, ...] = (0,)
    keys: int = 0

    def fill(self, side: Ours, count: int) -> None:
        """Let so many jobs wait."""
        side.fill(count, priorities=self.priorities, keys=self.keys)


_LEVELS: Final = (-100, -10, -1, 0, 1, 10, 100, 1000)
_CAPPED: Final = {"concurrencyMax": 1_000_000, "rateLimit": {"limit": 1_000_000, "period": 60_000}}
_LOADS: Final = (
    _Load(),
    _Load(words=", 8 priorities", priorities=_LEVELS),
    _Load(words=", 8 priorities, cap and rate limit", settings=_CAPPED, priorities=_LEVELS),
    _Load(
        words=", 8 priorities, cap, rate limit and 1,000 keys of 1 each",
        settings={**_CAPPED, "concurrencyPerKey": 1},
        priorities=_LEVELS,
        keys=1_000,
    ),
)


def _claim_ms(side: Ours, load: _Load) -> float:
    spent = held(side.redis, lambda: side.claim(10, 20))["claim"]
    side.record()
    side.finish_many(len(side.claims))
    side.confirm()
    load.fill(side, 200)
    return statistics.median(spent)


# -- bounds -----------------------------------------------------------------------------------------------------------
def bounds(effort: Effort) -> Iterator[Row]:
    """The longest that one call of each script holds Redis when all its bounds are reached."""
    seen: dict[str, list[float]] = {}
    for _ in range(effort.runs):
        with ours(effort.backing) as us:
            us.fill(effort.of(5_000, 500))
            for name, times in held(us.redis, lambda: _at_bounds(us, effort)).items():
                seen.setdefault(name, []).append(max(times))
    for name, maxima in sorted(seen.items()):
        yield Row(
            bench="bounds", what=f"{name}: longest of its calls", unit=MS, runs=[min(maxima)],
            targets=(Target(3.0, "value", "most"),), more={"eachRun": maxima},
            limit="the bounds of claim and of a batch are set by this; of the runs the least disturbed by other work",
        )  # fmt: skip


def _at_bounds(us: Ours, effort: Effort) -> None:
    """Do everything at its bound: full batches, full claims with large payloads and due jobs, full trims."""
    for _ in range(effort.of(3, 1)):
        us.enqueue_many(1_000)
        big = {"text": "x" * 12_000}
        us.client.queue(QUEUE).enqueue_many([JobRequest(TASK, {**big, "n": n}) for n in range(60)])
        us.client.queue(QUEUE).enqueue_many([JobRequest(TASK, DATA, delay="1ms") for _ in range(60)])
        us.claim(20, 20)
        us.record()
        us.finish_many(len(us.claims))
    us.confirm()
    us.serve(retention={"completed": {"count": 1, "age": 86_400_000}, "failed": SETTINGS["retention"]["failed"]})
    us.claim(20, 5)
    us.record()
    us.finish(20)
    us.finish_many(len(us.claims), limits.ENDS_MAX)
    _long_ends(us)


def _long_ends(us: Ours) -> None:
    """End a call's worth of jobs with all an end may bring: evidence, message, result, checkpoint, a full history."""
    text = "".join(chr(97 + n % 26) for n in range(limits.EVIDENCE_MAX))
    failed = Outcome(cls=OutcomeClass.ERROR, message=text[: limits.MESSAGE_MAX], evidence={"log": text[:-600]})
    done = Outcome(cls=OutcomeClass.SUCCEEDED, message=failed.message, evidence=failed.evidence)
    us.enqueue_many(limits.ENDS_MAX)
    for _ in range(limits.HISTORY_MAX):
        us.claim(limits.ENDS_MAX)
        us.record()
        us.finish_many(len(us.claims), len(us.claims), outcome=failed, next=Next.RETRY, checkpoint=f'"{"c" * 2_000}"')
    us.claim(limits.ENDS_MAX)
    us.record()
    us.finish_many(len(us.claims), len(us.claims), outcome=done, next=Next.COMPLETE, result=f'"{"r" * 4_000}"')
