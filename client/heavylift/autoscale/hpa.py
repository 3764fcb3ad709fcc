"""The HorizontalPodAutoscaler's algorithm for one External metric with an AverageValue, as a pure function.

It follows Kubernetes' own controller step by step (pkg/controller/podautoscaler, v1.36): ``decide`` is one of its
syncs. Times are seconds on any clock that only goes forward; metric values and targets are thousandths, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

INT32_MAX: Final = 2**31 - 1
DEFAULT_TOLERANCE: Final = 0.1
DEFAULT_PERIOD_S: Final = 15.0
"""Seconds between syncs: ``--horizontal-pod-autoscaler-sync-period``."""
DEFAULT_DOWN_WINDOW_S: Final = 300
"""``--horizontal-pod-autoscaler-downscale-stabilization``; counts where the object does not set a window."""
_UP_FACTOR, _UP_LEAST = 2.0, 4.0


class PolicyType(StrEnum):
    """What a policy's value counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which of several policies holds."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most this much change within a period of so many seconds."""

    type: PolicyType
    value: int
    period: int


@dataclass(frozen=True, slots=True)
class Rules:
    """``behavior.scaleUp`` or ``behavior.scaleDown`` with every field set."""

    policies: tuple[Policy, ...]
    window: int
    """Seconds of ``stabilizationWindowSeconds``."""
    select: Select = Select.MAX
    tolerance: float | None = None
    """A share; None = the controller's."""


UP_DEFAULT: Final = Rules((Policy(PolicyType.PODS, 4, 15), Policy(PolicyType.PERCENT, 100, 15)), window=0)
DOWN_DEFAULT: Final = Rules((Policy(PolicyType.PERCENT, 100, 15),), window=DEFAULT_DOWN_WINDOW_S)


@dataclass(frozen=True, slots=True)
class Behavior:
    """``spec.behavior`` as the API server fills it in."""

    up: Rules = UP_DEFAULT
    down: Rules = DOWN_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Hpa:
    """What of the object and of its controller's flags decides."""

    average_milli: int
    """Thousandths of the target per replica; at least 1."""
    minimum: int = 1
    maximum: int
    behavior: Behavior | None = None
    """None: the object has none, and the controller's older rules hold."""
    tolerance: float = DEFAULT_TOLERANCE
    down_window: float = DEFAULT_DOWN_WINDOW_S
    """Seconds; only where the object has no behavior."""


Stamped = tuple[float, int]
"""When, and how many replicas."""


