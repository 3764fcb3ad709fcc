"""The synchronous client: queues and jobs; thin over ``heavylift.operations``."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, Unpack

from heavylift import administration, batches, operations
from heavylift.contract import ids
from heavylift.contract.durations import Duration
from heavylift.contract.states import JobState
from heavylift.dedupe import check_key
from heavylift.errors import RedisUnavailableError
from heavylift.jobs import Job, JobEvent, JobInfo, QueueCounts
from heavylift.options import EnqueueOptions, JobRequest, RetryOptions
from heavylift.queueinfo import QueueInfo, queue_info
from heavylift.requests import draft
from heavylift.scheduling import ClientSchedules, QueueSchedules
from heavylift.store import Store, ops
from heavylift.store.steps import AheadOp, T


class Client(ClientSchedules):
    """Enqueues jobs and asks about them; connects at the first operation. Threads may share one.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; HEAVYLIFT_REDIS_URL when left out (with
            HEAVYLIFT_REDIS_USERNAME, and HEAVYLIFT_REDIS_PASSWORD or HEAVYLIFT_REDIS_PASSWORD_FILE).
        redis: an existing ``redis.Redis`` (``decode_responses=False``) instead of a URL; it stays yours to close.
        strict: refuse to enqueue into a queue that no HeavyQueue serves.
        actor: who cancels or pauses, for people who ask why.
        patience: seconds an operation tries again while Redis cannot be reached, before it raises.
        timeout: seconds a connection and each answer may take; not of a client that was given. Without Redis an enqueue
            raises RedisUnavailableError within ``patience`` plus twice this: 6 seconds, or 2 where it refuses at once.

    Raises:
        ConfigurationError: no Redis is named, or the URL cannot be used.
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
            self._store = Store(redis=redis, patience=patience)
        else:
            self._store = Store.connect(**operations.redis_settings(url), patience=patience, timeout=timeout)

    def queue(self, name: str) -> Queue:
        """Return a queue; asks nothing.

        Raises:
            InvalidQueueNameError: not a usable name.
        """
        return Queue(self, ids.check_queue_name(name))

    def job(self, id: str) -> Job[Any]:  # noqa: A002 - as in ``job.id``
        """Return the handle of a job by id; asks nothing.

        Raises:
            InvalidJobIdError: not a usable id.
        """
        return Job(self, ids.check_job_id(id))

    def queues(self) -> list[str]:
        """Return the names of all queues in this Redis that Heavylift can serve, sorted."""
        return self.run(operations.queues())

    def close(self) -> None:
        """Close the connections, unless they were given."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, op: AheadOp[T]) -> T:
        """Run an operation of the store (``heavylift.store.ops``)."""
        return self._store.run(op)

    # -- what job handles ask for ---------------------------------------------------------------------------------
    def _info(self, job: str) -> JobInfo:
        return self.run(operations.info(job))

    def _wait(self, job: str, timeout: object) -> Any:
        patience = operations.Patience.until(job, timeout, time.monotonic())
        found = self.run(operations.ended(job))
        if found is not None:
            return found.value
        with self._store.subscribe(self._store.keys.done(job)) as messages:
            while True:
                try:
                    found = self.run(operations.ended(job))
                    if found is not None:
                        return found.value
                    messages.get(timeout=patience.pause(time.monotonic()))
                except RedisUnavailableError as error:
                    # Without Redis there is nobody who would say when it is back.
                    time.sleep(patience.after_outage(error, time.monotonic()))

    def _cancel(self, job: str, reason: str) -> bool:
        return self.run(operations.cancel(job, self.actor, reason))

    def _retry(self, job: str, options: Mapping[str, Any]) -> None:
        self.run(administration.retry(job, self.actor, options))

    def _promote(self, job: str) -> bool:
        return self.run(administration.promote(job))

    def _change(self, job: str, changes: Mapping[str, Any]) -> None:
        self.run(administration.change(job, changes))

    def _remove(self, job: str) -> None:
        self.run(administration.remove(job))

    def _idle(self, queue: str, timeout: object) -> None:
        patience = operations.Patience.until_idle(queue, timeout, time.monotonic())
        with self._store.subscribe(self._store.keys.doorbell()) as messages:
            while self.run(ops.counts(queue)).active:
                messages.get(timeout=patience.pause(time.monotonic()))

    def _job_events(self, job: str, *, follow: bool) -> Iterator[JobEvent]:
        after, idle = "0", False
        while True:
            page = self.run(operations.job_events(job, after, follow=follow, idle=idle))
            yield from page.events
            if page.done:
                return
            idle, after = page.after == after, page.after


class Queue(QueueSchedules):
    """One queue; attributes cost nothing, methods ask Redis."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<Queue {self.name!r}>"

    def enqueue(self, task: str, data: Any = None, **options: Unpack[EnqueueOptions]) -> Job[Any]:
        """Enqueue a job and return its handle.

        Args:
            task: the task's registered name.
            data: a mapping (its keyword arguments), dataclass or pydantic model: plain JSON, 64 KiB by default.
            options: see EnqueueOptions; explicit ones are stronger than the queue's.

        Raises:
            InvalidInputError: something passed is not usable, not available yet or not allowed in this queue.
            InvalidPayloadError: the data is not plain JSON; the message has the path to the bad value.
            PayloadTooLargeError: it is larger than the queue admits.
            DuplicateJobError: the id is taken (see ``if_exists``).
            UnknownQueueError: no HeavyQueue serves the queue, and the client is strict.
            RedisUnavailableError: Redis cannot be reached or refuses. Whether the job was enqueued is unknown then:
                with an ``id`` and ``if_exists="return"`` it is safe to repeat.
        """
        checked = draft(task, data, options)
        made = self._client.run(
            operations.enqueue(self.name, checked, self._client.admissions, strict=self._client.strict)
        )
        return Job(self._client, made.id, created=made.created, queue_name=self.name)

    def enqueue_many(self, requests: Sequence[JobRequest]) -> list[Job[Any]]:
        """Enqueue many jobs in few round trips; return their handles in order.

        Raises:
            BatchError: some were refused; ``exceptions`` name each by its index, ``jobs`` holds the accepted ones.
            RedisUnavailableError: nothing was enqueued for certain.
        """
        batch = self._client.run(batches.enqueue_many(self.name, requests, strict=self._client.strict))
        handles: list[Job[Any]] = [
            Job(self._client, made.id, created=made.created, queue_name=self.name) for made in batch.accepted
        ]
        refused = batch.refused(handles)
        if refused is not None:
            raise refused
        return handles

    def jobs(
        self,
        state: str | JobState = JobState.WAITING,
        *,
        cls: str | None = None,
        since: datetime | Duration | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> list[JobInfo]:
        """Return jobs of one state: waiting ones in their order, ended ones newest first.

        Args:
            state: ``waiting``, ``delayed``, ``active``, ``waiting-children``, ``completed``, ``failed``, ``cancelled``.
            cls: of ended jobs, only those of this outcome class, for example ``oom``.
            since: of ended jobs, only those that ended at this time (with a time zone) or so long ago at most.
            labels: only jobs with these labels.
            limit: at most this many.

        Raises:
            InvalidInputError: no such state or class, or a filter that this state does not have.
        """
        wanted = administration.Filter.of(state, cls, since, labels)
        return self._client.run(administration.jobs(self.name, wanted, limit))

    def counts(self) -> QueueCounts:
        """Return how many jobs are in each state."""
        return self._client.run(ops.counts(self.name))

    def info(self) -> QueueInfo:
        """Return its bounds, what they leave now and in how long, and whether it is paused, by whom."""
        return self._client.run(queue_info(self.name))

    def pause(self, reason: str = "", *, wait: Duration | None = None) -> None:
        """Start no more jobs of this queue until ``resume``; what runs goes on.

        Args:
            reason: why, for people.
            wait: return once nothing of the queue runs any more, at the latest after so long.

        Raises:
            WaitTimeoutError: something still runs; the queue stays paused.
        """
        self._client.run(ops.pause(self.name, by=self._client.actor, reason=reason or ""))
        if wait is not None:
            self._client._idle(self.name, wait)  # noqa: SLF001 - the handle is the client's other half

    def resume(self) -> None:
        """Undo ``pause``; a HeavyQueue's own ``spec.paused`` stays as it is."""
        self._client.run(ops.resume(self.name))

    def purge(
        self,
        state: str | JobState = JobState.WAITING,
        *,
        dry_run: bool = False,
        progress: administration.Progress | None = None,
    ) -> int:
        """Remove the jobs of one state that are there now, in small steps; return how many went.

        That is no cancel: nothing is kept of them, whoever waits for one gets JobNotFoundError, and what depends on one
        that never completed is soon cancelled. Ended jobs whose Kubernetes Job is not let go yet stay.

        Args:
            state: any but ``active``.
            dry_run: remove nothing, return how many there are.
            progress: called with (done, of how many) now and then.

        Raises:
            InvalidInputError: no such state, or ``active``.
        """
        return self._client.run(administration.purge(self.name, state, dry_run=dry_run, progress=progress))

    def retry_failed(
        self,
        *,
        cls: str | None = None,
        since: datetime | Duration | None = None,
        having: Mapping[str, str] | None = None,
        limit: int | None = None,
        progress: administration.Progress | None = None,
        **changes: Unpack[RetryOptions],
    ) -> list[Job[Any]]:
        """Run failed jobs again, oldest first and in small steps; return their handles.

        Args:
            cls: only those of this outcome class, for example ``oom``.
            since: only those that failed at this time (with a time zone) or so long ago at most.
            having: only those with these labels.
            limit: at most this many.
            progress: called with (done, of how many) after each step.
            changes: set anew for their coming attempts, as of ``Job.retry``.

        Raises:
            InvalidInputError: a filter or a change is not usable or not allowed.
            BatchError: some were refused (``exceptions``); ``jobs`` holds those that run again.
        """
        wanted = administration.Filter.of(JobState.FAILED, cls, since, having)
        bulk = administration.BulkRetry(queue=self.name, wanted=wanted, changes=changes, limit=limit, progress=progress)
        done = self._client.run(bulk.run(self._client.actor))
        handles = [Job[Any](self._client, job, queue_name=self.name) for job in done.jobs]
        refused = done.refused(tuple(handles))
        if refused is not None:
            raise refused
        return handles

    def deduplicated(self, key: str) -> Job[Any] | None:
        """Return the job that holds a deduplication key, None when it is free."""
        job = self._client.run(ops.dedupe_holder(self.name, check_key("key", key)))
        return None if job is None else Job(self._client, job, queue_name=self.name)

    def release_key(self, key: str) -> bool:
        """Free a deduplication key; its job goes on. Return False when nothing held it."""
        return self._client.run(ops.release_dedupe(self.name, check_key("key", key)))

    def events(self, *, after: str = "0", follow: bool = True) -> Iterator[JobEvent]:
        """Yield the queue's events after the one of this id, and with ``follow`` what comes, without end.

        Args:
            after: ``event.id`` of the last one seen; ``"0"`` = all that is kept, about 10,000.
            follow: False = end with the newest.
        """
        while True:
            page = self._client.run(operations.queue_events(self.name, after, follow=follow))
            yield from page.events
            after = page.after
            if page.done:
                return


@functools.cache
def default_client() -> Client:
    """Return this process's client for HEAVYLIFT_REDIS_URL, which ``task.enqueue`` uses."""
    return Client()
