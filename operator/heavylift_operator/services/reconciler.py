"""The reconciler: every interval, all that Redis and the cluster list goes through the work queue once more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from heavylift.contract import ids
from heavylift.runtime import logs
from heavylift.runtime.kube import KubeStatusError
from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift.store.model import InFlight
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.workqueue import Item, WorkQueue

_PAGE: Final = 500
_UNFINALIZED_AFTER_MS: Final = 3_000
"""A finish this old should have been followed by its PATCH."""
_UNFINALIZED_MAX: Final = 1_000


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """Compares {executions in Redis} x {Jobs by label} x {finalized}; the plan of each item decides."""

    link: RedisLink
    cluster: Cluster
    queue: WorkQueue
    metrics: Metrics
    install: str
    _log: Any = field(default_factory=lambda: logs.get("reconciler"))

    async def once(self) -> int:
        """Compare once, to the end of both lists; returns how many executions were looked at.

        Redis is read first: what is claimed in between shows up as a Job that the item's own reading of Redis explains.

        Raises:
            HeavyliftError: Redis or the cluster could not be read to the end.
        """
        listed = await self._in_flight()
        seen: set[tuple[str, str]] = set()
        refusal: KubeStatusError | None = None
        try:
            async for job in self.cluster.jobs():
                pair = (job.job, job.execution)
                seen.add(pair)
                self.queue.put(_of_job(job, listed=pair in listed))
        except KubeStatusError as error:
            refusal = error  # of one namespace: the others' jobs need us all the same
        missing = [entry for pair, entry in listed.items() if pair not in seen]
        for entry in missing:
            try:
                await self._without_job(entry)
            except KubeStatusError as error:
                refusal = refusal or error
        await self._unpatched(seen)
        if refusal is not None:
            raise refusal
        await self.cluster.check_pods()
        self.metrics.reconciled.set(self.cluster.clock.now_ms() / 1000)
        return len(seen) + len(missing)

    async def _in_flight(self) -> dict[tuple[str, str], InFlight]:
        found: dict[tuple[str, str], InFlight] = {}
        cursor = 0
        while True:
            cursor, page = await self.link.run(ops.inflight(self.install, cursor, _PAGE))
            found |= {(entry.job, entry.execution): entry for entry in page}
            if cursor == 0:
                return found

    async def _without_job(self, entry: InFlight) -> None:
        """Queue an execution that no listed Job belongs to: claimed just now, gone, finalized or deleted."""
        record = await self.link.run(ops.get_job(entry.job))
        if record is not None and record.execution == entry.execution and record.namespace:
            name = record.job_name or ids.job_name(
                self.install, record.queue, record.id, record.incarnation, record.seq
            )
            self.queue.put(
                Item(
                    namespace=record.namespace,
                    name=name,
                    job_id=entry.job,
                    execution=entry.execution,
                    listed=True,
                    asked=True,
                )
            )
            return
        job = await self.cluster.find_job(entry.job, entry.execution)
        if job is not None:
            self.queue.put(replace(_of_job(job, listed=True), asked=True))
        else:  # nowhere: an item without a Job to look for
            name = f"{entry.job}:{entry.execution}"
            self.queue.put(
                Item(namespace="", name=name, job_id=entry.job, execution=entry.execution, listed=True, asked=True)
            )

    async def _unpatched(self, seen: set[tuple[str, str]]) -> None:
        open_ = await self.link.run(ops.unfinalized(self.install, _UNFINALIZED_MAX, _UNFINALIZED_AFTER_MS))
        for namespace, name, job, execution in open_:
            if (job, execution) not in seen:
                self.queue.put(
                    Item(namespace=namespace, name=name, job_id=job, execution=execution, asked=True, owed=True)
                )


def _of_job(job: JobEvidence, *, listed: bool) -> Item:
    return Item(namespace=job.namespace, name=job.name, job_id=job.job, execution=job.execution, job=job, listed=listed)
