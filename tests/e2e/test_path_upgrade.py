"""Upgrading, uninstalling and installing again while jobs run."""

from __future__ import annotations

import pytest

from tests.e2e.bench import Bench
from tests.proofs.kube import Json, core
from tests.proofs.waiting import until

NAMES = ("before", "within", "after")


def pod_state(bench: Bench, name: str) -> tuple[str, int]:
    """Return a pod's UID and its container's restarts."""
    pod = bench.kube.get(core(bench.namespace, "pods", name)) or {}
    return str(pod["metadata"]["uid"]), int(pod["status"]["containerStatuses"][0]["restartCount"])


def template_hashes(pods: list[Json]) -> set[str]:
    """Return the names of the release's pods."""
    return {str(pod["metadata"]["name"]) for pod in pods}


def test_upgrade_restarts_no_running_job(bench: Bench) -> None:
    """Helm upgrade replaces our pods; a job that runs meanwhile is the same pod before and after, and completes."""
    job = bench.enqueue("tasks", "hold", {})
    pod = bench.running_pod(job)
    before, ours = pod_state(bench, pod), template_hashes(bench.release.pods())
    bench.release.upgrade(dispatcher__slots=7)
    assert template_hashes(bench.release.pods()) != ours, "the upgrade replaced the dispatcher"
    assert pod_state(bench, pod) == before
    bench.go(pod)
    assert job.wait(timeout="60s")["attempt"] == 1
    assert len(bench.sightings(job)) == 1


@pytest.mark.timeout(600)
def test_uninstall_and_reinstall_with_running_jobs(external: Bench) -> None:
    """Uninstalling lets go of what runs; a reinstall finishes what ended meanwhile and what ends later, each once."""
    held = {name: external.enqueue("tasks", "hold", {}) for name in NAMES[1:]}
    pods = {name: external.running_pod(job) for name, job in held.items()}
    states = {name: pod_state(external, pod) for name, pod in pods.items()}
    external.release.uninstall()
    waiting = external.enqueue("tasks", "add", {"numbers": [4, 5]})
    external.go(pods["within"])
    until(lambda: external.phase(pods["within"]) == "Succeeded", "the first pod to end while nobody is there", limit=60)
    assert pod_state(external, pods["after"]) == states["after"]
    assert {job.info().state.value for job in held.values()} == {"active"}
    assert waiting.info().state.value == "waiting"
    external.release.install()
    assert held["within"].wait(timeout="60s")["attempt"] == 1
    assert waiting.wait(timeout="60s") == {"sum": 9}
    assert pod_state(external, pods["after"]) == states["after"]
    external.go(pods["after"])
    assert held["after"].wait(timeout="60s")["attempt"] == 1
    assert {len(external.sightings(job)) for job in (*held.values(), waiting)} == {1}
    until(lambda: not external.unfinalized(), "every Job to be finalized", limit=30)
