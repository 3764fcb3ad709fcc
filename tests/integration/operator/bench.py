"""The operator as a real process; the tests play the dispatcher, so that each step can be left out or done twice."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heavylift import Client
from heavylift.contract import payload as payloads
from heavylift.contract.limits import INFLATED_MAX, STORED_MAX
from heavylift.spec import HeavyQueue
from heavylift.spec.render import render
from heavylift.store import Store, ops
from heavylift.store.model import Claim, ClaimRequest, Fence, JobRecord
from tests.proofs.install import apply_queue, ensure_namespace, heavyqueue
from tests.proofs.kube import Json, Kube, batch, core
from tests.proofs.processes import Daemon
from tests.proofs.waiting import until
from tests.servers import StoreServer

WORKER = "hand"
QUICK: Json = {"type": "Fixed", "delay": "100ms", "max": "100ms", "jitterPercent": 0}
FROM_DATA = {"heavylift-test/from-env": "HEAVYLIFT_JOB_PAYLOAD"}
INTERVAL_S = 1


@dataclass
class Started:
    """One claimed job and its Job."""

    claim: Claim
    manifest: Json
    uid: str = ""

    @property
    def name(self) -> str:
        """The Job's name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def fence(self) -> Fence:
        """The operator's fence."""
        return Fence(job=self.claim.job, execution=self.claim.execution, uid=self.uid or None)


