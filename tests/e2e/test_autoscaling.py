"""The chart's own autoscaler on a real cluster: up under load, down again, and no running job notices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from heavylift.client import Client
from heavylift.jobs import Job
from tests.e2e.conftest import TRIAL, Target, wait_serving
from tests.e2e.queues import queue
from tests.proofs.helm import Release
from tests.proofs.kube import Json, Kube, batch, core, heavyqueues
from tests.proofs.waiting import until

SHELL_IMAGE = os.environ.get("HEAVYLIFT_E2E_SHELL_IMAGE", "localhost/heavylift/job-shell:dev")
CAP, WAITING = 40, 5
"""Of the queue, and how many more are enqueued than that."""
HOLD = (
    'until [ -e /shared/go ]; do sleep 0.5; done; printf "%s" "$HEAVYLIFT_JOB_ATTEMPT" > "$HEAVYLIFT_JOB_RESULT_FILE"'
)
DISPATCHER = f"{TRIAL}-dispatcher"
OPERATOR = f"/apis/apps/v1/namespaces/{TRIAL}/deployments/{TRIAL}-operator"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{TRIAL}/deployments/{DISPATCHER}"
HPA = f"/apis/autoscaling/v2/namespaces/{TRIAL}/horizontalpodautoscalers/{DISPATCHER}"
METRIC = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{TRIAL}/heavylift_queue_demand"
CLAIM = core(TRIAL, "persistentvolumeclaims", "shared")


@dataclass(frozen=True)
class Load:
    """Jobs that hold until they may go."""

    target: Target
    client: Client
    jobs: Sequence[Job[Any]]

    def counts(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many are active."""
        found = self.client.queue("light").counts()
        return found.waiting, found.active

    def pods(self) -> dict[str, tuple[str, int]]:
        """Return UID -> phase and restarts of the jobs' pods."""
        items, _ = self.target.kube.items(core(TRIAL, "pods"), labelSelector="batch.kubernetes.io/job-name")
        found = [item for item in items if "shared" in {volume["name"] for volume in item["spec"]["volumes"]}]
        return {item["metadata"]["uid"]: (item["status"]["phase"], _restarts(item)) for item in found}

    def running(self) -> int:
        """Return how many of those pods run."""
        return sum(phase == "Running" for phase, _ in self.pods().values())

    def go(self) -> None:
        """Let all go on to their ends, those that start later too."""
        items, _ = self.target.kube.items(core(TRIAL, "pods"), labelSelector="batch.kubernetes.io/job-name")
        name = next(item["metadata"]["name"] for item in items if item["status"]["phase"] == "Running")
        self.target.tools.kubectl("-n", TRIAL, "exec", name, "--", "sh", "-c", ": > /shared/go")


def _restarts(pod: Json) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or [])


def light_queue() -> Json:
    """Return a queue of shell jobs that wait for a file, at its cap with 40."""
    made = queue("light", TRIAL, SHELL_IMAGE, container={"command": ["sh", "-c", HOLD]}, concurrency={"max": CAP})
    pod = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (main,) = pod["containers"]
    main["env"] = []
    main["resources"] = {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}}
    main["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    pod["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]
    return made


