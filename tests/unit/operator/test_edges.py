"""The edges: events into items, the cluster's clock, HeavyQueue statuses, settings."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.errors import ConfigurationError
from heavylift_operator.adapters.clock import ClusterClock, rfc3339
from heavylift_operator.core.queues import Standing, differs, kept_jobs, owners, read, status
from heavylift_operator.handlers.sink import Sink
from heavylift_operator.handlers.source import Patience, settings
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.workqueue import Item
from heavylift_operator.settings import OperatorSettings, help_text
from tests.unit.operator.objects import COMPLETE, T0, job, pod, terminated
from tests.unit.operator.test_workqueue import Clock


# -- events -----------------------------------------------------------------------------------------------------------
class Heard:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.changes = 0
        self.sink = Sink(
            put=self.items.append,
            queues_changed=self._change,
            schedules_changed=self._change,
            metrics=Metrics(),
        )

    def _change(self) -> None:
        self.changes += 1


def test_a_jobs_event_becomes_an_item() -> None:
    """With the Job in it; one that left our watch, deleted or finalized, is looked for by a live GET."""
    heard = Heard()
    heard.sink.job({"type": "MODIFIED", "object": job(COMPLETE)})
    heard.sink.job({"type": "DELETED", "object": job()})
    heard.sink.job({"type": "MODIFIED", "object": job(COMPLETE, labels={"heavylift.dev/finalized": "true"})})
    first, second, third = heard.items
    assert (first.name, first.job_id, first.execution) == ("reports-abc-1", "annual-2026", "inc-1")
    assert first.job is not None
    assert first.job.over
    assert (second.job, second.left, third.job, third.left) == (None, True, None, True)


def test_a_pods_event_becomes_an_item_of_its_job() -> None:
    """By its controlling owner; the evidence is in it."""
    heard = Heard()
    found = pod("Failed", main=terminated(3))
    found["metadata"] |= {
        "namespace": "analytics",
        "ownerReferences": [
            {"kind": "Job", "name": "other", "uid": "x"},
            {"kind": "Job", "name": "reports-abc-1", "uid": "uid-1", "controller": True},
        ],
    }
    heard.sink.pod({"type": "DELETED", "object": found})
    (item,) = heard.items
    assert (item.key, item.pod_job_uid) == (("analytics", "reports-abc-1"), "uid-1")
    assert item.pod is not None
    assert (item.pod.exit_code, item.pod.gone) == (3, True)


@pytest.mark.parametrize("event", [{}, {"object": None}, {"type": "ADDED", "object": {"metadata": []}}])
def test_odd_events_are_nothing(event: dict[str, Any]) -> None:
    """Nothing is raised into who listens."""
    heard = Heard()
    heard.sink.job(event)
    heard.sink.pod(event)
    heard.sink.heavyqueue(event)
    assert (heard.items, heard.changes) == ([], 1)


def test_kopf_is_told_to_write_nothing_and_to_be_patient() -> None:
    """No peering, no scanning, no events; back-offs without end."""
    chosen = settings()
    assert chosen.scanning.disabled
    assert not chosen.posting.enabled
    assert chosen.peering.standalone
    backoffs = iter(Patience())
    assert [next(backoffs) for _ in range(1000)][-1] == 20.0


# -- time -------------------------------------------------------------------------------------------------------------
def test_the_clusters_time_is_the_api_servers() -> None:
    """Whatever this machine's clock says; whole seconds are caught up with; a jump is followed."""
    machine = Clock(at=100.0)
    clock = ClusterClock(machine)
    assert clock.now_ms() == 100_000
    clock.learn({"date": "Sun, 22 Nov 2026 08:00:00 GMT"})
    start = clock.now_ms()
    assert rfc3339(start) == "2026-11-22T08:00:00Z"
    machine.at += 0.4
    clock.learn({"date": "Sun, 22 Nov 2026 08:00:01 GMT"})  # it had been nearly 08:00:01 before
    assert clock.now_ms() == start + 1000
    clock.learn({"date": "Sun, 22 Nov 2026 09:00:00 GMT"})
    assert rfc3339(clock.now_ms()) == "2026-11-22T09:00:00Z"
    for odd in ({}, {"date": "yesterday"}, {"date": ""}):
        clock.learn(odd)
    assert rfc3339(clock.now_ms()) == "2026-11-22T09:00:00Z"


