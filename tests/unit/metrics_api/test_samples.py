"""Which values a request sees: by metric, namespace and selector."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift_operator.metrics_api.samples import METRICS, Queue, Sample, Scope, items, read
from heavylift_operator.metrics_api.selector import Selector, parse
from heavylift_operator.metrics_api.status import StatusError

SCOPE = Scope("lift", frozenset({"analytics", "reports", "empty"}))
QUEUES = (Queue("a", "analytics", 5, 2, 7), Queue("b", "reports", 0, 0, 0), Queue("c", "reports", 1, 1, 1))
SAMPLE = Sample(at_ms=1_795_341_600_999, taken=1.0, queues=QUEUES)
ALL = Selector()


def values(metric: str, namespace: str, selector: str = "") -> dict[str, int]:
    """Return queue -> value."""
    found = items(SAMPLE, metric, SCOPE.sees(namespace, QUEUES), parse(selector))
    return {item.labels["queue"]: item.value for item in found}


def test_each_metric_has_its_own_number() -> None:
    """One item per queue, "0" included, with the sample's own time."""
    assert values("heavylift_queue_demand", "lift") == {"a": 7, "b": 0, "c": 1}
    assert values("heavylift_queue_in_flight", "lift") == {"a": 2, "b": 0, "c": 1}
    assert values("heavylift_queue_waiting", "lift") == {"a": 5, "b": 0, "c": 1}
    assert {item.timestamp for item in items(SAMPLE, METRICS[0], QUEUES, ALL)} == {"2026-11-22T10:00:00Z"}


def test_a_namespace_sees_its_own_queues_and_the_releases_sees_all() -> None:
    """Whoever may read a metric in one namespace learns nothing of another."""
    assert values("heavylift_queue_demand", "analytics") == {"a": 7}
    assert values("heavylift_queue_demand", "reports", "queue!=b") == {"c": 1}
    for namespace in ("default", "kube-system", ""):
        with pytest.raises(StatusError, match="has no queues of this installation") as caught:
            values("heavylift_queue_demand", namespace)
        assert caught.value.code == 404


def test_a_selector_that_matches_nothing_is_told_with_the_queues_there_are() -> None:
    """An empty list would be "no metrics returned" in the HPA; the words of a 404 stand there as they are."""
    with pytest.raises(StatusError) as caught:
        values("heavylift_queue_demand", "reports", "queue=a")
    assert (caught.value.code, str(caught.value)) == (
        404,
        "no queue matches the selector queue=a: the queues are b, c",
    )


def test_no_queue_at_all_is_nought_and_not_an_error() -> None:
    """A fresh installation's HPA stays quiet; with a selector it is told."""
    (item,) = items(SAMPLE, "heavylift_queue_demand", SCOPE.sees("empty", QUEUES), ALL)
    assert (item.value, item.labels) == (0, {})
    with pytest.raises(StatusError, match="the queues are none"):
        items(SAMPLE, "heavylift_queue_demand", (), parse("queue=a"))


def test_an_unknown_metric_is_not_found() -> None:
    """The message lists those there are."""
    with pytest.raises(StatusError, match="there are heavylift_queue_demand") as caught:
        items(SAMPLE, "heavylift_queue_depth", QUEUES, ALL)
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"waiting": 3, "active": 1, "demand": 4, "install": "ns/rel"}, [(3, 1, 4)]),
        ({"waiting": 3, "active": 1, "demand": 4, "install": ""}, [(3, 1, 4)]),
        ({"waiting": 3, "active": 9, "demand": 9, "install": "ns/other"}, []),
        ({"waiting": -3, "active": "x", "demand": None}, [(0, 0, 0)]),
        ({}, [(0, 0, 0)]),
        ([], [(0, 0, 0)]),
    ],
)
def test_a_snapshot_is_read_whatever_it_holds(counts: Any, expected: list[tuple[int, int, int]]) -> None:
    """Queues whose name another installation holds are left out; what is no number counts nought."""
    sample = read({"at": 5, "queues": {"q": counts}}, {"q": "ns"}, install="ns/rel", taken=2.0)
    assert [(one.waiting, one.in_flight, one.demand) for one in sample.queues] == expected
    assert (sample.at_ms, sample.taken) == (5, 2.0)


def test_only_queues_with_a_heavyqueue_are_shown() -> None:
    """Others may stand in the snapshot: nobody of ours serves them."""
    snapshot = {"at": 5, "queues": {"q": {"demand": 1}, "other": {"demand": 9}}}
    assert [one.name for one in read(snapshot, {"q": "ns"}, install="i", taken=0.0).queues] == ["q"]
