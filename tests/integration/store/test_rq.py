"""RQ's own client and tools over the same keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue, Retry
from rq.exceptions import InvalidJobOperation
from rq.job import JobStatus
from rq.registry import (
    StartedJobRegistry,
)

from heavylift.contract import ids, limits, payload
from heavylift.contract.states import JobState
from heavylift.store import Fence, Next, Verdict, decode, ops
from heavylift_operator.services.views import Views
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World
from tests.integration.store.rqkit import FUNC, fetch, scan
from tests.proofs.waiting import until


def test_plain_rq_job_runs_and_its_options_count(w: World, q: Queue) -> None:
    """RQ's client enqueues; job_timeout, retry and the payload arrive; its own 180 s default counts as unset."""
    job = q.enqueue(FUNC, 2026, year=1, job_timeout=600, retry=Retry(max=2), meta={"team": "bi"}, job_id="mine")
    claim = w.claim()
    enqueued = w.job("mine").enqueued_at
    assert enqueued is not None
    assert 0 <= claim.claimed_at - enqueued < 60_000
    created = w.redis.hget("rq:job:mine", "created_at")
    assert created is not None
    assert claim.incarnation == ids.plain_source("mine", decode.text(created))[:16]
    assert (claim.task, claim.frozen["maxAttempts"], claim.frozen["timeouts"]["run"]) == ("", 3, 600_000)
    assert payload.decode(claim.data) == payload.Payload(FUNC, '{"args":[2026],"kwargs":{"year":1}}', plain=True)
    assert claim.rq["retries_left"] == "2"
    w.finish(claim, Next.RETRY)
    assert fetch(w, "mine").retries_left == 1
    again = w.claim()
    assert (again.attempt, again.frozen["maxAttempts"]) == (2, 3)
    w.finish(again, result='{"ok": true}')
    job.refresh()  # type: ignore[no-untyped-call]
    assert (job.get_status(), job.return_value(), job.meta) == (JobStatus.FINISHED, {"ok": True}, {"team": "bi"})
    q.enqueue(FUNC)
    assert w.claim().frozen["timeouts"]["run"] == 86_400_000


def test_rq_shows_true_states_at_each_moment(w: World, q: Queue) -> None:
    """Status, registries, executions and results are right at each step, with RQ's cleanups running all the time."""
    job = q.enqueue(FUNC, job_id="j").id
    assert scan(w) == {"queued": [job]}
    claim = w.claim()
    w.record(claim)
    assert scan(w) == {"started": [job]}
    running = fetch(w, job)
    assert (running.get_status(), running.worker_name) == (JobStatus.STARTED, WORKER)
    (execution,) = running.get_executions()
    assert (execution.id, execution.worker_name) == (claim.execution, WORKER)
    assert abs(execution.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    w.finish(claim, Next.RETRY, delay_ms=60_000)
    assert scan(w) == {"scheduled": [job]}
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {job: 1})
    claim = w.claim()
    w.finish(claim, Next.FAIL, message="exit 3: no such year")
    assert scan(w) == {"failed": [job]}
    failed = fetch(w, job)
    assert failed.get_status() is JobStatus.FAILED
    result = failed.latest_result()
    assert result is not None
    assert (result.exc_string, result.execution_id) == ("error: exit 3: no such year", claim.execution)
    assert fetch(w, job).ended_at is not None


def test_result_forms(w: World, q: Queue) -> None:
    """Null and no result read as None by RQ's tools, others as their value."""
    for text, value in (("null", None), (None, None), ("[1, 2]", [1, 2]), ('"é"', "é")):
        job = q.enqueue(FUNC)
        w.finish(w.claim(), result=text)
        assert job.return_value(refresh=True) == value
        assert job.latest_result() is not None


def test_rq_requeue_resets_attempts_and_keeps_history(w: World, q: Queue) -> None:
    """``rq requeue`` of a failed job: attempts from zero, next seq, history kept."""
    job = q.enqueue(FUNC, retry=Retry(max=1), job_id="j")
    w.finish(w.claim(), Next.RETRY)
    w.finish(w.claim(), Next.FAIL)
    fetch(w, "j").requeue()
    claim = w.claim()
    assert (claim.attempt, claim.seq, claim.frozen["maxAttempts"]) == (1, 3, 2)
    assert len(w.job("j").history) == 2
    assert w.redis.ttl("rq:job:j") == -1
    w.finish(claim)
    assert scan(w) == {"finished": [job.id]}
    assert w.finals("j") == ["failed", "completed"]


def test_the_intervals_of_rqs_retry_reach_whoever_decides(w: World, q: Queue) -> None:
    """Milliseconds by failure, once the job was claimed; for its other jobs the queue's backoff counts."""
    q.enqueue(FUNC, retry=Retry(max=2, interval=[10, 30]), job_id="own")
    q.enqueue(FUNC, retry=Retry(max=2), job_id="default")
    own, default = w.ask().claims
    assert w.job("own").retry_delays == (10_000, 30_000)
    assert w.job("default").retry_delays == ()
    assert (own.rq["retry_intervals"], default.rq["retry_intervals"]) == ("[10, 30]", "[0]")
    policy = Views(install=INSTALL, grace_ms=0)._policy(w.job("own"), w.settings)
    assert policy.backoff.listed_ms == (10_000, 30_000)


