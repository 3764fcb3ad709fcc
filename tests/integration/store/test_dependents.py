"""Jobs that wait for others, as RQ has them."""

from __future__ import annotations

import pytest
from rq import Queue
from rq.job import Dependency, JobStatus
from rq.registry import (
    DeferredJobRegistry,
)
from rq.serializers import JSONSerializer

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Next, Verdict, ops
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, World
from tests.integration.store.rqkit import FUNC, scan


def test_dependents_wait_for_all_and_cross_queues(w: World, q: Queue) -> None:
    """A job that depends on two waits for both; ours and RQ's, also in another queue."""
    w.serve("second")
    other = Queue("second", connection=w.redis, serializer=JSONSerializer)
    a, b = q.enqueue(FUNC, job_id="a"), other.enqueue(FUNC, job_id="b")
    other.enqueue(FUNC, job_id="rq-child", depends_on=[a, b])
    w.enqueue(id="our-child", depends_on=("a", "b"))
    assert w.job("our-child").state is JobState.WAITING_CHILDREN
    assert w.job("our-child").dependencies == ("a", "b")
    first, second = w.claim(), w.claim(queues=("second",))
    w.finish(first)
    assert w.job("rq-child").state is JobState.WAITING_CHILDREN
    w.finish(second)
    assert w.waiting() == ["our-child"]
    assert w.waiting("second") == ["rq-child"]
    assert scan(w)["queued"] == ["our-child"]
    assert DeferredJobRegistry(queue=other).get_job_ids() == []
    assert not w.redis.exists("rq:job:a:dependents", "rq:job:b:dependents")
    assert {claim.job for claim in w.ask(QUEUE, "second").claims} == {"our-child", "rq-child"}


def test_a_failed_dependency_keeps_dependents_deferred(w: World, q: Queue) -> None:
    """As in RQ: they stay deferred, unless they allow the failure; a later success lets them go."""
    a = q.enqueue(FUNC, job_id="a")
    q.enqueue(FUNC, job_id="strict", depends_on=a)
    q.enqueue(FUNC, job_id="lenient", depends_on=Dependency(jobs=[a], allow_failure=True))
    w.finish(w.claim(), Next.FAIL)
    assert scan(w) == {"failed": ["a"], "deferred": ["strict"], "queued": ["lenient"]}
    w.run(ops.retry("a"))
    w.finish(w.ask().claims[-1])
    assert w.waiting() == ["strict"]


def test_a_cancelled_dependency_keeps_dependents_deferred(w: World, q: Queue) -> None:
    """As in RQ, even where failures are allowed."""
    a = q.enqueue(FUNC, job_id="a")
    q.enqueue(FUNC, job_id="child", depends_on=Dependency(jobs=[a], allow_failure=True))
    w.run(ops.cancel("a", by="ann"))
    assert scan(w) == {"canceled": ["a"], "deferred": ["child"]}


def test_met_and_missing_dependencies_do_not_hold(w: World) -> None:
    """A finished dependency and one that is gone count as met, as in RQ."""
    done = w.active()
    w.finish(done)
    job = w.enqueue(depends_on=(done.job, "never-was")).id
    assert w.waiting() == [job]


def test_many_dependents_are_let_go_in_steps(w: World) -> None:
    """More dependents than one script handles are freed by the claims that follow."""
    holder = w.enqueue(id="holder").id
    for _ in range(250):
        w.enqueue(depends_on=(holder,))
    w.finish(w.claim())
    assert len(w.waiting()) == 50
    w.serve(paused=True)
    for _ in range(3):
        w.ask()
    assert len(w.waiting()) == 250
    assert not w.redis.exists("heavylift:dependents")


def test_dependents_that_wait_for_others_are_not_looked_at_for_ever(w: World) -> None:
    """Many dependents that also wait for another job leave the first one's set, and go when the other is done."""
    first, second = w.enqueue(id="first").id, w.enqueue(id="second").id
    for _ in range(150):
        w.enqueue(depends_on=(first, second))
    one, two = w.ask(max=2).claims
    w.finish(one)
    w.ask()
    assert not w.redis.exists("heavylift:dependents", "rq:job:first:dependents")
    w.finish(two)
    w.serve(paused=True)
    w.ask()
    w.ask()
    assert len(w.waiting()) == 150


def test_many_strict_dependents_of_a_failure_cost_nothing_later(w: World) -> None:
    """They stay deferred and known to the failed job; no later claim looks at them."""
    holder = w.enqueue(id="holder").id
    for _ in range(150):
        w.enqueue(depends_on=(holder,))
    w.finish(w.claim(), Next.FAIL)
    assert not w.redis.exists("heavylift:dependents")
    assert w.redis.scard("rq:job:holder:dependents") == 150


