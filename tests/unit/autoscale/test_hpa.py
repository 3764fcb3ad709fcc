"""Kubernetes' own tables of cases for its controller hold for the function, too.

The cases of rates and stabilization are those of pkg/controller/podautoscaler/horizontal_test.go of Kubernetes v1.36
(Apache License 2.0): TestScalingWithRules, TestNormalizeDesiredReplicas, TestNormalizeDesiredReplicasWithBehavior,
TestConvertDesiredReplicasWithRules.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from heavylift.autoscale.hpa import (
    DOWN_DEFAULT,
    UP_DEFAULT,
    Behavior,
    Hpa,
    Policy,
    PolicyType,
    Rules,
    Select,
    State,
    Sync,
    decide,
    limit,
    recommended,
    stabilize,
)

NOW = 100_000.0
Generated = tuple[int, int, int, int, int]
"""Pods and their period, percent and their period, window: as the table's generateScalingRules takes them."""


@dataclass(frozen=True)
class Case:
    """One case of rates: what runs, what is wanted, within which bounds; what comes of it, and why."""

    current: int
    wanted: int
    bounds: tuple[int, int]
    expected: int
    reason: str
    up: Generated | None = None
    down: Generated | None = None
    ups: tuple[int, ...] = ()
    downs: tuple[int, ...] = ()
    """Changes spread evenly over the last 120 s."""


def rules(generated: Generated | None, default: Rules) -> Rules:
    """Return rules as the table's generator makes them."""
    if generated is None:
        return default
    pods, pods_period, percent, percent_period, window = generated
    policies = [Policy(PolicyType.PODS, pods, pods_period)] if pods else []
    policies += [Policy(PolicyType.PERCENT, percent, percent_period)] if percent else []
    return Rules(tuple(policies), window)


def spread(changes: tuple[int, ...], period: int = 120) -> tuple[tuple[float, int], ...]:
    """Return changes in the middle of equal parts of the time before now."""
    part = period / max(1, len(changes))
    return tuple((NOW - int(period - part * (n + 1) + part / 2), change) for n, change in enumerate(changes))


