"""A load run through the autoscaler, sync by sync: what it would do, without a cluster or a clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from heavylift.autoscale.hpa import DEFAULT_PERIOD_S, Decision, Hpa, State, Sync, decide
from heavylift.autoscale.load import Point, value_at
from heavylift.errors import InvalidInputError

SYNCS_MAX: Final = 20_000
"""Syncs of one simulation; at 15 s each, three and a half days."""


class Load(Protocol):
    """What the dispatchers are there for."""

    def advance(self, at: float) -> None:
        """Let time pass until ``at`` seconds."""

    def scale(self, replicas: int) -> None:
        """Have so many dispatchers from now on."""

    def demand(self) -> float | None:
        """Return what the metric says now; None when it cannot be had."""

    def figures(self) -> tuple[int, int] | None:
        """Return how many jobs wait and run now; None where only the demand is known."""

    def settled(self) -> bool:
        """Whether nothing more will come of itself."""


@dataclass(slots=True)
class GivenDemand:
    """A demand that is what the curve says, whatever the dispatchers do."""

    curve: Sequence[Point]
    _now: float = 0.0

    def advance(self, at: float) -> None:
        """Let time pass."""
        self._now = at

    def scale(self, replicas: int) -> None:
        """Change nothing."""

    def demand(self) -> float | None:
        """Return the curve's value."""
        return value_at(self.curve, self._now)

    def figures(self) -> tuple[int, int] | None:
        """Return None: a curve of demand does not tell waiting jobs from running ones."""
        return None

    def settled(self) -> bool:
        """Whether the last point is passed."""
        return self._now >= self.curve[-1].at


