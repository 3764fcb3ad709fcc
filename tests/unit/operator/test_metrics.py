"""The operator's metrics: what Redis knows, told by one replica, never stale, zeros included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import generate_latest

from heavylift.errors import RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.service import StateLine
from heavylift.store import decode
from heavylift.store.model import Snapshot
from heavylift_operator.metrics.registry import OVER_REPLICAS, Metrics
from heavylift_operator.services.scrape import FRESH_S, STALE_S, Scrape, told
from tests.unit.operator.test_workqueue import Clock

COUNTS: dict[str, Any] = {
    "waiting": 5,
    "active": 3,
    "failed": 1,
    "oldest": 1_500,
    "demand": 4,
    "startable": 1,
    "held": "",
    "cap": 4,
    "rateLeft": -1,
    "install": "prod",
    "counters": {"enqueued": 9, "outcome:oom:0": 2, "wait:500": 3, "wait:sum": 700, "wait:inf:annual": 1},
}


def snapshot(**queues: dict[str, Any]) -> Snapshot:
    """Return what the store decodes from these queues."""
    return decode.snapshot(
        {
            "at": 2_000,
            "inflight": 3,
            "dispatchers": 2,
            "unfinalized": 1,
            "schedules": 5,
            "suspended": 2,
            "due": -1,
            "queues": queues,
        }
    )


def shown(metrics: Metrics) -> dict[str, float]:
    """Return every sample of a scrape."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_a_snapshot_becomes_gauges_counters_and_a_histogram() -> None:
    """Numbers as Redis has them, in seconds where they are times."""
    metrics = Metrics()
    metrics.queues.snapshot = snapshot(reports=COUNTS)
    found = shown(metrics)
    assert found['heavylift_queue_jobs{queue="reports",state="waiting"}'] == 5
    assert found['heavylift_queue_demand{queue="reports"}'] == 4
    assert found['heavylift_queue_startable{queue="reports"}'] == 1
    assert found['heavylift_queue_concurrency_limit{queue="reports"}'] == 4
    assert found['heavylift_queue_oldest_waiting_timestamp_seconds{queue="reports"}'] == 1.5
    assert found['heavylift_jobs_enqueued_total{queue="reports"}'] == 9
    assert found["heavylift_dispatchers"] == 2
    assert found['heavylift_schedules{state="active"}'] == 3
    assert "heavylift_schedule_oldest_due_timestamp_seconds" not in found
    assert found['heavylift_job_wait_seconds_bucket{le="0.5",queue="reports",task=""}'] == 3
    assert found['heavylift_job_wait_seconds_sum{queue="reports",task=""}'] == 0.7
    assert found['heavylift_job_wait_seconds_count{queue="reports",task="annual"}'] == 1
    assert not any(name.startswith("heavylift_queue_rate_left") for name in found)


def test_the_first_end_of_a_class_is_an_increase() -> None:
    """A counter that begins at 1 is none to Prometheus, so each begins at 0."""
    metrics = Metrics()
    metrics.queues.snapshot = snapshot(reports=COUNTS)
    found = shown(metrics)
    assert found['heavylift_job_outcomes_total{class="oom",final="false",queue="reports"}'] == 2
    assert found['heavylift_job_outcomes_total{class="node-lost",final="true",queue="reports"}'] == 0
    assert found['heavylift_repairs_total{case="job-missing"}'] == 0


@pytest.mark.parametrize("held", ["", "paused", "suspended", "no-heavyqueue", "something-new"])
def test_what_holds_a_queue_back_is_one_series(held: str) -> None:
    """There while it holds, and gone afterwards."""
    metrics = Metrics()
    metrics.queues.snapshot = snapshot(reports=COUNTS | {"held": held})
    found = shown(metrics)
    reasons = {name for name, value in found.items() if name.startswith("heavylift_queue_held") and value == 1}
    assert reasons == ({f'heavylift_queue_held{{queue="reports",reason="{held}"}}'} if held else set())
    assert found['heavylift_queue_paused{queue="reports"}'] == (held == "paused")


