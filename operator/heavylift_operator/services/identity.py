"""Whose event it is: the trust chain from a pod to its Job to an execution."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.services.workqueue import Item

KNOWN_MAX: Final = 50_000
V = TypeVar("V")


@dataclass(slots=True, kw_only=True)
class Identity:
    """Says which execution an item is about."""

    link: RedisLink
    cluster: Cluster
    install: str
    _jobs: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """Job UID -> (job, execution), from Jobs themselves or as Redis recorded them: the trust chain of their pods."""

    async def identified(self, item: Item) -> Item | None:
        """Return the item with job and execution as their Job says, which only our dispatchers may create.

        A pod counts by its owner's UID: that of a Job we saw, or the one Redis recorded.
        """
        if item.job is not None:
            self.learn(item.job)
            return self._with_ids(item, item.job)
        if item.pod is None:
            if item.execution:
                return item
        elif item.pod_job_uid in self._jobs:
            job, execution = self._jobs[item.pod_job_uid]
            return replace(item, job_id=job, execution=execution)
        found = await self.cluster.get_job(item.namespace, item.name)
        if found is not None and item.pod_job_uid in {"", found.uid}:
            self.learn(found)
            return self._with_ids(replace(item, job=found), found)
        return await self._by_record(item)

    def _with_ids(self, item: Item, job: JobEvidence) -> Item | None:
        if job.install != self.install:
            return None
        mine = not item.execution or item.execution == job.execution
        return replace(item, job_id=job.job, execution=job.execution) if mine else item

    async def _by_record(self, item: Item) -> Item | None:
        """Return a pod's item although its Job is gone, if Redis recorded that Job."""
        if not item.job_id:
            return None
        record = await self.link.run(ops.get_job(item.job_id))
        if record is None or record.execution != item.execution:
            return None
        if item.pod is not None and record.job_uid != item.pod_job_uid:
            return replace(item, pod=None)
        return item

    def knows(self, uid: str) -> bool:
        """Return whether a Job of this UID was seen."""
        return uid in self._jobs

    def learn(self, job: JobEvidence) -> None:
        """Remember which execution a Job carries out."""
        self.vouch(job.uid, job.job, job.execution)

    def vouch(self, uid: str, job: str, execution: str) -> None:
        """Remember that the Job of this UID carries out an execution, as itself or Redis says."""
        put_bounded(self._jobs, uid, (job, execution))


def put_bounded(known: OrderedDict[str, V], key: str, value: V) -> None:
    """Put an entry at the young end, and drop the oldest beyond ``KNOWN_MAX``."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > KNOWN_MAX:
        known.popitem(last=False)
