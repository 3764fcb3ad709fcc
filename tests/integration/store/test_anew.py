"""A person's retry, and what is told outside of a job's attempts."""

from __future__ import annotations

from typing import Any

from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Next, Spend, ops
from tests.integration.store.kit import World


def test_a_retry_begins_with_all_attempts_budgets_and_starts(w: World) -> None:
    """Nothing that a job spent before counts, its history stays; each end is in the outbox, the last one as final."""
    w.serve(defaults={"priority": 0, "maxAttempts": 3})
    claim = w.active()
    w.finish(claim, Next.RETRY, cls=OutcomeClass.DISRUPTED, spend=Spend.BUDGET)
    again = w.claim()
    w.record(again)
    w.finish(again, Next.FAIL)
    spent = w.job(claim.job)
    assert (spent.attempts_made, spent.starts, spent.budgets) == (1, 2, {"disrupted": 1})

    w.run(ops.retry(claim.job, by="ann"))

    anew = w.job(claim.job)
    assert (anew.attempts_made, anew.starts, anew.budgets, len(anew.history)) == (0, 0, {}, 2)
    outbox: Any = w.redis.xrange("heavylift:outbox")
    told = [(entry[b"event"], entry[b"class"], entry[b"final"]) for _, entry in outbox]
    assert told == [(b"retrying", b"disrupted", b"0"), (b"failed", b"error", b"1")]
