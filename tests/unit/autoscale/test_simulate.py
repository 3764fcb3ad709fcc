"""Curves, manifests and whole simulations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.autoscale import load, manifest
from heavylift.autoscale.hpa import DOWN_DEFAULT, UP_DEFAULT, Behavior, Hpa, Policy, PolicyType, Rules
from heavylift.autoscale.load import Point
from heavylift.autoscale.simulate import SYNCS_MAX, Backlog, GivenDemand, simulate, summary
from heavylift.errors import InvalidInputError

CHART = Hpa(average_milli=10_000, maximum=10, behavior=Behavior(down=Rules(DOWN_DEFAULT.policies, 60)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s=0,1m=200", (Point(0, 0), Point(60, 200))),
        ("0=1.5, 30=", (Point(0, 1.5), Point(30, None))),
    ],
)
def test_curve_as_text(text: str, expected: tuple[Point, ...]) -> None:
    """A curve is a list of times with values; no value stands for a metric that is missing."""
    assert load.from_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "time,value\n0s,0\n1m,200\n2m,\n",
        "0,0\n60,200\n120\n",
        '[["0s", 0], [60, 200], {"time": "2m", "value": null}]',
    ],
)
def test_curve_in_a_file(text: str) -> None:
    """CSV with and without a heading, and JSON, say the same."""
    assert load.from_file(text) == (Point(0, 0), Point(60, 200), Point(120, None))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "is not TIME=VALUE"),
        ("1m=5,30s=6", "must rise"),
        ("soon=5", "is not a duration"),
        ("1m=many", "is not a number"),
        ("1m=-4", "out of range"),
        ("1m=nan", "out of range"),
    ],
)
def test_curve_that_is_none(text: str, words: str) -> None:
    """What is no curve is refused with what to write."""
    with pytest.raises(InvalidInputError, match=words):
        load.from_text(text)


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", '{"a": 1}', "[", '[["1m"]]', "[[true, 1]]", "[" * 100_000])
def test_file_that_is_no_curve(text: str) -> None:
    """A file without points is refused, whatever it holds."""
    with pytest.raises(InvalidInputError):
        load.from_file(text)


def document(**spec: Any) -> dict[str, Any]:
    """Return a manifest as kubectl prints it, with changes to its spec."""
    target = {"type": "AverageValue", "averageValue": "10"}
    metric = {"type": "External", "external": {"metric": {"name": "heavylift_queue_demand"}, "target": target}}
    whole = {"minReplicas": 1, "maxReplicas": 10, "metrics": [metric], **spec}
    return {"apiVersion": "autoscaling/v2", "kind": manifest.KIND, "metadata": {"name": "a"}, "spec": whole}


def test_manifest_with_a_behavior() -> None:
    """What a behavior leaves out is filled in as by the API server."""
    up = {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}], "tolerance": "50m"}
    found = manifest.parse(document(behavior={"scaleDown": {"stabilizationWindowSeconds": 60}, "scaleUp": up}))

    assert found.behavior == Behavior(
        up=Rules((Policy(PolicyType.PERCENT, 50, 60),), 0, tolerance=0.05), down=Rules(DOWN_DEFAULT.policies, 60)
    )
    assert (found.average_milli, found.minimum, found.maximum) == (10_000, 1, 10)
    assert manifest.parse(document()).behavior is None
    assert manifest.parse(document(behavior={})).behavior == Behavior(UP_DEFAULT, DOWN_DEFAULT)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"metrics": []}, "exactly one metric"),
        ({"metrics": [{"type": "Resource"}]}, "exactly one metric"),
        ({"maxReplicas": None}, "maxReplicas: a whole number"),
        ({"minReplicas": 11}, "minReplicas 11 and maxReplicas 10"),
        ({"behavior": {"up": {}}}, "no field 'up'"),
        ({"behavior": {"scaleUp": {"policies": []}}}, "at least one policy"),
        ({"behavior": {"scaleUp": {"selectPolicy": "All"}}}, "one of Max, Min, Disabled"),
        ({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}}, "0 to 3600"),
        ({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}}, "1 or more"),
    ],
)
def test_manifest_that_the_api_refuses(spec: dict[str, Any], words: str) -> None:
    """A manifest that says nothing to simulate is refused by the field's name."""
    with pytest.raises(InvalidInputError, match=words):
        manifest.parse(document(**spec))


