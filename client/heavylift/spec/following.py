"""What follows an ended attempt by the rule of its class: the one place that knows attempts, budgets and backoff.

Pure; the operator decides with it about Jobs that ended, the dispatcher about Jobs that admission refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from heavylift.contract import limits
from heavylift.contract.durations import format_ms
from heavylift.contract.outcomes import Action
from heavylift.spec.rules import Rule

_DOUBLINGS_MAX = 40
_LARGEST = 2**53


class Step(StrEnum):
    """What happens to the job next."""

    COMPLETE = "complete"
    RETRY = "retry"
    WAIT = "wait"
    """Nothing yet: the attempt stays current."""
    FAIL = "fail"
    CANCEL = "cancel"


class Cost(StrEnum):
    """What the ended attempt costs."""

    ATTEMPT = "attempt"
    BUDGET = "budget"
    """One of its class's own retries (counted for the backoff also where there is no bound)."""
    NONE = "none"


class Random(Protocol):
    """A source of random numbers."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts."""

    kind: str = "Exponential"
    """``Exponential``: delay x 2^(n-1), at most ``longest``; ``Fixed``: delay."""
    delay_ms: int = 60_000
    longest_ms: int = 3_600_000
    jitter: float = 0.5
    """0..1: the delay is drawn uniformly from [(1 - jitter) x d, d]."""
    listed_ms: tuple[int, ...] = ()
    """After each failed attempt, exactly; the last goes on. Empty = by the formula."""

    def after_attempt(self, failures: int, random: Random) -> int:
        """Return the ms to wait after so many failed attempts (1 = after the first)."""
        if self.listed_ms:
            return self.listed_ms[max(min(failures, len(self.listed_ms)), 1) - 1]
        return self.delay(failures, random)

    def delay(self, failures: int, random: Random) -> int:
        """Return the ms to wait after so many failures (1 = after the first)."""
        raw = self.delay_ms
        if self.kind != "Fixed":
            raw = self.delay_ms * 2 ** min(max(failures - 1, 0), _DOUBLINGS_MAX)
            raw = min(raw, self.longest_ms)
        return round(raw * (1 - self.jitter * random.random()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the job has spent before this attempt's end."""

    attempts: int = 0
    max_attempts: int = 1
    starts: int = 1
    """Executions that got a Job, this one included."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """Class -> retries of that class so far."""
    total_due: int | None = None
    """When all attempts must be over (ms since the epoch); None = no such limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows, what it costs, and when."""

    step: Step
    cost: Cost = Cost.NONE
    delay_ms: int = 0
    why: str = ""
    """Why there is no further attempt, for the outcome's message; empty when the class says it all."""
    memory: int | None = None
    """Bytes of memory the next attempt asks for; None = as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An ended attempt as its rule sees it."""

    cls: str
    """Its class as it names the budget, for example ``no-result``."""
    now: int
    """ms since the epoch."""
    since: int | None = None
    """``Replace``: since when the node has been waited for."""
    asked_ms: int | None = None
    """The delay the program asked for; None = the backoff's."""


def backoff_from(*sources: object) -> Backoff:
    """Return the backoff these sources give field by field, the stronger first: for example (options, defaults).

    Each is JSON with ``backoff: {type, delay, max, jitterPercent}`` in ms; what none gives soundly is built in.
    A ``max`` weaker than the delay's own source never shortens that delay: only the doubling stops there.
    """
    found, built_in = [part for part in map(_backoff_of, sources) if part], Backoff()
    kind = next((part["type"] for part in found if isinstance(part.get("type"), str)), built_in.kind)
    delay = _first(found, "delay", built_in.delay_ms)
    jitter = min(_first(found, "jitterPercent", round(built_in.jitter * 100)), 100) / 100
    longest = _first(found, "max", built_in.longest_ms)
    own = bool(found) and _natural(found[0].get("max")) is not None
    return Backoff(
        kind="Fixed" if kind.lower() == "fixed" else "Exponential",
        delay_ms=delay,
        longest_ms=longest if own else max(longest, delay),
        jitter=jitter,
    )


def _backoff_of(source: object) -> Mapping[str, Any]:
    found = source.get("backoff") if isinstance(source, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _first(parts: list[Mapping[str, Any]], name: str, built_in: int) -> int:
    values = (_natural(part.get(name)) for part in parts)
    return next((value for value in values if value is not None), built_in)


def _natural(value: object) -> int | None:
    """Return a whole number of 0 or more (Lua's may be floats), None for anything else; negative ones count as 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        return None
    return max(0, int(value))


def follow(rule: Rule, case: Case, spent: Spent, backoff: Backoff, random: Random) -> Decision:
    """Return what the rule of its class makes of an ended attempt.

    Args:
        rule: of the attempt's class.
        case: the attempt.
        spent: what the job has spent before this end.
        backoff: the job's, or its queue's.
        random: for jitter.
    """
    match rule.action:
        case Action.FAIL:
            return Decision(step=Step.FAIL)
        case Action.CANCEL:
            return Decision(step=Step.CANCEL)
        case Action.WAIT:
            return Decision(step=Step.WAIT)
        case Action.REPLACE:
            due = (case.since if case.since is not None else case.now) + (rule.after_ms or 0)
            if case.now < due:
                return Decision(step=Step.WAIT, delay_ms=due - case.now)
            return bounded(Decision(step=Step.RETRY, cost=Cost.BUDGET), spent, case.now)
        case Action.RETRY | Action.REQUEUE:
            return _again(rule, case, spent, backoff, random)


def _again(rule: Rule, case: Case, spent: Spent, backoff: Backoff, random: Random) -> Decision:
    own = spent.budgets.get(case.cls, 0)
    if rule.max_retries is not None and own >= rule.max_retries:
        return Decision(step=Step.FAIL, why=f"after {own} of {rule.max_retries} retries for {case.cls}")
    if rule.action is Action.RETRY and rule.max_retries is None:
        if spent.attempts + 1 >= spent.max_attempts:
            return Decision(step=Step.FAIL, cost=Cost.ATTEMPT)
        cost, delay = Cost.ATTEMPT, backoff.after_attempt(spent.attempts + 1, random)
    else:
        cost, delay = Cost.BUDGET, backoff.delay(own + 1, random)
    if case.asked_ms is not None:
        delay = case.asked_ms
    return bounded(Decision(step=Step.RETRY, cost=cost, delay_ms=delay), spent, case.now)


def bounded(again: Decision, spent: Spent, now: int) -> Decision:
    """Return the decision to start again, or why a job's starts or its total time admit no further start."""
    if spent.starts >= limits.STARTS_MAX:
        return Decision(step=Step.FAIL, cost=again.cost, why=f"started {spent.starts} times, the most a job may be")
    if spent.total_due is not None and now + again.delay_ms >= spent.total_due:
        left = spent.total_due - now
        why = "its total time is over"
        if left > 0:
            why = f"of its total time {format_ms(left)} is left, its next start would be in {format_ms(again.delay_ms)}"
        return Decision(step=Step.FAIL, cost=again.cost, why=why)
    return again