RATES = {
    "prenormalized desired replicas within range": Case(5, 7, (3, 8), 7, "DesiredWithinRange"),
    "prenormalized desired replicas < minReplicas": Case(3, 1, (2, 8), 2, "TooFewReplicas"),
    "prenormalized desired replicas within range when minReplicas is 0": Case(1, 0, (0, 10), 0, "DesiredWithinRange"),
    "maxReplicas is the limit because maxReplicas < scaleUpLimit": Case(20, 1000, (1, 10), 10, "TooManyReplicas"),
    "desired replica count is more than the maximum replica count": Case(100, 1000, (100, 150), 150, "TooManyReplicas"),
    "scaleUpLimit is the limit because scaleUpLimit < maxReplicas with user policies": Case(
        3, 1000, (1, 2000), 4, "ScaleUpLimit", up=(0, 0, 1, 60, 0)
    ),
    "scaleDownLimit is the limit because scaleDownLimit > minReplicas with user defined policies": Case(
        1000, 3, (3, 2000), 980, "ScaleDownLimit", down=(20, 60, 0, 0, 0)
    ),
    "scaleUp with default behavior": Case(10, 50, (1, 1000), 20, "ScaleUpLimit"),
    "scaleUp with pods policy larger than percent policy": Case(
        10, 500, (1, 1000), 110, "ScaleUpLimit", up=(100, 60, 100, 60, 0)
    ),
    "scaleUp with percent policy larger than pods policy": Case(
        10, 500, (1, 1000), 20, "ScaleUpLimit", up=(2, 60, 100, 60, 0)
    ),
    "scaleUp with spec MaxReplicas limitation with large pod policy": Case(
        10, 50, (1, 1000), 50, "DesiredWithinRange", up=(100, 60, 0, 0, 0)
    ),
    "scaleUp with spec MaxReplicas limitation with large percent policy": Case(
        10, 50, (1, 1000), 50, "DesiredWithinRange", up=(10000, 60, 0, 0, 0)
    ),
    "scaleUp with pod policy limitation": Case(10, 50, (1, 1000), 40, "ScaleUpLimit", up=(30, 60, 0, 0, 0)),
    "scaleUp with percent policy limitation": Case(10, 50, (1, 1000), 30, "ScaleUpLimit", up=(0, 0, 200, 60, 0)),
    "scaleDown with percent policy larger than pod policy": Case(
        100, 2, (1, 1000), 80, "ScaleDownLimit", down=(20, 60, 1, 60, 300)
    ),
    "scaleDown with pod policy larger than percent policy": Case(
        100, 2, (1, 1000), 98, "ScaleDownLimit", down=(2, 60, 1, 60, 300)
    ),
    "scaleDown with spec MinReplicas=nil limitation with large pod policy": Case(
        10, 0, (1, 1000), 1, "TooFewReplicas", down=(100, 60, 0, 0, 300)
    ),
    "scaleDown with spec MinReplicas limitation with large percent policy": Case(
        10, 2, (5, 1000), 5, "TooFewReplicas", down=(0, 0, 100, 60, 300)
    ),
    "scaleDown with pod policy limitation": Case(10, 2, (1, 1000), 5, "ScaleDownLimit", down=(5, 60, 0, 0, 300)),
    "scaleDown with percent policy limitation": Case(
        10, 5, (1, 1000), 5, "DesiredWithinRange", down=(0, 0, 50, 60, 300)
    ),
    "scaleUp with spec MaxReplicas limitation with large pod policy and events": Case(
        100, 500, (1, 200), 200, "TooManyReplicas", up=(300, 60, 0, 0, 0), ups=(1, 5, 9)
    ),
    "scaleUp with spec MaxReplicas limitation with large percent policy and events": Case(
        100, 500, (1, 200), 200, "TooManyReplicas", up=(0, 0, 10000, 60, 0), ups=(1, 5, 9)
    ),
    "scaleUp with currentReplicas limitation with rate.PeriodSeconds with a lot of recent scale up events": Case(
        100, 500, (1, 1000), 100, "ScaleUpLimit", up=(5, 120, 0, 0, 0), ups=(1, 5, 9)
    ),
    "scaleUp with pod policy and previous scale up events": Case(
        100, 500, (1, 1000), 235, "ScaleUpLimit", up=(150, 120, 0, 0, 0), ups=(1, 5, 9)
    ),
    "scaleUp with percent policy and previous scale up events": Case(
        100, 500, (1, 1000), 255, "ScaleUpLimit", up=(0, 0, 200, 120, 0), ups=(1, 5, 9)
    ),
    "scaleUp with percent policy and previous scale up and down events": Case(
        6, 24, (1, 1000), 16, "ScaleUpLimit", up=(0, 0, 300, 300, 0), ups=(4,), downs=(2,)
    ),
    "scaleDown with default policy and previous events": Case(
        10, 5, (1, 1000), 5, "DesiredWithinRange", downs=(1, 5, 9)
    ),
    "scaleDown with spec MinReplicas=nil limitation with large pod policy and previous events": Case(
        100, 0, (1, 1000), 1, "TooFewReplicas", down=(115, 120, 0, 0, 300), downs=(1, 5, 9)
    ),
    "scaleDown with spec MinReplicas limitation with large pod policy and previous events": Case(
        100, 0, (5, 1000), 5, "TooFewReplicas", down=(130, 120, 0, 0, 300), downs=(1, 5, 9)
    ),
    "scaleDown with spec MinReplicas limitation with large percent policy and previous events": Case(
        100, 2, (5, 1000), 5, "TooFewReplicas", down=(0, 0, 100, 120, 300), downs=(1, 5, 9)
    ),
    "scaleDown with pod policy limitation and previous events": Case(
        100, 2, (1, 1000), 100, "ScaleDownLimit", down=(5, 120, 0, 0, 300), downs=(1, 5, 9)
    ),
    "scaleDown with percent policy limitation and previous events": Case(
        100, 0, (1, 1000), 56, "ScaleDownLimit", down=(0, 0, 50, 120, 300), downs=(2, 4, 6)
    ),
    "scaleDown with percent policy and previous scale up and down events": Case(
        10, 1, (1, 1000), 6, "ScaleDownLimit", down=(0, 0, 50, 180, 0), ups=(2,), downs=(4,)
    ),
    "scaleDown with previous events preventing further scale down": Case(
        100, 0, (1, 1000), 100, "ScaleDownLimit", down=(0, 0, 10, 120, 300), downs=(10, 10, 10)
    ),
    "scaleDown with with previous events still allowing more scale down": Case(
        10, 5, (1, 1000), 5, "DesiredWithinRange", down=(0, 0, 1000, 120, 300), downs=(10, 10, 10)
    ),
    "check 'outdated' flag for events for one behavior for up": Case(
        100, 200, (1, 1000), 200, "DesiredWithinRange", up=(1000, 60, 0, 0, 0), ups=(8, 12, 9, 11)
    ),
    "check that events were not marked 'outdated' for two different policies in the behavior for up": Case(
        100, 200, (1, 1000), 200, "DesiredWithinRange", up=(1000, 120, 100, 60, 0), ups=(8, 12, 9, 11)
    ),
    "check that events were marked 'outdated' for two different policies in the behavior for up": Case(
        100, 200, (1, 1000), 200, "DesiredWithinRange", up=(1000, 30, 100, 60, 0), ups=(8, 12, 9, 11)
    ),
    "check 'outdated' flag for events for one behavior for down": Case(
        100, 5, (1, 1000), 5, "DesiredWithinRange", down=(1000, 60, 0, 0, 300), downs=(8, 12, 9, 11)
    ),
    "check that events were not marked 'outdated' for two different policies in the behavior for down": Case(
        100, 5, (1, 1000), 5, "DesiredWithinRange", down=(1000, 120, 100, 60, 300), downs=(8, 12, 9, 11)
    ),
    "check that events were marked 'outdated' for two different policies in the behavior for down": Case(
        100, 5, (1, 1000), 5, "DesiredWithinRange", down=(1000, 30, 100, 60, 300), downs=(8, 12, 9, 11)
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_rates(name: str) -> None:
    """Policies, earlier changes and the bounds limit a change as in the controller."""
    case = RATES[name]
    hpa = Hpa(
        average_milli=1000,
        minimum=case.bounds[0],
        maximum=case.bounds[1],
        behavior=Behavior(rules(case.up, UP_DEFAULT), rules(case.down, DOWN_DEFAULT)),
    )
    state = State(ups=spread(case.ups), downs=spread(case.downs))
    sync = Sync(at=NOW, value_milli=0, replicas=case.current)

    assert limit(hpa, state, sync, case.wanted) == (case.expected, case.reason)


MINUTE = 60.0
Entries = tuple[tuple[int, float], ...]
STABLE: dict[str, tuple[Entries, int, int, int, int, int]] = {
    "empty, down": ((), 100, 5, 5, 0, 0),
    "down": (((4, 2), (5, 1)), 100, 3, 5, 0, 180),
    "up": (((4, 2), (5, 1)), 1, 7, 4, 300, 0),
    "nothing to hold back, down": (((1, 2), (2, 1)), 100, 3, 3, 300, 0),
    "nothing to hold back, up": (((4, 2), (5, 1)), 1, 3, 3, 0, 300),
    "old ones, down": (((10, 10), (9, 9)), 100, 3, 3, 0, 0),
    "old ones, up": (((10, 10), (9, 9)), 1, 100, 100, 0, 0),
    "old and new ones, down": (((10, 10), (4, 1), (5, 2), (9, 9)), 100, 3, 5, 0, 180),
    "old and new ones, up": (((10, 100), (6, 1), (5, 2), (9, 3)), 1, 100, 5, 300, 0),
    "not up when the wanted goes down": (((2, 100), (3, 3)), 2, 1, 2, 300, 300),
    "not down when the wanted goes up": (((2, 100), (1, 3)), 2, 3, 2, 300, 300),
}
"""(recommendation, minutes ago)s, current, wanted, stabilized, window up, window down."""


@pytest.mark.parametrize("name", STABLE)
def test_stabilization(name: str) -> None:
    """The windows keep to the lowest recommendation going up, to the highest going down."""
    entries, current, wanted, expected, up, down = STABLE[name]
    behavior = Behavior(Rules(UP_DEFAULT.policies, up), Rules(DOWN_DEFAULT.policies, down))
    hpa = Hpa(average_milli=1000, maximum=1000, behavior=behavior)
    state = State(recommendations=tuple((NOW - minutes * MINUTE, count) for count, minutes in entries))

    assert stabilize(hpa, state, Sync(at=NOW, value_milli=0, replicas=current), wanted)[0] == expected


PLAIN_STABLE: dict[str, tuple[Entries, int]] = {
    "empty": ((), 3),
    "held": (((4, 2), (5, 1)), 5),
    "not held": (((1, 2), (2, 1)), 3),
    "old ones": (((10, 10), (9, 9)), 3),
    "old and new ones": (((10, 10), (4, 1), (5, 2), (9, 9)), 5),
}


@pytest.mark.parametrize("name", PLAIN_STABLE)
def test_stabilization_without_behavior(name: str) -> None:
    """Without a behavior the highest recommendation of five minutes holds."""
    entries, expected = PLAIN_STABLE[name]
    state = State(recommendations=tuple((NOW - minutes * MINUTE, count) for count, minutes in entries))
    hpa = Hpa(average_milli=1000, maximum=1000)

    assert stabilize(hpa, state, Sync(at=NOW, value_milli=0, replicas=100), 3)[0] == expected


@pytest.mark.parametrize(
    ("current", "wanted", "bounds", "expected", "reason"),
    [
        (5, 7, (3, 8), 7, "DesiredWithinRange"),
        (3, 1, (2, 8), 2, "TooFewReplicas"),
        (1, 0, (0, 10), 0, "DesiredWithinRange"),
        (20, 1000, (1, 10), 10, "TooManyReplicas"),
        (3, 1000, (1, 2000), 6, "ScaleUpLimit"),
        (1, 1000, (1, 2000), 4, "ScaleUpLimit"),
    ],
)
def test_limits_without_behavior(
    current: int, wanted: int, bounds: tuple[int, int], expected: int, reason: str
) -> None:
    """Without a behavior a count at most doubles, or goes to four."""
    hpa = Hpa(average_milli=1000, minimum=bounds[0], maximum=bounds[1])

    assert limit(hpa, State(), Sync(at=NOW, value_milli=0, replicas=current), wanted) == (expected, reason)


@pytest.mark.parametrize(
    ("value", "target", "running", "tolerances", "expected"),
    [
        (7000, 5000, 1, None, 2),
        (42_000, 5000, 2, None, 9),
        (0, 5000, 3, None, 0),
        (0, 5000, 0, None, 0),
        (1, 5000, 0, None, 1),
        (44_000, 10_000, 4, None, 4),
        (44_001, 10_000, 4, None, 5),
        (36_000, 10_000, 4, None, 4),
        (35_999, 10_000, 4, None, 4),
        (30_000, 10_000, 4, None, 3),
        (44_000, 10_000, 4, (0.0, None), 5),
        (36_001, 10_000, 5, (None, 0.5), 5),
        (10**18, 1, 1, None, 2**31 - 1),
    ],
)
def test_recommendation(
    value: int, target: int, running: int, tolerances: tuple[float | None, float | None] | None, expected: int
) -> None:
    """The metric over the target, rounded up, counts, unless what runs is within the tolerance of it."""
    up, down = tolerances or (None, None)
    behavior = Behavior(Rules(UP_DEFAULT.policies, 0, tolerance=up), Rules(DOWN_DEFAULT.policies, 300, tolerance=down))
    hpa = Hpa(average_milli=target, maximum=100, behavior=behavior)

    assert recommended(hpa, Sync(at=NOW, value_milli=value, replicas=running)) == expected


@pytest.mark.parametrize(
    ("value", "replicas", "minimum", "expected", "able"),
    [
        (None, 3, 1, 3, "FailedGetExternalMetric"),
        (90_000, 0, 1, 0, "ScalingDisabled"),
        (90_000, 0, 0, 4, "SucceededRescale"),
        (0, 12, 1, 10, "SucceededRescale"),
        (0, 1, 2, 2, "SucceededRescale"),
    ],
)
def test_what_is_no_matter_of_the_metric(
    value: int | None, replicas: int, minimum: int, expected: int, able: str
) -> None:
    """No metric keeps the count; zero is left alone unless the minimum is zero; bounds are kept at once."""
    hpa = Hpa(average_milli=10_000, minimum=minimum, maximum=10, behavior=Behavior())
    found = decide(hpa, State(), Sync(at=NOW, value_milli=value, replicas=replicas))

    assert (found.replicas, found.able) == (expected, able)


def test_disabled_direction() -> None:
    """A direction that is disabled keeps what runs."""
    behavior = Behavior(
        Rules(UP_DEFAULT.policies, 0, Select.DISABLED), Rules(DOWN_DEFAULT.policies, 0, Select.DISABLED)
    )
    hpa = Hpa(average_milli=10_000, maximum=10, behavior=behavior)

    for value in (0, 90_000):
        assert decide(hpa, State(), Sync(at=NOW, value_milli=value, replicas=3)).replicas == 3


def test_smallest_change_of_two_policies() -> None:
    """The policy of the smaller change where Min is selected, in both directions."""
    policies = (Policy(PolicyType.PODS, 1, 60), Policy(PolicyType.PERCENT, 50, 60))
    behavior = Behavior(Rules(policies, 0, Select.MIN), Rules(policies, 0, Select.MIN))
    hpa = Hpa(average_milli=1000, maximum=100, behavior=behavior)

    assert limit(hpa, State(), Sync(at=NOW, value_milli=0, replicas=10), 50) == (11, "ScaleUpLimit")
    assert limit(hpa, State(), Sync(at=NOW, value_milli=0, replicas=10), 1) == (9, "ScaleDownLimit")


def test_what_is_remembered_is_bounded() -> None:
    """However long it goes on, only what a window or a period can still ask for is remembered."""
    hpa = Hpa(average_milli=1000, maximum=100, behavior=Behavior())
    state, replicas = State(), 1
    for index in range(2000):
        found = decide(hpa, state, Sync(at=index * 15.0, value_milli=(index % 90) * 1000, replicas=replicas))
        state, replicas = found.state, found.replicas

    assert len(state.recommendations) <= 300 / 15 + 2
    assert len(state.ups) + len(state.downs) <= 4