@pytest.fixture(scope="module")
def load(target: Target, trial: Release) -> Iterator[Load]:
    """Give more jobs than the queue's cap lets run, enqueued at once."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": spec}
    target.kube.apply(CLAIM, claim)
    target.kube.apply(heavyqueues(TRIAL, "light"), light_queue())
    wait_serving(target.kube, TRIAL, ["light"])
    until(lambda: replicas(target.kube) == (1, 1), "one dispatcher, as nothing waits", limit=90, every=0.5)
    with (
        target.tools.forwarded(TRIAL, f"svc/{TRIAL}-redis", 6379) as port,
        Client(f"redis://:{trial.password()}@127.0.0.1:{port}/0") as client,
    ):
        light = client.queue("light")
        jobs = [light.enqueue("hold", {}) for _ in range(CAP + WAITING)]
        try:
            yield Load(target, client, jobs)
        finally:
            for job in jobs:
                job.cancel()
            _remove(target.kube)


def _remove(kube: Kube) -> None:
    """Delete what the load has left in the namespace."""
    for item in kube.items(batch(TRIAL))[0]:
        kube.delete(batch(TRIAL, item["metadata"]["name"]), propagationPolicy="Background")
    kube.delete(heavyqueues(TRIAL, "light"))
    kube.delete(CLAIM)
    until(lambda: kube.get(CLAIM) is None, "the volume to be let go", limit=60)


def replicas(kube: Kube) -> tuple[int, int]:
    """Return how many dispatchers are wanted, and how many are ready."""
    found = kube.get(DEPLOYMENT) or {}
    return int(found["spec"]["replicas"]), int(found["status"].get("readyReplicas", 0))


def demand(kube: Kube) -> int:
    """Return what the aggregated API says now."""
    return sum(int(item["value"]) for item in (kube.get(METRIC) or {})["items"])


def rescales(target: Target) -> list[str]:
    """Return what the autoscaler itself says it did, oldest first."""
    field = f"--field-selector=involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={DISPATCHER}"
    found = json.loads(target.tools.kubectl("-n", TRIAL, "get", "events", field, "-o", "json"))["items"]
    told = sorted(found, key=lambda event: str(event["metadata"]["creationTimestamp"]))
    return [str(event["message"]) for event in told if event["reason"] == "SuccessfulRescale"]


@pytest.mark.timeout(400)
def test_autoscaler_follows_the_queue_up_to_its_cap(target: Target, load: Load) -> None:
    """From one to four dispatchers under 45 jobs of a queue capped at 40: no dispatcher for what may not start."""
    until(lambda: replicas(target.kube) == (4, 4), "four dispatchers", limit=120, every=0.5)
    until(lambda: load.running() == CAP, "forty running jobs", limit=120, every=0.5)
    until(lambda: demand(target.kube) == CAP, "a demand of what runs", every=0.5)

    assert load.counts() == (WAITING, CAP)
    assert replicas(target.kube)[0] == 4
    assert "above target" in rescales(target)[0]


@pytest.mark.timeout(400)
def test_forced_down_to_one_no_running_job_notices(target: Target, load: Load) -> None:
    """Three of four dispatchers are taken away: the same forty pods run on, none restarted."""
    before = load.pods()
    target.kube.merge(HPA, {"spec": {"maxReplicas": 1}})
    until(lambda: replicas(target.kube) == (1, 1), "one dispatcher", limit=90, every=0.5)

    assert {uid: load.pods().get(uid) for uid in before} == before
    assert len(before) == CAP
    assert {restarts for _, restarts in before.values()} == {0}
    assert load.counts() == (WAITING, CAP)
    target.kube.merge(HPA, {"spec": {"maxReplicas": 10}})
    until(lambda: replicas(target.kube)[0] == 4, "four dispatchers again", limit=60, every=0.5)


@pytest.mark.timeout(400)
def test_paused_queue_wants_nobody(target: Target, load: Load) -> None:
    """Paused, with jobs waiting: demand falls with what runs, and the autoscaler goes back to one by itself."""
    load.client.queue("light").pause(reason="shown")
    load.go()
    until(lambda: load.counts() == (WAITING, 0), "what ran to end", limit=120, every=0.5)
    until(lambda: demand(target.kube) == 0, "a demand of nothing", every=0.5)
    until(lambda: replicas(target.kube)[0] == 1, "one dispatcher", limit=90, every=0.5)

    assert load.counts() == (WAITING, 0)
    assert rescales(target)[-1] == "New size: 1; reason: All metrics below target"


@pytest.mark.timeout(400)
def test_none_was_lost_or_run_twice(load: Load) -> None:
    """Resumed, all jobs complete in their first attempt; scaling made none start twice."""
    load.client.queue("light").resume()

    assert [job.wait(timeout="120s") for job in load.jobs] == [1] * len(load.jobs)
    assert {len(job.info().history) for job in load.jobs} == {1}
    assert {job.info().execution.rpartition("-")[2] for job in load.jobs} <= {"1", ""}


@pytest.mark.timeout(400)
def test_namespaces_go_while_the_operators_are_replaced(target: Target, trial: Release) -> None:
    """During a rolling restart of both operators the aggregated API never falls away: a namespace can be deleted."""
    assert len([pod for pod in trial.pods() if "-operator-" in pod["metadata"]["name"]]) == 2
    target.tools.kubectl("-n", TRIAL, "rollout", "restart", f"deployment/{TRIAL}-operator")
    gone, number = 0, 0
    while not _rolled(target.kube):
        number += 1
        path = f"/api/v1/namespaces/short-{number}"
        target.kube.apply(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"short-{number}"}})
        target.kube.delete(path)
        until(lambda path=path: target.kube.get(path) is None, "a namespace to be gone", limit=60, every=0.2)  # type: ignore[misc]
        gone += 1

    assert gone >= 2, "it went on for long enough to show something"


def _rolled(kube: Kube) -> bool:
    found = kube.get(OPERATOR) or {}
    status, wanted = found["status"], found["spec"]["replicas"]
    current = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
    new = status.get("updatedReplicas") == wanted == status.get("replicas")
    return bool(current and new and status.get("readyReplicas") == wanted)
