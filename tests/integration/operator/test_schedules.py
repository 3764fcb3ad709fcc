"""HeavySchedules under two operators: into Redis and back into their status, each tick fired once."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.states import JobState
from heavylift.store import ops
from heavylift.store.schedules import ScheduleRecord
from tests.integration.operator.bench import Bench
from tests.proofs.kube import Json, KubeError
from tests.proofs.waiting import until

JOB = {"task": "annual", "data": {"year": 2026}, "maxAttempts": 2, "timeouts": {"run": "30m"}}


def path(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's HeavySchedules, or of one."""
    return f"/apis/heavylift.dev/v1alpha1/namespaces/{namespace}/heavyschedules" + (f"/{name}" if name else "")


def apply(bench: Bench, name: str, *, queue: str = "nightly", namespace: str = "", **spec: Any) -> Json:
    """Apply a HeavySchedule."""
    namespace = namespace or bench.namespace
    obj = {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavySchedule",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"job": {"queue": queue, **JOB}, **spec},
    }
    return bench.kube.apply(path(namespace, name), obj)


def status(bench: Bench, name: str, namespace: str = "") -> Json:
    """Return a HeavySchedule's status."""
    found: Json = (bench.kube.get(path(namespace or bench.namespace, name)) or {}).get("status") or {}
    return found


def says(bench: Bench, name: str, reason: str, namespace: str = "") -> str:
    """Wait until the Ready condition has this reason; return its message."""

    def ready() -> Json:
        conditions = status(bench, name, namespace).get("conditions") or [{}]
        return dict(conditions[0])

    until(lambda: ready().get("reason") == reason, f"{name} to say {reason}")
    assert ready()["status"] == ("True" if reason == "Scheduling" else "False")
    return str(ready()["message"])


def stored(bench: Bench, name: str) -> ScheduleRecord | None:
    """Return the schedule as it stands in Redis."""
    return bench.store.run(ops.get_schedule(f"{bench.namespace}/{name}"))


@pytest.fixture(scope="module", autouse=True)
def _two_operators(bench: Bench) -> None:
    """Have a second operator, and a queue."""
    bench.operator()
    bench.queue("nightly")


def test_two_operators_fire_each_tick_once(bench: Bench) -> None:
    """A period of a second with a limit: so many jobs, each with its tick's id; then it has ended."""
    apply(bench, "often", every="1s", limit=3)
    says(bench, "often", "Ended")
    record = stored(bench, "often")
    assert record is not None
    jobs = bench.store.run(ops.list_jobs("nightly", JobState.WAITING))
    ticks = [int(job.id.rpartition("-")[2]) for job in jobs]
    assert ticks == list(range(ticks[0], ticks[0] + 3))
    assert {job.id.rpartition("-")[0] for job in jobs} == {record.prefix}
    assert (jobs[0].task, jobs[0].options) == ("annual", {"maxAttempts": 2, "timeouts": {"run": 1_800_000}})
    until(lambda: status(bench, "often").get("fired") == 3, "the count in the status")
    told = status(bench, "often")
    assert (told["active"], told["missed"], told["skipped"], told["lastJobId"]) == (3, 0, 0, jobs[-1].id)
    assert "nextScheduleTime" not in told


def test_the_schedule_follows_its_object(bench: Bench) -> None:
    """Created, suspended, edited, deleted: Redis has the same, and it shows when it ticks next."""
    apply(bench, "daily", schedule="0 9 * * *", timeZone="Europe/Paris", concurrencyPolicy="Forbid", catchUp="None")
    says(bench, "daily", "Scheduling")
    assert status(bench, "daily")["nextScheduleTime"].endswith("Z")
    apply(bench, "daily", schedule="0 9 * * *", timeZone="Europe/Paris", suspend=True)
    says(bench, "daily", "Suspended")
    assert "nextScheduleTime" not in status(bench, "daily")
    apply(bench, "daily", schedule="@hourly", startingDeadlineSeconds=600)
    says(bench, "daily", "Scheduling")
    record = stored(bench, "daily")
    assert record is not None
    assert (record.definition["cron"], record.definition["startingDeadline"]) == ("0 * * * *", 600_000)
    assert record.owner is not None
    assert (record.owner.namespace, record.owner.install) == (bench.namespace, bench.install)
    bench.kube.delete(path(bench.namespace, "daily"))
    until(lambda: stored(bench, "daily") is None, "the schedule to go")


def test_what_cannot_tick_says_why(bench: Bench) -> None:
    """A zone that is none, a queue that is not served or another namespace's, a job its queue does not allow."""
    apply(bench, "zone", schedule="0 9 * * *", timeZone="Mars/Olympus")
    assert "no time zone 'Mars/Olympus'" in says(bench, "zone", "Invalid")
    apply(bench, "early", queue="later", schedule="0 9 * * *")
    assert "no HeavyQueue serves queue later" in says(bench, "early", "QueueNotServed")
    apply(bench, "abroad", namespace=bench.second, schedule="0 9 * * *")
    assert f"in namespace {bench.namespace}" in says(bench, "abroad", "QueueElsewhere", bench.second)
    greedy = {"queue": "nightly", **JOB, "resources": {"memory": "64Gi"}}
    apply(bench, "greedy", schedule="0 9 * * *", job=greedy)
    assert "resources.memory is not allowed" in says(bench, "greedy", "JobNotAllowed")
    bench.queue("later")
    says(bench, "early", "Scheduling")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "give either spec.schedule"),
        ({"schedule": "0 9 * * *", "every": "1h"}, "give either spec.schedule"),
        ({"every": "1h", "timeZone": "UTC"}, "timeZone goes with spec.schedule only"),
        ({"schedule": "0 9 * * *", "concurrencyPolicy": "Perhaps"}, "Allow"),
        ({"schedule": "0 9 * * *", "limit": 0}, "limit"),
    ],
)
def test_the_api_server_refuses_what_cannot_be(bench: Bench, spec: Json, message: str) -> None:
    """The CRD's rules say what to write."""
    with pytest.raises(KubeError, match=message):
        apply(bench, "refused", **spec)
