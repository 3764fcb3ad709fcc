"""Random SIGKILLs while jobs run, and servers that restart or lose their last second under it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heavylift.errors import RedisUnavailableError
from tests.cluster import Cluster
from tests.proofs.kills import Killer, assert_sound, staged
from tests.proofs.length import rounds
from tests.proofs.processes import Supervisor
from tests.proofs.run import Json, Run
from tests.proofs.waiting import until
from tests.servers import StoreServer

JOBS, KILLS = rounds(120, 300), rounds(20, 50)
FEW_JOBS, FEW_KILLS = rounds(100, 300), rounds(6, 15)
"""Beside a restart of a server."""
PER_SECOND = rounds(8, 20)
"""Jobs enqueued: they go on coming while a server is away."""


@contextmanager
def enqueuing(run: Run, jobs: dict[str, Json], per_second: float) -> Iterator[threading.Thread]:
    """Enqueue jobs at a steady rate beside the block; one that is refused for want of Redis is tried again."""
    stop = threading.Event()

    def produce() -> None:
        for job, data in jobs.items():
            while not stop.wait(1 / per_second):
                try:
                    run.enqueue(job, data)
                except RedisUnavailableError:
                    continue
                break

    thread = threading.Thread(target=produce, name="producer", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)


def finish(run: Run, producer: threading.Thread, limit: float = 150.0) -> None:
    """Wait until the producer is done, every job has ended and nothing is in flight."""
    until(lambda: not producer.is_alive(), "all jobs to be accepted", limit=limit)
    run.wait_ended(limit=limit)
    run.wait_quiet()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_random_kills(run: Run) -> None:
    """Random SIGKILLs of two dispatchers and two operators cost no job, no second Job and no second end."""
    jobs = staged(JOBS)
    with run.recorder() as recorder, Supervisor(*run.pair(replicas=2)) as supervisor:
        supervisor.wait_ready()
        run.wait_settings()
        with Killer(supervisor, kills=KILLS) as killer, enqueuing(run, jobs, per_second=6) as producer:
            until(lambda: killer.done, f"{KILLS} kills", limit=240)
            finish(run, producer)
        assert_sound(run, jobs, run.history(recorder))
        assert set(run.accepted) == set(jobs)
        assert {name.partition("-")[0] for name in killer.kills} == {"dispatcher", "operator"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_api_server_restarts(run: Run, kwok: Cluster) -> None:
    """An API server that ends in order, then by SIGKILL, under running jobs costs no job and makes no second Job."""
    jobs = staged(FEW_JOBS)
    with run.recorder() as recorder, Supervisor(*run.pair(replicas=2)) as supervisor:
        supervisor.wait_ready()
        with Killer(supervisor, kills=FEW_KILLS), enqueuing(run, jobs, PER_SECOND) as producer:
            until(lambda: len(run.accepted) > FEW_JOBS // 3, "a third of the jobs accepted")
            kwok.restart("kube-apiserver")
            until(lambda: len(run.accepted) > FEW_JOBS * 2 // 3, "two thirds of the jobs accepted")
            kwok.kill("kube-apiserver")
            kwok.start("kube-apiserver")
            finish(run, producer)
        assert_sound(run, jobs, run.history(recorder))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_redis_restarts(run: Run, durable_redis: StoreServer) -> None:
    """A Redis that is restarted in order under running jobs costs no job and makes no second Job."""
    jobs = staged(FEW_JOBS)
    with run.recorder() as recorder, Supervisor(*run.pair(replicas=2)) as supervisor:
        supervisor.wait_ready()
        with Killer(supervisor, kills=FEW_KILLS), enqueuing(run, jobs, PER_SECOND) as producer:
            until(lambda: len(run.accepted) > FEW_JOBS // 2, "half of the jobs accepted")
            durable_redis.restart()
            finish(run, producer)
        assert_sound(run, jobs, run.history(recorder))


def append_only_file(server: StoreServer) -> Path:
    """Return the file Redis appends to."""
    return max((server.folder / "appendonlydir").glob("*.incr.aof"))


def lose_the_last_second(server: StoreServer, sizes: list[int]) -> int:
    """SIGKILL the server and cut off its file what came after ``sizes[0]``; return how many bytes that were.

    A SIGKILL alone loses nothing, as the operating system has the bytes; a machine that dies loses what was not yet
    written to the disk, which is up to a second's.
    """
    server.kill()
    log = append_only_file(server)
    cut = log.stat().st_size - sizes[0]
    with log.open("r+b") as handle:
        handle.truncate(sizes[0])
    return cut


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_redis_killed_and_rolled_back(run: Run, durable_redis: StoreServer) -> None:
    """A Redis that dies with its last second, among SIGKILLs: what it lost is named, what it kept ends once."""
    jobs = staged(rounds(120, 300))
    with run.recorder() as recorder, Supervisor(*run.pair(replicas=2)) as supervisor:
        supervisor.wait_ready()
        run.wait_settings()
        with Killer(supervisor, kills=FEW_KILLS) as killer, enqueuing(run, jobs, per_second=30) as producer:
            until(lambda: len(run.accepted) > 40, "40 jobs accepted")
            durable_redis.kill()  # the plain kill: nothing acknowledged may be missing
            before = set(run.accepted)
            durable_redis.start()
            assert [job for job, status in run.statuses(before).items() if not status] == []
            until(lambda: len(run.accepted) > 60, "60 jobs accepted")
            sizes = [append_only_file(durable_redis).stat().st_size]
            count = len(run.accepted)
            until(lambda: len(run.accepted) > count + 20, "20 more jobs accepted")
            cut = lose_the_last_second(durable_redis, sizes)
            before = set(run.accepted)
            durable_redis.start()
            lost = {job for job, status in run.statuses(before).items() if not status}
            until(lambda: killer.done, f"{FEW_KILLS} kills")
            finish_kept(run, producer, lost)
        history = run.history(recorder, lost=lost)
        assert_sound(run, jobs, history)
    assert cut > 0
    assert lost, "the cut took acknowledged jobs with it, else this proves nothing"


def finish_kept(run: Run, producer: threading.Thread, lost: set[str]) -> None:
    """As ``finish``, of the jobs that Redis kept."""
    until(lambda: not producer.is_alive(), "all jobs to be accepted", limit=120)
    run.wait_ended(run.accepted - lost)
    run.wait_quiet()
