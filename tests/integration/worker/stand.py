"""A dispatcher's surroundings without an operator: a namespace, HeavyQueues and their settings, a Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heavylift.contract import ids, payload
from heavylift.contract.names import Annotation, Label
from heavylift.spec import HeavyQueue
from heavylift.spec import settings as settings_of
from heavylift.store import EnqueueRequest, JobRecord, Store, ops
from tests.proofs.install import apply_queue, ensure_namespace, heavyqueue
from tests.proofs.kube import Kube, batch
from tests.proofs.processes import Daemon
from tests.proofs.waiting import until
from tests.servers import StoreServer

Json = dict[str, Any]
HOLD = {"heavylift-test/hold": "true"}
QUICK = {"HEARTBEAT": "500ms", "POLL": "200ms", "LOG_LEVEL": "info"}


@dataclass
class Stand:
    """One test's namespace, Redis and dispatchers."""

    kube: Kube
    server: StoreServer
    folder: Path
    name: str
    store: Store
    daemons: list[Daemon] = field(default_factory=list)

    @property
    def install(self) -> str:
        """The install id."""
        return f"{self.name}/worker"

    def prepare(self) -> None:
        """Make the namespace."""
        ensure_namespace(self.kube, self.name)

    def queue(self, name: str = "", *, namespace: str = "", **spec: Any) -> HeavyQueue:
        """Apply a HeavyQueue whose pods run for ever, and write its settings to Redis as the operator would."""
        made = heavyqueue(name or self.name, namespace or self.name, ends=HOLD, **spec)
        found = HeavyQueue.parse(apply_queue(self.kube, made))
        self.settle(found)
        return found

    def settle(self, queue: HeavyQueue) -> None:
        """Write a HeavyQueue's settings to Redis."""
        reply = self.store.run(
            ops.put_settings(
                queue.queue,
                settings_of(queue),
                generation=queue.generation,
                install=self.install,
                namespace=queue.namespace,
                uid=queue.uid,
            )
        )
        assert reply.verdict.value in {"applied", "already"}, reply

    def enqueue(self, job: str, data: Any = None, *, queue: str = "", incarnation: str = "", **options: Any) -> str:
        """Enqueue one job of the task ``proof``."""
        request = EnqueueRequest(
            queue=queue or self.name,
            task="proof",
            data=payload.encode("proof", data),
            id=job,
            incarnation=incarnation or ids.new_incarnation(),
            fingerprint="proof",  # an id of the producer's own keeps the incarnation it is given
            options=options,
        )
        assert self.store.run(ops.enqueue(request)).created
        return job

    def dispatcher(self, name: str = "d", **settings: str) -> Daemon:
        """Start a dispatcher; ``settings`` without their prefix."""
        values = {
            "REDIS_URL": self.server.url,
            "INSTALL_ID": self.install,
            "NAMESPACES": self.name,
            "KUBECONFIG": str(self.kube.kubeconfig),
            "WORKER_NAME": name,
            **QUICK,
            **settings,
        }
        daemon = Daemon("dispatcher", {f"HEAVYLIFT_{k}": v for k, v in values.items()}, self.folder, name)
        self.daemons.append(daemon)
        return daemon.start()

    def record(self, job: str) -> JobRecord:
        """Return what Redis knows of a job."""
        found = self.store.run(ops.get_job(job))
        assert found is not None, f"no job {job}"
        return found

    def jobs(self) -> list[Json]:
        """Return our Jobs in the namespace."""
        listed = self.kube.get(f"{batch(self.name)}?labelSelector={Label.INSTALL}={ids.short_hash(self.install)}")
        return list((listed or {}).get("items", []))

    def wait_recorded(self, *jobs: str, limit: float = 30.0) -> list[JobRecord]:
        """Wait until each job has its Job recorded."""
        until(lambda: all(self.record(job).job_uid for job in jobs), f"recorded Jobs of {jobs[:5]}", limit=limit)
        return [self.record(job) for job in jobs]

    def wait_state(self, job: str, state: str, limit: float = 30.0) -> JobRecord:
        """Wait until a job is in a state."""
        until(lambda: self.record(job).state.value == state, f"{job} to be {state}", limit=limit)
        return self.record(job)

    def wait_released(self, job: str, limit: float = 30.0) -> list[str]:
        """Wait until a job was released at least once; return the reasons said."""
        return until(lambda: self.released(job), f"{job} to be released", limit=limit)

    def released(self, job: str) -> list[str]:
        """Return the reasons of a job's releases so far."""
        found = self.store.run(ops.events(self.name, count=10_000))
        return [event.fields.get("reason", "") for event in found if (event.name, event.job) == ("released", job)]

    def checks_out(self, jobs: Mapping[str, str]) -> None:
        """Compare each job's record (id -> execution seen) with the one Job in the cluster that carries it."""
        by_job: dict[str, list[Json]] = {}
        for found in self.jobs():
            by_job.setdefault(found["metadata"]["annotations"][Annotation.JOB_ID], []).append(found)
        for job in jobs:
            record, (only,) = self.record(job), by_job[job]
            assert only["metadata"]["uid"] == record.job_uid
            assert only["metadata"]["name"] == record.job_name
            assert only["metadata"]["annotations"][Annotation.EXECUTION] == record.execution


def log_events(daemon: Daemon) -> list[Json]:
    """Return a daemon's log lines."""
    return [json.loads(line) for line in daemon.log().splitlines()]
