"""The operator's looks at a Redis with evil bytes in it: each goes to its end, and no execution is passed over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from heavylift.errors import HeavyliftError
from heavylift.runtime.link import RedisLink
from heavylift.store import Op, ops
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.reconciler import Reconciler
from heavylift_operator.services.workqueue import WorkQueue
from tests.integration.hostile.corpus import LONG_TEXTS, TEXTS, WRITES
from tests.integration.store.kit import INSTALL, World, world
from tests.servers import StoreServer


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on one store."""
    with world(redis_server) as made:
        yield made


class _NoJobs:
    """A cluster's API without anything in it."""

    async def pages(self, _path: str, **_: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield nothing."""
        return
        yield {}

    async def request(self, *_: Any, **__: Any) -> Any:
        """Answer nothing that anybody reads."""


@dataclass
class _Link:
    """Runs operations for the operator's part."""

    w: World

    async def run(self, op: Op[Any]) -> Any:
        """Run one."""
        return self.w.run(op)

    async def run_many(self, operations: Sequence[Op[Any]]) -> list[Any]:
        """Run them side by side."""
        return self.w.store.run_many(operations)


async def _looked_at(w: World) -> set[str]:
    """Compare Redis with an empty cluster once; return the jobs that are to be attended to."""
    queue, api = WorkQueue(), _NoJobs()
    cluster = Cluster(cast("Any", api), install=INSTALL, namespaces=("analytics",), clock=ClusterClock())
    cluster.check_pods = _nothing  # type: ignore[method-assign]  # asks the API server for a right
    link = cast("RedisLink", _Link(w))
    reconciler = Reconciler(
        link=link, cluster=cluster, queue=queue, metrics=Metrics(), install=INSTALL, passes=lambda *_: False
    )
    await reconciler.once()
    return {(await queue.get()).job_id for _ in range(queue.depth)}


async def _nothing() -> None:
    return


async def test_executions_among_junk(w: World) -> None:
    """Junk members, infinite scores, hashes of another type and fields with anything in them hide no execution."""
    sound = {w.active(id=f"sound-{number}").job for number in range(3)}
    for number, kind in enumerate(kind for kind in WRITES if kind != "hash"):
        job = w.active(id=f"a-wrong-{number}").job
        w.redis.delete(f"rq:job:{job}")
        WRITES[kind](w.redis, f"rq:job:{job}")
    for number, text in enumerate([*TEXTS.values(), *LONG_TEXTS.values()]):
        job = w.active(id=f"evil-{number}").job
        for field in ("hl:exec", "hl:ns", "hl:job", "hl:uid", "hl:inc", "hl:seq", "hl:evidence", "hl:frozen", "origin"):
            w.redis.hset(f"rq:job:{job}", field, text)
    for key in (f"heavylift:inflight:{INSTALL}", f"heavylift:unfinalized:{INSTALL}"):
        WRITES["zset"](w.redis, key)
        w.redis.zadd(key, {b"x" * 100_000: 5, b"gone:inc-1": "-inf", b"../..:/": "+inf"})
    looked_at = await _looked_at(w)
    assert looked_at >= sound
    assert {job for job in looked_at if job.startswith("a-wrong")} == {f"a-wrong-{number}" for number in range(5)}


@pytest.mark.parametrize("kind", [kind for kind in WRITES if kind != "hash"])
async def test_what_the_reconciler_needs_of_a_wrong_type(w: World, kind: str) -> None:
    """It says which key is wrong, with an error of ours, and goes on when that is gone."""
    sound = w.active().job
    key = f"heavylift:unfinalized-jobs:{INSTALL}"
    WRITES[kind](w.redis, key)
    with pytest.raises(HeavyliftError, match=key):
        await _looked_at(w)
    w.redis.delete(key)
    assert sound in await _looked_at(w)
    assert w.run(ops.inflight_count(INSTALL)) == 1
