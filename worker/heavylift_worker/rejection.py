"""What follows when admission refused a Job: the HeavyQueue's rule for ``rejected``, pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.spec.models import HeavyQueue
from heavylift.store.model import Claim, Next, Spend

Following = tuple[Next, Spend, int]
_LARGEST = 2**53
_FAIL: Following = (Next.FAIL, Spend.NONE, 0)


def after_rejection(claim: Claim, queue: HeavyQueue, spent: Mapping[str, int], rng: random.Random) -> Following:
    """Return (where the job goes, what that costs, after how many ms) by ``spec.outcomes.rejected``.

    Args:
        claim: the refused attempt.
        queue: whose rule decides.
        spent: class -> retries of that class spent so far.
        rng: for jitter.
    """
    rule = queue.spec.outcomes.rejected.rule()
    used = spent.get(OutcomeClass.REJECTED.value, 0)
    match rule.action:
        case Action.CANCEL:
            return Next.CANCEL, Spend.NONE, 0
        case Action.RETRY | Action.REQUEUE if rule.max_retries is not None and used >= rule.max_retries:
            return _FAIL
        case Action.RETRY if rule.max_retries is None:
            if claim.attempt >= _max_attempts(claim.frozen, queue):
                return Next.FAIL, Spend.ATTEMPT, 0
            return Next.RETRY, Spend.ATTEMPT, _delay_ms(claim, queue, claim.attempt, rng)
        case Action.RETRY | Action.REQUEUE:
            return Next.RETRY, Spend.BUDGET, _delay_ms(claim, queue, used + 1, rng)
        case _:
            return _FAIL


def _max_attempts(frozen: Mapping[str, Any], queue: HeavyQueue) -> int:
    stored = frozen.get("maxAttempts")
    return int(stored) if isinstance(stored, int | float) else queue.spec.defaults.max_attempts


def _delay_ms(claim: Claim, queue: HeavyQueue, failures: int, rng: random.Random) -> int:
    """Return ms to wait after so many failures, by the job's own backoff or its queue's (queue semantics F24-F26)."""
    backoff = queue.spec.defaults.backoff
    own = claim.options.get("backoff")
    asked: Mapping[str, Any] = own if isinstance(own, Mapping) else {}
    delay, longest = _natural(asked, "delay", backoff.delay), _natural(asked, "max", backoff.max)
    jitter = min(_natural(asked, "jitterPercent", backoff.jitter_percent), 100) / 100
    if asked.get("type", backoff.type) != "Fixed":
        delay = min(delay * 2 ** min(max(failures - 1, 0), 40), longest)
    return round(delay * (1 - rng.random() * jitter))


def _natural(asked: Mapping[str, Any], name: str, default: int) -> int:
    value = asked.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < _LARGEST else default
