"""The janitor over several queues, one of which holds a stranger's keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from heavylift.errors import StoreCorruptError
from heavylift.runtime.link import RedisLink
from heavylift.store import AsyncStore, decode
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


async def test_a_queue_of_wrong_types_keeps_no_other_from_being_tidied(w: World) -> None:
    """Retention and both sweeps reach the queues behind it in the same pass; then the trouble is raised."""
    for queue in QUEUES:
        w.redis.hset(f"heavylift:dedup:{queue}", "annual", "nobody")
        w.redis.zadd(f"heavylift:ended:completed:{queue}", {"gone": 1})
        w.redis.zadd(f"heavylift:keyed:{queue}", {"key\0gone:execution": 0})
    w.redis.delete("heavylift:dedup:b")
    w.redis.set("heavylift:dedup:b", "x")
    store = AsyncStore.connect(w.server.url)
    try:
        janitor = Janitor(
            link=cast("RedisLink", store), cluster=cast("Cluster", NoJobs()), kept=lambda: dict.fromkeys(QUEUES, 1)
        )
        with pytest.raises(StoreCorruptError, match="heavylift:dedup:b"):
            await janitor.once()
    finally:
        await store.aclose()
    left = {decode.text(key) for key in w.redis.scan_iter("heavylift:*")}
    kinds = ("dedup", "ended:completed", "keyed")
    assert left & {f"heavylift:{kind}:{queue}" for kind in kinds for queue in QUEUES} == {"heavylift:dedup:b"}
