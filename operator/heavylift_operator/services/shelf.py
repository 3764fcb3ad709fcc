"""The finished Jobs that stand in the cluster, held within each queue's count as they come; bookkeeping in memory.

A finish frees a place of the width, so another Job is created: that there are never more Jobs than width and retention
together, the oldest finished one goes before the next attempt is finished in Redis. (Where fewer are kept than attempts
end at the same moment, those that still wait for their last PATCH come on top.) The janitor's passes bring the truth;
in between what this replica lets go is counted. Most Jobs go by their time to live, at no write of ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.runtime import logs
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.workqueue import Key

KEPT_DEFAULT: Final = 200
"""Finished Jobs of a queue whose HeavyQueue is not known."""
_LAG_MS: Final = 5_000
"""How long Kubernetes may take to delete a Job whose time to live is over."""
_AT_ONCE: Final = 4
"""Jobs that one finish deletes at most: a lowered count is the passes' matter."""


@dataclass(slots=True)
class _Place:
    """One finished Job, or one that is about to be."""

    number: int
    job: JobEvidence | None = None
    """None = not let go yet: it is not ours to delete."""
    until: int | None = None
    """When its time to live is over (ms); None = nobody told."""


@dataclass(slots=True, kw_only=True)
class Shelf:
    """What stands, by queue, oldest first; empty in a replica that does not lead."""

    cluster: Cluster
    leads: Callable[[], bool] = lambda: True
    kept: Callable[[], Mapping[str, int]] = dict
    """Queue -> finished Jobs kept at most."""
    unknown: Callable[[], None] = lambda: None
    """Called when somebody needs to know and no pass has told yet."""
    _queues: dict[str, dict[Key, _Place]] | None = None
    """None = not known."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _log: Any = field(default_factory=lambda: logs.get("shelf"))

    def begin(self) -> int:
        """Return a mark for a pass that begins now; see ``found``."""
        return next(self._numbers)

    def found(self, mark: int, jobs: Mapping[str, Iterable[JobEvidence]]) -> None:
        """Take what a pass found and left standing, oldest first; what came after its mark stays known."""
        before, self._queues = self._queues or {}, {}
        for queue, standing in jobs.items():
            self._queues[queue] = {(job.namespace, job.name): _Place(mark, job) for job in standing}
        for queue, places in before.items():
            there = self._queues.setdefault(queue, {})
            there.update({key: place for key, place in places.items() if place.number > mark})

    async def room(self, queue: str, key: Key) -> None:
        """Make room for one more finished Job of a queue, and count it; never fails."""
        if not self.leads():
            self._queues = None
        if self._queues is None:
            if self.leads():
                self.unknown()
            return
        places = self._queues.setdefault(queue, {})
        if key not in places:
            places[key] = _Place(next(self._numbers))  # before others look
            await self._shorten(queue, places, self._most(queue))

    async def let_go(self, job: JobEvidence, ttl_s: int) -> None:
        """Note that a finished Job is Kubernetes' now, and for how long; of a queue that keeps none it goes at once.

        Args:
            job: as it was before.
            ttl_s: its ``ttlSecondsAfterFinished``.
        """
        if self._queues is None:
            return
        places = self._queues.setdefault(job.queue, {})
        key = (job.namespace, job.name)
        place = places.pop(key, None) or _Place(next(self._numbers))
        ended = job.condition_at if job.condition_at is not None else self.cluster.clock.now_ms()
        places[key] = _Place(place.number, job, ended + ttl_s * 1000 + _LAG_MS)
        if self._most(job.queue) == 0:
            await self._shorten(job.queue, places, 0)

    async def left(self, queue: str, key: Key) -> None:
        """Count a finished Job that another replica let go; where there is no room for it the oldest goes."""
        if self._queues is None or not self.leads():
            return
        places = self._queues.setdefault(queue, {})
        if key not in places:
            places[key] = _Place(next(self._numbers))
            await self._shorten(queue, places, self._most(queue))

    def _most(self, queue: str) -> int:
        return self.kept().get(queue, KEPT_DEFAULT)

    async def _shorten(self, queue: str, places: dict[Key, _Place], most: int) -> None:
        if len(places) <= most:
            return
        now = self.cluster.clock.now_ms()
        for key in [key for key, place in places.items() if place.until is not None and place.until <= now]:
            del places[key]
        surplus = max(0, min(len(places) - most, _AT_ONCE))
        ours = ((key, place.job) for key, place in places.items() if place.job is not None)
        doomed = dict(itertools.islice(ours, surplus))
        for key in doomed:
            del places[key]  # others make room meanwhile: each Job is one's alone
        for job in doomed.values():
            try:
                await self.cluster.delete_job(job, pods_first=False)
            except HeavyliftError as error:
                self._log.warning("a finished Job could not be deleted", queue=queue, job=job.name, why=str(error))
                return
