"""Rules: what follows an ended attempt, by its class, the queue's rules and what the job has spent so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.errors import InvalidInputError
from heavylift.spec import quantities
from heavylift.spec.following import (
    Backoff,
    Case,
    Cost,
    Decision,
    Random,
    Spent,
    Step,
    backoff_from,
    bounded,
    follow,
)
from heavylift.spec.rules import Rule
from heavylift_operator.core.outcome import Ended

__all__ = ["Backoff", "Cost", "Decision", "Policy", "Random", "Spent", "Step", "backoff_from", "decide"]

SNOOZE_MS = 60_000
"""How long a snooze lasts when the program names no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the queue says about ends."""

    rules: Mapping[OutcomeClass, Rule]
    backoff: Backoff = field(default_factory=Backoff)


def decide(ended: Ended, policy: Policy, spent: Spent, now: int, random: Random) -> Decision:
    """Return what follows an ended attempt.

    Args:
        ended: how it ended.
        policy: the queue's rules and backoff, read at this moment.
        spent: what the job has spent so far.
        now: the cluster's time, ms.
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
        delay = SNOOZE_MS if ended.delay_ms is None else ended.delay_ms
        return bounded(Decision(step=Step.RETRY, delay_ms=delay), spent, now)
    rule = policy.rules.get(ended.cls) or Rule(action=Action.FAIL)
    if ended.no_retry or _excluded(ended, rule):
        return Decision(step=Step.FAIL, cost=Cost.ATTEMPT, why="not to be retried")
    case = Case(cls=ended.cls.value, now=now, since=ended.since, asked_ms=ended.delay_ms)
    return replace(follow(rule, case, spent, policy.backoff, random), memory=_memory(ended, rule))


def _memory(ended: Ended, rule: Rule) -> int | None:
    """Return the memory to ask for next, also if only a person's retry makes a next attempt."""
    try:
        return rule.grown(quantities.to_bytes(ended.memory_limit)) if ended.memory_limit else None
    except InvalidInputError:
        return None


def _excluded(ended: Ended, rule: Rule) -> bool:
    return ended.exit_code in rule.no_retry_exit_codes or (
        bool(ended.error_type) and not rule.no_retry_errors.isdisjoint({ended.error_type, _bare(ended.error_type)})
    )


def _bare(error_type: str) -> str:
    return error_type.rsplit(".", 1)[-1]