@dataclass(frozen=True, slots=True)
class State:
    """What the controller remembers between two syncs."""

    recommendations: tuple[Stamped, ...] = ()
    ups: tuple[Stamped, ...] = ()
    downs: tuple[Stamped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """What the controller finds when it looks."""

    at: float
    value_milli: int | None
    """The metric, all its items added up; None = it cannot be had."""
    replicas: int
    """The target's ``spec.replicas``."""
    running: int | None = None
    """Its ``status.replicas``; None = the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one sync comes to."""

    replicas: int
    """``spec.replicas`` afterwards."""
    recommended: int | None
    """What the metric alone asks for; None where it was not asked or could not be had."""
    stabilized: int | None
    """The same within the stabilization windows."""
    able: str
    """Reason of the condition AbleToScale."""
    limited: str
    """Reason of the condition ScalingLimited; empty where the metric was not looked at."""
    why: str
    """As the event says it; empty when nothing changes."""
    state: State = field(repr=False)


def decide(hpa: Hpa, state: State, sync: Sync) -> Decision:
    """Return what the controller does at one sync, and what it remembers then."""
    if not state.recommendations:
        state = replace(state, recommendations=((sync.at, sync.replicas),))
    if sync.replicas == 0 and hpa.minimum > 0:
        return _unmoved(sync, state, "ScalingDisabled")
    if sync.replicas > hpa.maximum:
        return _bound(hpa, state, sync, hpa.maximum, "Current number of replicas above Spec.MaxReplicas")
    if sync.replicas < hpa.minimum:
        return _bound(hpa, state, sync, hpa.minimum, "Current number of replicas below Spec.MinReplicas")
    if sync.value_milli is None:
        return _unmoved(sync, state, "FailedGetExternalMetric")
    return _by_metric(hpa, state, sync, recommended(hpa, sync))


def recommended(hpa: Hpa, sync: Sync) -> int:
    """Return what the metric alone asks for: ``ceil(value / target)``, or what runs while that is near enough."""
    running = sync.replicas if sync.running is None else sync.running
    value = sync.value_milli or 0
    up = down = hpa.tolerance
    if hpa.behavior is not None:
        up = hpa.tolerance if hpa.behavior.up.tolerance is None else hpa.behavior.up.tolerance
        down = hpa.tolerance if hpa.behavior.down.tolerance is None else hpa.behavior.down.tolerance
    if running > 0 and 1.0 - down <= float(value) / (float(hpa.average_milli) * float(running)) <= 1.0 + up:
        return running
    return min(math.ceil(float(value) / float(hpa.average_milli)), INT32_MAX)


def _unmoved(sync: Sync, state: State, reason: str) -> Decision:
    return Decision(
        replicas=sync.replicas, recommended=None, stabilized=None, able=reason, limited="", why="", state=state
    )


def _bound(hpa: Hpa, state: State, sync: Sync, replicas: int, why: str) -> Decision:
    """A count outside the limits is put right at once, without the metric."""
    return Decision(
        replicas=replicas,
        recommended=None,
        stabilized=None,
        able="SucceededRescale",
        limited="",
        why=why,
        state=_remember(hpa, state, sync, replicas),
    )


def _by_metric(hpa: Hpa, state: State, sync: Sync, wanted: int) -> Decision:
    stabilized, able = stabilize(hpa, state, sync, wanted)
    state = replace(state, recommendations=(*_recent(hpa, state, sync.at), (sync.at, wanted)))
    replicas, limited = limit(hpa, state, sync, stabilized)
    moved = replicas != sync.replicas
    why = ("external metric above target" if wanted > sync.replicas else "All metrics below target") if moved else ""
    return Decision(
        replicas=replicas,
        recommended=wanted,
        stabilized=stabilized,
        able="SucceededRescale" if moved else able,
        limited=limited,
        why=why,
        state=_remember(hpa, state, sync, replicas) if moved else state,
    )


# -- stabilization ----------------------------------------------------------------------------------------------------
def _recent(hpa: Hpa, state: State, now: float) -> tuple[Stamped, ...]:
    """Return the recommendations that a window may still ask for."""
    longest = hpa.down_window
    if hpa.behavior is not None:
        longest = max(hpa.behavior.up.window, hpa.behavior.down.window)
    return tuple(entry for entry in state.recommendations if entry[0] >= now - longest)


def stabilize(hpa: Hpa, state: State, sync: Sync, wanted: int) -> tuple[int, str]:
    """Return the recommendation within the windows, and the reason of AbleToScale."""
    if hpa.behavior is None:
        floor = sync.at - hpa.down_window
        found = max([wanted, *(count for at, count in state.recommendations if at >= floor)])
        return found, "ReadyForNewScale" if found == wanted else "ScaleDownStabilized"
    lowest = min([wanted, *_after(state.recommendations, sync.at - hpa.behavior.up.window)])
    highest = max([wanted, *_after(state.recommendations, sync.at - hpa.behavior.down.window)])
    found = min(max(sync.replicas, lowest), highest)
    if found == wanted:
        return found, "ReadyForNewScale"
    return found, "ScaleUpStabilized" if wanted >= sync.replicas else "ScaleDownStabilized"


def _after(entries: Sequence[Stamped], cutoff: float) -> list[int]:
    return [count for at, count in entries if at > cutoff]


# -- rates and limits -------------------------------------------------------------------------------------------------
def limit(hpa: Hpa, state: State, sync: Sync, wanted: int) -> tuple[int, str]:
    """Return what rates, minimum and maximum leave of it, and the reason of ScalingLimited."""
    if hpa.behavior is None:
        return _limit_plain(hpa, sync.replicas, wanted)
    if wanted > sync.replicas:
        rate = max(scale_up_limit(hpa.behavior.up, state, sync), sync.replicas)
        most, reason = (rate, "ScaleUpLimit") if hpa.maximum > rate else (hpa.maximum, "TooManyReplicas")
        if wanted > most:
            return most, reason
    elif wanted < sync.replicas:
        rate = min(scale_down_limit(hpa.behavior.down, state, sync), sync.replicas)
        least, reason = (rate, "ScaleDownLimit") if hpa.minimum < rate else (hpa.minimum, "TooFewReplicas")
        if wanted < least:
            return least, reason
    return wanted, "DesiredWithinRange"


def _limit_plain(hpa: Hpa, current: int, wanted: int) -> tuple[int, str]:
    """Without a behavior: at most twice as many, or four, whatever was done before."""
    rate = int(max(_UP_FACTOR * current, _UP_LEAST))
    most, reason = (rate, "ScaleUpLimit") if hpa.maximum > rate else (hpa.maximum, "TooManyReplicas")
    if wanted < hpa.minimum:
        return hpa.minimum, "TooFewReplicas"
    return (most, reason) if wanted > most else (wanted, "DesiredWithinRange")


def scale_up_limit(rules: Rules, state: State, sync: Sync) -> int:
    """Return the most replicas that the policies let stand now."""
    if rules.select is Select.DISABLED:
        return sync.replicas
    pick: Callable[[list[int]], int] = min if rules.select is Select.MIN else max
    start = [_at_period_start(state, sync, policy.period) for policy in rules.policies]
    return pick(
        [
            count + policy.value
            if policy.type is PolicyType.PODS
            else math.ceil(float(count) * (1 + float(policy.value) / 100))
            for count, policy in zip(start, rules.policies, strict=True)
        ]
    )


def scale_down_limit(rules: Rules, state: State, sync: Sync) -> int:
    """Return the fewest replicas that the policies let stand now."""
    if rules.select is Select.DISABLED:
        return sync.replicas
    pick: Callable[[list[int]], int] = max if rules.select is Select.MIN else min
    start = [_at_period_start(state, sync, policy.period) for policy in rules.policies]
    return pick(
        [
            count - policy.value
            if policy.type is PolicyType.PODS
            else int(float(count) * (1 - float(policy.value) / 100))
            for count, policy in zip(start, rules.policies, strict=True)
        ]
    )


def _at_period_start(state: State, sync: Sync, period: int) -> int:
    cutoff = sync.at - period
    return sync.replicas - sum(_after(state.ups, cutoff)) + sum(_after(state.downs, cutoff))


def _remember(hpa: Hpa, state: State, sync: Sync, replicas: int) -> State:
    """Note a change for the rates; only an object with a behavior has any."""
    if hpa.behavior is None:
        return state
    ups = _kept(state.ups, hpa.behavior, sync.at)
    downs = _kept(state.downs, hpa.behavior, sync.at)
    if replicas > sync.replicas:
        return replace(state, ups=(*ups, (sync.at, replicas - sync.replicas)), downs=downs)
    return replace(state, ups=ups, downs=(*downs, (sync.at, sync.replicas - replicas)))


def _kept(entries: tuple[Stamped, ...], behavior: Behavior, now: float) -> tuple[Stamped, ...]:
    """Return the changes that lie within any policy's period."""
    longest = max((policy.period for rules in (behavior.up, behavior.down) for policy in rules.policies), default=0)
    return tuple(entry for entry in entries if entry[0] > now - longest)
