"""A release of the chart on a cluster with a real kubelet, and a client of its Redis."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heavylift.client import Client
from heavylift.contract.names import Annotation
from heavylift.jobs import Job, JobEvent
from tests.proofs import history
from tests.proofs.helm import Release, Tools
from tests.proofs.kube import Json, Kube, batch, core, heavyqueues
from tests.proofs.recorder import JobRecorder, Sighting
from tests.proofs.waiting import until

TASKS = Path(__file__).parent / "tasks" / "proof_tasks.py"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True)
class Bench:
    """Where the end-to-end proofs take place."""

    kube: Kube
    tools: Tools
    release: Release
    namespace: str
    """Where the HeavyQueues and their Jobs are."""
    redis_url: str
    client: Client
    recorder: JobRecorder

    def enqueue(self, queue: str, task: str, data: Mapping[str, Any], **options: Any) -> Job[Any]:
        """Enqueue one job under an id that says what it is."""
        job_id = f"{queue}-{task}-{uuid.uuid4().hex[:6]}"
        return self.client.queue(queue).enqueue(task, dict(data), id=job_id, **options)

    def sightings(self, job: Job[Any]) -> list[Sighting]:
        """Return the Jobs that ever stood for a job, oldest first."""
        seen = [sight for sight in self.recorder.sightings() if sight.job == job.id and sight.kind != "DELETED"]
        return sorted(seen, key=lambda sight: int(sight.execution.rpartition("-")[2]))

    def failures(self, job: Job[Any]) -> list[datetime]:
        """Return when each failure of a job was recorded."""
        return [event.at for event in self._events(job) if event.at and event.fields.get("class") == "error"]

    def recorded(self, job: Job[Any], uid: str) -> datetime:
        """Return when a Job of a job was recorded."""
        recorded = {
            event.fields["uid"]: event.at for event in self._events(job) if event.name == "recorded" and event.at
        }
        return recorded[uid]

    def _events(self, job: Job[Any]) -> list[JobEvent]:
        return list(job.events(follow=False))

    def pods(self, job: Job[Any]) -> list[Json]:
        """Return the pods of a job that stand."""
        items, _ = self.kube.items(core(self.namespace, "pods"))
        owners = {sight.name for sight in self.sightings(job)}
        return [pod for pod in items if pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") in owners]

    def running_pod(self, job: Job[Any], limit: float = 60.0) -> str:
        """Wait until a job's pod runs and the queue knows; return the pod's name."""

        def running() -> str:
            live = [pod for pod in self.pods(job) if pod["status"]["phase"] == "Running"]
            ready = [pod for pod in live if any("running" in c["state"] for c in pod["status"]["containerStatuses"])]
            info = job.info()
            return str(ready[-1]["metadata"]["name"]) if ready and info.phase and info.phase.value == "running" else ""

        return until(running, f"a running pod of {job.id}", limit=limit, every=0.2)

    def phase(self, pod: str) -> str:
        """Return a pod's phase; empty when it is gone."""
        found = self.kube.get(core(self.namespace, "pods", pod)) or {}
        return str(found.get("status", {}).get("phase", ""))

    def go(self, pod: str) -> None:
        """Let a pod that holds go on to its end."""
        self.tools.kubectl("-n", self.namespace, "exec", pod, "--", "touch", "/tmp/go")  # noqa: S108 - the pod's

    def evict(self, pod: str) -> None:
        """Evict a pod by the Eviction API."""
        metadata = {"name": pod, "namespace": self.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        self.kube.create(core(self.namespace, "pods", f"{pod}/eviction"), eviction)

    def unfinalized(self) -> dict[str, str]:
        """Return job id -> Job of Jobs that stand unfinalized."""
        items, _ = self.kube.items(batch(self.namespace))
        found = [history.standing_of(item) for item in items if Annotation.JOB_ID in item["metadata"]["annotations"]]
        return {job.job: job.name for job in found if not job.finalized or job.held}


def prepare_namespace(kube: Kube, name: str, queues: list[Json]) -> None:
    """Make a namespace under restricted pod security with the proofs' tasks, a secret and the HeavyQueues."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    kube.apply(f"/api/v1/namespaces/{name}", namespace)
    tasks = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "proof-tasks"}}
    kube.apply(core(name, "configmaps", "proof-tasks"), {**tasks, "data": {TASKS.name: TASKS.read_text()}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}}
    kube.apply(core(name, "secrets", "database"), {**secret, "stringData": {"password": "correct-horse"}})
    for queue in queues:
        kube.apply(heavyqueues(name, queue["metadata"]["name"]), queue)
