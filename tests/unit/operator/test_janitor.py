"""Retention by count in the cluster: not only each minute, but when there is no room for more."""

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


async def test_a_pass_comes_early_when_there_is_no_room() -> None:
    """As many Jobs as there is room for change nothing; the next one makes a pass due."""
    cluster = Finished()
    cluster.add(15)
    janitor = tidy(cluster, reports=20)
    await janitor.once()
    for _ in range(3):  # up to 18 of 20
        janitor.finished("reports")
    assert not janitor.due
    janitor.finished("reports")
    assert janitor.due
