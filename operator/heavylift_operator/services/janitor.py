"""The janitor: what stays behind for too long, bounded per pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service, StateLine
from heavylift.store import ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.shelf import KEPT_DEFAULT, Shelf, wanted

TIDY_S: Final = 60.0
_PAUSE_S: Final = 1.0
"""Between two passes at least."""
_DELETES_PER_PASS: Final = 200
_TRIMS_PER_QUEUE: Final = 20
_SWEEPS_PER_QUEUE: Final = 20


@dataclass(slots=True, kw_only=True)
class Janitor:
    """Retention by count in the cluster, retention by age in Redis for queues where nothing ends."""

    link: RedisLink
    cluster: Cluster
    leads: Callable[[], bool] = lambda: True
    kept: Callable[[], Mapping[str, int]] = dict
    """Queue -> finished Jobs kept at most; queues that are not named keep 200."""
    shelf: Shelf = field(init=False)
    """Keeps the count as Jobs come, between passes."""
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has to know what stands."""
    _keys: dict[str, ops.KeyCursor] = field(default_factory=dict)
    """Queue -> where the sweep over its concurrency keys goes on."""
    _dedupe: dict[str, int] = field(default_factory=dict)
    """Queue -> where the sweep over its deduplication keys goes on."""
    _dependents: dict[str, int] = field(default_factory=dict)
    """Queue -> where the sweep over its jobs that wait for others goes on."""
    _ended: dict[str, int] = field(default_factory=dict)
    """Queue -> where the sweep over RQ's ended jobs goes on."""
    _log: Any = field(default_factory=lambda: logs.get("janitor"))

    def __post_init__(self) -> None:
        """Make what counts in between."""
        self.shelf = Shelf(cluster=self.cluster, leads=self.leads, kept=self.kept, unknown=self._asked.set)

    async def run(self, service: Service, line: StateLine) -> None:
        """Tidy up each minute; look sooner when somebody has to know what stands."""
        while not service.stop.is_set():
            try:
                if self.leads():
                    await self.once()
                elif not self.shelf.known:
                    await self.look()
                line.good()
            except RedisUnavailableError:
                pass  # the link has said so
            except HeavyliftError as error:
                line.bad(str(error))
            await service.pause(_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), TIDY_S - _PAUSE_S)
            self._asked.clear()

    async def once(self) -> int:
        """Delete finalized Jobs beyond each queue's ``retention.pods.count``, oldest first; returns how many.

        Beyond nine tenths of the count it deletes down to eight: between passes the shelf keeps the count.

        Raises:
            HeavyliftError: Redis or the cluster failed; the next pass goes on.
        """
        kept, mark = self.kept(), self.shelf.begin()
        finalized = await self._finalized()
        deleted = 0
        for queue in {*kept, *finalized}:
            jobs, most = finalized[queue], kept.get(queue, KEPT_DEFAULT)
            surplus = len(jobs) - most + most // 5 if len(jobs) > wanted(most) else 0
            gone = max(0, min(surplus, _DELETES_PER_PASS - deleted))
            for job in jobs[:gone]:
                await self.cluster.delete_job(job, pods_first=False)
            deleted += gone
            del jobs[:gone]
        self.shelf.found(mark, finalized)
        if deleted:
            self._log.info("finished Jobs beyond retention.pods.count deleted", count=deleted)
        await self._tidy(kept)
        return deleted

    async def look(self) -> None:
        """See what stands, for a replica that has to finish something though it does not lead."""
        mark = self.shelf.begin()
        self.shelf.found(mark, await self._finalized())

    async def _finalized(self) -> dict[str, list[JobEvidence]]:
        """Return the finished Jobs that stand, by queue, oldest first."""
        found: dict[str, list[JobEvidence]] = defaultdict(list)
        async for job in self.cluster.jobs(finalized=True):
            if job.deleted_at is None:
                found[job.queue].append(job)
        for jobs in found.values():
            jobs.sort(key=lambda job: job.condition_at or job.created_at or 0)
        return found

    async def _tidy(self, queues: Iterable[str]) -> None:
        """Trim and sweep each queue; what is wrong with one is raised after all had their turn."""
        trouble: HeavyliftError | None = None
        for queue in queues:
            steps = (self._trim, self._sweep_keys, self._sweep_dedupe, self._sweep_dependents, self._sweep_ended)
            for step in steps:
                try:
                    await step(queue)
                except RedisUnavailableError:
                    raise
                except HeavyliftError as error:
                    trouble = trouble or error
        if trouble is not None:
            raise trouble

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

    async def _sweep_dependents(self, queue: str) -> None:
        """Go on with the sweep over a queue's jobs that wait for others, a bounded number of steps per pass."""
        cursor: int | None = self._dependents.get(queue, 0)
        mended = 0
        for _ in range(_SWEEPS_PER_QUEUE):
            cursor, found = await self.link.run(ops.sweep_dependents(queue, cursor or 0))
            mended += found
            if cursor is None:
                break
        self._dependents[queue] = cursor or 0
        if mended:
            self._log.warning("jobs seen to that waited for what cannot end any more", queue=queue, count=mended)

    async def _sweep_ended(self, queue: str) -> None:
        """Go on with the sweep over the jobs that RQ ended, a bounded number of steps per pass."""
        cursor: int | None = self._ended.get(queue, 0)
        found = 0
        for _ in range(_SWEEPS_PER_QUEUE):
            cursor, came = await self.link.run(ops.sweep_ended(queue, cursor or 0))
            found += came
            if cursor is None:
                break
        self._ended[queue] = cursor or 0
        if found:
            self._log.warning("jobs listed that RQ ended by itself", queue=queue, count=found)
