"""HeavyQueues: settings into Redis, conditions and counts into their status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heavylift.store import ops
from tests.integration.operator.bench import WORKER, Bench
from tests.proofs.install import condition
from tests.proofs.kube import heavyqueues
from tests.proofs.waiting import until


def reason(bench: Bench, name: str, kind: str = "Ready", namespace: str = "") -> tuple[str, str]:
    """Return a condition's status and reason."""
    found = condition(bench.kube, namespace or bench.namespace, name, kind)
    return str(found.get("status")), str(found.get("reason"))


def says(bench: Bench, name: str, expected: tuple[str, str], kind: str = "Ready", namespace: str = "") -> None:
    """Wait until a condition says that."""
    until(lambda: reason(bench, name, kind, namespace) == expected, f"{name} to say {expected}")


@pytest.fixture(scope="module", autouse=True)
def _one_dispatcher(bench: Bench) -> None:
    """Have a dispatcher counted as alive."""
    bench.store.run(ops.register_dispatcher(bench.install, WORKER, 3_600_000))


def test_settings_follow_the_heavyqueue(bench: Bench) -> None:
    """Created, edited, deleted: Redis has the same, and claims stop when it is gone."""
    bench.queue("follows", concurrency={"max": 3})
    says(bench, "follows", ("True", "Serving"))
    bench.apply("follows", concurrency={"max": 5})

    def cap() -> Any:
        return (bench.store.run(ops.get_settings("follows")) or {}).get("concurrencyMax")

    until(lambda: cap() == 5, "the new cap")
    bench.kube.delete(heavyqueues(bench.namespace, "follows"))
    until(lambda: bench.store.run(ops.get_settings("follows")) is None, "the settings to go")


def test_settings_that_redis_lost_are_written_anew(bench: Bench) -> None:
    """The HeavyQueue is the truth."""
    bench.queue("again")
    with bench.server.client() as raw:
        raw.delete("heavylift:settings:again")
    until(lambda: bench.store.run(ops.get_settings("again")) is not None, "the settings to come back")


def test_the_oldest_heavyqueue_of_a_name_wins(bench: Bench) -> None:
    """The younger one says who has it; when the older goes, it takes over."""
    created = bench.queue("shared").created
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(created) + timedelta(seconds=1), "the next second")
    bench.apply("younger", namespace=bench.second, queue="shared")
    says(bench, "younger", ("False", "QueueNameTaken"), namespace=bench.second)
    says(bench, "shared", ("True", "Serving"))
    bench.kube.delete(heavyqueues(bench.namespace, "shared"))
    says(bench, "younger", ("True", "Serving"), namespace=bench.second)


def test_a_name_that_another_install_owns_is_taken(bench: Bench) -> None:
    """Redis' words name the other install."""
    bench.store.run(
        ops.put_settings("foreign", {"queue": "foreign"}, generation=1, install="x/other", namespace="x", uid="u")
    )
    bench.apply("foreign")
    says(bench, "foreign", ("False", "QueueNameTaken"))
    assert "x/other" in condition(bench.kube, bench.namespace, "foreign")["message"]


def test_a_template_that_cannot_be_used_says_what_to_change(bench: Bench) -> None:
    """And the settings that were sound before stay."""
    bench.queue("broken")
    bench.kube.merge(heavyqueues(bench.namespace, "broken"), {"spec": {"container": "elsewhere"}})
    says(bench, "broken", ("False", "TemplateInvalid"))
    assert "elsewhere" in condition(bench.kube, bench.namespace, "broken")["message"]
    assert bench.store.run(ops.get_settings("broken")) is not None


def test_both_holders_of_a_pause_are_shown(bench: Bench) -> None:
    """Who, and why."""
    bench.queue("held")
    says(bench, "held", ("False", "NotPaused"), "Paused")
    bench.store.run(ops.pause("held", by="ann", reason="night"))
    says(bench, "held", ("True", "Client"), "Paused")
    assert condition(bench.kube, bench.namespace, "held", "Paused")["message"] == "paused by ann: night"
    bench.apply("held", paused=True)
    says(bench, "held", ("True", "SpecAndClient"), "Paused")
    bench.store.run(ops.resume("held"))
    says(bench, "held", ("True", "Spec"), "Paused")