@pytest.mark.parametrize("delay_ms", [0, 1])
def test_a_retry_goes_to_the_front_where_rqs_retry_says_so(w: World, q: Queue, delay_ms: int) -> None:
    """At once or after its delay; another job's goes behind."""
    for job, front in (("first", True), ("second", False)):
        q.enqueue(FUNC, retry=Retry(max=1, enqueue_at_front=front), job_id=job)
    q.enqueue(FUNC, job_id="third")
    first, second = w.ask(max=2).claims
    w.finish(second, Next.RETRY)
    w.finish(first, Next.RETRY, delay_ms=delay_ms)
    until(lambda: w.run(ops.counts(QUEUE)).delayed == 0, "the delay to be over")
    assert [w.claim().job for _ in range(3)] == ["first", "third", "second"]


def test_an_id_enqueued_anew_by_rq_starts_afresh(w: World, q: Queue) -> None:
    """RQ overwrites the hash of a used id: nothing of the former job counts."""
    former = w.active(id="j", options={"maxAttempts": 9})
    w.finish(former, Next.FAIL)
    q.enqueue(FUNC, job_id="j")
    claim = w.claim()
    assert (claim.seq, claim.attempt, claim.task, claim.options) == (1, 1, "", {})
    assert claim.incarnation != former.incarnation
    assert w.job("j").history == ()


def test_an_id_enqueued_anew_while_it_runs_supersedes(w: World, q: Queue) -> None:
    """The old execution is no longer current: its report is refused and nothing of it stays in flight."""
    old = w.active(id="j")
    q.enqueue(FUNC, job_id="j")
    assert w.finish(old).verdict is Verdict.REFUSED
    new = w.claim()
    assert new.execution != old.execution
    assert w.finish(old).verdict is Verdict.REFUSED
    assert w.redis.zrange(f"rq:wip:{QUEUE}", 0, -1) == [f"j:{new.execution}".encode()]
    w.finish(new)
    assert w.idle()
    assert w.finals("j") == ["completed"]


def test_rq_cancel_of_a_waiting_job(w: World, q: Queue) -> None:
    """RQ's cancel takes the job out; a ghost left in the list is dropped and counted."""
    job = q.enqueue(FUNC, job_id="j")
    job.cancel()
    w.redis.rpush(f"rq:queue:{QUEUE}", "j")
    assert not w.ask().claims
    assert w.run(ops.counters(QUEUE))["dropped"] == 1
    assert w.job("j").state is JobState.CANCELLED


def test_rq_cancelled_and_enqueued_once_more(w: World, q: Queue) -> None:
    """A job of ours that RQ cancelled and enqueued again stands among the completed alone once it completed."""
    job = w.enqueue().id
    fetch(w, job).cancel()
    q.enqueue_job(fetch(w, job))
    w.finish(w.claim())
    assert scan(w) == {"finished": [job]}


def test_rq_cancel_of_a_running_job_wins(w: World, q: Queue) -> None:
    """RQ has told everybody "canceled": whatever the pod did, the job ends so; before, each answer says to stop it."""
    q.enqueue(FUNC, job_id="j")
    claim = w.claim()
    w.record(claim)
    fetch(w, "j").cancel()
    with pytest.raises(InvalidJobOperation):
        fetch(w, "j").cancel()
    fence = Fence(job="j", execution=claim.execution, uid=f"uid-{claim.execution}")
    assert w.run(ops.check(fence)).verdict is Verdict.CANCELLED
    done = w.finish(claim, result="1")
    assert (done.state, done.stored["class"]) == (JobState.CANCELLED, "cancelled")
    assert w.finals("j") == ["cancelled"]
    assert w.idle()
    assert scan(w) == {"canceled": ["j"]}


def test_rq_delete_of_a_running_job(w: World, q: Queue) -> None:
    """RQ's delete removes the hash: the operator is told MISSING and nothing stays in flight."""
    q.enqueue(FUNC, job_id="j")
    claim = w.claim()
    w.record(claim)
    fetch(w, "j").delete()
    assert w.finish(claim).verdict is Verdict.MISSING
    assert w.idle()
    assert scan(w) == {}


def test_rq_delete_of_an_ended_job(w: World, q: Queue) -> None:
    """RQ's delete of an ended job leaves no trouble for retention."""
    q.enqueue(FUNC, job_id="j")
    w.finish(w.claim())
    fetch(w, "j").delete()
    w.serve(retention={"completed": {"count": 0, "age": 60_000}})
    assert w.run(ops.trim(QUEUE)) == 1
    assert not w.redis.exists(f"heavylift:ended:completed:{QUEUE}")


