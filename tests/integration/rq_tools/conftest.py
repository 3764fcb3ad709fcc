"""One pair of processes for the folder, and a queue of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract.keys import Keys
from heavylift.contract.names import Annotation
from tests.proofs.history import TERMINAL, hash_field
from tests.proofs.install import heavyqueue
from tests.proofs.kube import Json, Kube, batch, core
from tests.proofs.processes import Supervisor
from tests.proofs.run import Run
from tests.proofs.waiting import until
from tests.servers import StoreServer, redis_binary

HELD = {"heavylift-test/hold": "true"}


@dataclass
class Bench:
    """One queue served by the folder's processes; its pods run until ``end`` says how they end."""

    run: Run
    name: str
    redis: redis.Redis

    @property
    def rq(self) -> Queue:
        """RQ's own client of this queue."""
        return Queue(self.name, connection=self.redis, serializer=JSONSerializer)

    def spec(self, **spec: Any) -> None:
        """Apply the queue's HeavyQueue with this spec, and wait until the processes have it."""
        applied = self.run.apply(heavyqueue(self.name, self.run.name, ends=HELD, **spec))
        generation = str(applied["metadata"]["generation"])
        key = Keys().settings(self.name)
        until(lambda: hash_field(self.redis, key, "generation") == generation, f"settings of {self.name}")

    def fetch(self, job: str) -> Job:
        """Fetch a job as RQ does."""
        return Job.fetch(job, connection=self.redis, serializer=JSONSerializer)

    def status(self, job: str) -> str:
        """Return the status RQ sees, by its own call."""
        return str(self.fetch(job).get_status().value)

    def kube_job(self, job: str) -> Json:
        """Return the newest Job of a job; empty when there is none."""
        items, _ = self.run.kube.items(batch(self.run.name))
        mine = [item for item in items if item["metadata"]["annotations"].get(Annotation.JOB_ID) == job]
        return max(mine, key=lambda item: int(item["metadata"]["annotations"][Annotation.SEQ]), default={})

    def kube_job_when_there(self, job: str) -> Json:
        """Wait for a job's Job and return it."""
        return until(lambda: self.kube_job(job), f"a Job of {job}")

    def pod(self, job: str) -> Json:
        """Return the newest pod of a job; empty when there is none."""
        owner = self.kube_job(job).get("metadata", {}).get("name", "none")
        items, _ = self.run.kube.items(
            core(self.run.name, "pods"), labelSelector=f"batch.kubernetes.io/job-name={owner}"
        )
        return items[0] if items else {}

    def running(self, job: str) -> str:
        """Wait until a job's pod runs and the queue knows it; return the pod's name."""
        until(lambda: self.pod(job).get("status", {}).get("phase") == "Running", f"a running pod of {job}")
        until(lambda: self.run.fields(job).get("hl:phase") == "running", f"{job} to be seen running")
        return str(self.pod(job)["metadata"]["name"])

    def end(self, job: str, **how: str) -> None:
        """Let the running pod of a job end: ``exit_code``, ``message``, ``reason``."""
        ends = {f"heavylift-test/{key.replace('_', '-')}": value for key, value in how.items()}
        annotations = {"heavylift-test/hold": "false", "heavylift-test/run-ms": "0", **ends}
        self.run.kube.merge(core(self.run.name, "pods", self.running(job)), {"metadata": {"annotations": annotations}})

    def reached(self, job: str, seq: str) -> None:
        """Wait until a job's execution of this number is the current one and has a Job."""
        until(lambda: self.run.fields(job).get("hl:seq") == seq, f"execution {seq} of {job}", limit=40)
        until(lambda: self.kube_job(job)["metadata"]["annotations"][Annotation.SEQ] == seq, f"Job {seq} of {job}")

    def ended(self, job: str) -> str:
        """Wait until a job is terminal; return its status."""
        return until(lambda: status if (status := self.status(job)) in TERMINAL else "", f"the end of {job}")


@pytest.fixture(scope="module")
def served(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Give a run whose dispatcher and operator are up, with a Redis of the module's own."""
    folder = tmp_path_factory.mktemp("rq")
    server = StoreServer(redis_binary(), folder / "redis").start()
    run = Run(kube, server, folder, f"rq-{server.port}")
    run.prepare()
    try:
        with Supervisor(*run.pair()) as supervisor:
            supervisor.wait_ready()
            yield run
    finally:
        server.kill()


_numbers = itertools.count(1)


@pytest.fixture
def bench(served: Run) -> Iterator[Bench]:
    """Give a fresh queue whose pods run until the test ends them."""
    with served.client() as client:
        made = Bench(served, f"rq{next(_numbers)}", client)
        made.spec()
        yield made
