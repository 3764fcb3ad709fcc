"""The janitor: what stays behind for too long, bounded per pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence

_DELETES_PER_PASS: Final = 200
_TRIMS_PER_QUEUE: Final = 20
_SWEEPS_PER_QUEUE: Final = 20
_KEPT_DEFAULT: Final = 200


@dataclass(slots=True, kw_only=True)
class Janitor:
    """Retention by count in the cluster, retention by age in Redis for queues where nothing ends."""

    link: RedisLink
    cluster: Cluster
    _keys: dict[str, ops.KeyCursor] = field(default_factory=dict)
    """Queue -> where the sweep over its concurrency keys goes on."""
    _dedupe: dict[str, int] = field(default_factory=dict)
    """Queue -> where the sweep over its deduplication keys goes on."""
    _log: Any = field(default_factory=lambda: logs.get("janitor"))

    async def once(self, kept: Mapping[str, int]) -> int:
        """Delete finalized Jobs beyond each queue's ``retention.pods.count``, oldest first; returns how many.

        Args:
            kept: queue -> count; queues that are not named keep 200.

        Raises:
            HeavyliftError: Redis or the cluster failed; the next pass goes on.
        """
        finalized: dict[str, list[JobEvidence]] = defaultdict(list)
        async for job in self.cluster.jobs(finalized=True):
            if job.deleted_at is None:
                finalized[job.queue].append(job)
        deleted = 0
        for queue, jobs in finalized.items():
            jobs.sort(key=lambda job: job.condition_at or job.created_at or 0)
            surplus = len(jobs) - kept.get(queue, _KEPT_DEFAULT)
            for job in jobs[: max(0, min(surplus, _DELETES_PER_PASS - deleted))]:
                await self.cluster.delete_job(job, pods_first=False)
                deleted += 1
        if deleted:
            self._log.info("finished Jobs beyond retention.pods.count deleted", count=deleted)
        for queue in kept:
            await self._trim(queue)
            await self._sweep_keys(queue)
            await self._sweep_dedupe(queue)
        return deleted

    async def _trim(self, queue: str) -> None:
        for _ in range(_TRIMS_PER_QUEUE):
            if not await self.link.run(ops.trim(queue)):
                return

    async def _sweep_keys(self, queue: str) -> None:
        """Go on with the sweep over a queue's concurrency keys, a bounded number of steps per pass."""
        cursor, mended = self._keys.get(queue, ops.KeyCursor()), 0
        for _ in range(_SWEEPS_PER_QUEUE):
            cursor, found = await self.link.run(ops.sweep_keys(queue, cursor))
            mended += found
            if cursor == ops.KeyCursor():
                break
        self._keys[queue] = cursor
        if mended:
            self._log.warning("concurrency keys mended", queue=queue, count=mended)

    async def _sweep_dedupe(self, queue: str) -> None:
        """Go on with the sweep over a queue's deduplication keys, a bounded number of steps per pass."""
        cursor, freed = self._dedupe.get(queue, 0), 0
        for _ in range(_SWEEPS_PER_QUEUE):
            cursor, found = await self.link.run(ops.sweep_dedupe(queue, cursor))
            freed += found
            if cursor == 0:
                break
        self._dedupe[queue] = cursor
        if freed:
            self._log.warning("deduplication keys freed that no live job held", queue=queue, count=freed)
