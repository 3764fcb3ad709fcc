"""The janitor over several queues, one of which holds a stranger's keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from heavylift.contract.states import JobState
from heavylift.errors import StoreCorruptError
from heavylift.runtime.link import RedisLink
from heavylift.store import AsyncStore, decode, ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.janitor import Janitor
from tests.integration.store.kit import World

QUEUES = ("a", "b", "c")


class NoJobs:
    """A cluster without a Job."""

    found: Sequence[JobEvidence] = ()

    async def jobs(self, *, finalized: bool = False) -> AsyncIterator[JobEvidence]:
        """Yield none."""
        assert finalized
        for job in self.found:
            yield job


def janitor(store: AsyncStore) -> Janitor:
    """Return a janitor of that Redis."""
    return Janitor(
        link=cast("RedisLink", store), cluster=cast("Cluster", NoJobs()), kept=lambda: dict.fromkeys(QUEUES, 1)
    )


async def test_a_queue_of_wrong_types_keeps_no_other_from_being_tidied(w: World) -> None:
    """Retention and each sweep reach the queues behind it in the same pass; then the trouble is raised."""
    for queue in QUEUES:
        w.redis.zadd(f"rq:deferred:{queue}", {"gone": 1})
        w.redis.hset(f"heavylift:dedup:{queue}", "annual", "nobody")
        w.redis.zadd(f"heavylift:ended:completed:{queue}", {"gone": 1})
        w.redis.zadd(f"heavylift:keyed:{queue}", {"key\0gone:execution": 0})
    w.redis.delete("heavylift:dedup:b")
    w.redis.set("heavylift:dedup:b", "x")
    async with AsyncStore.connect(w.server.url) as store:
        with pytest.raises(StoreCorruptError, match="heavylift:dedup:b"):
            await janitor(store).once()
    left = {decode.text(key) for key in w.redis.scan_iter("heavylift:*")}
    kinds = ("dedup", "ended:completed", "keyed")
    assert left & {f"heavylift:{kind}:{queue}" for kind in kinds for queue in QUEUES} == {"heavylift:dedup:b"}
    assert not w.redis.exists(*(f"rq:deferred:{queue}" for queue in QUEUES))


async def test_a_pass_mends_what_each_sweep_is_for(w: World) -> None:
    """Slots and deduplication keys nobody has, a job that waits for one that is gone, one that RQ cancelled."""
    w.serve("a", concurrencyPerKey=1, retention={"completed": {"count": 1, "age": 60_000}})
    w.redis.zadd("heavylift:keyed:a", {"tenant\0gone:execution": 0})
    w.redis.hset("heavylift:dedup:a", "annual", "nobody")
    w.redis.zadd("heavylift:ended:completed:a", {"gone": 1})
    w.enqueue(id="parent", queue="a")
    w.enqueue(id="child", queue="a", depends_on=("parent",))
    w.run(ops.remove("parent"))
    w.enqueue(id="stopped", queue="a")
    RqJob.fetch("stopped", connection=w.redis, serializer=JSONSerializer).cancel()

    async with AsyncStore.connect(w.server.url) as store:
        await janitor(store).once()

    counters = w.run(ops.counters("a"))
    names = ("repaired:keys", "repaired:dedupe", "repaired:dependents", "repaired:ended", "trimmed")
    assert {name: counters.get(name) for name in names} == dict.fromkeys(names, 1)
    assert w.job("child").state is JobState.CANCELLED


async def test_a_sweep_goes_on_where_the_last_pass_left_off(w: World) -> None:
    """A pass takes a bounded number of steps of each queue; what is behind them comes next, then it begins anew."""
    w.serve("a")
    w.enqueue(id="parent", queue="a")
    for n in range(230):
        w.enqueue(id=f"child-{n}", queue="a", depends_on=("parent",))
    w.run(ops.remove("parent"))

    async with AsyncStore.connect(w.server.url) as store:
        tidying = janitor(store)
        await tidying.once()
        first = w.run(ops.counters("a"))["repaired:dependents"]
        await tidying.once()

    assert (first, w.run(ops.counters("a"))["repaired:dependents"]) == (200, 230)