def test_what_rq_cancelled_is_trimmed_as_others(w: World, q: Queue) -> None:
    """Jobs that RQ's cancel ended come into the index of ended jobs, all of them, one that runs when it has ended."""
    for number in range(limits.ENDED_SWEEP_STEP + 10):
        q.enqueue(FUNC, job_id=f"j{number}").cancel()
    q.enqueue(FUNC, job_id="runs")
    claim = w.claim()
    w.record(claim)
    fetch(w, "runs").cancel()

    assert w.run(ops.find_ended(QUEUE, JobState.CANCELLED))[0] == []
    cursor, found = w.run(ops.sweep_ended(QUEUE))
    assert (cursor, w.run(ops.sweep_ended(QUEUE, cursor or 0))[0]) == (limits.ENDED_SWEEP_STEP, None)
    assert 0 < found <= limits.ENDED_SWEEP_STEP
    assert w.redis.zcard(f"heavylift:ended:cancelled:{QUEUE}") == limits.ENDED_SWEEP_STEP + 10
    assert w.run(ops.counters(QUEUE))["repaired:ended"] == limits.ENDED_SWEEP_STEP + 10
    w.finish(claim, Next.CANCEL)
    w.serve(retention={"failed": {"count": 0, "age": 60_000}})
    while w.run(ops.trim(QUEUE)):
        pass
    assert list(w.redis.scan_iter("rq:job:*")) == [b"rq:job:runs"]  # its Job is not let go yet


def test_rq_enqueue_in_is_promoted_by_claim(w: World, q: Queue) -> None:
    """RQ's own scheduled jobs run without any RQ scheduler."""
    q.enqueue_in(timedelta(hours=1), FUNC, job_id="later")
    q.enqueue_at(datetime.now(UTC) - timedelta(seconds=5), FUNC, job_id="due")
    reply = w.ask()
    assert [claim.job for claim in reply.claims] == ["due"]
    assert reply.next_due_ms is not None
    assert 3_500_000 < reply.next_due_ms <= 3_600_000
    assert scan(w) == {"started": ["due"], "scheduled": ["later"]}


def test_rq_ttl_does_not_delete_what_runs(w: World, q: Queue) -> None:
    """RQ's ttl ends with the claim; an expired one leaves a ghost that is dropped."""
    q.enqueue(FUNC, job_id="j", ttl=600)
    q.enqueue(FUNC, job_id="gone", ttl=600)
    w.redis.delete("rq:job:gone")
    claim = w.claim()
    assert w.redis.ttl("rq:job:j") == -1
    assert w.redis.ttl(f"rq:execution:j:{claim.execution}") == -1
    assert w.redis.ttl("rq:executions:j") == -1
    assert not w.ask().claims
    assert w.run(ops.counters(QUEUE))["dropped"] == 1


def test_result_ttl_is_capped_by_retention(w: World, q: Queue) -> None:
    """RQ's result_ttl and failure_ttl count up to the queue's retention, and not below a minute."""
    for asked, expected in ((None, 86_400), (500, 500), (10**7, 86_400), (-1, 86_400), (0, 60)):
        job = q.enqueue(FUNC, result_ttl=asked)
        w.finish(w.claim())
        assert expected - 5 <= w.redis.ttl(f"rq:job:{job.id}") <= expected
        assert w.redis.ttl(f"rq:results:{job.id}") > 0


def test_twice_in_the_list_runs_once(w: World, q: Queue) -> None:
    """RQ without unique queues an id twice: one execution, the other entry is dropped."""
    q.enqueue(FUNC, job_id="j")
    w.redis.rpush(f"rq:queue:{QUEUE}", "j")
    assert len(w.ask().claims) == 1
    assert w.waiting() == []


def test_cleanups_never_touch_what_runs(w: World, q: Queue) -> None:
    """RQ's maintenance over a running execution, however old, neither abandons nor retries it (G5, G7, G8)."""
    q.enqueue(FUNC, job_id="j", retry=Retry(max=3))
    claim = w.claim()
    w.record(claim)
    registry = StartedJobRegistry(queue=q)
    for _ in range(3):
        registry.cleanup(timestamp=4_000_000_000)
        scan(w)
    assert w.job("j").execution == claim.execution
    assert fetch(w, "j").retries_left == 3
    assert w.waiting() == []


def test_hold_rq_locks_keeps_stock_maintenance_off(w: World, q: Queue) -> None:
    """With our token in them neither maintenance nor a scheduler starts; another's token is left alone."""
    assert w.run(ops.hold_rq_locks(QUEUE, "token", 60_000))
    assert w.run(ops.hold_rq_locks(QUEUE, "token", 60_000))
    assert not q.acquire_maintenance_lock()
    assert not w.run(ops.hold_rq_locks(QUEUE, "other", 60_000))
    assert q.scheduler_pid is None
    w.run(ops.release_rq_locks(QUEUE, "token"))
    assert q.acquire_maintenance_lock()
