"""Who may change an execution, and what a repeated call does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heavylift.contract import failpoints, ids
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.store import ClaimRequest, Fence, FinishRequest, Next, Observation, Verdict, ops
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, name_of, outcome, request


@pytest.fixture
def lose_replies() -> Iterator[Callable[[], None]]:
    """Give a switch that loses the reply of the next call to Redis."""

    def switch() -> None:
        failpoints.load({failpoints.ENV: "store.reply:drop-reply"})

    yield switch
    failpoints.load({})


def _dump(w: World) -> dict[str, Any]:
    """Return all of Redis but what a repeat may touch (the reply cache's expiry)."""
    found: dict[str, Any] = {}
    for key in sorted(w.redis.scan_iter("*", count=1000)):
        kind: Any = w.redis.type(key)
        readers: dict[bytes, Callable[[], Any]] = {
            b"hash": lambda key=key: w.redis.hgetall(key),  # type: ignore[misc]
            b"list": lambda key=key: w.redis.lrange(key, 0, -1),  # type: ignore[misc]
            b"zset": lambda key=key: w.redis.zrange(key, 0, -1, withscores=True),  # type: ignore[misc]
            b"set": lambda key=key: w.redis.smembers(key),  # type: ignore[misc]
            b"stream": lambda key=key: w.redis.xrange(key),  # type: ignore[misc]
            b"string": lambda key=key: w.redis.get(key),  # type: ignore[misc]
        }
        found[key.decode()] = readers[kind]()
    return found


def test_a_lost_claim_reply_can_be_asked_for_again(w: World) -> None:
    """The same request id gives the same claims and takes nothing more; a new one goes on."""
    for _ in range(6):
        w.enqueue()
    asked = ClaimRequest(
        worker=WORKER, request="r1", install=INSTALL, queues=(QUEUE,), max=2, slots=10, deadline_ms=60_000
    )
    first = w.run(ops.claim(asked))
    before = _dump(w)
    assert w.run(ops.claim(asked)) == first
    assert _dump(w) == before
    assert not {c.job for c in w.ask(max=2).claims} & {c.job for c in first.claims}


@pytest.mark.parametrize(
    "name",
    ["enqueue", "claim", "record", "release", "observe", "finish", "finish-retry", "cancel", "cancel-active", "retry",
     "put_settings", "pause", "register"],
)  # fmt: skip
def test_a_lost_reply_changes_nothing_twice(w: World, lose_replies: Callable[[], None], name: str) -> None:
    """Each operation whose reply is lost is repeated by the runner and leaves what one call leaves."""
    job = w.enqueue(id="job").id
    op, check = _case(w, name, job)
    lose_replies()
    verdict = w.run(op)
    failpoints.load({})
    once = _dump(w)
    names = [event.name for event in w.events()]
    assert len([event for event in w.events() if event.fields.get("final") == "1"]) <= 1
    check(verdict)
    assert names.count("active") <= 1
    assert len(w.waiting()) == len(set(w.waiting()))
    assert _dump(w) == once


Case = tuple[Any, Callable[[Any], None]]


def _applied(done: Any) -> None:
    assert done.verdict in {Verdict.APPLIED, Verdict.ALREADY, Verdict.CANCELLED}, done


def _case(w: World, name: str, job: str) -> Case:
    """Return an operation and what its answer must be."""
    waiting = _waiting_cases(w, job).get(name)
    return waiting() if waiting else _active_case(w, name, job)


def _waiting_cases(w: World, job: str) -> dict[str, Callable[[], Case]]:
    def created(done: Any) -> None:
        assert done.created
        assert w.waiting() == [job, "new"]

    asked = ClaimRequest(
        worker=WORKER, request="r", install=INSTALL, queues=(QUEUE,), max=1, slots=9, deadline_ms=60_000
    )
    nine = {**w.settings, "generation": 9}
    return {
        "enqueue": lambda: (ops.enqueue(request(id="new")), created),
        "claim": lambda: (ops.claim(asked), lambda reply: _one(reply.claims)),
        "cancel": lambda: (ops.cancel(job, by="ann"), _applied),
        "put_settings": lambda: (
            ops.put_settings(QUEUE, nine, generation=9, install=INSTALL, namespace=NAMESPACE, uid="u"),
            _applied,
        ),
        "pause": lambda: (ops.pause(QUEUE, by="ann"), _applied),
        "register": lambda: (ops.register_dispatcher(INSTALL, WORKER, 1000), lambda live: _is(live, 1)),
    }


def _active_case(w: World, name: str, job: str) -> Case:
    claim = w.claim()
    fence = Fence(job=job, execution=claim.execution, worker=WORKER)

    def released(done: Any) -> None:
        _applied(done)
        assert w.waiting() == [job]
        assert w.run(ops.counters(QUEUE))["released"] == 1

    def finished(reply: Any) -> None:
        _applied(reply)
        assert reply.stored["execution"] == claim.execution
        assert len(w.job(job).history) == 1

    if name == "retry":
        w.finish(claim, Next.FAIL)
        return ops.retry(job), _applied
    seen = Observation(phase=Phase.RUNNING, evidence={"pod": {"x": 1}})
    next_ = Next.RETRY if name == "finish-retry" else Next.COMPLETE
    cases: dict[str, Callable[[], Case]] = {
        "record": lambda: (ops.record(fence, job_name=name_of(claim), uid="u1", namespace=NAMESPACE), _applied),
        "release": lambda: (ops.release(fence, reason="quota"), released),
        "observe": lambda: (ops.observe(fence, seen), lambda done: _is(done[0], Verdict.APPLIED)),
        "cancel-active": lambda: (ops.cancel(job, by="ann"), _applied),
        "finish": lambda: (ops.finish(FinishRequest(fence=fence, outcome=outcome(), next=next_)), finished),
    }
    return cases[name.removesuffix("-retry")]()


def _one(claims: Any) -> None:
    assert len(claims) == 1


def _is(found: object, expected: object) -> None:
    assert found == expected


def test_finish_is_applied_once_and_answers_what_stands(w: World) -> None:
    """The second finish of an execution, with whatever outcome, changes nothing and gets the first one's."""
    claim = w.active()
    w.finish(claim, result='"first"', message="first")
    before = _dump(w)
    second = w.finish(claim, Next.FAIL, message="second")
    assert (second.verdict, second.state) == (Verdict.ALREADY, JobState.COMPLETED)
    assert (second.stored["class"], second.stored["message"]) == ("succeeded", "first")
    assert _dump(w) == before


def test_finish_of_an_earlier_attempt_answers_from_history(w: World) -> None:
    """A late repeat for an attempt that was retried since gets that attempt's outcome."""
    claim = w.active()
    w.finish(claim, Next.RETRY, message="first try")
    again = w.claim()
    late = w.finish(claim, message="late")
    assert late.verdict is Verdict.ALREADY
    assert (late.stored["message"], late.stored["next"]) == ("first try", "retry")
    assert w.job(claim.job).execution == again.execution


def test_a_late_result_of_an_unknown_attempt_is_refused(w: World) -> None:
    """An execution that is not current and never ended is refused and counted."""
    claim = w.active()
    stranger = Fence(job=claim.job, execution=f"{claim.incarnation}-7", uid="u")
    before = w.job(claim.job)
    done = w.run(ops.finish(FinishRequest(fence=stranger, outcome=outcome(), next=Next.COMPLETE)))
    assert done.verdict is Verdict.REFUSED
    assert w.job(claim.job) == before
    assert w.run(ops.counters(QUEUE))["conflicts"] == 1


def test_a_zombie_dispatcher_is_refused(w: World) -> None:
    """After a release and another claim the execution id is the same; the old worker can do nothing with it."""
    w.enqueue()
    claim = w.claim()
    zombie = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    w.redis.hset(f"rq:job:{claim.job}", "hl:deadline", 1)
    w.run(ops.release(Fence(job=claim.job, execution=claim.execution), reason="silent", silent=True))
    taken = w.claim(worker="w2")
    assert taken.execution == claim.execution
    before = w.job(claim.job)
    assert w.run(ops.record(zombie, job_name="x", uid="z", namespace=NAMESPACE)).verdict is Verdict.REFUSED
    assert w.run(ops.release(zombie, reason="x")).verdict is Verdict.REFUSED
    assert w.run(ops.check(zombie)).verdict is Verdict.REFUSED
    assert w.run(ops.observe(zombie, Observation(phase=Phase.RUNNING)))[0] is Verdict.REFUSED
    invalid = FinishRequest(fence=zombie, outcome=outcome(OutcomeClass.INVALID), next=Next.FAIL, job_exists=False)
    assert w.run(ops.finish(invalid)).verdict is Verdict.REFUSED
    assert w.job(claim.job) == before
    assert w.run(ops.check(Fence(job=claim.job, execution=claim.execution, worker="w2"))).verdict is Verdict.APPLIED


def test_another_uid_is_refused(w: World) -> None:
    """What is said of another Job than the recorded one changes nothing."""
    claim = w.active()
    other = Fence(job=claim.job, execution=claim.execution, uid="another")
    before = w.job(claim.job)
    assert w.run(ops.observe(other, Observation(phase=Phase.RUNNING)))[0] is Verdict.REFUSED
    done = w.run(ops.finish(FinishRequest(fence=other, outcome=outcome(), next=Next.COMPLETE)))
    assert done.verdict is Verdict.REFUSED
    worker = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    assert w.run(ops.record(worker, job_name="x", uid="another", namespace=NAMESPACE)).verdict is Verdict.REFUSED
    assert w.job(claim.job) == before


def test_a_missing_hash_is_answered_and_cleaned_up(w: World) -> None:
    """When the job is gone each operation says so, and what was left of the execution goes."""
    claim = w.active()
    fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
    w.redis.delete(f"rq:job:{claim.job}")
    done = w.finish(claim)
    assert done.verdict is Verdict.MISSING
    w.redis.srem(f"rq:worker:{WORKER}:executions", f"{claim.job}:{claim.execution}")
    assert w.idle()
    assert w.run(ops.observe(fence, Observation(phase=Phase.RUNNING))) == (Verdict.MISSING, None)
    assert w.run(ops.record(fence, job_name="x", uid="u", namespace="n")).verdict is Verdict.MISSING
    assert w.run(ops.release(fence, reason="x")).verdict is Verdict.MISSING
    assert w.run(ops.check(fence)).verdict is Verdict.MISSING
    assert w.run(ops.cancel(claim.job, by="x")).verdict is Verdict.MISSING
    assert not w.redis.exists(f"rq:job:{claim.job}")


# -- cancel -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["waiting", "delayed", "deferred"])
def test_cancel_before_it_started(w: World, state: str) -> None:
    """A job that waits, is delayed or waits for others is cancelled at once and never runs."""
    holder = w.active()
    kinds: dict[str, Any] = {"delayed": {"delay_ms": 60_000}, "deferred": {"depends_on": (holder.job,)}}
    changes = kinds.get(state, {})
    job = w.enqueue(**changes).id
    done = w.run(ops.cancel(job, by="ann", reason="obsolete"))
    assert done.verdict is Verdict.APPLIED
    record = w.job(job)
    assert (record.state, record.cancel["by"], record.cancel["reason"]) == (JobState.CANCELLED, "ann", "obsolete")
    assert "obsolete" in record.outcome["message"]
    w.finish(holder)
    assert not w.ask().claims
    assert w.waiting() == []
    assert w.finals(job) == ["cancelled"]
    assert w.run(ops.cancel(job, by="bob")).verdict is Verdict.ALREADY
    assert w.finals(job) == ["cancelled"]


def test_cancel_of_an_active_job_is_a_request(w: World) -> None:
    """The request is stored, the operator is told by every answer, and the end is cancelled whatever the pod did."""
    claim = w.active()
    assert w.run(ops.cancel(claim.job, by="ann", reason="stop")).verdict is Verdict.CANCELLED
    assert w.run(ops.cancel(claim.job, by="bob")).verdict is Verdict.CANCELLED
    record = w.job(claim.job)
    assert (record.state, record.cancel["by"]) == (JobState.ACTIVE, "ann")
    fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
    assert w.run(ops.observe(fence, Observation(phase=Phase.RUNNING)))[0] is Verdict.CANCELLED
    assert w.run(ops.check(fence)).verdict is Verdict.CANCELLED
    done = w.finish(claim, Next.RETRY, message="exit 143")
    assert (done.verdict, done.state) == (Verdict.APPLIED, JobState.CANCELLED)
    assert done.stored["class"] == "cancelled"
    assert "exit 143" in done.stored["message"]
    assert w.finals(claim.job) == ["cancelled"]
    assert w.names(claim.job).count("cancel-requested") == 1


def test_cancel_too_late(w: World) -> None:
    """A success that came first stands; a cancel after the end is refused."""
    claim = w.active()
    w.run(ops.cancel(claim.job, by="ann"))
    assert w.finish(claim).state is JobState.COMPLETED
    late = w.run(ops.cancel(claim.job, by="ann"))
    assert (late.verdict, late.message) == (Verdict.REFUSED, "too late: it is completed")


def test_cancel_between_claim_and_create(w: World) -> None:
    """A claim that is cancelled before its pod ends as cancelled when it is handed back."""
    w.enqueue()
    claim = w.claim()
    fence = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    w.run(ops.cancel(claim.job, by="ann"))
    assert w.run(ops.check(fence)).verdict is Verdict.CANCELLED
    assert w.run(ops.release(fence, reason="cancelled")).verdict is Verdict.CANCELLED
    assert w.job(claim.job).state is JobState.CANCELLED
    assert w.idle()
    assert w.waiting() == []


def test_record_tells_of_a_cancel(w: World) -> None:
    """A Job created while a cancel came in is recorded, and the answer says to delete it."""
    w.enqueue()
    claim = w.claim()
    w.run(ops.cancel(claim.job, by="ann"))
    fence = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    for _ in range(2):
        done = w.run(ops.record(fence, job_name=name_of(claim), uid="u", namespace=NAMESPACE))
        assert done.verdict is Verdict.CANCELLED
    assert w.job(claim.job).job_uid == "u"


def test_cancelled_job_can_be_retried(w: World) -> None:
    """A person may let a cancelled job wait again; while its pod is being stopped that is refused."""
    claim = w.active()
    w.run(ops.cancel(claim.job, by="ann"))
    assert w.run(ops.retry(claim.job)).verdict is Verdict.REFUSED
    w.finish(claim, Next.CANCEL)
    assert w.run(ops.retry(claim.job)).verdict is Verdict.APPLIED
    again = w.claim()
    assert (again.seq, w.job(claim.job).cancel) == (2, {})
    assert ids.execution_id(claim.incarnation, 2) == again.execution
