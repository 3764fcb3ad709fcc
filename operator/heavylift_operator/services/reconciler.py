"""The reconciler: every interval, all that Redis and the cluster list goes through the work queue once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from heavylift.contract import ids
from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.kube import KubeStatusError
from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift.store.model import InFlight, JobRecord
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.core.reading import Json
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.workqueue import Item, WorkQueue

_PAGE: Final = 200
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
    passes: Callable[[Item, JobRecord | None, Json], bool]
    """Whether an execution needs nothing, as far as can be told without asking anybody."""
    _log: Any = field(default_factory=lambda: logs.get("reconciler"))

    async def once(self) -> int:
        """Compare once, to the end of both lists; returns how many executions were looked at.

        Redis is read first: what is claimed in between shows up as a Job that the item's own reading of Redis explains.

        Raises:
            HeavyliftError: Redis or the cluster could not be read to the end.
        """
        began = self.cluster.clock.monotonic()
        listed = await self._in_flight()
        seen: set[tuple[str, str]] = set()
        refusal: KubeStatusError | None = None
        try:
            async for page in _pages(self.cluster.jobs()):
                seen |= {(job.job, job.execution) for job in page}
                await self._compare([_of_job(job, listed=(job.job, job.execution) in listed) for job in page])
        except KubeStatusError as error:
            refusal = error  # of one namespace: the others' jobs need us all the same
        missing = [entry for pair, entry in listed.items() if pair not in seen]
        for at in range(0, len(missing), _PAGE):
            records = await self._records([entry.job for entry in missing[at : at + _PAGE]])
            for entry, record in zip(missing[at : at + _PAGE], records, strict=True):
                try:
                    await self._without_job(entry, record)
                except KubeStatusError as error:
                    refusal = refusal or error
        await self._unpatched(seen)
        if refusal is not None:
            raise refusal
        await self.cluster.check_pods()
        self.metrics.compared_s.set(self.cluster.clock.monotonic() - began)
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

    async def _compare(self, items: list[Item]) -> None:
        """Queue those of a page of Jobs that need something done; all of Redis' part is read at once."""
        records = await self._records([item.job_id for item in items])
        found = [one for one in records if isinstance(one, JobRecord)]
        queues = sorted({one.queue for one in found})
        answers = await self.link.run_many([ops.get_settings(queue) for queue in queues])
        settings = {
            queue: got or {} for queue, got in zip(queues, answers, strict=True) if not isinstance(got, HeavyliftError)
        }
        for item, record in zip(items, records, strict=True):
            known = settings.get(record.queue) if isinstance(record, JobRecord) else None
            if isinstance(record, HeavyliftError) or known is None or not self.passes(item, record, known):
                self.queue.put(item)

    async def _records(self, jobs: list[str]) -> list[JobRecord | HeavyliftError | None]:
        return await self.link.run_many([ops.get_job(job) for job in jobs])

    async def _without_job(self, entry: InFlight, record: JobRecord | HeavyliftError | None) -> None:
        """Queue an execution that no listed Job belongs to: claimed just now, gone, finalized or deleted."""
        if isinstance(record, RedisUnavailableError):
            raise record
        if isinstance(record, HeavyliftError):  # something else wrote its key: said with its item, the others go on
            self.queue.put(_of_execution(entry))
            return
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
        else:
            self.queue.put(_of_execution(entry))

    async def _unpatched(self, seen: set[tuple[str, str]]) -> None:
        open_ = await self.link.run(ops.unfinalized(self.install, _UNFINALIZED_MAX, _UNFINALIZED_AFTER_MS))
        for namespace, name, job, execution in open_:
            if (job, execution) not in seen:
                self.queue.put(
                    Item(namespace=namespace, name=name, job_id=job, execution=execution, asked=True, owed=True)
                )


async def _pages(jobs: AsyncIterator[JobEvidence]) -> AsyncIterator[list[JobEvidence]]:
    """Yield Jobs some at a time; a refusal comes after those that were listed."""
    page: list[JobEvidence] = []
    refusal: KubeStatusError | None = None
    try:
        async for job in jobs:
            page.append(job)
            if len(page) == _PAGE:
                yield page
                page = []
    except KubeStatusError as error:
        refusal = error
    if page:
        yield page
    if refusal is not None:
        raise refusal


def _of_execution(entry: InFlight) -> Item:
    """Return an item of an execution that is nowhere: without a Job to look for."""
    name = f"{entry.job}:{entry.execution}"
    return Item(namespace="", name=name, job_id=entry.job, execution=entry.execution, listed=True, asked=True)


def _of_job(job: JobEvidence, *, listed: bool) -> Item:
    return Item(
        namespace=job.namespace,
        name=job.name,
        job_id=job.job,
        execution=job.execution,
        job=job,
        listed=listed,
        met=True,
    )
