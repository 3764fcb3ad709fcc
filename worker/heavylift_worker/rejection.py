"""What follows when admission refused a Job: the HeavyQueue's rule for ``rejected``, pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heavylift.contract.outcomes import OutcomeClass
from heavylift.spec.following import Case, Spent, Step, backoff_from, follow
from heavylift.spec.models import HeavyQueue
from heavylift.store.model import Claim, JobRecord, Next, Spend

Following = tuple[Next, Spend, int]


def after_rejection(claim: Claim, queue: HeavyQueue, record: JobRecord | None, rng: random.Random) -> Following:
    """Return (where the job goes, what that costs, after how many ms) by ``spec.outcomes.rejected``.

    Args:
        claim: the refused attempt.
        queue: whose rule decides.
        record: the job as Redis knows it, for what it has spent; None = nothing so far.
        rng: for jitter.
    """
    case = Case(cls=OutcomeClass.REJECTED.value, now=claim.claimed_at)
    spent = Spent(
        attempts=claim.attempt - 1,
        max_attempts=_max_attempts(claim.frozen, queue),
        starts=record.starts if record is not None else 0,
        budgets=record.budgets if record is not None else {},
        total_due=_total_due(claim.frozen),
    )
    backoff = backoff_from(claim.options, queue.spec.defaults.model_dump(by_alias=True))
    if record is not None and record.retry_delays:
        backoff = replace(backoff, listed_ms=record.retry_delays)
    decision = follow(queue.spec.outcomes.rejected.rule(), case, spent, backoff, rng)
    if decision.step is Step.WAIT:  # no rule for rejected can say so
        return Next.FAIL, Spend.NONE, 0
    return Next(decision.step.value), Spend(decision.cost.value), decision.delay_ms


def _max_attempts(frozen: Mapping[str, Any], queue: HeavyQueue) -> int:
    stored = frozen.get("maxAttempts")
    return int(stored) if isinstance(stored, int | float) else queue.spec.defaults.max_attempts


def _total_due(frozen: Mapping[str, Any]) -> int | None:
    stored = frozen.get("totalDue")
    return int(stored) if isinstance(stored, int | float) and not isinstance(stored, bool) else None
