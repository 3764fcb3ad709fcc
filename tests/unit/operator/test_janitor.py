"""Retention by count in the cluster, and what a pass tells those who keep the count in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.janitor import Janitor


@dataclass
class Finished:
    """A cluster that holds finished Jobs only."""

    found: list[JobEvidence] = field(default_factory=list)

    @property
    def clock(self) -> Finished:
        """Be one's own clock."""
        return self

    def now_ms(self) -> int:
        """Return the time."""
        return 1_000

    def add(self, count: int, queue: str = "reports") -> None:
        """Finish so many more."""
        first = len(self.found)
        for n in range(first, first + count):
            self.found.append(
                JobEvidence(namespace="ns", name=f"{queue}-{n}", uid=f"uid-{n}", queue=queue, condition_at=n)
            )

    async def jobs(self, *, finalized: bool = False) -> AsyncIterator[JobEvidence]:
        """Yield them, youngest first."""
        assert finalized
        for job in reversed(self.found):
            yield job

    async def delete_job(self, job: JobEvidence, *, pods_first: bool) -> None:
        """Delete one."""
        assert not pods_first
        self.found.remove(job)


class NothingToTrim:
    """Redis keeps nothing for too long."""

    async def run(self, op: Any) -> Any:
        """Answer with the end of any sweep."""
        op.close()
        done = {
            "trim": False,
            "sweep_keys": (ops.KeyCursor(), 0),
            "sweep_dedupe": (0, 0),
            "sweep_dependents": (None, 0),
            "sweep_ended": (None, 0),
        }
        return done[op.__name__]


def tidy(cluster: Finished, **kept: int) -> Janitor:
    """Return a janitor of that cluster."""
    return Janitor(link=cast("RedisLink", NothingToTrim()), cluster=cast("Cluster", cluster), kept=lambda: kept)


@pytest.mark.parametrize(
    ("there", "most", "left"), [(200, 200, 160), (180, 200, 180), (450, 200, 250), (5, 3, 3), (3, 3, 3), (2, 0, 0)]
)
async def test_more_than_are_kept_go_oldest_first(there: int, most: int, left: int) -> None:
    """A fifth more where there are many, and a bounded number in a pass; where there is room all stay."""
    cluster = Finished()
    cluster.add(there)
    assert await tidy(cluster, reports=most).once() == there - left
    assert [job.name for job in cluster.found] == [f"reports-{n}" for n in range(there - left, there)]


async def test_a_pass_tells_what_stands() -> None:
    """What comes after it is counted from there; what it deleted has no place any more."""
    cluster = Finished()
    cluster.add(15)
    janitor = tidy(cluster, reports=15)
    assert not janitor.shelf.known
    assert await janitor.once() == 3
    assert janitor.shelf.known
    for n in range(3):
        await janitor.shelf.room("reports", ("ns", f"new-{n}"))
    assert len(cluster.found) == 12
    await janitor.shelf.room("reports", ("ns", "new-3"))
    assert cluster.found[0].name == "reports-4"


async def test_a_replica_that_does_not_lead_looks_and_leaves_all() -> None:
    """It may have to finish something all the same, and must know what stands."""
    cluster = Finished()
    cluster.add(15)
    janitor = tidy(cluster, reports=10)
    await janitor.look()
    assert (janitor.shelf.known, len(cluster.found)) == (True, 15)
