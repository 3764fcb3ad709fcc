"""Operations side by side in common pipelines, against real stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from heavylift.contract import failpoints
from heavylift.contract.states import Phase
from heavylift.errors import HeavyliftError, RedisUnavailableError, StoreCorruptError
from heavylift.store import AsyncStore, FinishRequest, Next, Op, Spend, Store, ops
from heavylift.store.batch import PIPELINE_MAX
from heavylift.store.model import Fence, Observation
from tests.integration.store.kit import World, outcome, request
from tests.servers import StoreServer, free_port

Many = Callable[[StoreServer, Sequence[Op[Any]]], list[Any]]


def _sync(server: StoreServer, operations: Sequence[Op[Any]]) -> list[Any]:
    with Store.connect(server.url, patience=2.0) as store:
        return store.run_many(operations)


def _async(server: StoreServer, operations: Sequence[Op[Any]]) -> list[Any]:
    async def run() -> list[Any]:
        async with AsyncStore.connect(server.url, patience=2.0) as store:
            return await store.run_many(operations)

    return asyncio.run(run())


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def many(request: pytest.FixtureRequest) -> Iterator[Many]:
    """Give each runner's way to run many operations."""
    yield request.param
    failpoints.load({})


def test_each_gives_its_value_or_its_own_error(w: World, many: Many) -> None:
    """A job with a key of a wrong type fails alone; a script that Redis has forgotten is sent again with its text."""
    for name in ("a", "b"):
        w.enqueue(id=name)
    w.redis.rpush("rq:job:c", "x")
    w.redis.script_flush()
    a, gone, c, b = many(w.server, [ops.get_job(job) for job in ("a", "gone", "c", "b")])
    assert (a.id, gone, b.id) == ("a", None, "b")
    assert isinstance(c, StoreCorruptError)


def test_more_than_a_pipeline_holds(w: World, many: Many) -> None:
    """Any number of operations is carried through, each in its place."""
    names = [f"job-{n}" for n in range(PIPELINE_MAX * 2 + 1)]
    made = many(w.server, [ops.enqueue(request(id=name)) for name in names])
    assert [one.id for one in made] == names
    assert w.waiting() == names


def test_operations_of_several_steps(w: World, many: Many) -> None:
    """Operations that ask again, and those that end at once, share pipelines to the last step."""
    claims = [w.active() for _ in range(3)]
    seen = Observation(phase=Phase.RUNNING, reason="", evidence={"pod": {"n": 1}})
    fences = [Fence(job=one.job, execution=one.execution) for one in claims]
    many(w.server, [ops.observe(fence, seen) for fence in fences])
    again = many(w.server, [ops.observe(fence, seen) for fence in fences])  # each meets stored evidence first
    assert [record.evidence for _, record in again] == [{"pod": {"n": 1}}] * 3


def test_a_lost_answer_is_asked_for_again(w: World, many: Many) -> None:
    """Ten finishes whose answers are lost are written once each."""
    claims = [w.active() for _ in range(10)]
    failpoints.load({failpoints.ENV: "store.reply:drop-reply"})
    requests = []
    for one in claims:
        fence = Fence(job=one.job, execution=one.execution)
        requests.append(FinishRequest(fence=fence, outcome=outcome(), next=Next.COMPLETE, spend=Spend.ATTEMPT))
    done = many(w.server, [ops.finish(one) for one in requests])
    assert not [one for one in done if isinstance(one, HeavyliftError)]
    assert [w.finals(one.job) for one in claims] == [["completed"]] * 10


def test_without_redis_all_of_them_fail(many: Many, w: World) -> None:
    """A Redis that cannot be reached is said once for all."""
    nowhere = StoreServer(w.server.binary, w.server.folder, port=free_port())
    with pytest.raises(RedisUnavailableError, match="cannot be reached"):
        many(nowhere, [ops.get_job("a"), ops.get_job("b")])