@dataclass
class Bench:
    """An installation without a dispatcher."""

    kube: Kube
    server: StoreServer
    folder: Path
    namespace: str = field(default_factory=lambda: f"op-{secrets.token_hex(4)}")
    second: str = field(default_factory=lambda: f"op-{secrets.token_hex(4)}")
    store: Store = field(init=False)
    operators: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the namespaces and connect."""
        for name in (self.namespace, self.second):
            ensure_namespace(self.kube, name)
        self.store = Store.connect(self.server.url)

    @property
    def install(self) -> str:
        """The install id."""
        return f"test/{self.namespace}"

    @property
    def settings(self) -> dict[str, str]:
        """The operator's environment."""
        return {
            "HEAVYLIFT_REDIS_URL": self.server.url,
            "HEAVYLIFT_INSTALL_ID": self.install,
            "HEAVYLIFT_NAMESPACES": f"{self.namespace},{self.second}",
            "HEAVYLIFT_KUBECONFIG": str(self.kube.kubeconfig),
            "HEAVYLIFT_RECONCILE_INTERVAL": f"{INTERVAL_S}s",
            "HEAVYLIFT_STATUS_INTERVAL": "1s",
        }

    def operator(self, **settings: str) -> Daemon:
        """Start another operator and wait until it is ready."""
        daemon = Daemon("operator", self.settings | settings, self.folder, name=f"operator-{len(self.operators)}")
        self.operators.append(daemon)
        return daemon.start().wait_ready()

    def close(self) -> None:
        """End all processes and connections."""
        for daemon in self.operators:
            daemon.stop()
        self.store.close()

    # -- queues and jobs ----------------------------------------------------------------------------------------------
    def apply(self, name: str, *, namespace: str = "", **spec: Any) -> Json:
        """Apply a HeavyQueue whose pods end as their job's data says."""
        defaults = {"maxAttempts": 3, "backoff": QUICK}
        obj = heavyqueue(name, namespace or self.namespace, ends=FROM_DATA, **{"defaults": defaults, **spec})
        return apply_queue(self.kube, obj)

    def queue(self, name: str, *, namespace: str = "", **spec: Any) -> HeavyQueue:
        """Apply such a HeavyQueue, and wait for its settings."""
        found = HeavyQueue.parse(self.apply(name, namespace=namespace, **spec))
        until(lambda: self.store.run(ops.get_settings(name)) is not None, f"settings of {name}")
        self.store.run(ops.register_dispatcher(self.install, WORKER, 3_600_000))
        return found

    def enqueue(self, queue: str, data: Mapping[str, Any] | None = None) -> str:
        """Enqueue a job; its data stages how its pod ends."""
        with Client(self.server.url) as client:
            return client.queue(queue).enqueue("task", dict(data or {})).id

    def claim(self, queue: str, job: str, *, deadline_ms: int = 60_000) -> Claim:
        """Claim until this job is claimed."""

        def attempt() -> Claim | None:
            request = ClaimRequest(
                worker=WORKER,
                request=secrets.token_hex(8),
                install=self.install,
                queues=(queue,),
                max=1,
                slots=1000,
                deadline_ms=deadline_ms,
            )
            return next((one for one in self.store.run(ops.claim(request)).claims if one.job == job), None)

        found = until(attempt, f"a claim of {job}")
        assert found is not None
        return found

    def prepare(self, queue: HeavyQueue, claim: Claim, *, finalizers: tuple[str, ...] = ()) -> Started:
        """Render the Job of a claim."""
        payload = payloads.decode(claim.data, max_size=INFLATED_MAX, stored_max=STORED_MAX)
        manifest = render(claim, queue, payload, self.install)
        manifest["metadata"]["finalizers"] += finalizers
        return Started(claim=claim, manifest=manifest)

    def create(self, started: Started, *, record: bool = True) -> Started:
        """Create the Job, and record it unless told otherwise."""
        namespace = started.claim.namespace
        started.uid = str(self.kube.create(batch(namespace), started.manifest)["metadata"]["uid"])
        if record:
            fence = Fence(job=started.claim.job, execution=started.claim.execution, worker=WORKER)
            self.store.run(ops.record(fence, job_name=started.name, uid=started.uid, namespace=namespace))
        return started

    def start(self, queue: HeavyQueue, data: Mapping[str, Any] | None = None) -> Started:
        """Enqueue, claim, create and record."""
        job = self.enqueue(queue.queue, data)
        return self.create(self.prepare(queue, self.claim(queue.queue, job)))

    # -- looking ------------------------------------------------------------------------------------------------------
    def record(self, started: Started) -> JobRecord:
        """Return the job as it stands in Redis."""
        found = self.store.run(ops.get_job(started.claim.job))
        assert found is not None
        return found

    def ended(self, started: Started, *, limit: float = 30) -> JobRecord:
        """Wait for the outcome of this execution and return the job."""

        def look() -> JobRecord | None:
            found = self.record(started)
            return found if found.outcome.get("execution") == started.claim.execution else None

        found = until(look, f"the outcome of {started.name}", limit=limit)
        assert found is not None
        return found

    def running(self, started: Started) -> None:
        """Wait until Redis knows that it runs."""
        until(lambda: self.record(started).running_at is not None, f"{started.name} to run")

    def job(self, started: Started) -> Json | None:
        """Return the Job, if it is there."""
        return self.kube.get(batch(started.claim.namespace, started.name))

    def pods(self, started: Started) -> list[Json]:
        """Return the Job's pods."""
        selector = f"batch.kubernetes.io/job-name={started.name}"
        return self.kube.items(core(started.claim.namespace, "pods"), labelSelector=selector)[0]

    def finalized(self, started: Started) -> Json:
        """Wait until the Job is patched as finalized, and return it."""

        def look() -> Json | None:
            found = self.job(started)
            labels = found["metadata"].get("labels", {}) if found else {}
            return found if labels.get("heavylift.dev/finalized") == "true" else None

        found = until(look, f"{started.name} to be finalized")
        assert found is not None
        return found

    def gone(self, started: Started) -> None:
        """Wait until neither the Job nor its pods are there."""
        until(lambda: self.job(started) is None and not self.pods(started), f"{started.name} to be gone")

    def in_flight(self, started: Started) -> bool:
        """Return whether Redis lists the execution."""
        _, found = self.store.run(ops.inflight(self.install, 0, 10_000))
        return any(entry.execution == started.claim.execution for entry in found)
