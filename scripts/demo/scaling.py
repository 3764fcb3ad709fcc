"""What the demo shows of the dispatchers' autoscaler; nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heavylift.spec.quantities import to_milli

SHOWN = 4
"""Events on the board, newest last."""
CONDITIONS = ("ScalingActive", "AbleToScale", "ScalingLimited")


@dataclass(frozen=True, slots=True)
class Scaling:
    """The dispatchers and their autoscaler at one moment."""

    wanted: int
    ready: int
    demand: float | None
    """What the autoscaler last read; None = it has read nothing."""
    target: float
    """Of that, per dispatcher."""
    reasons: Sequence[str]
    """Of its conditions, as ``AbleToScale: ReadyForNewScale``."""
    events: Sequence[str]
    """Its own words, oldest first."""


def read(deployment: Mapping[str, Any], hpa: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Scaling:
    """Return the moment that a Deployment, its HorizontalPodAutoscaler and that one's events show."""
    status = hpa.get("status") or {}
    (metric,) = hpa["spec"]["metrics"]
    target = to_milli(str(metric["external"]["target"]["averageValue"])) / 1000
    conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
    told = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return Scaling(
        wanted=int(deployment["spec"].get("replicas", 1)),
        ready=int((deployment.get("status") or {}).get("readyReplicas", 0)),
        demand=_demand(status),
        target=target,
        reasons=[f"{name}: {conditions[name].get('reason', '')}" for name in CONDITIONS if name in conditions],
        events=[f"{event.get('reason', '')}: {event.get('message', '')}" for event in told],
    )


def _demand(status: Mapping[str, Any]) -> float | None:
    metrics = status.get("currentMetrics") or []
    average = ((metrics[0].get("external") or {}).get("current") or {}).get("averageValue") if metrics else None
    replicas = int(status.get("currentReplicas") or 0)
    return None if average is None or not replicas else to_milli(str(average)) * replicas / 1000


@dataclass(frozen=True, slots=True)
class Path:
    """How the number of dispatchers went: (seconds, number), each change once."""

    steps: Sequence[tuple[float, int]] = field(default=())

    def then(self, seconds: float, wanted: int) -> Path:
        """Return the path with one more look."""
        if self.steps and self.steps[-1][1] == wanted:
            return self
        return replace(self, steps=(*self.steps, (seconds, wanted)))

    @property
    def peak(self) -> int:
        """The most there were."""
        return max((wanted for _, wanted in self.steps), default=0)

    @property
    def back(self) -> bool:
        """Whether there is but one, as at the start."""
        return bool(self.steps) and self.steps[-1][1] == 1

    def told(self) -> str:
        """Return it as ``1 -> 5 (12 s) -> 1 (98 s)``."""
        (_, first), *rest = self.steps or ((0.0, 0),)
        return " -> ".join([str(first), *(f"{wanted} ({seconds:.0f} s)" for seconds, wanted in rest)])


def line(scaling: Scaling | None) -> str:
    """Return the moment in a few words; empty when nothing is known."""
    if scaling is None:
        return ""
    demand = "unknown" if scaling.demand is None else f"{scaling.demand:g}"
    return f"dispatchers {scaling.ready}/{scaling.wanted}  demand {demand} ({scaling.target:g} each)"


def lines(scaling: Scaling | None, path: Path) -> list[str]:
    """Return what the board says: the moment, the path so far, conditions, the newest events."""
    if scaling is None:
        return []
    head = f"{line(scaling)}   {path.told()}" if len(path.steps) > 1 else line(scaling)
    return [head, "   ".join(scaling.reasons), *scaling.events[-SHOWN:]]
