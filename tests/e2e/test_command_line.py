"""The command line with a user's own kubeconfig: Redis by port-forward, logs by the API, the installation's health."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.bench import Bench

LIMIT_S = 120


def heavylift(bench: Bench, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing but a kubeconfig."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("HEAVYLIFT_")}
    return subprocess.run(
        [sys.executable, "-m", "heavylift", "--kube", bench.release.namespace, *arguments],
        env={**env, "KUBECONFIG": str(bench.tools.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


@pytest.fixture(scope="module")
def job(bench: Bench) -> str:
    """Enqueue a job through the port-forward, wait for it, and return its id."""
    data = json.dumps({"numbers": [1, 2, 3]})
    made = heavylift(bench, "enqueue", "tasks", "add", "--data", data, "-o", "name")
    assert made.returncode == 0, made.stderr
    job = made.stdout.strip()
    waited = heavylift(bench, "jobs", "wait", job, "--timeout", "100s")
    assert waited.returncode == 0, waited.stderr
    assert json.loads(waited.stdout) == {"sum": 6}
    return job


def test_enqueue_and_wait_through_the_cluster(bench: Bench, job: str) -> None:
    """Redis inside the cluster is reached with its password, and shows the job's end."""
    shown = heavylift(bench, "jobs", "show", job, "-o", "json")

    assert json.loads(shown.stdout)["state"] == "completed"


def test_logs_are_those_of_the_jobs_container(bench: Bench, job: str) -> None:
    """What the runner said in the pod is printed; a start that never was is not found."""
    last = heavylift(bench, "jobs", "logs", job)
    first = heavylift(bench, "jobs", "logs", job, "--attempt", "1")
    none = heavylift(bench, "jobs", "logs", job, "--attempt", "9")
    other = heavylift(bench, "jobs", "logs", job, "--start", "9")

    assert last.returncode == 0, last.stderr
    assert f"task 'add' of job {job}, attempt 1: completed" in last.stdout
    assert first.stdout == last.stdout
    assert (none.returncode, other.returncode) == (3, 3)
    assert "has no attempt 9" in none.stderr
    assert "the pod of start 9" in other.stderr


def test_doctor_finds_nothing_wrong(bench: Bench, job: str) -> None:
    """A sound installation has no failure: CRDs, Deployments, HeavyQueues, Redis, dispatchers."""
    said = heavylift(bench, "doctor", "-o", "json")

    rows: list[dict[str, Any]] = json.loads(said.stdout)
    assert job
    levels = {row["check"]: row["level"] for row in rows}
    checks = (
        *("crds", "clock of the cluster", "deployments", "heavyqueue analytics/tasks", "queue tasks"),
        *("redis persistence", "redis role", "rbac dispatcher analytics", "rbac operator analytics"),
    )
    assert {levels.get(check) for check in checks} == {"ok"}, rows


def test_render_reads_the_heavyqueue_from_the_cluster(bench: Bench) -> None:
    """Without a file the Job is that of the queue as it is served now."""
    said = heavylift(bench, "render", "tasks", "--task", "add", "--data", '{"numbers": [1]}', "-o", "json")

    assert said.returncode == 0, said.stderr
    job = json.loads(said.stdout)
    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", bench.namespace)


def test_wrong_namespace_or_release_says_what_to_check(bench: Bench) -> None:
    """A namespace without a Redis of ours is named, with the options that choose another."""
    said = heavylift(bench, "--release", "nobody", "queues", "list")

    assert said.returncode == 2
    assert "release nobody in namespace heavylift has no running Redis of its own" in said.stderr
