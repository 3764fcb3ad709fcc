"""Several ends in one call of the script, against real stores: each judged by itself, what they share written once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from heavylift.contract import failpoints, limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import RedisUnavailableError
from heavylift.store import AsyncStore, Claim, FinishReply, FinishRequest, Next, Spend, Verdict, decode, ops
from heavylift.store.model import Fence
from tests.integration.store.kit import INSTALL, QUEUE, World, name_of, outcome, request


def _end(claim: Claim, next_: Next = Next.COMPLETE, **changes: Any) -> FinishRequest:
    cls = OutcomeClass.SUCCEEDED if next_ is Next.COMPLETE else OutcomeClass.ERROR
    basis: dict[str, Any] = {
        "fence": Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}"),
        "outcome": outcome(cls, changes.pop("message", "done")),
        "next": next_,
        "spend": Spend.ATTEMPT,
    }
    return FinishRequest(**{**basis, **changes})


def _taken(w: World, count: int, **changes: Any) -> list[Claim]:
    """Enqueue, claim and record so many jobs."""
    w.store.run_many([ops.enqueue(request(**changes)) for _ in range(count)])
    claims: list[Claim] = []
    while len(claims) < count:
        claims += w.ask(changes.get("queue", QUEUE)).claims
    for claim in claims:
        w.record(claim)
    return claims


def _calls(w: World) -> int:
    """Return how many scripts Redis ran."""
    return int(w.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def _all(w: World, ends: Sequence[FinishRequest]) -> list[Any]:
    return w.store.run_many([ops.finish(end) for end in ends])


def _verdicts(replies: Sequence[FinishReply]) -> list[str]:
    return [reply.verdict.value for reply in replies]


def test_each_end_of_a_call_is_judged_by_itself(w: World) -> None:
    """Among sound ones stand a repeat, a stranger's, one that is gone, a corrupt one, a cancelled one and a retry."""
    first, again, stranger, gone, broken, stopped, retried, last = _taken(w, 8)
    w.finish(again, message="before")
    w.redis.delete(f"rq:job:{gone.job}")
    w.redis.delete(f"rq:job:{broken.job}")
    w.redis.rpush(f"rq:job:{broken.job}", "not a hash")
    w.run(ops.cancel(stopped.job, by="ann"))
    other = Fence(job=stranger.job, execution="somebody-7")
    replies = _all(
        w,
        [
            _end(first),
            _end(again),
            _end(stranger, fence=other),
            _end(gone),
            _end(broken),
            _end(stopped, Next.FAIL, message='said "no"\n'),
            _end(retried, Next.RETRY, delay_ms=60_000),
            _end(last, Next.FAIL),
        ],
    )
    assert _verdicts(replies) == [
        "applied", "already", "refused", "missing", "corrupt", "applied", "applied", "applied",
    ]  # fmt: skip
    assert (replies[1].stored["message"], replies[5].stored["class"]) == ("before", "cancelled")
    assert replies[5].stored["message"] == 'cancelled; its last attempt ended as error: said "no"\n'
    states = [w.job(claim.job).state.value for claim in (first, again, stranger, stopped, retried, last)]
    assert states == ["completed", "completed", "active", "cancelled", "delayed", "failed"]
    assert w.redis.zrange(f"heavylift:inflight:{INSTALL}", 0, -1) == [
        f"{one.job}:{one.execution}".encode() for one in sorted((stranger, broken), key=lambda one: one.job)
    ]
    counted = w.run(ops.counters(QUEUE))
    assert [counted[name] for name in ("completed", "cancelled", "failed", "retrying", "conflicts")] == [2, 1, 1, 1, 1]


def test_a_call_does_what_one_by_one_does(w: World) -> None:
    """The same ends leave the same registries, counters, indexes and streams, together or one after another."""

    def ended(queue: str, *, together: bool) -> dict[str, Any]:
        w.serve(queue, retention={"completed": {"count": 2, "age": 86_400_000}, "failed": {"count": 1, "age": 60_000}})
        claims = _taken(w, 9, queue=queue)
        way = [Next.COMPLETE, Next.FAIL, Next.RETRY]
        ends = [_end(claim, way[n % 3], job_exists=False) for n, claim in enumerate(claims)]
        done = _all(w, ends) if together else [w.run(ops.finish(end)) for end in ends]
        names = {claim.job: f"job {n}" for n, claim in enumerate(claims)}
        assert _verdicts(done) == ["applied"] * 9
        return {
            "counters": {k: v for k, v in w.run(ops.counters(queue)).items() if not k.startswith("wait")},
            "counts": w.run(ops.counts(queue)).completed,
            "events": sorted((event.name, names[event.job]) for event in w.run(ops.events(queue)) if event.job),
            "left": [
                sorted(names[decode.text(job)] for job in w.redis.zrange(key, 0, -1))
                for key in (f"rq:finished:{queue}", f"rq:failed:{queue}", f"heavylift:ended:completed:{queue}")
            ],
            "none": [w.redis.exists(f"rq:wip:{queue}"), *map(w.redis.exists, w.redis.scan_iter("rq:execution*"))],
            "waiting": [names[job] for job in w.waiting(queue)],
        }

    assert ended("single", together=False) == ended("joint", together=True)


def test_one_job_twice_in_a_call(w: World) -> None:
    """The second end of an execution meets the first one's outcome, whatever it says itself."""
    (claim,) = _taken(w, 1)
    first, second = _all(w, [_end(claim, message="first"), _end(claim, Next.FAIL, message="second")])
    assert (first.verdict, second.verdict) == (Verdict.APPLIED, Verdict.ALREADY)
    assert second.stored["message"] == "first"
    assert w.finals(claim.job) == ["completed"]