def test_what_only_the_dispatcher_knows_becomes_the_reason(bench: Bench) -> None:
    """A trouble note is Ready's reason until it is cleared."""
    bench.queue("troubled")
    says(bench, "troubled", ("True", "Serving"))
    bench.store.run(ops.set_trouble("troubled", "Forbidden", {"message": "jobs.batch is forbidden"}))
    says(bench, "troubled", ("False", "Forbidden"))
    bench.store.run(ops.clear_trouble("troubled", "Forbidden"))
    says(bench, "troubled", ("True", "Serving"))


def test_images_that_do_not_come_open_the_breaker_until_one_starts(bench: Bench) -> None:
    """Two in a row that cannot be pulled: Ready says so, claims stop but for one probe, and its start ends it."""
    queue = bench.queue(
        "unpullable", breaker={"consecutiveFailures": 2}, outcomes={"image": {"action": "Fail"}}, defaults={}
    )
    broken = {"waiting": "InvalidImageName", "message": "couldn't parse"}

    def opened() -> bool:  # a simulated node may show a pod as running for a moment: that ends the row
        job = bench.enqueue("unpullable", broken)
        bench.ended(bench.create(bench.prepare(queue, bench.claim("unpullable", job))))
        return bench.store.run(ops.gauges(bench.install, ["unpullable"])).queues["unpullable"].held == "breaker"

    until(opened, "two failures in a row")
    says(bench, "unpullable", ("False", "ImagePullFailing"))
    fine = bench.enqueue("unpullable", {"hold": "true"})
    waiting = bench.enqueue("unpullable", {"hold": "true"})
    operator = bench.operators[0]
    until(lambda: operator.metric("heavylift_queue_waiting", queue="unpullable") == 2, "two waiting jobs")
    assert operator.metric("heavylift_queue_demand", queue="unpullable") == 0
    with bench.server.client() as raw:
        raw.hset("heavylift:breaker:unpullable", "next", 1)
    probe = bench.create(bench.prepare(queue, bench.claim("unpullable", fine)))
    bench.running(probe)
    says(bench, "unpullable", ("True", "Serving"))
    assert bench.claim("unpullable", waiting).job == waiting


def test_counts_and_gauges_are_true(bench: Bench) -> None:
    """In the status and in the metrics, from the same snapshot."""
    bench.queue("counted")
    for _ in range(3):
        bench.enqueue("counted")
    path = heavyqueues(bench.namespace, "counted")
    until(lambda: (bench.kube.get(path) or {}).get("status", {}).get("waiting") == 3, "three waiting jobs")
    assert (bench.kube.get(path) or {})["status"]["oldestWaitingTime"].endswith("Z")
    operator = bench.operators[0]
    until(lambda: operator.metric("heavylift_queue_jobs", queue="counted", state="waiting") == 3, "the gauge")
    assert operator.metric("heavylift_queue_demand", queue="counted") == 3
    assert operator.metric("heavylift_reconcile_last_success_timestamp_seconds") > 0
    assert operator.metric("heavylift_watch_last_event_timestamp_seconds", kind="HeavyQueue") > 0


def test_a_corrupt_key_of_one_queue_is_that_queues_own_trouble(bench: Bench) -> None:
    """The others go on; the queue says which key."""
    bench.queue("corrupt")
    with bench.server.client() as raw:
        raw.delete("heavylift:settings:corrupt")
        raw.set("heavylift:settings:corrupt", "x")
    says(bench, "corrupt", ("False", "CorruptKey"))
    assert "heavylift:settings:corrupt" in condition(bench.kube, bench.namespace, "corrupt")["message"]
    bench.queue("unharmed")
    says(bench, "unharmed", ("True", "Serving"))


def test_without_a_dispatcher_the_queue_is_not_ready(bench: Bench) -> None:
    """It may fill, but nothing takes from it."""
    bench.queue("waits")
    bench.store.run(ops.unregister_dispatcher(bench.install, WORKER))
    says(bench, "waits", ("False", "NoDispatcher"))
