"""One job for each way to end, on a real kubelet, installed by the real helm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift.errors import JobCancelledError, JobFailedError
from heavylift.jobs import Job, JobInfo
from tests.e2e.bench import Bench
from tests.proofs.kube import core
from tests.proofs.waiting import until

TEXT = "$(DB_PASSWORD) and $$5 and $$(DB_PASSWORD)"


@pytest.fixture(scope="session")
def jobs(bench: Bench) -> Iterator[dict[str, Job[Any]]]:
    """Enqueue one job for each proof at once, so that they run beside each other."""
    made = {
        "success": bench.enqueue("tasks", "add", {"numbers": [1, 2, 3]}),
        "exit": bench.enqueue("tasks", "leave", {"code": 3}, max_attempts=3),
        "no retry": bench.enqueue("tasks", "leave", {"code": 64}, max_attempts=3),
        "oom": bench.enqueue("tasks", "hungry", {}),
        "growing": bench.enqueue("growing", "grow", {}),
        "evicted": bench.enqueue("tasks", "second_time", {}),
        "pod deleted": bench.enqueue("trap", "trap", {}),
        "cancelled": bench.enqueue("tasks", "hold", {}),
        "image": bench.enqueue("image", "none", {}),
        "huge": bench.enqueue("huge", "none", {}),
        "secret": bench.enqueue("secret", "echo", {"text": TEXT}),
    }
    yield made
    for job in made.values():
        job.cancel(reason="the proofs are over")


def failure(job: Job[Any]) -> JobInfo:
    """Wait for a job's failure and return what is known of it."""
    with pytest.raises(JobFailedError):
        job.wait(timeout="120s")
    return job.info()


def classes(info: JobInfo) -> list[str]:
    """Return the outcome classes of a job's executions, oldest first."""
    return [attempt.outcome.cls for attempt in info.history if attempt.outcome]


def why(bench: Bench, job: Job[Any]) -> str:
    """Return what ``heavylift jobs why`` says."""
    argv = [sys.executable, "-m", "heavylift", "--redis", bench.redis_url, "jobs", "why", job.id]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def test_success(jobs: dict[str, Job[Any]]) -> None:
    """A job that succeeds gives its result to ``job.wait()``."""
    assert jobs["success"].wait(timeout="60s") == {"sum": 6}


def test_three_attempts_with_fixed_backoff(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """Exit code 3 with three attempts: three Jobs, each made 3 to 6 s after the failure before it was recorded."""
    info = failure(jobs["exit"])
    assert [attempt.attempt for attempt in info.history] == [1, 2, 3]
    assert classes(info) == ["error"] * 3
    assert {attempt.outcome.exit_code for attempt in info.history if attempt.outcome} == {3}
    sightings = bench.sightings(jobs["exit"])
    assert len(sightings) == 3
    failures = bench.failures(jobs["exit"])
    for failed, made in zip(failures, sightings[1:], strict=False):
        waited = (bench.recorded(jobs["exit"], made.uid) - failed).total_seconds()
        assert 3 <= waited <= 6, f"{made.name} was recorded {waited:.1f} s after the failure before it"


def test_exit_code_64_is_not_retried(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """Exit code 64 says that a retry is of no use: one Job, whatever max_attempts says."""
    assert failure(jobs["no retry"]).outcome is not None
    assert len(bench.sightings(jobs["no retry"])) == 1


def test_out_of_memory(jobs: dict[str, Job[Any]]) -> None:
    """A program killed for memory is told of with the limit and the end of its log."""
    outcome = failure(jobs["oom"]).outcome
    assert outcome is not None
    assert outcome.cls == "oom"
    told = json.dumps([outcome.message, outcome.evidence])
    assert "96Mi" in told
    assert "reading the third of 3 files" in told


def test_memory_grows_after_an_oom_and_the_checkpoint_survives_it(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """Killed at 64Mi, the job has 160Mi the second time, and knows what it had kept before it was killed."""
    assert jobs["growing"].wait(timeout="120s") == {"hoard": 90_000_000, "restored": {"tried": 1}}
    info = jobs["growing"].info()
    assert classes(info) == ["oom", "succeeded"]
    assert info.history[0].next_memory == 160 * 1024**2
    assert len(bench.sightings(jobs["growing"])) == 2


def test_eviction_spends_no_attempt(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """An evicted pod's job runs again as the same attempt, and goes on after the page that SIGTERM let it finish."""
    bench.evict(bench.running_pod(jobs["evicted"]))
    result = jobs["evicted"].wait(timeout="90s")
    assert (result["attempt"], result["restored"], result["pages"]) == (1, {"last": 1}, [2])
    info = jobs["evicted"].info()
    assert classes(info) == ["disrupted", "succeeded"]
    assert len(bench.sightings(jobs["evicted"])) == 2


def test_deleted_pod_that_exits_0_is_no_success(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """A program that traps SIGTERM and exits 0 when its pod is deleted did not succeed: it runs again."""
    pod = bench.running_pod(jobs["pod deleted"])
    bench.kube.delete(core(bench.namespace, "pods", pod))
    assert jobs["pod deleted"].wait(timeout="90s") == "ran again"
    assert classes(jobs["pod deleted"].info()) == ["pod-deleted", "succeeded"]


def test_wrong_image(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """An image that cannot be pulled is requeued once, spends no attempt, then fails with the kubelet's words."""
    info = failure(jobs["image"])
    assert classes(info) == ["image", "image"]
    assert info.outcome is not None
    assert "registry.invalid/no/such:1" in info.outcome.message
    assert "pull" in info.outcome.message.lower()
    assert len(bench.sightings(jobs["image"])) == 2


def test_unschedulable(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """A job no node can take says so in the scheduler's words while it waits, and when it is given up."""
    until(lambda: "Insufficient cpu" in why(bench, jobs["huge"]), "why to say that there is too little CPU", limit=60)
    info = failure(jobs["huge"])
    assert info.outcome is not None
    assert info.outcome.cls == "unschedulable"
    assert "Insufficient cpu" in why(bench, jobs["huge"])


def test_cancel_of_a_running_job(bench: Bench, jobs: dict[str, Job[Any]]) -> None:
    """Cancelling a running job that ends on SIGTERM removes its pod within 10 s."""
    pod = bench.running_pod(jobs["cancelled"])
    assert jobs["cancelled"].cancel(reason="obsolete")
    until(lambda: bench.kube.get(core(bench.namespace, "pods", pod)) is None, "the pod to be gone", limit=10)
    with pytest.raises(JobCancelledError):
        jobs["cancelled"].wait(timeout="30s")


def test_payload_arrives_as_sent_and_reads_no_secret(jobs: dict[str, Job[Any]]) -> None:
    """What looks like a variable in the data arrives as sent, while the template's secret is in the environment."""
    result = jobs["secret"].wait(timeout="60s")
    assert result["text"] == TEXT
    assert json.loads(result["payload"]) == {"text": TEXT}
    assert result["secret"] == "co"
