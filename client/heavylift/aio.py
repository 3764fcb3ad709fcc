"""The asynchronous client: the same operations as ``heavylift.client``, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from heavylift import administration, batches, operations
from heavylift.aio_scheduling import AsyncClientSchedules, AsyncQueueSchedules
from heavylift.contract import ids
from heavylift.contract.durations import Duration
from heavylift.contract.states import JobState
from heavylift.dedupe import check_key
from heavylift.errors import RedisUnavailableError
from heavylift.jobs import JobEvent, JobInfo, QueueCounts
from heavylift.options import ChangeOptions, EnqueueOptions, JobRequest, RetryOptions
from heavylift.queueinfo import QueueInfo, queue_info
from heavylift.requests import draft
from heavylift.store import AsyncStore, ops
from heavylift.store.steps import AheadOp, T

R = TypeVar("R")


class AsyncClient(AsyncClientSchedules):
    """As ``Client``, for coroutines of one event loop; ``redis`` is a ``redis.asyncio.Redis``.

    It keeps one connection of that client's pool until it is closed; the pool needs room for others.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        redis: Any = None,
        strict: bool = True,
        actor: str = "client",
        patience: float = 2.0,
        timeout: float = 2.0,
    ) -> None:
        self.strict = strict
        self.admissions = operations.Admissions()
        self.actor = actor
        if redis is not None:
            self._store = AsyncStore(redis=redis, patience=patience)
        else:
            self._store = AsyncStore.connect(**operations.redis_settings(url), patience=patience, timeout=timeout)

    def queue(self, name: str) -> AsyncQueue:
        """Return a queue; asks nothing. Raises as ``Client.queue``."""
        return AsyncQueue(self, ids.check_queue_name(name))

    def job(self, id: str) -> AsyncJob[Any]:  # noqa: A002 - as in ``job.id``
        """Return the handle of a job by id; asks nothing. Raises as ``Client.job``."""
        return AsyncJob(self, ids.check_job_id(id))

    async def queues(self) -> list[str]:
        """Return the names of all queues in this Redis that Heavylift can serve, sorted."""
        return await self.run(operations.queues())

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def run(self, op: AheadOp[T]) -> T:
        """Run an operation of the store (``heavylift.store.ops``)."""
        return await self._store.run(op)

    async def _wait(self, job: str, timeout: object) -> Any:  # noqa: ASYNC109 - the job's time
        patience = operations.Patience.until(job, timeout, time.monotonic())
        found = await self.run(operations.ended(job))
        if found is not None:
            return found.value
        async with self._store.subscribe(self._store.keys.done(job)) as messages:
            while True:
                try:
                    found = await self.run(operations.ended(job))
                    if found is not None:
                        return found.value
                    await messages.get(timeout=patience.pause(time.monotonic()))
                except RedisUnavailableError as error:
                    await asyncio.sleep(patience.after_outage(error, time.monotonic()))

    async def _idle(self, queue: str, timeout: object) -> None:  # noqa: ASYNC109 - as above
        patience = operations.Patience.until_idle(queue, timeout, time.monotonic())
        async with self._store.subscribe(self._store.keys.doorbell()) as messages:
            while (await self.run(ops.counts(queue))).active:
                await messages.get(timeout=patience.pause(time.monotonic()))


class AsyncJob(Generic[R]):
    """As ``Job``: attributes cost nothing, methods are awaited."""

    __slots__ = ("_client", "created", "id", "queue_name")

    def __init__(self, client: AsyncClient, id: str, *, created: bool = False, queue_name: str = "") -> None:  # noqa: A002 - as in ``job.id``
        self._client = client
        self.id = id
        self.created = created
        self.queue_name = queue_name

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<AsyncJob {self.id!r}>"

    async def info(self) -> JobInfo:
        """As ``Job.info``."""
        return await self._client.run(operations.info(self.id))

    async def wait(self, timeout: Duration | None = None) -> R:  # noqa: ASYNC109 - the job's time, not the call's
        """As ``Job.wait``; cancelling the coroutine leaves the job alone."""
        result: R = await self._client._wait(self.id, timeout)  # noqa: SLF001 - the handle is the client's other half
        return result

    async def cancel(self, reason: str = "") -> bool:
        """As ``Job.cancel``."""
        return await self._client.run(operations.cancel(self.id, self._client.actor, reason))

    async def retry(self, **options: Unpack[RetryOptions]) -> None:
        """As ``Job.retry``."""
        await self._client.run(administration.retry(self.id, self._client.actor, options))

    async def promote(self) -> bool:
        """As ``Job.promote``."""
        return await self._client.run(administration.promote(self.id))

    async def change(self, **changes: Unpack[ChangeOptions]) -> None:
        """As ``Job.change``."""
        await self._client.run(administration.change(self.id, changes))

    async def remove(self) -> None:
        """As ``Job.remove``."""
        await self._client.run(administration.remove(self.id))

    async def events(self, *, follow: bool = True) -> AsyncIterator[JobEvent]:
        """As ``Job.events``."""
        after, idle = "0", False
        while True:
            page = await self._client.run(operations.job_events(self.id, after, follow=follow, idle=idle))
            for event in page.events:
                yield event
            if page.done:
                return
            idle, after = page.after == after, page.after


