"""Claims that pass their deadline without a word: whose fault it is."""

from __future__ import annotations

import pytest

from heavylift.contract.states import JobState
from heavylift.store import Fence, Verdict, ops
from tests.integration.store.kit import WORKER, World


def test_silent_claims_end_as_invalid(w: World) -> None:
    """A job whose claims thrice pass their deadline in hand is failed; before the deadline nothing happens."""
    job = w.enqueue().id
    for turn in range(3):
        claim = w.claim()
        assert claim.silent == turn
        w.run(ops.attend(Fence(job=job, execution=claim.execution, worker=WORKER)))
        fence = Fence(job=job, execution=claim.execution)
        early = w.run(ops.release(fence, reason="silent", silent=True))
        assert early.verdict is Verdict.REFUSED
        w.redis.hset(f"rq:job:{job}", "hl:deadline", 1)
        assert w.run(ops.release(fence, reason="silent", silent=True)).verdict is Verdict.APPLIED
        assert w.job(job).state is (JobState.FAILED if turn == 2 else JobState.WAITING)
    assert w.job(job).outcome["class"] == "invalid"
    assert w.finals(job) == ["failed"]
    assert w.idle()


@pytest.mark.parametrize("checked", [False, True])
def test_jobs_that_a_dying_dispatcher_merely_held_are_innocent(w: World, checked: bool) -> None:
    """Not taken up, or already past the check before their Job: such silences make a suspect, never a failure."""
    job = w.enqueue().id
    for _ in range(6):
        claim = w.claim()
        mine = Fence(job=job, execution=claim.execution, worker=WORKER)
        if checked:
            w.run(ops.attend(mine))
            w.run(ops.check(mine))
        w.redis.hset(f"rq:job:{job}", "hl:deadline", 1)
        w.run(ops.release(Fence(job=job, execution=claim.execution), reason="silent", silent=True))
    assert w.job(job).state is JobState.WAITING
    assert w.claim().silent == 1


def test_a_mark_of_an_earlier_claim_does_not_count(w: World) -> None:
    """Attended to once, handed back, claimed again and silent: the mark is of another claim."""
    job = w.enqueue().id
    first = w.claim()
    w.run(ops.attend(Fence(job=job, execution=first.execution, worker=WORKER)))
    w.run(ops.release(Fence(job=job, execution=first.execution, worker=WORKER), reason="handed back"))
    assert w.redis.hget(f"rq:job:{job}", "hl:attended") is None


def test_silent_release_leaves_a_recorded_job_alone(w: World) -> None:
    """The reconciler's release is refused once a Job is recorded."""
    claim = w.active()
    w.redis.hset(f"rq:job:{claim.job}", "hl:deadline", 1)
    done = w.run(ops.release(Fence(job=claim.job, execution=claim.execution), reason="silent", silent=True))
    assert done.verdict is Verdict.REFUSED
