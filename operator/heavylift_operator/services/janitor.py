"""The janitor: what stays behind for too long, bounded per pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service, StateLine
from heavylift.store import ops
from heavylift.store.steps import Op
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.shelf import KEPT_DEFAULT, Shelf, wanted

TIDY_S: Final = 60.0
_PAUSE_S: Final = 1.0
"""Between two passes at least."""
_DELETES_PER_PASS: Final = 200
_TRIMS_PER_QUEUE: Final = 20
_STEPS_PER_QUEUE: Final = 20
"""Of each sweep."""


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Goes over what a queue has of something, step by step."""

    mended: str
    """What the log calls what it mends."""
    step: Callable[[str, Any], Op[tuple[Any, int]]]
    """Queue and cursor -> the next cursor, and how many it mended."""
    start: Any = 0
    over: Any = 0
    """The cursor after the last step."""


_SWEEPS: Final = (
    _Sweep("concurrency keys mended", ops.sweep_keys, ops.KeyCursor(), ops.KeyCursor()),
    _Sweep("deduplication keys freed that no live job held", ops.sweep_dedupe),
    _Sweep("jobs seen to that waited for what cannot end any more", ops.sweep_dependents, over=None),
    _Sweep("jobs listed that RQ ended by itself", ops.sweep_ended, over=None),
)


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
    _cursors: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What a sweep mends and a queue -> where it goes on."""
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
        steps: list[Callable[[str], Awaitable[None]]] = [self._trim]
        steps += [partial(self._sweep, sweep) for sweep in _SWEEPS]
        for queue in queues:
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

    async def _sweep(self, sweep: _Sweep, queue: str) -> None:
        """Go on with a sweep over a queue, a bounded number of steps per pass."""
        where, mended = (sweep.mended, queue), 0
        cursor = self._cursors.get(where, sweep.start)
        for _ in range(_STEPS_PER_QUEUE):
            cursor, found = await self.link.run(sweep.step(queue, cursor))
            mended += found
            if cursor == sweep.over:
                cursor = sweep.start
                break
        self._cursors[where] = cursor
        if mended:
            self._log.warning(sweep.mended, queue=queue, count=mended)