def test_one_autoscaler_of_a_file() -> None:
    """The autoscaler is found among other documents and in lists; several need a name."""
    one, two = document(), {**document(), "metadata": {"name": "b"}}

    assert manifest.find([None, {"kind": "Service"}, one]) == one
    assert manifest.find([{"kind": "List", "items": [one, two]}], "b") == two
    with pytest.raises(InvalidInputError, match=r"name one of .*: a, b"):
        manifest.find([one, two])
    with pytest.raises(InvalidInputError, match="there is no HorizontalPodAutoscaler"):
        manifest.find([{"kind": "Service"}])


def test_burst_of_jobs() -> None:
    """A burst goes from one dispatcher to many and back, and every job runs once."""
    burst = Backlog((Point(0, 400),), run_s=120, slots=10, startup_s=5)
    moments = simulate(CHART, burst)
    told = summary(moments, burst, 15)

    assert told["jobsDone"] == 400
    assert told["peakReplicas"] == 10
    assert told["lastReplicas"] == 1
    assert [m.decision.replicas for m in moments if m.rescaled][:2] == [5, 10]
    assert all((m.running or 0) <= 10 * 10 for m in moments)


def test_capped_queue_asks_for_no_more() -> None:
    """Under a cap of 12 two dispatchers are enough, however long the backlog."""
    capped = Backlog((Point(0, 500),), run_s=60, slots=10, cap=12)
    moments = simulate(CHART, capped)

    assert max(m.decision.replicas for m in moments) == 2
    assert max(m.running or 0 for m in moments) == 12
    assert capped.done == 500


def test_missing_metric_keeps_the_replicas() -> None:
    """While the metric is missing nothing changes, and it goes on once it is back."""
    moments = simulate(CHART, GivenDemand(load.from_text("0s=45,60s=,180s=0")))
    during = [m for m in moments if 60 <= m.at < 180]

    assert {m.decision.replicas for m in during} == {5}
    assert {m.decision.able for m in during} == {"FailedGetExternalMetric"}
    assert moments[-1].decision.replicas == 1


def test_ends_where_told() -> None:
    """An end that is given is kept; too many syncs are refused."""
    assert simulate(CHART, GivenDemand((Point(0, 5),)), until=60)[-1].at == 60
    with pytest.raises(InvalidInputError, match="at most"):
        simulate(CHART, GivenDemand((Point(0, 5),)), until=15.0 * SYNCS_MAX * 2)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 120)), min_size=1, max_size=12),
    run_s=st.integers(1, 200),
    slots=st.integers(1, 20),
    cap=st.none() | st.integers(1, 50),
    window=st.integers(0, 120),
)
def test_any_backlog(arrivals: list[tuple[int, int]], run_s: int, slots: int, cap: int | None, window: int) -> None:
    """Whatever comes: bounds hold at each sync, all jobs end, and the count comes back to the minimum."""
    at, curve = 0, []
    for gap, count in arrivals:
        at += gap
        curve.append(Point(at, count))
    hpa = Hpa(average_milli=slots * 1000, maximum=7, behavior=Behavior(down=Rules(DOWN_DEFAULT.policies, window)))
    backlog = Backlog(curve, run_s=run_s, slots=slots, cap=cap, startup_s=3)
    moments = simulate(hpa, backlog)

    assert backlog.done == sum(count for _, count in arrivals)
    assert all(1 <= m.decision.replicas <= 7 for m in moments)
    assert all((m.running or 0) <= min(slots * 7, cap or slots * 7) for m in moments)
    assert moments[-1].decision.replicas == 1