# -- HeavyQueues ------------------------------------------------------------------------------------------------------
def heavyqueue(name: str = "reports", created: str = "2026-11-22T08:00:00Z", **spec: Any) -> dict[str, Any]:
    """Return a HeavyQueue object."""
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {
            "name": name,
            "namespace": "analytics",
            "uid": f"uid-{name}",
            "generation": 4,
            "creationTimestamp": created,
        },
        "spec": {
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x:1"}]}}}},
            **spec,
        },
    }


COUNTS = {"waiting": 2, "delayed": 1, "active": 3, "failed": 4, "oldest": T0}
FINE = Standing(counts=COUNTS, dispatchers=1, troubles={})


def ready(obj: dict[str, Any], now: Standing) -> tuple[str, str, str]:
    """Return Ready's status, reason and message."""
    found = status(read(obj), now, "now", rfc3339)["conditions"][0]
    return found["status"], found["reason"], found["message"]


def test_the_oldest_of_a_name_owns_it() -> None:
    """Also while it is not sound; between equals the uid decides."""
    old = read(heavyqueue("b", "2026-11-22T08:00:00Z", queue="shared", jobTemplate={}))
    young = read(heavyqueue("a", "2026-11-22T08:00:01Z", queue="shared"))
    assert owners([young, old]) == {"shared": old}
    assert kept_jobs([young]) == {"shared": 200}


@pytest.mark.parametrize(
    ("obj", "now", "reason", "word"),
    [
        (heavyqueue(), FINE, "Serving", "claimed"),
        (heavyqueue(container="x"), FINE, "TemplateInvalid", "x"),
        (heavyqueue(), Standing(owner=read(heavyqueue("old")), troubles={}), "QueueNameTaken", "analytics/old"),
        (heavyqueue(), Standing(taken="owned by install x", troubles={}), "QueueNameTaken", "install x"),
        (heavyqueue(), Standing(redis="cannot be reached", troubles={}), "RedisUnavailable", "cannot be reached"),
        (
            heavyqueue(),
            Standing(dispatchers=1, troubles={"QuotaExceeded": {"message": "full"}}),
            "QuotaExceeded",
            "full",
        ),
        (heavyqueue(), Standing(dispatchers=1, troubles={"1 <b>": {}}), "Trouble", "<b>"),
        (heavyqueue(), Standing(troubles={}), "NoDispatcher", "Deployment"),
    ],
)
def test_ready_says_why_not(obj: dict[str, Any], now: Standing, reason: str, word: str) -> None:
    """One reason, and words that say what to do."""
    holds, found, message = ready(obj, now)
    assert (holds, found) == ("True" if reason == "Serving" else "False", reason)
    assert word in message


def test_a_condition_keeps_its_time_while_it_holds() -> None:
    """Its lastTransitionTime changes with the status alone."""
    obj = heavyqueue()
    first = status(read(obj), FINE, "t1", rfc3339)
    again = status(read(obj | {"status": first}), FINE, "t2", rfc3339)
    assert again["conditions"] == first["conditions"]
    assert differs(first, again) == (False, False)
    busier = Standing(counts=COUNTS | {"waiting": 9}, dispatchers=1, troubles={})
    more = status(read(obj | {"status": first}), busier, "t3", rfc3339)
    assert differs(first, more) == (True, False)
    lost = status(read(obj | {"status": first}), Standing(redis="down", troubles={}), "t4", rfc3339)
    assert lost["conditions"][0]["lastTransitionTime"] == "t4"
    assert differs(first, lost) == (True, True)


# -- settings ---------------------------------------------------------------------------------------------------------
def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two intervals and a bit are the grace; --help lists them all."""
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", "redis://localhost:1/0")
    monkeypatch.setenv("HEAVYLIFT_INSTALL_ID", "ns/release")
    monkeypatch.setenv("HEAVYLIFT_NAMESPACES", "a,b")
    monkeypatch.setenv("HEAVYLIFT_RECONCILE_INTERVAL", "2s")
    assert OperatorSettings.load().grace_ms == 4200
    assert "HEAVYLIFT_RECONCILE_INTERVAL" in help_text()
    monkeypatch.setenv("HEAVYLIFT_RECONCILE_INTERVAL", "-1s")
    with pytest.raises(ConfigurationError, match="RECONCILE_INTERVAL"):
        OperatorSettings.load()