def test_rq_worker_side_lets_our_dependents_go(w: World, q: Queue) -> None:
    """When RQ itself finishes the dependency, its code moves our deferred job, and it runs."""
    parent = Queue("light", connection=w.redis, serializer=JSONSerializer).enqueue(FUNC, job_id="light-1")
    w.enqueue(id="child", depends_on=("light-1",))
    parent.set_status(JobStatus.FINISHED)
    q.enqueue_dependents(parent)
    assert w.waiting() == ["child"]
    claim = w.claim()
    assert (claim.task, claim.seq) == ("annual", 1)
    w.finish(claim, cls=OutcomeClass.SUCCEEDED)
    assert w.job("child").state is JobState.COMPLETED


def test_deferred_with_delay_waits_again(w: World) -> None:
    """A delay that is not over when the dependencies are met still counts."""
    holder = w.active()
    job = w.enqueue(depends_on=(holder.job,), delay_ms=60_000).id
    w.finish(holder)
    assert w.job(job).state is JobState.DELAYED


def test_a_dependent_that_goes_to_the_front_is_not_taken_for_the_one_that_ended(w: World, q: Queue) -> None:
    """A claim ends what cannot run, and takes off the list that one: not whom the end put before it."""
    parent = q.enqueue(FUNC, job_id="parent")
    q.enqueue(FUNC, job_id="child", depends_on=Dependency(jobs=[parent], allow_failure=True, enqueue_at_front=True))
    w.redis.hdel("rq:job:parent", "data")
    assert [claim.job for claim in w.ask().claims] == ["child"]
    assert w.job("parent").state is JobState.FAILED
    assert w.waiting() == []


@pytest.mark.parametrize("by", ["claim", "purge"])
def test_a_follower_that_goes_to_the_front_is_not_taken_for_the_one_before_it(w: World, by: str) -> None:
    """The holder of a key ends while it waits again: its follower goes next, wherever that end found the holder."""
    options = {"lifo": True, "maxAttempts": 2, "dedupe": {"id": "annual", "mode": "keep_last"}}
    first = w.active(options=options)
    follower = w.enqueue(options=options, value={"year": 2027})
    assert follower.state is JobState.WAITING_CHILDREN
    w.finish(first, Next.RETRY)
    if by == "claim":
        w.redis.hset(f"rq:job:{first.job}", "hl:starts", limits.STARTS_MAX)
    else:
        assert w.run(ops.purge(QUEUE, JobState.WAITING, 1)) == 1
    assert w.claim().job == follower.id
    assert w.waiting() == []


# -- the sweep over those that no end lets go any more ----------------------------------------------------------------
def swept(w: World, queue: str = QUEUE) -> int:
    """Sweep a queue to the end; return how many were mended."""
    cursor, mended = w.run(ops.sweep_dependents(queue))
    for _ in range(1000):
        if cursor is None:
            return mended
        cursor, found = w.run(ops.sweep_dependents(queue, cursor))
        mended += found
    raise AssertionError("the sweep does not end")


@pytest.mark.parametrize("how", ["purged", "removed", "trimmed", "deleted by RQ", "expired"])
def test_what_waits_for_a_job_that_is_gone_is_cancelled(w: World, q: Queue, how: str) -> None:
    """However it went without having completed: dependents of ours and RQ's end, with its name in the message."""
    parent = q.enqueue(FUNC, job_id="parent")
    w.enqueue(id="ours", depends_on=("parent",))
    q.enqueue(FUNC, job_id="rqs", depends_on=parent)
    w.finish(w.claim(), Next.FAIL)
    assert swept(w) == 0
    match how:
        case "purged":
            assert w.run(ops.purge(QUEUE, JobState.FAILED, 10)) == 1
        case "removed":
            assert w.run(ops.remove("parent")).verdict is Verdict.APPLIED
        case "trimmed":
            w.serve(retention={"failed": {"count": 0, "age": 60_000}})
            assert w.run(ops.trim(QUEUE))
            w.serve()
        case "deleted by RQ":
            parent.delete()
        case _:
            w.redis.delete("rq:job:parent", "rq:job:parent:dependents")

    assert swept(w) == 2

    for job in ("ours", "rqs"):
        found = w.job(job)
        assert (found.state, found.outcome["class"]) == (JobState.CANCELLED, "cancelled")
        assert found.outcome["message"] == "the job parent, which it depends on, was removed before it completed"
    assert "deferred" not in scan(w)
    assert scan(w)["canceled"] == ["ours", "rqs"]
    assert w.run(ops.counters(QUEUE))["repaired:dependents"] == 2
    assert swept(w) == 0


