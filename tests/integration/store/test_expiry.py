"""``expires``: a job that was not started in time never is; one that was is not asked again."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.keys import Field
from heavylift.contract.states import JobState
from heavylift.store import Fence, Next, ops
from tests.integration.store.kit import WORKER, World

HOUR = 3_600_000


def pass_time(w: World, job: str) -> None:
    """Let the time be over in which a job was to start."""
    assert w.redis.hget(f"rq:job:{job}", Field.EXPIRES)
    w.redis.hset(f"rq:job:{job}", Field.EXPIRES, 1)


@pytest.mark.parametrize("delay", [0, HOUR])
def test_a_job_that_started_in_time_is_retried(w: World, delay: int) -> None:
    """Its time was for the first start: later attempts come when they come."""
    claim = w.active(expires_ms=HOUR)
    w.finish(claim, Next.RETRY, delay_ms=delay)
    pass_time(w, claim.job)
    if delay:
        w.run(ops.promote(claim.job))
    again = w.claim()
    assert (again.job, again.attempt) == (claim.job, 2)


def test_a_claim_that_was_given_back_is_no_start(w: World) -> None:
    """No Job was made: the time to start in goes on."""
    job = w.enqueue(expires_ms=HOUR).id
    claim = w.claim()
    w.run(ops.release(Fence(job=job, execution=claim.execution, worker=WORKER), reason="quota"))
    pass_time(w, job)
    assert not w.ask().claims
    assert (w.job(job).state, w.job(job).starts) == (JobState.FAILED, 0)


def test_a_retry_of_one_that_expired_runs(w: World) -> None:
    """Whoever retries it wants it to run, however late."""
    job = w.enqueue(expires_ms=HOUR).id
    pass_time(w, job)
    assert not w.ask().claims
    w.run(ops.retry(job))
    assert w.claim().job == job
    assert w.job(job).expires is None


BOUNDS: dict[str, dict[str, Any]] = {
    "cap": {"concurrencyMax": 1},
    "key": {"concurrencyPerKey": 1},
    "rate": {"rateLimit": {"limit": 1, "period": HOUR}},
}


@pytest.mark.parametrize("bound", [*BOUNDS, "paused"])
def test_what_holds_a_queue_back_saves_no_job(w: World, bound: str) -> None:
    """A job whose time runs out while nothing may start fails when its turn comes; it never starts."""
    w.serve(**BOUNDS.get(bound, {}))
    w.active(options={"key": "tenant"})
    if bound == "paused":
        w.serve(paused=True)
    job = w.enqueue(expires_ms=HOUR, options={"key": "tenant"}).id
    assert not w.ask().claims
    pass_time(w, job)
    w.serve()
    assert not w.ask().claims
    assert w.job(job).state is JobState.FAILED


def test_a_delay_beyond_it_ends_it(w: World) -> None:
    """Both count from the enqueue: a job that is due after its time fails when it is due."""
    job = w.enqueue(expires_ms=HOUR, delay_ms=2 * HOUR).id
    pass_time(w, job)
    w.run(ops.promote(job))
    assert not w.ask().claims
    assert w.job(job).state is JobState.FAILED
