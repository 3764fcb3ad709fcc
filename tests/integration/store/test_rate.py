"""The rate limit: a sliding window that counts starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Fence, Next, Verdict, decode, ops
from tests.integration.store.kit import QUEUE, WORKER, World, request
from tests.integration.store.test_gauges import gauges

RATE = f"heavylift:rate:{QUEUE}"


def limited(w: World, limit: int, period: int = 60_000, jobs: int = 0) -> None:
    """Serve the queue with a rate limit, and fill it."""
    w.serve(rateLimit={"limit": limit, "period": period})
    for _ in range(jobs):
        w.enqueue()


def older(w: World, ms: int, *members: str) -> None:
    """Let the starts (all, or these) have been that much earlier."""
    for member in [decode.text(entry) for entry in w.redis.zrange(RATE, 0, -1)]:
        if not members or member in members:
            w.redis.zincrby(RATE, -ms, member)


def test_starts_stop_at_the_limit(w: World) -> None:
    """As many start as the window has room for, whoever asks; the jobs stay in their list, the next moment is told."""
    limited(w, 5, jobs=8)
    first = w.ask(max=3)
    assert (len(first.claims), gauges(w).rate_left) == (3, 2)
    second = w.ask(worker="w2")
    assert (len(second.claims), second.blocked) == (2, {QUEUE: "rate"})
    assert second.next_due_ms is not None
    assert 0 < second.next_due_ms <= 60_000
    third = w.ask()
    assert (third.claims, third.blocked) == ((), {QUEUE: "rate"})
    found = gauges(w)
    assert (found.rate_left, found.waiting, found.startable, found.demand) == (0, 3, 0, 5)
    assert found.rate_next is not None
    assert len(w.waiting()) == 3


def test_ended_jobs_and_retries_count(w: World) -> None:
    """An end gives no start back, and a retry is a start."""
    limited(w, 3, jobs=1)
    for _ in range(2):
        w.finish(w.claim(), Next.RETRY)
    w.finish(w.claim())
    w.enqueue()
    assert w.ask().blocked == {QUEUE: "rate"}


def test_the_window_slides(w: World) -> None:
    """Each start leaves the window a period after it began, not before, and the one after it is told as the next."""
    limited(w, 3, period=10_000, jobs=9)
    claims = w.ask().claims
    members = [f"{claim.job}:{claim.execution}" for claim in claims]
    older(w, 8_000)
    older(w, 1_000, members[0])
    assert w.ask().blocked == {QUEUE: "rate"}
    due = w.ask().next_due_ms
    assert due is not None
    assert 0 < due <= 1_000
    older(w, 1_500, members[0])
    again = w.ask()
    assert len(again.claims) == 1
    assert again.blocked == {QUEUE: "rate"}
    assert again.next_due_ms is not None
    assert 1_000 <= again.next_due_ms <= 2_000
    older(w, 20_000)
    assert len(w.ask().claims) == 3
    assert w.redis.zcard(RATE) == 3


@pytest.mark.parametrize("limit", [1, 50])
def test_the_window_is_bounded(w: World, limit: int) -> None:
    """Redis keeps the starts of one window, and none of a queue that starts nothing for a whole one."""
    limited(w, limit, jobs=3 * limit)
    for _ in range(3):
        while w.ask(slots=1000).claims:
            pass
        assert w.redis.zcard(RATE) == limit
        older(w, 60_001)
    assert 0 < w.redis.pttl(RATE) <= 60_000


def test_a_start_that_was_none_does_not_count(w: World) -> None:
    """A claim given back, cancelled or ended before it had a Job gives its start back; one with a Job does not."""
    limited(w, 2, jobs=4)
    claim, other = w.ask().claims
    w.run(ops.release(Fence(job=claim.job, execution=claim.execution, worker=WORKER), reason="stopping"))
    assert gauges(w).rate_left == 1
    assert w.claim().job == claim.job
    fence = Fence(job=other.job, execution=other.execution, worker=WORKER)
    w.finish(other, Next.FAIL, cls=OutcomeClass.INVALID, fence=fence, job_exists=False)
    assert gauges(w).rate_left == 1
    w.record(claim)
    w.run(ops.release(Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}"), reason="lost"))
    assert gauges(w).rate_left == 1
    last = w.claim()
    w.run(ops.cancel(last.job, by="ann"))
    w.run(ops.release(Fence(job=last.job, execution=last.execution, worker=WORKER), reason="stopping"))
    assert gauges(w).rate_left == 1


@pytest.mark.parametrize("anew", [False, True])
def test_a_claimed_job_that_is_deleted_before_its_job_is_made_did_not_start(w: World, anew: bool) -> None:
    """Its dispatcher looks once more and makes none: what never began holds up no queue for a day."""
    limited(w, 1, jobs=2)
    claim = w.claim()
    fence = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
    assert w.run(ops.check(replace(fence, worker="another"))).verdict is Verdict.REFUSED
    assert gauges(w).rate_left == 0, "another's word about this execution changes nothing"
    w.redis.delete(f"rq:job:{claim.job}")
    if anew:
        w.enqueue(id=claim.job)
    assert w.run(ops.check(fence)).verdict is (Verdict.REFUSED if anew else Verdict.MISSING)
    assert gauges(w).rate_left == 1
    assert len(w.ask().claims) == 1


def test_the_limit_changes_at_run_time(w: World) -> None:
    """Lowered, it holds at once with the starts there are; raised, it makes room at once; removed, nothing is held."""
    limited(w, 4, jobs=20)
    assert len(w.ask().claims) == 4
    limited(w, 2)
    assert w.ask().blocked == {QUEUE: "rate"}
    assert gauges(w).rate_left == 0
    limited(w, 6)
    assert len(w.ask().claims) == 2
    limited(w, 6, period=1_000)
    older(w, 1_500)
    assert len(w.ask().claims) == 6
    w.serve(rateLimit=None)
    assert len(w.ask().claims) == 8
    assert gauges(w).rate_left is None


UNREADABLE: list[object] = [
    {"limit": 5},
    {"limit": "5", "period": 1000},
    *({"limit": limit, "period": 1000} for limit in (0, -1, 1.5, 1e300, True, None)),
    *({"limit": 5, "period": period} for period in (0, 0.5, 1e300)),
    "five",
    False,
]


@pytest.mark.parametrize("broken", UNREADABLE)
def test_an_unreadable_limit_is_not_no_limit(w: World, broken: object) -> None:
    """Settings whose limit cannot be read stop the queue, with a word on why."""
    w.enqueue()
    w.serve(rateLimit=broken)
    w.serve("other")
    w.enqueue(queue="other")
    reply = w.ask(QUEUE, "other")
    assert ([claim.queue for claim in reply.claims], reply.blocked[QUEUE]) == (["other"], "corrupt")
    assert "rateLimit" in w.run(ops.troubles(QUEUE))["corrupt"]["message"]
    assert gauges(w).held == "corrupt"


def test_a_window_of_another_type_stops_the_queue(w: World) -> None:
    """A stranger's key in the window's place means no start, not any number."""
    limited(w, 5, jobs=2)
    w.redis.set(RATE, "x")
    assert w.ask().blocked == {QUEUE: "corrupt"}
    assert gauges(w).startable == 0
    w.redis.delete(RATE)
    assert len(w.ask().claims) == 2


def test_a_clock_set_back_does_not_stop_the_queue(w: World) -> None:
    """Starts from the future count as of now: the wait is never longer than a period."""
    limited(w, 2, period=5_000, jobs=6)
    assert len(w.ask().claims) == 2
    older(w, -3_600_000)
    blocked = w.ask()
    assert blocked.blocked == {QUEUE: "rate"}
    assert blocked.next_due_ms is not None
    assert blocked.next_due_ms <= 5_000


def test_no_window_ever_holds_more_than_the_limit(w: World) -> None:
    """Claims as fast as they go, over several windows: the event history holds no window with more than the limit."""
    limit, period = 25, 150
    limited(w, limit, period=period)
    w.run(ops.enqueue_many([request() for _ in range(limit * 6)]))
    while w.run(ops.counts(QUEUE)).waiting:
        w.ask(max=7, slots=1000)
    starts = sorted(event.at for event in w.events() if event.name == "active")
    assert len(starts) == limit * 6
    assert all(later - sooner >= period for sooner, later in zip(starts, starts[limit:], strict=False))
