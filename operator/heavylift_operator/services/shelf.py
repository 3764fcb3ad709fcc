"""The finished Jobs that stand in the cluster, held within each queue's count as they come; bookkeeping in memory.

A finish frees a place of the width, so another Job is created: that there are never more Jobs than width and retention
together, there is room before an attempt is finished in Redis. Mostly there is, for at nine tenths of the count the
oldest goes as soon as one more was let go; else the oldest goes first. (Where fewer are kept than attempts end at the
same moment, those that still wait for their last PATCH come on top.) The janitor's passes bring the truth; in between
what the replicas let go is counted. Most Jobs go by their time to live, at no write of ours.
"""

from __future__ import annotations

import asyncio
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
_PENDING_MS: Final = 60_000
"""How long a place is held for a finish whose last PATCH does not come: it may have been refused."""
_AT_ONCE: Final = 4
"""Jobs that one finish deletes at most: a lowered count is the passes' matter."""


def wanted(most: int) -> int:
    """Return how many finished Jobs of at most so many stand when nothing ends: the others' places are free."""
    return most - most // 10


@dataclass(slots=True)
class _Place:
    """One finished Job, or one that is about to be."""

    number: int
    """Of all that was noted; see ``Shelf.begin``."""
    job: JobEvidence | None
    """None = not let go yet: it is not ours to delete."""
    until: int | None
    """When it goes by itself (ms): its time to live is over, or its finish came to nothing; None = nobody told."""


@dataclass(slots=True, kw_only=True)
class Shelf:
    """What stands, by queue, oldest first; in a replica that does not lead as much as should stand, for its turn."""

    cluster: Cluster
    leads: Callable[[], bool] = lambda: True
    kept: Callable[[], Mapping[str, int]] = dict
    """Queue -> finished Jobs kept at most."""
    unknown: Callable[[], None] = lambda: None
    """Called when somebody needs to know and no pass has told yet."""
    _queues: dict[str, dict[Key, _Place]] | None = None
    """None = not known."""
    _going: dict[str, dict[Key, asyncio.Task[None]]] = field(default_factory=dict)
    """Queue -> deletes under way: until one is done its Job stands."""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _log: Any = field(default_factory=lambda: logs.get("shelf"))

    def begin(self) -> int:
        """Return a mark for a pass that begins now; see ``found``."""
        return next(self._numbers)

    def found(self, mark: int, jobs: Mapping[str, Iterable[JobEvidence]]) -> None:
        """Take what a pass found and left standing, oldest first; what came after its mark stays known."""
        before, self._queues = self._queues or {}, {}
        for queue, standing in jobs.items():
            self._queues[queue] = {(job.namespace, job.name): _Place(mark, job, None) for job in standing}
        for queue, places in before.items():
            # Not let go when the pass listed, or let go since: it does not know of them.
            newer = {key: place for key, place in places.items() if place.job is None or place.number > mark}
            if newer:
                self._queues.setdefault(queue, {}).update(newer)
        self._going = {queue: going for queue, going in self._going.items() if going}

    async def room(self, queue: str, key: Key) -> None:
        """Make room for one more finished Job of a queue, and count it; never fails."""
        if self._queues is None:
            self.unknown()
            return
        places = self._queues.setdefault(queue, {})
        if key not in places:
            pending = self.cluster.clock.now_ms() + _PENDING_MS
            places[key] = _Place(next(self._numbers), None, pending)  # before others look
            most = self._most(queue)
            while (going := self._shorten(queue, places, most)) and len(places) > most:
                await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                places = self._queues.get(queue, {})

    def let_go(self, job: JobEvidence, ttl_s: int) -> None:
        """Note that a finished Job is Kubernetes' now, and for how long; where many stand the oldest goes.

        Args:
            job: as it was before.
            ttl_s: its ``ttlSecondsAfterFinished``.
        """
        if self._queues is None:
            return
        places = self._queues.setdefault(job.queue, {})
        key = (job.namespace, job.name)
        ended = job.condition_at if job.condition_at is not None else self.cluster.clock.now_ms()
        places.pop(key, None)
        places[key] = _Place(next(self._numbers), job, ended + ttl_s * 1000 + _LAG_MS)
        self._shorten(job.queue, places, wanted(self._most(job.queue)))

    def left(self, queue: str, key: Key, uid: str) -> None:
        """Count a Job that left our watch, as one that another replica let go does; the oldest goes, or went."""
        places = None if self._queues is None else self._queues.setdefault(queue, {})
        if places is None or key in places:
            return
        places[key] = _Place(
            next(self._numbers), JobEvidence(namespace=key[0], name=key[1], uid=uid, queue=queue), None
        )
        if self.leads():
            self._shorten(queue, places, wanted(self._most(queue)))
        else:
            for old in list(itertools.islice(places, max(0, len(places) - self._most(queue)))):
                del places[old]

    def forget(self) -> None:
        """Know nothing any more, and have somebody look: another replica let go and deleted meanwhile."""
        self._queues = None
        self.unknown()

    @property
    def known(self) -> bool:
        """Whether a pass or a look has told what stands."""
        return self._queues is not None

    def _most(self, queue: str) -> int:
        return self.kept().get(queue, KEPT_DEFAULT)

    def _shorten(self, queue: str, places: dict[Key, _Place], most: int) -> set[asyncio.Task[None]]:
        """Begin to delete what is too much; return the deletes of this queue that are under way."""
        going = self._going.setdefault(queue, {})
        if len(places) - len(going) > most:
            now = self.cluster.clock.now_ms()
            for key in [key for key, place in places.items() if place.until is not None and place.until <= now]:
                del places[key]
        surplus = max(0, min(len(places) - len(going) - most, _AT_ONCE))
        ours = (place.job for key, place in places.items() if place.job is not None and key not in going)
        for job in list(itertools.islice(ours, surplus)):
            going[job.namespace, job.name] = asyncio.create_task(self._delete(queue, job))
        return set(going.values())

    async def _delete(self, queue: str, job: JobEvidence) -> None:
        try:
            await self.cluster.delete_job(job, pods_first=False)
        except HeavyliftError as error:
            self._log.warning("a finished Job could not be deleted", queue=queue, job=job.name, why=str(error))
        finally:
            key = (job.namespace, job.name)
            (self._queues or {}).get(queue, {}).pop(key, None)  # what stands all the same the next pass finds
            del self._going[queue][key]
