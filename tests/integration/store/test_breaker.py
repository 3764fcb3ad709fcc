"""The breaker of a queue whose image cannot be pulled."""

from __future__ import annotations

import json

import pytest

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift.store import Claim, Fence, Next, Observation, Spend, Verdict, ops
from tests.integration.store.kit import QUEUE, WORKER, World
from tests.integration.store.test_gauges import gauges

KEY = f"heavylift:breaker:{QUEUE}"
TROUBLE = "ImagePullFailing"
BACKOFF = {"type": "Exponential", "delay": 10_000, "max": 35_000, "jitterPercent": 0}


def served(w: World, jobs: int = 8, threshold: int = 3) -> None:
    """Serve the queue with a breaker, and fill it."""
    w.serve(breaker={"consecutiveFailures": threshold}, defaults={"maxAttempts": 1, "backoff": BACKOFF})
    for _ in range(jobs):
        w.enqueue()


def fail(w: World, claim: Claim) -> None:
    """End an attempt as the operator does when its image cannot be pulled: the job goes back, with a backoff."""
    w.record(claim)
    w.finish(
        claim, Next.RETRY, cls=OutcomeClass.IMAGE, spend=Spend.BUDGET, delay_ms=600_000, message="no image x:1 in reg"
    )


def starts(w: World, claim: Claim) -> None:
    """Let the operator see the claim's container run."""
    uid = w.record(claim)
    fence = Fence(job=claim.job, execution=claim.execution, uid=uid)
    verdict, _ = w.run(ops.observe(fence, Observation(phase=Phase.RUNNING, running_at=1)))
    assert verdict is Verdict.APPLIED


def broken(w: World, jobs: int = 8) -> None:
    """Open the breaker: three attempts in a row fail."""
    served(w, jobs)
    for claim in w.ask(max=3).claims:
        fail(w, claim)


def later(w: World, ms: int) -> None:
    """Let the next probe be due that much sooner."""
    w.redis.hincrby(KEY, "next", -ms)


def test_failures_in_a_row_open_it(w: World) -> None:
    """At the threshold claims stop, the backlog waits, demand counts none of it, and a note says what is wrong."""
    served(w)
    claims = w.ask(max=3).claims
    for claim in claims[:2]:
        fail(w, claim)
    assert w.run(ops.troubles(QUEUE)) == {}
    assert gauges(w).startable == 5
    fail(w, claims[2])
    assert "no image x:1 in reg" in w.run(ops.troubles(QUEUE))[TROUBLE]["message"]
    reply = w.ask()
    assert (reply.claims, reply.blocked) == ((), {QUEUE: "breaker"})
    assert reply.next_due_ms is not None
    assert 9_000 < reply.next_due_ms <= 10_000
    found = gauges(w)
    assert (found.held, found.waiting, found.startable, found.demand) == ("breaker", 5, 0, 0)
    assert [event.name for event in w.events()].count("breaker-opened") == 1


def test_a_start_in_between_ends_the_row(w: World) -> None:
    """Failures count only in a row: a container that started, or an attempt that ran, begins the count anew."""
    served(w, jobs=12)
    claims = w.ask(max=10).claims
    for claim in claims[:2]:
        fail(w, claim)
    starts(w, claims[2])
    for claim in claims[3:5]:
        fail(w, claim)
    w.record(claims[5])
    w.finish(claims[5], Next.FAIL, started_at=1, ended_at=2)
    for claim in claims[6:8]:
        fail(w, claim)
    assert gauges(w).held == ""
    assert len(w.ask().claims) == 2
    fail(w, claims[8])
    assert gauges(w).held == "breaker"


def test_other_ends_without_a_start_neither_count_nor_close(w: World) -> None:
    """A job that was cancelled or rejected before it started says nothing about the image."""
    served(w)
    claims = w.ask(max=5).claims
    fail(w, claims[0])
    w.finish(claims[1], Next.FAIL, cls=OutcomeClass.REJECTED)
    w.finish(claims[2], Next.CANCEL)
    fail(w, claims[3])
    assert gauges(w).held == ""
    fail(w, claims[4])
    assert gauges(w).held == "breaker"


