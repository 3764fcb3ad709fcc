"""RQ's own commands and options do what they say, or the job says that they cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rq import Callback, Queue, Repeat, Retry
from rq.exceptions import NoSuchJobError
from rq.registry import DeferredJobRegistry

from tests.integration.rq_tools.conftest import Bench
from tests.proofs.history import listed, zset
from tests.proofs.kube import batch, core
from tests.proofs.waiting import until

COMMANDS: dict[str, Callable[[Bench, str], object]] = {
    "Job.cancel": lambda bench, job: bench.fetch(job).cancel(),
    "Job.delete": lambda bench, job: bench.fetch(job).delete(),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_on_a_running_job_removes_its_pod(bench: Bench, command: str) -> None:
    """RQ's cancel and delete of a running job end its pod and its Job, and leave nothing in flight."""
    job = bench.rq.enqueue("reports.annual", 2026).id
    pod = bench.running(job)
    owner = bench.kube_job(job)["metadata"]["name"]
    COMMANDS[command](bench, job)
    until(lambda: bench.run.kube.get(core(bench.run.name, "pods", pod)) is None, "the pod to be gone")
    until(lambda: not any(job in member for member in inflight(bench)), "nothing in flight")
    until(lambda: not held(bench, owner), "the Job to be gone or finalized")
    if command == "Job.cancel":
        assert bench.status(job) == "canceled"
    else:
        with pytest.raises(NoSuchJobError):
            bench.fetch(job)
    assert job not in listed(bench.redis, f"rq:queue:{bench.name}")


def inflight(bench: Bench) -> list[str]:
    """Return the members of the install's in-flight set and of the queue's started registry."""
    keys = (f"heavylift:inflight:{bench.run.install}", f"rq:wip:{bench.name}")
    return [member for key in keys for member in zset(bench.redis, key)]


def held(bench: Bench, name: str) -> bool:
    """Return whether a Job still stands with a finalizer."""
    found = bench.run.kube.get(batch(bench.run.name, name))
    return bool(found and found["metadata"].get("finalizers"))


def test_pickled_job_ends_invalid_with_the_remedy(bench: Bench) -> None:
    """A job that RQ's client pickled, as it does by default, fails as invalid and says what to do; no Job is made."""
    job = Queue(bench.name, connection=bench.redis).enqueue("reports.annual", 2026).id
    until(lambda: bench.run.fields(job).get("status") == "failed", "the end of the pickled job")
    outcome = bench.run.outcome(job)
    assert outcome["class"] == "invalid"
    assert "JSONSerializer" in outcome["message"]
    assert bench.kube_job(job) == {}


OPTIONS: dict[str, dict[str, Any]] = {
    "on_success": {"on_success": Callback("reports.done")},
    "on_failure": {"on_failure": Callback("reports.failed")},
    "on_stopped": {"on_stopped": Callback("reports.stopped")},
    "repeat": {"repeat": Repeat(times=3, interval=1)},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_unsupported_option_is_named(bench: Bench, option: str) -> None:
    """A job with an option that cannot hold for a pod fails as invalid and names the option."""
    job = bench.rq.enqueue("reports.annual", 2026, **OPTIONS[option]).id
    until(lambda: bench.run.fields(job).get("status") == "failed", f"the end of the job with {option}")
    outcome = bench.run.outcome(job)
    assert outcome["class"] == "invalid"
    assert option in outcome["message"]
    assert bench.kube_job(job) == {}


def test_depends_on(bench: Bench) -> None:
    """A job that depends on two others waits, deferred, until both are finished, then runs."""
    first = bench.rq.enqueue("reports.month", 1)
    second = bench.rq.enqueue("reports.month", 2)
    last = bench.rq.enqueue("reports.annual", 2026, depends_on=[first, second]).id
    deferred = DeferredJobRegistry(bench.name, connection=bench.redis)
    bench.end(first.id, message="1")
    assert bench.ended(first.id) == "finished"
    assert bench.status(last) == "deferred"
    assert deferred.get_job_ids(cleanup=False) == [last]
    bench.end(second.id, message="2")
    assert bench.ended(second.id) == "finished"
    bench.end(last, message="3")
    assert bench.ended(last) == "finished"
    assert bench.fetch(last).return_value() == 3
    assert deferred.get_job_ids(cleanup=False) == []


def test_failed_dependency_leaves_dependents_deferred(bench: Bench) -> None:
    """As with RQ, a dependent of a job that failed stays deferred."""
    first = bench.rq.enqueue("reports.month", 1)
    last = bench.rq.enqueue("reports.annual", 2026, depends_on=first).id
    bench.end(first.id, exit_code="3")
    assert bench.ended(first.id) == "failed"
    assert bench.status(last) == "deferred"


def test_retry_means_attempts(bench: Bench) -> None:
    """RQ's ``Retry(max=2)`` gives three attempts, each with a Job of its own."""
    job = bench.rq.enqueue("reports.annual", 2026, retry=Retry(max=2)).id
    bench.spec(defaults={"backoff": {"type": "Fixed", "delay": "100ms", "jitterPercent": 0}})
    for seq in ("1", "2", "3"):
        bench.reached(job, seq)
        bench.end(job, exit_code="3", message=f"attempt {seq}")
    assert bench.ended(job) == "failed"
    items, _ = bench.run.kube.items(batch(bench.run.name))
    mine = [item for item in items if item["metadata"]["annotations"].get("heavylift.dev/job-id") == job]
    assert len({item["metadata"]["uid"] for item in mine}) == 3


def test_requeue_resets_attempts_and_keeps_history(bench: Bench) -> None:
    """``rq requeue`` of a failed job runs it again with all attempts, and its history stays."""
    job = bench.rq.enqueue("reports.annual", 2026).id
    bench.end(job, exit_code="3", message="first")
    assert bench.ended(job) == "failed"
    bench.fetch(job).requeue()
    bench.reached(job, "2")
    bench.end(job, message='"done"')
    assert bench.ended(job) == "finished"
    assert bench.fetch(job).return_value() == "done"
    assert [line.execution.rpartition("-")[2] for line in bench.run.events(job, bench.name) if line.final] == ["1", "2"]
