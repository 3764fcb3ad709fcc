"""RQ's side: its own client, its own worker as it runs, and for comparison the transactions of its worker alone."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import redis
from rq import Queue as RqQueue
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import SimpleWorker
from typing_extensions import override

from tests.benchmarks.backing import Backing
from tests.benchmarks.load import DATA, QUEUE, RETURNED, TASK, copy_job
from tests.servers import StoreServer

TASKS: Final = Path(__file__).with_name("tasks")
_QUIET: Final = "CRITICAL"


class MarkedJob(RqJob):
    """RQ's job; takes the time when its task begins and when it returned."""

    marks: ClassVar[list[float]] = []

    @override
    def perform(self) -> Any:
        """Run the task as RQ does."""
        self.marks.append(time.perf_counter())
        try:
            return super().perform()
        finally:
            self.marks.append(time.perf_counter())


class MarkedWorker(SimpleWorker):
    """RQ's worker; takes the time at the top of its loop, which is where one job's end is over, and behind the last."""

    job_class = MarkedJob

    @override
    def check_for_suspension(self, burst: bool) -> None:
        """Do what the loop begins with."""
        MarkedJob.marks.append(time.perf_counter())
        super().check_for_suspension(burst)

    @override
    def teardown(self) -> None:
        """Leave the loop."""
        MarkedJob.marks.append(time.perf_counter())
        super().teardown()  # type: ignore[no-untyped-call]  # RQ's

    @override
    def unsubscribe(self) -> None:
        """Leave RQ's channel, behind all marks: told first that it ends, its listener never sits out RQ's second."""
        if self.pubsub_thread is not None:
            self.pubsub_thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]  # RQ's


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the time of RQ's worker went, in seconds; the tasks themselves are in neither."""

    claims: float
    """From the top of its loop until a task begins."""
    ends: float
    """From a task's return until the top of the loop, ready for the next."""


def split(marks: list[float], jobs: int) -> Spent:
    """Return where the time of so many jobs went, without the first: before that one RQ does its maintenance.

    Args:
        marks: for each job the loop's top, the task's begin, the task's return; and the end of the loop, in seconds.
        jobs: how many were to be worked off, at least two.

    Raises:
        RuntimeError: the worker took fewer or more.
    """
    if len(marks) != 3 * jobs + 1:
        raise RuntimeError(f"RQ's worker was to run {jobs} jobs; it ran {(len(marks) - 1) / 3:g}")
    tops, begins, returns = marks[3::3], marks[4::3], marks[5::3]
    return Spent(
        claims=sum(begin - top for top, begin in zip(tops[:-1], begins, strict=True)),
        ends=sum(top - returned for returned, top in zip(returns, tops[1:], strict=True)),
    )


@dataclass
class Theirs:
    """RQ's own queue and worker."""

    server: StoreServer
    redis: redis.Redis
    queue: RqQueue
    worker: MarkedWorker
    taken: list[tuple[RqJob, Execution]] = field(default_factory=list)

    def enqueue(self, count: int) -> None:
        """Enqueue one by one."""
        for _ in range(count):
            self.queue.enqueue(TASK, kwargs=DATA, retry=None)

    def enqueue_many(self, count: int, times: int = 1) -> None:
        """Enqueue batches."""
        for _ in range(times):
            self.queue.enqueue_many([RqQueue.prepare_data(TASK, kwargs=DATA) for _ in range(count)])

    def fill(self, count: int) -> None:
        """Make so many jobs wait."""
        first = self.queue.enqueue(TASK, kwargs=DATA)
        copy_job(self.redis, first.id, count - 1, prefix=f"fill{self.redis.dbsize()}-")

    # -- the worker as it runs ----------------------------------------------------------------------------------------
    def work(self, count: int) -> Spent:
        """Let RQ's worker work off so many waiting jobs, and one before them that is not counted.

        ``SimpleWorker`` runs tasks in its own process: no fork is counted, and with its log off no line of it.

        Raises:
            RuntimeError: not all of them ended as finished.
        """
        jobs, before = count + 1, self._finished()
        MarkedJob.marks.clear()
        with signals_kept():
            self.worker.work(burst=True, logging_level=_QUIET, max_jobs=jobs)
        if (ended := self._finished() - before) != jobs:
            raise RuntimeError(f"of {jobs} jobs that RQ's worker ran, {ended} are finished")
        return split(MarkedJob.marks, jobs)

    def _finished(self) -> int:
        return int(self.queue.finished_job_registry.get_job_count(cleanup=False))

    # -- its transactions alone ---------------------------------------------------------------------------------------
    def claim_alone(self, count: int) -> None:
        """Take so many jobs by the steps of RQ's worker that concern a job; its heartbeats and states are left out."""
        for _ in range(count):
            found = RqQueue.dequeue_any([self.queue], None, connection=self.redis, serializer=JSONSerializer)
            if found is None:
                raise LookupError("RQ's queue ran empty")
            job, _ = found
            execution = self.worker.prepare_execution(job)
            self.worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
            self.taken.append((job, execution))

    def finish_alone(self, count: int) -> None:
        """End so many of them by the transaction with which RQ's worker ends a success."""
        for _ in range(count):
            job, execution = self.taken.pop()
            job.ended_at, job._result, job._status = now(), RETURNED, JobStatus.FINISHED
            self.worker.handle_job_success(job, self.queue, self.queue.started_job_registry, execution)


@contextlib.contextmanager
def theirs(backing: Backing) -> Iterator[Theirs]:
    """Give RQ's side on a fresh server; the tasks are imported from a folder as with RQ's ``worker --path``."""
    logging.getLogger("rq.worker").setLevel(_QUIET)
    with backing.server() as server, contextlib.closing(server.client()) as raw, _importable(TASKS):
        queue = RqQueue(QUEUE, connection=raw, serializer=JSONSerializer)
        worker = MarkedWorker([queue], connection=raw, serializer=JSONSerializer)
        yield Theirs(server, raw, queue, worker)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Have SIGINT and SIGTERM behind the block as before it: RQ's loop takes them for itself and keeps them."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
