"""What ended goes, by count and age, in bounded steps."""

from __future__ import annotations

from typing import Any

from heavylift.contract import ids
from heavylift.contract.states import JobState
from heavylift.store import Next, ops
from tests.integration.store.kit import QUEUE, World
from tests.integration.store.rqkit import fetch, scan


def _leftovers(w: World, job: str) -> list[Any]:
    return [key for key in w.redis.scan_iter("*") if job.encode() in key]


def test_retention_by_count(w: World) -> None:
    """Only the newest stay; all keys of a removed job go, and its registry entries."""
    w.serve(retention={"completed": {"count": 3, "age": 86_400_000}, "failed": {"count": 1, "age": 86_400_000}})
    jobs = []
    for turn in range(8):
        claim = w.active(id=f"job-number-{turn}")
        w.finish(claim)
        w.run(ops.finalized(claim.install, claim.namespace, ids.job_name(
            claim.install, QUEUE, claim.job, claim.incarnation, claim.seq)))  # fmt: skip
        jobs.append(claim.job)
    while w.run(ops.trim(QUEUE)):
        pass
    kept = {record.id for record in w.run(ops.list_jobs(QUEUE, JobState.COMPLETED))}
    assert kept == set(jobs[-3:])
    assert _leftovers(w, jobs[0]) == []
    assert w.names(jobs[0])[-1] == "removed"
    assert w.run(ops.counters(QUEUE))["trimmed"] == 5
    assert set(scan(w)["finished"]) == kept


def test_retention_waits_for_the_finishing_patch(w: World) -> None:
    """A job whose Job is not finalized yet stays, so that the operator can still read it."""
    w.serve(retention={"completed": {"count": 0, "age": 86_400_000}})
    claim = w.active()
    w.finish(claim)
    assert w.job(claim.job).state is JobState.COMPLETED
    w.run(ops.finalized(claim.install, claim.namespace, w.job(claim.job).job_name))
    assert w.run(ops.trim(QUEUE)) == 1
    assert w.run(ops.get_job(claim.job)) is None


def test_retention_by_age(w: World) -> None:
    """Jobs older than the age go in bounded steps; ages are kept as expiry too."""
    jobs = []
    for _ in range(25):
        w.enqueue()
        claim = w.claim()
        w.finish(claim, job_exists=False)
        jobs.append(claim.job)
    for job in jobs:
        w.redis.hset(f"rq:job:{job}", "hl:ended", 1000)
        w.redis.zadd(f"heavylift:ended:completed:{QUEUE}", {job: 1000})
    assert w.run(ops.trim(QUEUE)) == 20
    assert w.run(ops.trim(QUEUE)) == 5
    assert w.run(ops.trim(QUEUE)) == 0
    assert list(w.redis.scan_iter("rq:job:*")) == []


def test_retention_spares_a_job_that_lives_again(w: World) -> None:
    """A requeued job is not removed by the index entry of its former end."""
    claim = w.active()
    w.finish(claim, Next.FAIL)
    fetch(w, claim.job).requeue()
    w.redis.zadd(f"heavylift:ended:failed:{QUEUE}", {claim.job: 1})
    w.run(ops.trim(QUEUE))
    assert w.job(claim.job).state is JobState.WAITING
    assert w.claim().job == claim.job