def test_two_executions_of_one_job_in_a_call(w: World) -> None:
    """The end of the former execution does not touch the current one, on whichever side of it it stands."""
    (former,) = _taken(w, 1)
    w.finish(former, Next.RETRY, message="tried")
    current = w.claim()
    w.record(current)
    late, now, later = _all(w, [_end(former), _end(current), _end(former, Next.FAIL)])
    assert _verdicts([late, now, later]) == ["already", "applied", "already"]
    assert (late.stored["message"], later.stored["message"]) == ("tried", "tried")
    assert w.job(former.job).state is JobState.COMPLETED
    assert w.idle()


def test_queues_side_by_side_in_a_call(w: World) -> None:
    """Each queue has its own registry, counters, events and bell."""
    w.serve("second")
    claims = [*_taken(w, 2), *_taken(w, 3, queue="second")]
    with w.store.subscribe("heavylift:doorbell") as bell:
        _all(w, [_end(claim) for claim in claims])
        rung = {message[1] for message in (bell.get(timeout=5), bell.get(timeout=5)) if message}
    assert rung == {QUEUE.encode(), b"second"}
    assert [w.run(ops.counters(queue))["completed"] for queue in (QUEUE, "second")] == [2, 3]
    assert [w.redis.zcard(f"rq:finished:{queue}") for queue in (QUEUE, "second")] == [2, 3]
    assert w.idle()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_more_ends_than_a_call_takes(w: World, asynchronous: bool) -> None:
    """They go in as few calls as hold them; each gets its own answer."""
    claims = _taken(w, 2 * limits.ENDS_MAX + 3)
    ends = [ops.finish(_end(claim, message=f"end of {claim.job}")) for claim in claims]

    async def run() -> list[Any]:
        async with AsyncStore.connect(w.server.url) as store:
            return await asyncio.gather(*(store.run(end) for end in ends))

    w.finish(_taken(w, 1)[0])  # the script is known
    w.redis.config_resetstat()
    done: list[Any] = asyncio.run(run()) if asynchronous else w.store.run_many(ends)
    assert _calls(w) == 3
    assert [reply.stored["message"] for reply in done] == [f"end of {claim.job}" for claim in claims]
    assert w.idle()


def test_many_dependents_are_no_ones_burden(w: World) -> None:
    """Ends whose jobs have many dependents are asked for alone; all of them are let go in the end."""
    parents = [w.enqueue(id=f"parent-{n}").id for n in range(3)]
    many = [request(id=f"child-{parent}-{n}", depends_on=(parent,)) for parent in parents for n in range(40)]
    w.store.run_many([ops.enqueue(one) for one in many])
    claims = list(w.ask().claims)
    for claim in claims:
        w.record(claim)
    w.finish(_taken(w, 1)[0])
    w.redis.config_resetstat()
    done = _all(w, [_end(claim) for claim in claims])
    assert _calls(w) == 3  # one takes the first, and says of the others that it did enough
    assert _verdicts(done) == ["applied"] * 3
    assert sorted(w.waiting()) == sorted(one.id for one in many)


def test_without_memory_none_of_them_is_half_done(w: World) -> None:
    """A Redis that is full refuses each; when it has room again, each is written once."""
    claims = _taken(w, 3)
    w.redis.config_set("maxmemory", 1)
    try:
        refused = _all(w, [_end(claim) for claim in claims])
    finally:
        w.redis.config_set("maxmemory", 0)
    assert all(isinstance(error, RedisUnavailableError) and "out of memory" in str(error) for error in refused)
    assert [w.job(claim.job).state for claim in claims] == [JobState.ACTIVE] * 3
    assert w.redis.zcard(f"rq:wip:{QUEUE}") == 3
    assert _verdicts(_all(w, [_end(claim) for claim in claims])) == ["applied"] * 3
    assert [w.finals(claim.job) for claim in claims] == [["completed"]] * 3


def test_a_lost_answer_of_a_call(w: World) -> None:
    """Asked again, each end of the call says that it is written, with what it wrote; nothing is counted twice."""
    claims = _taken(w, 4)
    failpoints.load({failpoints.ENV: "store.reply:drop-reply"})
    try:
        done = _all(w, [_end(claim, message=claim.job) for claim in claims])
    finally:
        failpoints.load({})
    assert _verdicts(done) == ["already"] * 4
    assert [reply.stored["message"] for reply in done] == [claim.job for claim in claims]
    assert w.run(ops.counters(QUEUE))["completed"] == 4
    assert w.idle()


def test_old_jobs_go_with_the_ends_of_a_call(w: World) -> None:
    """Of the oldest, as many go as are too many, but none whose finishing PATCH is not confirmed."""
    w.serve(retention={"completed": {"count": 3, "age": 86_400_000}, "failed": {"count": 1, "age": 86_400_000}})
    claims = _taken(w, 10)
    _all(w, [_end(claim) for claim in claims[:5]])
    assert w.run(ops.counts(QUEUE)).completed == 5
    patched = [one for n, one in enumerate(claims[:5]) if n != 1]
    w.store.run_many([ops.finalized(one.install, one.namespace, name_of(one)) for one in patched])
    _all(w, [_end(claim) for claim in claims[5:]])
    left = [job.id for job in w.run(ops.list_jobs(QUEUE, JobState.COMPLETED))]
    assert sorted(left) == sorted(one.job for one in (claims[1], *claims[5:]))
    assert [w.names(one.job)[-1] for one in patched] == ["removed"] * 4
    assert w.run(ops.counters(QUEUE))["trimmed"] == 4