@dataclass(slots=True)
class Backlog:
    """Jobs that come as the curve says and run for so long, bounded by slots x live dispatchers and the queue's cap."""

    curve: Sequence[Point]
    """How many jobs are enqueued at each point."""
    run_s: float
    slots: int
    cap: int | None = None
    startup_s: float = 0.0
    """Seconds until a new dispatcher claims."""
    done: int = 0
    done_at: float = 0.0
    """When the last of them ended."""
    _now: float = 0.0
    _next: int = 0
    _waiting: int = 0
    _in_flight: int = 0
    _ends: deque[tuple[float, int]] = field(default_factory=deque)
    _ready: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.run_s <= 0 or self.slots < 1 or self.startup_s < 0 or (self.cap is not None and self.cap < 1):
            raise InvalidInputError("a job's run is longer than 0 s; slots and the cap are 1 or more")
        if any(point.value is None or point.value != int(point.value) for point in self.curve):
            raise InvalidInputError("a curve of jobs has a whole number of jobs at each time")

    def advance(self, at: float) -> None:
        """Let jobs come, start and end until then."""
        while (moment := self._next_moment()) <= at:
            self._now = moment
            self._step()
        self._now = at

    def scale(self, replicas: int) -> None:
        """Start dispatchers, live after a while (those of the start at once), or stop the youngest; jobs run on."""
        delay = self.startup_s if self._now > 0 else 0.0
        while len(self._ready) < replicas:
            self._ready.append(self._now + delay)
        del self._ready[replicas:]
        self._start()

    def demand(self) -> float:
        """Return in flight plus what may start under the cap."""
        room = math.inf if self.cap is None else max(0, self.cap - self._in_flight)
        return self._in_flight + min(self._waiting, room)

    def figures(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many run."""
        return self._waiting, self._in_flight

    def settled(self) -> bool:
        """Whether all jobs came and ended."""
        return self._next == len(self.curve) and not self._waiting and not self._in_flight

    def _next_moment(self) -> float:
        """Return when something next happens of itself."""
        arrival = self.curve[self._next].at if self._next < len(self.curve) else math.inf
        end = self._ends[0][0] if self._ends else math.inf
        ready = min((at for at in self._ready if at > self._now), default=math.inf)
        return min(arrival, end, ready)

    def _step(self) -> None:
        while self._next < len(self.curve) and self.curve[self._next].at <= self._now:
            self._waiting += int(self.curve[self._next].value or 0)
            self._next += 1
        while self._ends and self._ends[0][0] <= self._now:
            ended = self._ends.popleft()[1]
            self._in_flight -= ended
            self.done += ended
            self.done_at = self._now
        self._start()

    def _start(self) -> None:
        live = sum(at <= self._now for at in self._ready)
        room = self.slots * live - self._in_flight
        if self.cap is not None:
            room = min(room, self.cap - self._in_flight)
        count = min(self._waiting, max(0, room))
        if count:
            self._waiting -= count
            self._in_flight += count
            self._ends.append((self._now + self.run_s, count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One sync of a simulation."""

    at: float
    demand: float | None
    waiting: int | None
    running: int | None
    replicas: int
    """Before the sync."""
    decision: Decision

    @property
    def rescaled(self) -> bool:
        """Whether the sync changed the replicas."""
        return self.decision.replicas != self.replicas

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        decision = asdict(self.decision)
        del decision["state"]
        after = decision.pop("replicas")
        return {
            "seconds": round(self.at, 3),
            "demand": self.demand,
            "waiting": self.waiting,
            "inFlight": self.running,
            "replicas": self.replicas,
            "after": after,
            **decision,
        }


def simulate(
    hpa: Hpa, load: Load, *, replicas: int | None = None, period: float = DEFAULT_PERIOD_S, until: float | None = None
) -> list[Moment]:
    """Return every sync of the autoscaler over a load, the first at 0 s.

    Args:
        hpa: the autoscaler.
        load: what happens beside it; it is used up.
        replicas: at the start; the minimum when left out, at least 1.
        period: seconds between syncs.
        until: seconds; left out, it ends once the load is settled and no window could change anything any more.

    Raises:
        InvalidInputError: the period is not above 0, or there would be more than ``SYNCS_MAX`` syncs until then.
    """
    if period <= 0 or (until is not None and until / period > SYNCS_MAX):
        raise InvalidInputError(f"the period is more than 0 s, with at most {SYNCS_MAX:,} of them in a simulation")
    current = max(1, hpa.minimum) if replicas is None else replicas
    load.scale(current)
    state, moments, changed = State(), [], 0.0
    for index in range(SYNCS_MAX):
        at = index * period
        load.advance(at)
        decision, moment = _sync(hpa, state, load, at, current)
        moments.append(moment)
        state = decision.state
        if moment.rescaled or not load.settled():
            changed = at
        current = decision.replicas
        load.scale(current)
        if at + period > until if until is not None else at - changed > _longest(hpa) + period:
            break
    return moments


def _sync(hpa: Hpa, state: State, load: Load, at: float, current: int) -> tuple[Decision, Moment]:
    demand = load.demand()
    value = None if demand is None else math.ceil(demand * 1000)
    decision = decide(hpa, state, Sync(at=at, value_milli=value, replicas=current))
    waiting, running = load.figures() or (None, None)
    return decision, Moment(at=at, demand=demand, waiting=waiting, running=running, replicas=current, decision=decision)


def _longest(hpa: Hpa) -> float:
    """Return the longest time over which something past may hold a change back."""
    if hpa.behavior is None:
        return hpa.down_window
    rules = (hpa.behavior.up, hpa.behavior.down)
    return max([rule.window for rule in rules] + [policy.period for rule in rules for policy in rule.policies])


def summary(moments: Sequence[Moment], load: Load, period: float) -> dict[str, Any]:
    """Return a simulation in figures: peak, rescales, when it came back to rest, dispatcher seconds, jobs."""
    peak = max(moment.decision.replicas for moment in moments)
    rescales = [moment for moment in moments if moment.rescaled]
    told: dict[str, Any] = {
        "syncs": len(moments),
        "rescales": len(rescales),
        "peakReplicas": peak,
        "peakSeconds": next(moment.at for moment in moments if moment.decision.replicas == peak),
        "lastReplicas": moments[-1].decision.replicas,
        "lastRescaleSeconds": rescales[-1].at if rescales else None,
        "dispatcherSeconds": sum(moment.decision.replicas * period for moment in moments),
    }
    if isinstance(load, Backlog):
        told |= {"jobsDone": load.done, "doneSeconds": round(load.done_at, 3) if load.done else None}
    return told