def test_other_installs_queues_are_not_told() -> None:
    """Two installations on one Redis never both count a queue; one without settings that we enqueued to is told."""
    none = COUNTS | {"install": ""}
    found = told(
        snapshot(ours=COUNTS, theirs=COUNTS | {"install": "x"}, orphan=none, rqs=none | {"counters": {}}), "prod"
    )
    assert set(found.queues) == {"ours", "orphan"}


@dataclass
class Link:
    """A connection that answers, or does not."""

    answers: list[Snapshot | None]
    line: StateLine = field(default_factory=lambda: StateLine(logs.get("test"), "redis"))
    looks: int = 0

    async def run(self, op: Any) -> Snapshot:
        """Give the next answer."""
        op.close()
        self.looks += 1
        answer = self.answers.pop(0)
        if answer is None:
            self.line.bad("gone")
            raise RedisUnavailableError("gone")
        self.line.good()
        return answer


def scrape(link: Link, clock: Clock, metrics: Metrics, *, leads: list[bool]) -> Scrape:
    """Return a scrape of one queue."""
    return Scrape(
        link=link,  # type: ignore[arg-type]
        metrics=metrics,
        clock=clock,
        install="prod",
        leads=lambda: leads[0],
        queues=lambda: ("reports",),
    )


async def test_scrapes_close_together_share_one_look() -> None:
    """Two Prometheus servers cost as much as one."""
    link, clock, metrics = (
        Link([snapshot(reports=COUNTS), snapshot(reports=COUNTS | {"waiting": 6})]),
        Clock(),
        Metrics(),
    )
    one = scrape(link, clock, metrics, leads=[True])
    await one.refresh()
    await one.refresh()
    assert link.looks == 1
    clock.at += FRESH_S + 0.1
    await one.refresh()
    assert link.looks == 2
    assert shown(metrics)['heavylift_queue_waiting{queue="reports"}'] == 6


async def test_old_figures_are_not_shown() -> None:
    """For a while the last look stands; then there is no figure, and never a wrong one."""
    link, clock, metrics = Link([snapshot(reports=COUNTS), None, None]), Clock(), Metrics()
    one = scrape(link, clock, metrics, leads=[True])
    await one.refresh()
    clock.at += STALE_S - 1
    await one.refresh()
    assert 'heavylift_queue_waiting{queue="reports"}' in shown(metrics)
    assert shown(metrics)["heavylift_redis_up"] == 0
    clock.at += 2
    await one.refresh()
    assert 'heavylift_queue_waiting{queue="reports"}' not in shown(metrics)


async def test_a_replica_that_does_not_lead_tells_nothing_of_queues() -> None:
    """Also one that led until now."""
    link, clock, metrics, leads = Link([snapshot(reports=COUNTS)]), Clock(), Metrics(), [True]
    one = scrape(link, clock, metrics, leads=leads)
    await one.refresh()
    leads[0] = False
    await one.refresh()
    assert not any(name.startswith(("heavylift_queue", "heavylift_job_wait")) for name in shown(metrics))


def test_the_first_attempt_of_a_queue_is_an_increase() -> None:
    """Its histograms begin at 0 once it is served, those of tasks kept apart too; told again, they go on."""
    metrics = Metrics()
    metrics.serve("reports", ("annual",))
    metrics.run.labels("reports", "annual").observe(2.0)

    metrics.serve("reports", ("annual", "daily"))

    found = shown(metrics)
    assert found['heavylift_job_run_seconds_count{queue="reports",task=""}'] == 0
    assert found['heavylift_job_pending_seconds_count{queue="reports",task="daily"}'] == 0
    assert found['heavylift_job_run_seconds_count{queue="reports",task="annual"}'] == 1


def test_how_replicas_add_up_is_said_of_metrics_there_are() -> None:
    """No name in the table that no process exports."""
    names = set(Metrics().registry._names_to_collectors)
    assert set(OVER_REPLICAS) <= names
