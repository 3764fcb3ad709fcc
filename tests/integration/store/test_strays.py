"""What RQ's tools do to a running job: the width and the cap get their place back."""

from __future__ import annotations

import pytest
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from heavylift import administration
from heavylift.contract import limits
from heavylift.contract.keys import Field
from heavylift.contract.states import JobState
from heavylift.store import Claim, Fence, Next, Spend, Verdict, ops
from tests.integration.store.kit import INSTALL, QUEUE, World, request
from tests.integration.store.rqkit import FUNC


def _queued_again(w: World, claim: Claim) -> None:
    """Put an active job back into its list, as ``Queue.push_job_id`` with a status set by hand does."""
    w.redis.hset(f"rq:job:{claim.job}", "status", "queued")
    w.redis.rpush(f"rq:queue:{QUEUE}", claim.job)


@pytest.mark.parametrize("if_exists", ["replace", "retry_failed"])
def test_no_enqueue_takes_over_a_job_whose_pod_still_runs(w: World, if_exists: str) -> None:
    """RQ's cancel leaves a running execution behind for a moment: until it ended the id is refused, then it is free."""
    claim = w.active(id="a")
    Job.fetch("a", connection=w.redis, serializer=JSONSerializer).cancel()
    refused = w.run(ops.enqueue(request(id="a", if_exists=if_exists)))
    assert refused.error == "conflict"
    assert "still has a pod" in refused.message
    assert w.finish(claim).verdict is Verdict.APPLIED
    assert w.idle()
    assert not w.run(ops.enqueue(request(id="a", if_exists=if_exists))).error
    assert w.job("a").state is JobState.WAITING


def test_an_execution_deleted_and_enqueued_anew_counts_no_longer(w: World, q: Queue) -> None:
    """RQ deletes a running job and enqueues its id: the old execution's next fenced call clears its place."""
    q.enqueue(FUNC, job_id="a")
    old = w.claim()
    w.record(old)
    Job.fetch("a", connection=w.redis, serializer=JSONSerializer).delete()
    q.enqueue(FUNC, job_id="a")
    new = w.claim()
    w.record(new)
    assert w.run(ops.inflight_count(INSTALL)) == 2
    assert w.run(ops.check(Fence(job="a", execution=old.execution))).verdict is Verdict.REFUSED
    assert w.run(ops.inflight_count(INSTALL)) == 1
    assert w.run(ops.check(Fence(job="a", execution=new.execution))).verdict is Verdict.APPLIED
    assert w.finish(new).verdict is Verdict.APPLIED
    assert w.idle()


def test_an_active_job_queued_again_frees_its_place_whatever_claim_decides(w: World) -> None:
    """The second claim finds it started too often: it fails, and the execution it had leaves nothing behind."""
    claim = w.active(id="a")
    _queued_again(w, claim)
    w.redis.hset("rq:job:a", Field.STARTS, limits.STARTS_MAX)
    assert not w.ask().claims
    assert w.job("a").state is JobState.FAILED
    assert w.idle()


def test_a_cancel_of_an_active_job_queued_again_is_kept(w: World) -> None:
    """It waits, so it is cancelled at once: no later claim starts it."""
    _queued_again(w, w.active(id="a"))
    assert w.run(ops.cancel("a", by="ann")).verdict is Verdict.APPLIED
    assert not w.ask().claims
    assert w.finals("a") == ["cancelled"]
    assert w.idle()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_json_cannot_write_stop_no_script(w: World, number: str) -> None:
    """Lua's decoder reads them and its encoder raises: neither claim nor finish of this or another job is disturbed."""
    w.enqueue(id="odd")
    w.redis.hset("rq:job:odd", Field.OPTIONS, f'{{"maxAttempts":{number},"timeouts":{{"run":{number}}}}}')
    w.enqueue(id="good")
    odd, good = w.ask().claims
    assert (odd.job, good.job) == ("odd", "good")
    assert odd.frozen["maxAttempts"] == 1
    w.redis.hset("rq:job:odd", Field.BUDGETS, f'{{"oom":{number},"error":1}}')
    for claim in (odd, good):
        w.record(claim)
        assert w.finish(claim, Next.RETRY, spend=Spend.BUDGET).verdict is Verdict.APPLIED
    assert w.job("odd").budgets == {"error": 2}


def test_ghosts_in_a_list_hide_no_jobs_behind_them(w: World) -> None:
    """A page of ids whose jobs are gone is not the end: what follows is still listed."""
    w.redis.rpush(f"rq:queue:{QUEUE}", *(f"ghost-{number}" for number in range(250)))
    job = w.enqueue().id
    assert w.run(ops.page_jobs(QUEUE, JobState.WAITING, count=100)) == ([], True)
    wanted = administration.Filter(state=JobState.WAITING)
    assert [info.id for info in w.run(administration.jobs(QUEUE, wanted, 10))] == [job]


def test_a_job_requeued_by_rq_outlives_its_retention_while_it_waits(w: World, q: Queue) -> None:
    """RQ leaves the failed job's expiry on its hash: however late it is requeued, there are weeks left to claim it."""
    q.enqueue(FUNC, job_id="a")
    w.finish(w.claim(), Next.FAIL)
    FailedJobRegistry(queue=q).requeue("a")
    kept_s = w.settings["retention"]["failed"]["age"] // 1000
    assert w.redis.ttl("rq:job:a") > kept_s + 20 * 86_400
    assert w.claim().job == "a"
    assert w.redis.ttl("rq:job:a") == -1
