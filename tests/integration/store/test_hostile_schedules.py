"""Schedules with evil fields: each is deferred, told of or dropped, and the good one beside them ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from heavylift import schedules
from heavylift.errors import HeavyliftError
from heavylift.store import Op, ops
from heavylift_operator.services.ticks import Ticks
from tests.integration.hostile.corpus import DEFINITIONS, LONG_TEXTS, TEXTS, Evil, wrapped
from tests.integration.store.hostilekit import side_by_side, told
from tests.integration.store.kit import World, world
from tests.servers import StoreServer

FIELDS = (
    *("definition", "revision", "timing", "queue", "prefix", "mark", "next", "last", "lastAt", "lastJob", "fired"),
    *("missed", "skipped", "jobs", "suspended", "suspendedAt", "problem", "created", "updated", "by", "install"),
    *("namespace", "name", "uid", "generation"),
)
INDEX, FAILING = "heavylift:schedules", "heavylift:schedules-failing"
EVIL_IDS = (b"", b"\xff\xfe", b"a b\n", b"x" * 1_000_000, b"%z.*", b"\x00")


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on one store."""
    with world(redis_server) as made:
        yield made


@dataclass
class _Link:
    """Runs operations for the operator's part."""

    w: World

    async def run(self, op: Op[Any]) -> Any:
        return self.w.run(op)


def _cases() -> Iterator[Evil]:
    for field in FIELDS:
        for name, text in {**TEXTS, **(LONG_TEXTS if field in {"definition", "jobs"} else {})}.items():
            yield Evil(field, name, text)
    yield from wrapped(DEFINITIONS, "definition")


def _define(w: World, *names: str, **when: Any) -> None:
    definition = schedules.define("reports", "annual", {"year": 1}, {"every": "1m", **when})
    side_by_side(w, {name: schedules.schedule(name, definition, by="ann", strict=True) for name in names})


def _due(w: World, names: list[str], score: str = "-inf") -> None:
    """Let them have been due for a minute; those with evil fields come before any other."""
    mark = w.run(ops.now()) - 61_000
    with w.redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hset(f"heavylift:schedule:{name}", mapping={"mark": mark, "next": mark + 1000})
            pipeline.zadd(INDEX, {name: score})
        pipeline.execute()


@pytest.mark.parametrize("policy", ["Allow", "Forbid"])
def test_evil_schedules(w: World, policy: str) -> None:
    """A schedule with whatever in a field ends nobody's ticks and no reader, and does not keep the operator busy."""
    evils = {f"evil-{number}": evil for number, evil in enumerate(_cases())}
    _define(w, *evils, concurrency=policy)
    _define(w, "good")
    _due(w, list(evils))
    _due(w, ["good"], "1")
    with w.redis.pipeline(transaction=False) as pipeline:
        for name, evil in evils.items():
            pipeline.hset(f"heavylift:schedule:{name}", evil.field, evil.value)
        for evil_id in EVIL_IDS:
            pipeline.zadd(INDEX, {evil_id: "-inf"})
            pipeline.hset(b"heavylift:schedule:" + evil_id, mapping={"queue": "reports", "definition": "{}"})
        pipeline.set("heavylift:schedule:string", "x")
        pipeline.zadd(INDEX, {"string": "-inf", "ghost": "-inf"})
        pipeline.execute()
    ticks = Ticks(link=_Link(w))
    rounds = 0
    while asyncio.run(ticks.once()) == 0.0:
        rounds += 1
        assert rounds < len(evils), "the operator is kept busy"
    assert w.run(ops.get_schedule("good")).fired > 0  # type: ignore[union-attr]
    assert w.redis.zrangebyscore(INDEX, "-inf", w.run(ops.now())) == []
    assert w.redis.zscore(INDEX, "ghost") is None
    assert not any(w.redis.zscore(INDEX, evil_id) for evil_id in EVIL_IDS)
    assert w.redis.zscore(FAILING, "string") is not None
    _look(w, evils)


def _look(w: World, evils: dict[str, Evil]) -> None:
    """Have everybody look at the schedules and act on them."""
    w.run(told("schedules", schedules.schedules(None)))
    acts: dict[str, Callable[[str], Op[Any]]] = {
        "info": schedules.info,
        "trigger": schedules.trigger,
        "suspend": lambda schedule: schedules.suspend(schedule, "ann"),
        "resume": lambda schedule: schedules.resume(schedule, "ann"),
        "delete": lambda schedule: schedules.delete(schedule, "ann"),
    }
    for name, op in acts.items():
        side_by_side(w, {f"{name}: {one}: {evil}": op(one) for one, evil in evils.items()}, corrupt=True)
    w.run(told("gauges", ops.gauges("prod/heavylift", ["reports"])))


def test_what_is_wrong_is_said(w: World) -> None:
    """A schedule that something else wrote is named by who looks for it, and by whoever looks for what is due."""
    _define(w, "s")
    w.redis.hset("heavylift:schedule:s", "revision", b"\xff")
    w.redis.zadd(INDEX, {"s": 1})
    ((name, problem),) = w.run(ops.due_schedules()).corrupt
    assert name == "s"
    assert "heavylift:schedule:s is not a schedule of ours" in problem
    with pytest.raises(HeavyliftError, match="heavylift:schedule:s is not a schedule of ours"):
        w.run(ops.get_schedule("s"))
    assert w.run(ops.gauges("prod/heavylift", [])).oldest_due is not None
