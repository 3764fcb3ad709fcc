"""Claims that a dispatcher itself hands back, beside those it goes silent on."""

from __future__ import annotations

from heavylift.contract.states import JobState
from heavylift.store import Fence, ops
from tests.integration.store.kit import WORKER, World


def test_a_dispatchers_own_releases_do_not_count(w: World) -> None:
    """However often it hands a job back, three silences are still what ends one as invalid."""
    job = w.enqueue().id
    for turn in range(5):
        claim = w.claim()
        mine = Fence(job=job, execution=claim.execution, worker=WORKER)
        w.run(ops.attend(mine))
        if turn < 3:
            w.run(ops.release(mine, reason="handed back"))
            continue
        w.redis.hset(f"rq:job:{job}", "hl:deadline", 1)
        w.run(ops.release(Fence(job=job, execution=claim.execution), reason="silent", silent=True))

    assert w.job(job).state is JobState.WAITING
    assert w.claim().silent == 2