def test_a_dependent_cancelled_by_the_sweep_can_be_run_all_the_same(w: World) -> None:
    """A person who knows better retries it; nothing holds it any more."""
    w.enqueue(id="parent")
    w.enqueue(id="child", depends_on=("parent",))
    w.run(ops.remove("parent"))
    assert swept(w) == 1
    assert w.run(ops.retry("child")).verdict is Verdict.APPLIED
    assert w.claim().job == "child"


def test_the_sweep_leaves_who_may_still_go(w: World) -> None:
    """Whose other dependency may complete; whose failed one may be retried; a follower of a deduplication key."""
    options = {"dedupe": {"id": "annual", "mode": "keep_last"}}
    w.active(options=options)
    w.enqueue(id="follower", options=options, value={"year": 2027})
    for job in ("gone", "waits", "fails"):
        w.enqueue(id=job, options={"priority": -1} if job == "fails" else {})
    w.enqueue(id="two", depends_on=("gone", "waits"))
    w.enqueue(id="one", depends_on=("fails",))
    w.finish(w.claim(), Next.FAIL)
    w.run(ops.remove("gone"))

    assert swept(w) == 0

    assert scan(w)["deferred"] == ["follower", "one", "two"]
    w.run(ops.cancel("waits", by="ann"))
    assert swept(w) == 0  # it may be retried
    w.run(ops.remove("waits"))
    assert swept(w) == 1
    assert scan(w)["deferred"] == ["follower", "one"]


def test_what_rq_put_in_the_place_of_a_follower_waits_for_what_it_depends_on(w: World, q: Queue) -> None:
    """The reason that one left behind does not hide it: it ends with its dependency, or goes with it."""
    options = {"dedupe": {"id": "annual", "mode": "keep_last"}}
    w.active(options=options)
    for name in ("follower", "parent"):
        w.enqueue(id=name, options=options if name == "follower" else {}, value={"year": 2027})
    q.enqueue(FUNC, job_id="follower", depends_on="parent")
    w.redis.hdel("heavylift:dedup:reports", "annual")
    assert swept(w) == 0

    w.run(ops.remove("parent"))

    assert swept(w) == 1
    assert w.job("follower").state is JobState.CANCELLED


def test_a_dependent_that_everybody_forgot_waits_again(w: World) -> None:
    """Its dependency was removed and enqueued anew under its id: the end of that one knows of no dependents."""
    w.enqueue(id="parent")
    w.enqueue(id="child", depends_on=("parent",), options={"priority": -5})
    w.run(ops.remove("parent"))
    w.enqueue(id="parent", value={"year": 2027})
    w.finish(w.claim())
    assert scan(w)["deferred"] == ["child"]

    assert swept(w) == 1

    assert w.claim().job == "child"
    assert "deferred" not in scan(w)


def test_dependents_of_a_completed_job_go_although_it_is_removed(w: World) -> None:
    """Those that claims still have to let go are none the sweep cancels."""
    holder = w.enqueue(id="holder").id
    for _ in range(150):
        w.enqueue(depends_on=(holder,))
    w.finish(w.claim())
    w.run(ops.finalized(INSTALL, NAMESPACE, "holder"))
    assert w.run(ops.purge(QUEUE, JobState.COMPLETED, 10)) == 1

    assert swept(w) == 0

    w.serve(paused=True)
    w.ask()
    w.ask()
    assert len(w.waiting()) == 150
    assert not w.redis.exists("rq:job:holder:dependents", "heavylift:dependents")


def test_the_sweep_goes_in_bounded_steps(w: World) -> None:
    """Ghosts of the registry go, ten ends are written per call, and those that stay are stepped over."""
    w.enqueue(id="stays")
    w.enqueue(id="parent")
    for n in range(60):
        w.enqueue(id=f"a{n}", depends_on=("stays",))
    for n in range(25):
        w.enqueue(id=f"b{n}", depends_on=("parent",))
    w.redis.zadd("rq:deferred:reports", {"ghost": 1})
    w.run(ops.remove("parent"))

    cursor, mended = w.run(ops.sweep_dependents(QUEUE))
    steps = 1
    while cursor is not None:
        cursor, found = w.run(ops.sweep_dependents(QUEUE, cursor))
        assert found <= 11
        steps, mended = steps + 1, mended + found

    assert (mended, steps >= 4) == (26, True)
    assert w.run(ops.counts(QUEUE)).waiting_children == 60
    assert w.run(ops.counters(QUEUE))["dropped"] == 1
