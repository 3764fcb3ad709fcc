"""Finished Jobs within their count as they come: the oldest goes before the next attempt is finished."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from heavylift.errors import ClusterUnavailableError
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.shelf import Shelf

TTL_S = 600
QUEUE = "reports"


@dataclass
class Standing:
    """A cluster's finished Jobs, with a clock."""

    there: dict[str, JobEvidence] = field(default_factory=dict)
    now: int = 1_000_000
    most: int = 0
    """Of Jobs that stood at once."""
    deletes: int = 0
    broken: bool = False

    @property
    def clock(self) -> Standing:
        """Be one's own clock."""
        return self

    def now_ms(self) -> int:
        """Return the time."""
        return self.now

    def finish(self, name: str) -> JobEvidence:
        """Let a Job stand as a finished one."""
        job = JobEvidence(namespace="ns", name=name, uid=f"uid-{name}", queue=QUEUE, condition_at=self.now)
        self.there[name] = job
        self.most = max(self.most, len(self.there))
        return job

    async def delete_job(self, job: JobEvidence, *, pods_first: bool) -> None:
        """Delete one, a moment later."""
        assert not pods_first
        await asyncio.sleep(0)
        if self.broken:
            raise ClusterUnavailableError("no answer")
        self.deletes += 1
        self.there.pop(job.name, None)


@dataclass
class Bench:
    """A shelf over such a cluster."""

    count: int = 3
    cluster: Standing = field(default_factory=Standing)
    leads: bool = True
    asked: int = 0
    shelf: Shelf = field(init=False)

    def __post_init__(self) -> None:
        """Make the shelf."""
        self.shelf = Shelf(
            cluster=cast("Cluster", self.cluster),
            leads=lambda: self.leads,
            kept=lambda: {QUEUE: self.count},
            unknown=self._unknown,
        )

    def _unknown(self) -> None:
        self.asked += 1

    def tell(self) -> None:
        """Do what a pass does that deletes nothing."""
        self.shelf.found(self.shelf.begin(), {QUEUE: list(self.cluster.there.values())})

    async def end(self, name: str) -> None:
        """See one attempt through: room, finish, the last PATCH."""
        await self.shelf.room(QUEUE, ("ns", name))
        await self.shelf.let_go(self.cluster.finish(name), TTL_S)


@pytest.mark.parametrize("count", [1, 3, 20])
async def test_never_more_than_the_count_oldest_first(count: int) -> None:
    """However many end at once; as many as are kept stand at the end, the youngest."""
    bench = Bench(count)
    bench.tell()
    for start in range(0, 60, 6):
        await asyncio.gather(*(bench.end(f"j{n:02}") for n in range(start, start + 6)))
        bench.cluster.now += 1
    # Of six that end together none can be deleted before it is let go: of fewer there is not always one to delete.
    assert bench.cluster.most <= (count if count >= 6 else count + 6)
    assert "j59" in bench.cluster.there
    assert "j00" not in bench.cluster.there


async def test_one_after_the_other_the_count_is_exact() -> None:
    """One delete for each that comes, once it is reached; none before."""
    bench = Bench(3)
    bench.tell()
    for n in range(10):
        await bench.end(f"j{n}")
    assert (bench.cluster.most, bench.cluster.deletes) == (3, 7)
    assert list(bench.cluster.there) == ["j7", "j8", "j9"]


async def test_of_a_queue_that_keeps_none_they_go_when_let_go() -> None:
    """A count of 0."""
    bench = Bench(0)
    bench.tell()
    for n in range(4):
        await bench.end(f"j{n}")
    assert (bench.cluster.most, bench.cluster.there) == (1, {})


async def test_what_went_by_its_time_is_not_deleted() -> None:
    """Kubernetes deletes it at no write of ours; its place is free."""
    bench = Bench(2)
    bench.tell()
    await bench.end("a")
    await bench.end("b")
    bench.cluster.now += (TTL_S + 10) * 1000
    bench.cluster.there.clear()
    await bench.end("c")
    assert bench.cluster.deletes == 0


async def test_what_a_pass_found_counts_and_so_does_what_came_meanwhile() -> None:
    """Jobs of another replica, or of before; a place given while the pass listed stays given."""
    bench = Bench(3)
    bench.cluster.finish("old-1")
    bench.cluster.finish("old-2")
    mark = bench.shelf.begin()
    listed = list(bench.cluster.there.values())
    bench.tell()
    await bench.shelf.room(QUEUE, ("ns", "new-1"))
    bench.shelf.found(mark, {QUEUE: listed})
    await bench.shelf.let_go(bench.cluster.finish("new-1"), TTL_S)
    await bench.end("new-2")
    assert list(bench.cluster.there) == ["old-2", "new-1", "new-2"]


async def test_a_place_of_a_finish_that_was_refused_is_free_after_the_next_pass() -> None:
    """Nothing stands in it."""
    bench = Bench(2)
    bench.tell()
    await bench.shelf.room(QUEUE, ("ns", "refused"))
    await bench.shelf.room(QUEUE, ("ns", "refused"))  # tried again: one place
    bench.tell()
    await bench.end("a")
    await bench.end("b")
    assert bench.cluster.deletes == 0


async def test_without_the_lock_nobody_waits_or_deletes() -> None:
    """And who takes it asks for a pass first: what stands is not known."""
    bench = Bench(1)
    bench.tell()
    bench.leads = False
    for n in range(3):
        await bench.end(f"j{n}")
    assert (bench.cluster.deletes, bench.asked) == (0, 0)
    bench.leads = True
    await bench.end("j3")
    assert (bench.cluster.deletes, bench.asked) == (0, 1)
    bench.tell()
    await bench.end("j4")
    assert bench.cluster.deletes == 4


async def test_a_cluster_that_refuses_holds_up_no_outcome() -> None:
    """What could not be deleted is the next pass's matter."""
    bench = Bench(1)
    bench.tell()
    await bench.end("a")
    bench.cluster.broken = True
    await bench.end("b")
    assert set(bench.cluster.there) == {"a", "b"}
