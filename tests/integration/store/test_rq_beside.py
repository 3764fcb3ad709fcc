"""RQ's own maintenance and scheduler, as processes without a pause, beside a heavy queue at work."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift.store import Claim, Json, Next, ops
from tests.integration.store.kit import QUEUE, World, world
from tests.proofs import audit
from tests.proofs.killed.run import connections, rest
from tests.proofs.waiting import until
from tests.servers import StoreServer

JOBS, SOME = 120, 10
RQ = """
import sys, time, warnings
warnings.simplefilter("ignore")
import redis
from rq import Queue, SimpleWorker
from rq.registry import StartedJobRegistry
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
client = redis.Redis.from_url(sys.argv[1])
heavy = [Queue(name, connection=client, serializer=JSONSerializer) for name in ("reports", "reports@5")]
worker = SimpleWorker(heavy, connection=client, serializer=JSONSerializer)
scheduler = RQScheduler(["reports", "reports@5"], connection=client, serializer=JSONSerializer)
while True:
    if sys.argv[2] == "maintenance":
        worker.run_maintenance_tasks()
        StartedJobRegistry(queue=heavy[0]).cleanup(timestamp=4_000_000_000)
    else:
        scheduler.acquire_locks()
        scheduler.prepare_registries()
        due = [job for found in scheduler._scheduled_job_registries for job in found.get_jobs_to_schedule()]
        scheduler.enqueue_scheduled_jobs()
        if due:
            client.sadd("moved", *due)
    client.incr("rounds:" + sys.argv[2])
"""


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on Redis alone: these processes ask both stores the same."""
    with world(redis_server) as made:
        yield made


@contextlib.contextmanager
def rq_processes(w: World) -> Iterator[None]:
    """Run RQ's maintenance and its scheduler over the heavy queue, again and again."""
    kinds = ("maintenance", "scheduler")
    running = [subprocess.Popen([sys.executable, "-c", RQ, w.server.url, kind]) for kind in kinds]
    try:
        for kind in kinds:
            until(lambda kind=kind: int(w.redis.get(f"rounds:{kind}") or 0) > 3, f"RQ's {kind} to work", limit=60)  # type: ignore[misc]
        yield
        assert [process.poll() for process in running] == [None, None], "RQ's code stumbled over none of our jobs"
    finally:
        for process in running:
            process.kill()
            process.wait(20)


def put(w: World) -> list[str]:
    """Enqueue jobs with every option, many of them due while RQ's scheduler looks."""
    jobs: list[str] = []
    for n in range(JOBS):
        options: Json = {"priority": (0, 0, 5)[n % 3]} | ({"key": f"t{n % 4}"} if n % 5 == 0 else {})
        options |= {"lifo": True} if n % 7 == 0 else {}
        options |= {"dedupe": {"id": f"d{n}", "mode": "first"}} if n % 11 == 0 else {}
        after = (jobs[n - 1],) if n % 13 == 12 else ()
        jobs.append(w.enqueue(options=options, delay_ms=n * 20 if n % 2 else 0, depends_on=after).id)
    return jobs


def work(w: World, jobs: list[str]) -> Counter[str]:
    """Claim, record and end all jobs, every sixth with a delayed retry; return how often each was started."""
    choice, starts, running = random.Random(1), Counter[str](), dict[str, Claim]()

    def turn() -> bool:
        for claim in w.ask(max=7).claims:
            assert claim.job not in running, f"{claim.job} was started while it ran"
            w.record(claim)
            running[claim.job] = claim
            starts[claim.job] += 1
        for job in [job for job in running if choice.random() < 0.5]:
            claim = running.pop(job)
            if starts[job] == 1 and jobs.index(job) % 6 == 0:
                w.finish(claim, Next.RETRY, delay_ms=choice.randint(1, 900))
            else:
                w.finish(claim)
        return not running and w.run(ops.counts(QUEUE)).completed == len(jobs)

    until(turn, "all jobs to complete", limit=60, every=0)
    return starts


def moved(w: World) -> int:
    """Return how many of our delayed jobs RQ's scheduler moved."""
    count: Any = w.redis.scard("moved")
    return int(count)


@pytest.mark.parametrize("held", [True, False], ids=["locks held", "no operator holds the locks"])
def test_rqs_maintenance_and_scheduler_corrupt_nothing(w: World, held: bool) -> None:
    """With RQ's locks held by us or not: each job is started as often as it should be, ends once, none is lost."""
    w.serve(concurrencyPerKey=1, defaults={"priority": 0, "maxAttempts": 3})
    if held:
        assert w.run(ops.hold_rq_locks(QUEUE, "operator", 600_000))
    ours = connections(w.redis)
    with rq_processes(w):
        jobs = put(w)
        if not held:
            until(lambda: moved(w) > SOME, "RQ's scheduler to move delayed jobs to the list")
        starts = work(w, jobs)
        assert held is (moved(w) == 0), "our token keeps RQ's scheduler off"
    rest(w.redis, ours)
    assert {job: starts[job] for job in jobs} == {job: 2 if n % 6 == 0 else 1 for n, job in enumerate(jobs)}
    assert {tuple(w.finals(job)) for job in jobs} == {("completed",)}
    assert w.run(ops.counts(QUEUE)).waiting == 0
    assert audit.unsound(audit.take(w.redis)) == []
    assert w.idle()