class AsyncQueue(AsyncQueueSchedules):
    """As ``Queue``, awaited."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<AsyncQueue {self.name!r}>"

    async def enqueue(self, task: str, data: Any = None, **options: Unpack[EnqueueOptions]) -> AsyncJob[Any]:
        """As ``Queue.enqueue``."""
        checked = draft(task, data, options)
        made = await self._client.run(
            operations.enqueue(self.name, checked, self._client.admissions, strict=self._client.strict)
        )
        return AsyncJob(self._client, made.id, created=made.created, queue_name=self.name)

    async def enqueue_many(self, requests: Sequence[JobRequest]) -> list[AsyncJob[Any]]:
        """As ``Queue.enqueue_many``."""
        batch = await self._client.run(batches.enqueue_many(self.name, requests, strict=self._client.strict))
        handles: list[AsyncJob[Any]] = [
            AsyncJob(self._client, made.id, created=made.created, queue_name=self.name) for made in batch.accepted
        ]
        refused = batch.refused(handles)
        if refused is not None:
            raise refused
        return handles

    async def jobs(
        self,
        state: str | JobState = JobState.WAITING,
        *,
        cls: str | None = None,
        since: datetime | Duration | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> list[JobInfo]:
        """As ``Queue.jobs``."""
        wanted = administration.Filter.of(state, cls, since, labels)
        return await self._client.run(administration.jobs(self.name, wanted, limit))

    async def counts(self) -> QueueCounts:
        """As ``Queue.counts``."""
        return await self._client.run(ops.counts(self.name))

    async def info(self) -> QueueInfo:
        """As ``Queue.info``."""
        return await self._client.run(queue_info(self.name))

    async def pause(self, reason: str = "", *, wait: Duration | None = None) -> None:
        """As ``Queue.pause``."""
        await self._client.run(ops.pause(self.name, by=self._client.actor, reason=reason or ""))
        if wait is not None:
            await self._client._idle(self.name, wait)  # noqa: SLF001 - the handle is the client's other half

    async def resume(self) -> None:
        """As ``Queue.resume``."""
        await self._client.run(ops.resume(self.name))

    async def purge(
        self,
        state: str | JobState = JobState.WAITING,
        *,
        dry_run: bool = False,
        progress: administration.Progress | None = None,
    ) -> int:
        """As ``Queue.purge``."""
        return await self._client.run(administration.purge(self.name, state, dry_run=dry_run, progress=progress))

    async def retry_failed(
        self,
        *,
        cls: str | None = None,
        since: datetime | Duration | None = None,
        having: Mapping[str, str] | None = None,
        limit: int | None = None,
        progress: administration.Progress | None = None,
        **changes: Unpack[RetryOptions],
    ) -> list[AsyncJob[Any]]:
        """As ``Queue.retry_failed``."""
        wanted = administration.Filter.of(JobState.FAILED, cls, since, having)
        bulk = administration.BulkRetry(queue=self.name, wanted=wanted, changes=changes, limit=limit, progress=progress)
        done = await self._client.run(bulk.run(self._client.actor))
        handles = [AsyncJob[Any](self._client, job, queue_name=self.name) for job in done.jobs]
        refused = done.refused(tuple(handles))
        if refused is not None:
            raise refused
        return handles

    async def deduplicated(self, key: str) -> AsyncJob[Any] | None:
        """As ``Queue.deduplicated``."""
        job = await self._client.run(ops.dedupe_holder(self.name, check_key("key", key)))
        return None if job is None else AsyncJob(self._client, job, queue_name=self.name)

    async def release_key(self, key: str) -> bool:
        """As ``Queue.release_key``."""
        return await self._client.run(ops.release_dedupe(self.name, check_key("key", key)))

    async def events(self, *, after: str = "0", follow: bool = True) -> AsyncIterator[JobEvent]:
        """As ``Queue.events``."""
        while True:
            page = await self._client.run(operations.queue_events(self.name, after, follow=follow))
            for event in page.events:
                yield event
            after = page.after
            if page.done:
                return