def test_one_probe_per_pause_which_doubles(w: World) -> None:
    """When the pause is over one job goes, no other meanwhile; each failure doubles the pause, to a cap."""
    broken(w)
    for pause in (20_000, 35_000, 35_000):
        later(w, 40_000)
        assert gauges(w).startable == 1
        reply = w.ask()
        assert (len(reply.claims), reply.blocked) == (1, {QUEUE: "breaker"})
        assert w.ask().claims == ()
        assert (gauges(w).startable, gauges(w).demand) == (0, 1)
        fail(w, reply.claims[0])
        due = w.ask().next_due_ms
        assert due is not None
        assert pause - 1_000 < due <= pause


def test_late_failures_of_before_do_not_lengthen_the_pause(w: World) -> None:
    """What was claimed before it opened fails as well: that is no news."""
    served(w)
    claims = w.ask(max=7).claims
    for claim in claims:
        fail(w, claim)
    assert w.redis.hmget(KEY, "pause", "failures") == [b"10000", b"3"]


@pytest.mark.parametrize("lost", ["released", "finished otherwise"])
def test_a_lost_probe_is_followed_by_another(w: World, lost: str) -> None:
    """A probe whose dispatcher dies, or that ends without a word on its image, leaves the way free for the next."""
    broken(w)
    later(w, 10_000)
    (probe,) = w.ask().claims
    if lost == "released":
        w.run(ops.release(Fence(job=probe.job, execution=probe.execution, worker=WORKER), reason="stopping"))
    else:
        w.finish(probe, Next.FAIL, cls=OutcomeClass.REJECTED)
    assert gauges(w).startable == 1
    assert len(w.ask().claims) == 1
    assert w.ask().claims == ()


def test_the_first_start_closes_it(w: World) -> None:
    """Once a probe's container runs claims go on as before, the note is gone, and dispatchers are woken."""
    broken(w)
    later(w, 10_000)
    (probe,) = w.ask().claims
    with w.store.subscribe(w.store.keys.doorbell()) as heard:
        starts(w, probe)
        assert heard.get(timeout=5) is not None
    assert w.run(ops.troubles(QUEUE)) == {}
    assert not w.redis.exists(KEY)
    assert (gauges(w).held, gauges(w).startable) == ("", 4)
    assert len(w.ask().claims) == 4
    assert [event.name for event in w.events()].count("breaker-closed") == 1


def test_an_edited_queue_closes_it(w: World) -> None:
    """Whoever mends the template does not wait for the next probe; older settings change nothing."""
    broken(w)
    w.run(
        ops.put_settings(
            QUEUE, w.settings, generation=w.generation - 1, install="prod/heavylift", namespace="analytics",
            uid=f"uid-{QUEUE}",
        )
    )  # fmt: skip
    assert gauges(w).held == "breaker"
    served(w, jobs=0)
    assert len(w.ask().claims) == 5
    assert w.run(ops.troubles(QUEUE)) == {}
    w.run(ops.delete_settings(QUEUE, f"uid-{QUEUE}"))
    assert not w.redis.exists(KEY)


def test_it_goes_with_cap_rate_and_keys(w: World) -> None:
    """Whatever else bounds the queue, a probe is one claim, and a full queue has none."""
    broken(w)
    w.redis.hset(KEY, "next", 1)
    settings = {"breaker": {"consecutiveFailures": 3}, "concurrencyPerKey": 1}
    w.redis.hset(f"heavylift:settings:{QUEUE}", "json", _json(w, settings | {"concurrencyMax": 0}))
    assert w.ask().blocked == {QUEUE: "cap"}
    w.redis.hset(
        f"heavylift:settings:{QUEUE}", "json", _json(w, settings | {"rateLimit": {"limit": 9, "period": 9000}})
    )
    assert len(w.ask().claims) == 1
    assert w.ask().blocked == {QUEUE: "breaker"}


def _json(w: World, changes: dict[str, object]) -> str:
    return json.dumps({**w.settings, **changes})


def test_a_key_of_another_type_is_no_breaker(w: World) -> None:
    """A stranger's key in its place neither stops the queue nor keeps it from opening."""
    served(w)
    w.redis.set(KEY, "x")
    claims = w.ask(max=3).claims
    for claim in claims:
        fail(w, claim)
    assert w.ask().blocked == {QUEUE: "breaker"}
