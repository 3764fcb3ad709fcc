"""The dispatcher's metrics: each series is there before its first count."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from heavylift_worker.answers import Kind
from heavylift_worker.metrics import Metrics


def shown(metrics: Metrics) -> dict[str, float]:
    """Return every sample of a scrape."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.LOOK])
@pytest.mark.parametrize("adopted", [False, True])
def test_the_first_answer_of_a_kind_is_an_increase(kind: Kind, adopted: bool) -> None:
    """What is counted was there as 0 from the moment its queue was served; no other series changes."""
    metrics = Metrics()
    metrics.serve("reports", ())
    before = shown(metrics)

    metrics.answered("reports", kind, adopted=adopted)

    after = shown(metrics)
    assert after.keys() == before.keys()
    (changed,) = (name for name in after if after[name] != before[name])
    assert (before[changed], after[changed]) == (0, 1)


def test_a_queue_edited_counts_on() -> None:
    """Served again with another task apart, it gets that series; its counts stay."""
    metrics = Metrics()
    metrics.serve("reports", ())
    metrics.claimed.labels("reports").inc()

    metrics.serve("reports", ("annual",))

    found = shown(metrics)
    assert found['heavylift_jobs_claimed_total{queue="reports"}'] == 1
    assert found['heavylift_dispatcher_conflicts_total{queue="reports"}'] == 0
    assert found['heavylift_job_dispatch_seconds_count{queue="reports",task="annual"}'] == 0
