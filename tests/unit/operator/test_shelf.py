"""Finished Jobs within their count as they come: the oldest goes before the next attempt is finished."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from heavylift.errors import ClusterUnavailableError
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.shelf import Shelf, wanted

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

    async def settle(self) -> None:
        """Wait for the deletes under way."""
        while going := [task for tasks in self.shelf._going.values() for task in tasks.values()]:
            await asyncio.wait(going)

    async def end(self, name: str) -> None:
        """See one attempt through: room, finish, the last PATCH."""
        await self.shelf.room(QUEUE, ("ns", name))
        self.shelf.let_go(self.cluster.finish(name), TTL_S)


@pytest.mark.parametrize("count", [1, 3, 9, 20, 50])
async def test_never_more_than_the_count_oldest_first(count: int) -> None:
    """However many end at once; as many as are kept stand at the end, the youngest."""
    bench = Bench(count)
    bench.tell()
    for start in range(0, 60, 6):
        await asyncio.gather(*(bench.end(f"j{n:02}") for n in range(start, start + 6)))
        bench.cluster.now += 1
    # Of six that end together none can be deleted before it is let go: of fewer there is not always one to delete.
    await bench.settle()
    assert bench.cluster.most <= (count if count >= 6 else count + 6)
    assert wanted(count) == len(bench.cluster.there)
    assert min(bench.cluster.there) >= f"j{60 - count - 6:02}"


async def test_one_after_the_other_the_count_is_exact() -> None:
    """One delete for each that comes, once it is reached; none before."""
    bench = Bench(3)
    bench.tell()
    for n in range(10):
        await bench.end(f"j{n}")
    await bench.settle()
    assert (bench.cluster.most, bench.cluster.deletes) == (3, 7)
    assert list(bench.cluster.there) == ["j7", "j8", "j9"]


async def test_of_a_queue_that_keeps_none_they_go_when_let_go() -> None:
    """A count of 0."""
    bench = Bench(0)
    bench.tell()
    for n in range(4):
        await bench.end(f"j{n}")
    await bench.settle()
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
    await bench.settle()
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
    bench.shelf.let_go(bench.cluster.finish("new-1"), TTL_S)
    await bench.end("new-2")
    await bench.settle()
    assert list(bench.cluster.there) == ["old-2", "new-1", "new-2"]


async def test_what_is_let_go_while_a_pass_lists_stays_known() -> None:
    """The pass listed before; its list must not take away what it could not hold."""
    bench = Bench(2)
    bench.tell()
    await bench.shelf.room(QUEUE, ("ns", "a"))
    mark = bench.shelf.begin()
    bench.shelf.let_go(bench.cluster.finish("a"), TTL_S)
    await bench.shelf.room(QUEUE, ("ns", "b"))
    bench.shelf.found(mark, {})
    bench.shelf.let_go(bench.cluster.finish("b"), TTL_S)
    await bench.end("c")
    await bench.settle()
    assert list(bench.cluster.there) == ["b", "c"]


async def test_a_place_of_a_finish_that_was_refused_is_free_after_a_minute() -> None:
    """Nothing stands in it."""
    bench = Bench(2)
    bench.tell()
    await bench.shelf.room(QUEUE, ("ns", "refused"))
    await bench.shelf.room(QUEUE, ("ns", "refused"))  # tried again: one place
    bench.cluster.now += 61_000
    await bench.end("a")
    await bench.end("b")
    await bench.settle()
    assert bench.cluster.deletes == 0


async def test_before_anybody_told_nothing_is_deleted() -> None:
    """Who has to finish something asks for a look; from then on the count is kept."""
    bench = Bench(1)
    await bench.end("j0")
    await bench.end("j1")
    await bench.settle()
    assert (bench.cluster.deletes, bench.asked, bench.shelf.known) == (0, 2, False)
    bench.tell()
    await bench.end("j2")
    await bench.settle()
    assert list(bench.cluster.there) == ["j2"]


async def test_what_another_replica_lets_go_takes_a_place() -> None:
    """The leader deletes for it if the other did not; one that follows only notes it, and deletes when it finishes."""
    bench = Bench(2)
    bench.tell()
    for n in range(4):
        job = bench.cluster.finish(f"j{n}")
        bench.shelf.left(QUEUE, ("ns", job.name), job.uid)
    await bench.settle()
    assert list(bench.cluster.there) == ["j2", "j3"]
    bench.leads = False
    for n in range(4, 7):
        job = bench.cluster.finish(f"j{n}")
        bench.shelf.left(QUEUE, ("ns", job.name), job.uid)
    for name in ("j2", "j3", "j4"):
        del bench.cluster.there[name]  # as the leader does
    await bench.end("mine")
    await bench.settle()
    assert list(bench.cluster.there) == ["j6", "mine"]


async def test_the_echo_of_an_own_end_takes_no_second_place() -> None:
    """Whether it comes before or after the PATCH is answered."""
    bench = Bench(2)
    bench.tell()
    await bench.shelf.room(QUEUE, ("ns", "a"))
    bench.shelf.left(QUEUE, ("ns", "a"), "uid-a")
    bench.shelf.let_go(bench.cluster.finish("a"), TTL_S)
    bench.shelf.left(QUEUE, ("ns", "a"), "uid-a")
    await bench.end("b")
    await bench.settle()
    assert bench.cluster.deletes == 0


async def test_a_cluster_that_refuses_holds_up_no_outcome() -> None:
    """What could not be deleted is the next pass's matter."""
    bench = Bench(1)
    bench.tell()
    await bench.end("a")
    bench.cluster.broken = True
    await bench.end("b")
    await bench.settle()
    assert set(bench.cluster.there) == {"a", "b"}


async def test_a_queue_without_finished_jobs_is_forgotten() -> None:
    """What queues were called that have nothing any more is no concern of a shelf."""
    bench = Bench(1)
    bench.tell()
    for n in range(2):
        await bench.end(f"j{n}")
    await bench.settle()
    bench.shelf.found(bench.shelf.begin(), {})
    assert (bench.shelf._queues, bench.shelf._going) == ({}, {})
