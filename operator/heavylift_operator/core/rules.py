"""Rules: what follows an ended attempt, by its class, the queue's rules and what the job has spent so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from heavylift.contract import limits
from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.spec.rules import Rule
from heavylift_operator.core.outcome import Ended
from heavylift_operator.core.reading import child, integer, text

SNOOZE_MS = 60_000
"""How long a snooze lasts when the program names no time."""
_DOUBLINGS_MAX = 40


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
    """Delays between attempts (queue semantics F24-F26)."""

    kind: str = "Exponential"
    """``Exponential``: delay x 2^(n-1), at most ``longest``; ``Fixed``: delay."""
    delay_ms: int = 60_000
    longest_ms: int = 3_600_000
    jitter: float = 0.5
    """0..1: the delay is drawn uniformly from [(1 - jitter) x d, d]."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows, what it costs, and when."""

    step: Step
    cost: Cost = Cost.NONE
    delay_ms: int = 0
    why: str = ""
    """Why there is no further attempt, for the outcome's message; empty when the class says it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the queue says about ends."""

    rules: Mapping[OutcomeClass, Rule]
    backoff: Backoff = Backoff()


def backoff_from(*sources: object) -> Backoff:
    """Return the backoff of the first source that has one, for example (options, settings["defaults"]).

    Each is JSON with ``backoff: {type, delay, max, jitterPercent}`` in ms; what is missing or unsound is the default.
    """
    for source in sources:
        found = child(source, "backoff")
        if found:
            delay, longest, jitter = (integer(found, key) for key in ("delay", "max", "jitterPercent"))
            built_in = Backoff()
            return Backoff(
                kind="Fixed" if text(found, "type").lower() == "fixed" else "Exponential",
                delay_ms=built_in.delay_ms if delay is None else max(0, delay),
                longest_ms=built_in.longest_ms if longest is None else max(0, longest),
                jitter=built_in.jitter if jitter is None else min(max(jitter, 0), 100) / 100,
            )
    return Backoff()


def decide(ended: Ended, policy: Policy, spent: Spent, now: int, random: Random) -> Decision:
    """Return what follows an ended attempt.

    Args:
        ended: how it ended.
        policy: the queue's rules and backoff, read at this moment.
        spent: what the job has spent so far.
        now: the cluster's time, ms (for ``Replace``).
        random: for jitter.
    """
    fixed = {
        OutcomeClass.SUCCEEDED: Step.COMPLETE,
        OutcomeClass.CANCELLED: Step.CANCEL,
        OutcomeClass.INVALID: Step.FAIL,
    }.get(ended.cls)
    if fixed is not None:
        return Decision(step=fixed)
    if ended.snooze:
        return _bounded(
            spent, Decision(step=Step.RETRY, delay_ms=SNOOZE_MS if ended.delay_ms is None else ended.delay_ms)
        )
    rule = policy.rules.get(ended.cls) or Rule(action=Action.FAIL)
    if ended.no_retry or _excluded(ended, rule):
        return Decision(step=Step.FAIL, cost=Cost.ATTEMPT, why="not to be retried")
    match rule.action:
        case Action.FAIL:
            return Decision(step=Step.FAIL)
        case Action.CANCEL:
            return Decision(step=Step.CANCEL)
        case Action.WAIT:
            return Decision(step=Step.WAIT)
        case Action.REPLACE:
            due = (ended.since if ended.since is not None else now) + (rule.after_ms or 0)
            if now < due:
                return Decision(step=Step.WAIT, delay_ms=due - now)
            return _bounded(spent, Decision(step=Step.RETRY, cost=Cost.BUDGET))
        case Action.RETRY | Action.REQUEUE:
            return _again(ended, rule, policy, spent, random)


def _excluded(ended: Ended, rule: Rule) -> bool:
    return ended.exit_code in rule.no_retry_exit_codes or (
        bool(ended.error_type) and not rule.no_retry_errors.isdisjoint({ended.error_type, _bare(ended.error_type)})
    )


def _bare(error_type: str) -> str:
    return error_type.rsplit(".", 1)[-1]


def _again(ended: Ended, rule: Rule, policy: Policy, spent: Spent, random: Random) -> Decision:
    own = spent.budgets.get(ended.cls.value, 0)
    if rule.max_retries is not None and own >= rule.max_retries:
        return Decision(step=Step.FAIL, why=f"after {own} of {rule.max_retries} retries for {ended.cls.value}")
    if rule.action is Action.RETRY and rule.max_retries is None:
        if spent.attempts + 1 >= spent.max_attempts:
            return Decision(step=Step.FAIL, cost=Cost.ATTEMPT)
        cost, failures = Cost.ATTEMPT, spent.attempts + 1
    else:
        cost, failures = Cost.BUDGET, own + 1
    delay = policy.backoff.delay(failures, random) if ended.delay_ms is None else ended.delay_ms
    return _bounded(spent, Decision(step=Step.RETRY, cost=cost, delay_ms=delay))


def _bounded(spent: Spent, again: Decision) -> Decision:
    if spent.starts >= limits.STARTS_MAX:
        return Decision(step=Step.FAIL, why=f"started {spent.starts} times, the most a job may be")
    return again
