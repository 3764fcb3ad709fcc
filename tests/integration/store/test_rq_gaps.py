"""Where RQ itself loses, repeats or corrupts jobs: what its processes leave behind, held against a heavy queue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from heavylift.contract.states import JobState
from heavylift.store import ops
from tests.integration.store.kit import QUEUE, World, world
from tests.servers import StoreServer

MAINTENANCE = """
import sys, warnings
warnings.simplefilter("ignore")
import redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
client = redis.Redis.from_url(sys.argv[1])
queue = Queue("reports", connection=client, serializer=JSONSerializer)
worker = SimpleWorker([queue], connection=client, serializer=JSONSerializer)
worker.run_maintenance_tasks()
"""
LONG_AGO = "1000000000.0"


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on Redis alone: RQ's code asks both stores the same."""
    with world(redis_server) as made:
        yield made


def maintained(w: World) -> None:
    """Run RQ's maintenance of the queue, as each of its workers does, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MAINTENANCE, w.server.url], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def left_by_a_worker(w: World, job: str) -> None:
    """Leave what a killed worker of RQ's does: the job's id where it was moved to before it began, long ago."""
    w.redis.lpush(f"rq:queue:{QUEUE}:intermediate", job)
    w.redis.set(f"rq:queue:{QUEUE}:intermediate:first_seen:{job}", LONG_AGO)


def test_what_killed_workers_left_runs_and_fails_nothing(w: World) -> None:
    """RQ takes such jobs for stuck: it fails what never ran and queues again what is finished. Not while we hold on."""
    w.serve(defaults={"priority": 0, "maxAttempts": 3})
    done, running = w.active(), w.active()
    w.finish(done)
    waiting, delayed = w.enqueue().id, w.enqueue(delay_ms=3_600_000).id
    for job in (done.job, running.job, waiting, delayed):
        left_by_a_worker(w, job)
    assert w.run(ops.hold_rq_locks(QUEUE, "operator", 600_000))

    for _ in range(2):
        maintained(w)

    states = [w.job(job).state for job in (done.job, running.job, waiting, delayed)]
    assert states == [JobState.COMPLETED, JobState.ACTIVE, JobState.WAITING, JobState.DELAYED]
    assert [claim.job for claim in w.ask().claims] == [waiting]
    assert w.finals(done.job) == ["completed"]


def test_no_scheduler_of_rq_gets_the_lock_that_is_held(w: World) -> None:
    """What is delayed comes due by claims alone; once let go of, RQ's scheduler may have the queue again."""
    scheduler: Any = RQScheduler([QUEUE], connection=w.redis, serializer=JSONSerializer)
    assert w.run(ops.hold_rq_locks(QUEUE, "operator", 600_000))
    assert scheduler.acquire_locks() == set()

    w.run(ops.release_rq_locks(QUEUE, "operator"))
    assert scheduler.acquire_locks() == {QUEUE}
