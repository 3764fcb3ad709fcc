"""Deduplication where a job waits again: its key of a wrong type, its replacement beside a follower."""

from __future__ import annotations

from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract.states import JobState
from heavylift.store import Next, Verdict, ops
from tests.integration.store.kit import INSTALL, QUEUE, World, request

KEYS = f"heavylift:dedup:{QUEUE}"
FIRST = {"dedupe": {"id": "annual", "mode": "first"}}
LATEST = {"dedupe": {"id": "annual", "mode": "keep_last"}}


def _failed(w: World) -> str:
    """Fail a job with a key, then put a stranger's value in the place of the queue's keys."""
    claim = w.active(options=FIRST)
    w.finish(claim, Next.FAIL)
    w.redis.delete(KEYS)
    w.redis.set(KEYS, "x")
    return claim.job


def test_a_requeue_under_a_key_of_a_wrong_type_stops_no_claim(w: World) -> None:
    """What RQ's own requeue lets go starts without its key; the other queues of the claim are served and counted."""
    job = _failed(w)
    w.serve("other")
    other = w.enqueue(queue="other").id
    Job.fetch(job, connection=w.redis, serializer=JSONSerializer).requeue()
    assert {claim.job for claim in w.ask("other", QUEUE).claims} == {job, other}
    assert w.run(ops.counters("other"))["claimed"] == 1
    assert w.run(ops.inflight_count(INSTALL)) == len(w.redis.smembers("rq:worker:w1:executions")) == 2
    assert w.redis.get(KEYS) == b"x"


def test_a_retry_under_a_key_of_a_wrong_type_changes_nothing(w: World) -> None:
    """The refusal names the key; the job stays failed and in no list."""
    job = _failed(w)
    refused = w.run(ops.retry(job))
    assert (refused.verdict, KEYS in refused.message) == (Verdict.CORRUPT, True)
    assert (w.job(job).state, w.waiting()) == (JobState.FAILED, [])
    again = w.run(ops.enqueue(request(id=job, if_exists="retry_failed")))
    assert (again.error, KEYS in again.message) == ("corrupt", True)
    assert w.job(job).state is JobState.FAILED
