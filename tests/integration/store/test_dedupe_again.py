"""Jobs that wait again: beside keys of a wrong type, and in place of the holder of a deduplication key."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("year", [2026, 2027])
def test_a_replaced_holder_keeps_its_follower(w: World, year: int) -> None:
    """While an attempt of the holder waits, it is replaced: its follower goes after the new one, never beside it."""
    claim = w.active(id="one", options=LATEST)
    follower = w.run(ops.enqueue(request(id="two", value={"year": 2027}, options=LATEST)))
    assert (follower.created, follower.state) == (True, JobState.WAITING_CHILDREN)
    w.finish(claim, Next.RETRY, delay_ms=60_000)
    # The same work again; the data of others is a conflict that changes nothing.
    done = w.run(ops.enqueue(request(id="one", value={"year": year}, options=LATEST, if_exists="replace")))
    assert (done.created, done.error) == ((True, "") if year == 2026 else (False, "conflict"))
    assert w.redis.hgetall(KEYS) == {b"annual": b"one||two"}
    started = w.ask().claims
    assert [one.job for one in started] == (["one"] if done.created else [])
    assert w.job("two").state is JobState.WAITING_CHILDREN
    for one in started:
        w.record(one)
        w.finish(one)
        assert w.claim().job == "two"


@pytest.mark.parametrize("options", [{"key": "tenant"}, {"dedupe": {"id": "other", "mode": "first"}}])
def test_a_replaced_holder_that_leaves_its_key_lets_the_follower_go(w: World, options: dict[str, object]) -> None:
    """Without the key, or with another one, nothing stands before the follower any more."""
    claim = w.active(id="one", options=LATEST)
    w.run(ops.enqueue(request(id="two", value={"year": 2027}, options=LATEST)))
    w.finish(claim, Next.RETRY, delay_ms=60_000)
    assert w.enqueue(id="one", options=options, if_exists="replace").created
    assert {one.job for one in w.ask().claims} == {"one", "two"}
    assert w.redis.hget(KEYS, "annual") == b"two"


def test_a_replacement_without_a_time_ends_a_throttle(w: World) -> None:
    """The new job's own words count: its key is free when it ends."""
    throttle = {"dedupe": {"id": "annual", "mode": "first", "ttl": 3_600_000}}
    w.enqueue(id="one", options=throttle)
    assert w.enqueue(id="one", options=FIRST, if_exists="replace").created
    claim = w.claim()
    w.record(claim)
    w.finish(claim)
    assert w.redis.hgetall(KEYS) == {}


@pytest.mark.parametrize("key", [f"rq:queue:{QUEUE}@7", f"heavylift:lanes:{QUEUE}"])
def test_a_job_whose_own_place_is_of_a_wrong_type_is_not_retried(w: World, key: str) -> None:
    """It goes where its own priority and key say, not the entry: refused by name, still failed."""
    w.serve(concurrencyPerKey=1)
    claim = w.active(id="one", options={"key": "tenant", "priority": 7})
    w.finish(claim, Next.FAIL)
    w.redis.set(key, "x")
    refused = w.run(ops.enqueue(request(id="one", if_exists="retry_failed")))
    assert (refused.error, key in refused.message) == ("corrupt", True)
    assert w.job("one").state is JobState.FAILED
    w.redis.delete(key)
    assert w.run(ops.enqueue(request(id="one", if_exists="retry_failed"))).state is JobState.WAITING
    assert w.claim().job == "one"


def test_a_requeue_lets_a_follower_go_into_a_lane_that_the_same_claim_emptied(w: World) -> None:
    """It has its turn in that claim: no sweep is needed."""
    w.serve(concurrencyPerKey=5)
    failed = w.active(id="failed", options=LATEST)
    w.finish(failed, Next.FAIL)
    holder = w.active(id="holder", options=LATEST)
    follower = w.run(ops.enqueue(request(id="follower", value={"year": 2027}, options={**LATEST, "key": "tenant"})))
    assert follower.state is JobState.WAITING_CHILDREN
    w.finish(holder, Next.RETRY, delay_ms=60_000)
    w.enqueue(id="tenants", options={"key": "tenant"})
    Job.fetch("holder", connection=w.redis, serializer=JSONSerializer).cancel()  # its follower is left behind
    Job.fetch("failed", connection=w.redis, serializer=JSONSerializer).requeue()
    assert [claim.job for claim in w.ask().claims] == ["tenants", "failed", "follower"]
