"""Concurrency keys: caps per key, fair order, changed settings, and that nothing leaks."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract.states import JobState
from heavylift.store import Claim, Next, ops
from tests.integration.store.keykit import give_back, ids, keyed, left
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World, request
from tests.integration.store.test_gauges import gauges


# -- the cap ----------------------------------------------------------------------------------------------------------
def test_no_key_runs_more_than_its_cap(w: World) -> None:
    """At most perKey of a key at once; others pass it; an end lets its next job go, and all is gone at the end."""
    w.serve(concurrencyPerKey=2)
    keyed(w, "a1", "a2", "a3", "a4", "b1", "_1", "a5")
    first = w.ask()
    assert (ids(first.claims), first.blocked) == (["a1", "a2", "b1", "_1"], {QUEUE: "keys"})
    found = gauges(w)
    assert (found.waiting, found.aside, found.startable, found.demand) == (3, 3, 0, 4)
    w.finish(first.claims[0])
    assert (gauges(w).aside, gauges(w).startable) == (2, 1)
    (a3,) = w.ask().claims
    assert a3.job == "a3"
    for claim in (*first.claims[1:], a3):
        w.finish(claim)
    last = w.ask()
    assert (ids(last.claims), last.blocked) == (["a4", "a5"], {QUEUE: "empty"})
    for claim in last.claims:
        w.finish(claim)
    assert left(w) == {}
    assert w.idle()


ENDS: dict[str, Any] = {
    "complete": lambda w, claim: w.finish(claim),
    "fail": lambda w, claim: w.finish(claim, Next.FAIL),
    "retry later": lambda w, claim: w.finish(claim, Next.RETRY, delay_ms=60_000),
    "cancel": lambda w, claim: (w.run(ops.cancel(claim.job, by="ann")), w.finish(claim, Next.CANCEL)),
    "release": give_back,
    "deleted by RQ": lambda w, claim: (
        Job.fetch(claim.job, connection=w.redis, serializer=JSONSerializer).delete(),
        w.finish(claim),
    ),
    "hash gone": lambda w, claim: (w.redis.delete(f"rq:job:{claim.job}"), w.finish(claim)),
    "enqueued anew while it ran": lambda w, claim: (w.redis.delete(f"rq:job:{claim.job}"), w.enqueue(id=claim.job),
                                                    w.finish(claim)),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_every_end_gives_the_key_back(w: World, end: str) -> None:
    """However an execution ends, its key's next job may go, and what runs is what counts."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2")
    (claim,) = w.ask().claims
    assert w.ask().claims == ()
    ENDS[end](w, claim)
    again = w.ask()
    assert len([one for one in again.claims if one.job.startswith("a")]) >= 1, end
    running = w.redis.zrange(f"heavylift:keyed:{QUEUE}", 0, -1)
    assert set(running) <= {f"a\0{one.job}:{one.execution}".encode() for one in again.claims}
    assert len(running) == 1


def test_a_lost_end_is_found(w: World) -> None:
    """An execution that vanished without a script is taken off its key when the key is next looked at, and counted."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2")
    (claim,) = w.ask().claims
    w.redis.zrem(f"rq:wip:{QUEUE}", f"{claim.job}:{claim.execution}")
    w.redis.zadd(f"heavylift:full:{QUEUE}", {"a": 1})
    w.ask()
    assert w.job("a2").state is JobState.ACTIVE or ids(w.ask().claims) == ["a2"]
    assert w.run(ops.counters(QUEUE))["repaired:keys"] == 1


def test_caps_of_queue_and_key_hold_together(w: World) -> None:
    """The queue's cap, its rate and the width bound what keys leave over."""
    w.serve(concurrencyPerKey=2, concurrencyMax=3)
    keyed(w, *(f"{key}{i}" for i in range(3) for key in "abc"))
    reply = w.ask()
    assert (ids(reply.claims), reply.blocked) == (["a0", "b0", "c0"], {QUEUE: "cap"})
    found = gauges(w)
    assert (found.waiting, found.aside, found.startable, found.demand) == (6, 3, 0, 3)
    w.serve(concurrencyPerKey=2, rateLimit={"limit": 4, "period": 60_000})
    reply = w.ask()
    assert (len(reply.claims), reply.blocked) == (3, {QUEUE: "keys"})
    keyed(w, "d1", "d2", "d3")
    reply = w.ask()
    assert (ids(reply.claims), reply.blocked) == (["d1"], {QUEUE: "rate"})
    w.serve(concurrencyPerKey=2)
    assert w.ask(slots=1).blocked == {QUEUE: "width"}


# -- order ------------------------------------------------------------------------------------------------------------
def test_order_over_keys_is_the_order_they_came_in(w: World) -> None:
    """Without fairness, jobs with and without a key go in the order they came in, level by level."""
    w.serve(concurrencyPerKey=10)
    keyed(w, "a1", "_1", "b1", "a2", "_2", "c1")
    keyed(w, "a9", "_9", priority=-5)
    keyed(w, "b8", "_8", priority=5)
    assert ids(w.ask().claims) == ["a9", "_9", "a1", "_1", "b1", "a2", "_2", "c1", "b8", "_8"]


def test_order_within_a_key_is_kept(w: World) -> None:
    """Jobs that waited aside come back in their order, those given back first, retried ones last."""
    w.serve(concurrencyPerKey=2)
    w.run(ops.enqueue_many([request(id=f"a{i:02}", options={"key": "a"}) for i in range(12)]))
    first, second = w.ask().claims
    give_back(w, second)
    give_back(w, first)
    first, second = w.ask().claims
    assert ids((first, second)) == ["a00", "a01"]
    w.finish(first, Next.RETRY)
    order = []
    while claims := w.ask(max=1).claims:
        order += ids(claims)
        w.finish(claims[0])
    w.finish(second)
    assert order == [f"a{i:02}" for i in range(2, 12)] + ["a00"]


def test_round_robin_over_keys(w: World) -> None:
    """A fair queue gives each key a turn, whatever stands before it; jobs without a key have one turn together."""
    w.serve(concurrencyOrder="RoundRobin")
    w.run(ops.enqueue_many([request(id=f"a{i}", options={"key": "a"}) for i in range(30)]))
    keyed(w, "b1", "b2", "_1", "_2", "c1")
    assert ids(w.ask(max=9).claims) == ["a0", "b1", "c1", "_1", "a1", "b2", "_2", "a2", "a3"]
    assert (gauges(w).waiting, gauges(w).aside, gauges(w).startable) == (26, 0, 26)
    keyed(w, "d1", "d2")
    assert ids(w.ask(max=4).claims) == ["a4", "d1", "a5", "d2"]


def test_fair_order_with_caps_and_priorities(w: World) -> None:
    """In a fair queue priority counts inside a key; a key at its cap loses no turn of the others."""
    w.serve(concurrencyOrder="RoundRobin", concurrencyPerKey=2)
    keyed(w, "a1", "a2", "a3", "b1", "b2", "b3")
    keyed(w, "a9", priority=-9)
    keyed(w, "b8", priority=8)
    claims = w.ask().claims
    assert ids(claims) == ["a9", "b1", "a1", "b2"]
    assert gauges(w).aside == 4
    w.finish(claims[1])
    w.finish(claims[3])
    assert ids(w.ask().claims) == ["b3", "b8"]


def test_lifo_goes_to_the_front_of_its_level(w: World) -> None:
    """A job marked lifo goes first among its level wherever it is put: new, due, retried, in lists and in lanes."""
    keyed(w, "_1", "_2")
    keyed(w, "_3", lifo=True)
    keyed(w, "_4", lifo=True)
    keyed(w, "_0", priority=-1)
    claims = w.ask().claims
    assert ids(claims) == ["_0", "_4", "_3", "_1", "_2"]
    keyed(w, "_5")
    w.finish(claims[1], Next.RETRY)
    w.finish(claims[3], Next.RETRY)
    assert ids(w.ask().claims) == ["_4", "_5", "_1"]
    w.enqueue(id="late", delay_ms=60_000, options={"lifo": True})
    keyed(w, "_6")
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {"late": 1})
    assert ids(w.ask().claims) == ["late", "_6"]
    w.serve(concurrencyPerKey=9)
    keyed(w, "a1", "_7")
    keyed(w, "a2", "b2", "_8", lifo=True)
    assert ids(w.ask().claims) == ["_8", "b2", "a2", "a1", "_7"]


# -- settings at run time ---------------------------------------------------------------------------------------------
def test_caps_change_at_run_time(w: World) -> None:
    """A cap set later counts what runs already and takes jobs out of the list; raised or removed it lets jobs go."""
    keyed(w, "a1", "a2", "a3", "a4", "a5", "a6", "a7", "_1")
    assert len(w.ask(max=2).claims) == 2
    w.serve(concurrencyPerKey=2)
    assert ids(w.ask().claims) == ["_1"]
    assert w.waiting() == []
    assert (gauges(w).waiting, gauges(w).aside) == (5, 5)
    w.serve(concurrencyPerKey=3)
    assert ids(w.ask().claims) == ["a3"]
    w.serve(concurrencyPerKey=1)
    assert w.ask().blocked == {QUEUE: "keys"}
    w.serve(concurrencyPerKey=5)
    assert ids(w.ask().claims) == ["a4", "a5"]
    w.serve(concurrencyPerKey=None)
    keyed(w, "a8")
    assert ids(w.ask().claims) == ["a6", "a7", "a8"]
    assert set(left(w)) == {"keyed", "keyof"}


def test_the_order_changes_at_run_time(w: World) -> None:
    """From first in, first out to fair and back nothing is lost, and each job goes once."""
    w.serve(concurrencyPerKey=3)
    keyed(w, *(f"{key}{i}" for key in "abc" for i in range(6)), "_1", "_2")
    seen: list[str] = []
    for order in ("Fifo", "RoundRobin", "Fifo", "RoundRobin"):
        w.serve(concurrencyPerKey=3, concurrencyOrder=order)
        for claim in w.ask(max=6).claims:
            seen.append(claim.job)
            w.finish(claim)
    assert sorted(seen) == sorted([*(f"{key}{i}" for key in "abc" for i in range(6)), "_1", "_2"])
    assert left(w) == {}


def test_many_keys_at_their_cap_come_back_in_steps(w: World) -> None:
    """A raised cap reaches hundreds of keys, a bounded number with each claim."""
    w.serve(concurrencyPerKey=1)
    jobs = [request(id=f"k{n}-{i}", options={"key": f"key-{n}"}) for i in range(2) for n in range(130)]
    w.run(ops.enqueue_many(jobs))
    while w.ask(slots=1000).claims:
        pass
    assert w.run(ops.inflight_count(INSTALL)) == 130
    w.serve(concurrencyPerKey=2)
    claimed = 0
    while claims := w.ask(slots=1000).claims:
        claimed += len(claims)
    assert claimed == 130


def test_a_removed_cap_reaches_every_key_once(w: World) -> None:
    """Keys at a cap that is removed go back into the order, some with each claim; the sweep finds nothing to mend."""
    w.serve(concurrencyPerKey=1)
    w.run(ops.enqueue_many([request(id=f"k{n}-{i}", options={"key": f"key-{n}"}) for i in range(4) for n in range(40)]))
    while w.ask(slots=1000).claims:
        pass
    assert len(left(w)["full"]) == 40
    w.serve(concurrencyPerKey=None)
    claimed = [job for _ in range(4) for job in ids(w.ask(slots=1000).claims)]
    assert "full" not in left(w)
    assert {job.partition("-")[0] for job in claimed} == {f"k{n}" for n in range(40)}
    cursor = ops.KeyCursor()
    for _ in range(4):
        cursor, mended = w.run(ops.sweep_keys(QUEUE, cursor))
        assert mended == 0


# -- all of it together -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["Fifo", "RoundRobin"])
def test_nothing_leaks_over_random_lives(w: World, order: str) -> None:
    """Random claims, ends, releases and changed caps: no cap is ever passed, each job ends once, nothing stays."""
    rng = random.Random(7)
    w.serve(concurrencyPerKey=2, concurrencyOrder=order)
    jobs = [
        request(id=f"{key}{i}", options={"key": key, "priority": rng.choice((0, 0, -3, 4)), "lifo": rng.random() < 0.2})
        for i in range(12)
        for key in "abcde"
    ] + [request(id=f"_{i}") for i in range(12)]
    rng.shuffle(jobs)
    w.run(ops.enqueue_many(jobs))
    running: dict[str, Claim] = {}
    per = 2
    for _ in range(1000):
        for claim in w.ask(max=rng.randint(1, 5), worker=WORKER).claims:
            assert claim.job not in running
            running[claim.job] = claim
        counts = Counter(job[0] for job in running if job[0] != "_")
        assert all(count <= 3 for count in counts.values()), counts
        found = gauges(w)
        assert found.active == len(running)
        assert w.redis.zcard(f"heavylift:keyed:{QUEUE}") == sum(counts.values())
        assert w.redis.zcard(f"heavylift:lanes:{QUEUE}") == w.redis.llen(f"rq:queue:{QUEUE}@keys")
        if not running and not found.waiting:
            break
        if rng.random() < 0.05:
            per = rng.choice((1, 2, 3))
            w.serve(concurrencyPerKey=per, concurrencyOrder=order)
        for job in rng.sample(sorted(running), k=min(len(running), rng.randint(0, 3))):
            claim = running.pop(job)
            rng.choice((w.finish, w.finish, lambda c: w.finish(c, Next.RETRY), lambda c: give_back(w, c)))(claim)
    assert left(w) == {}
    assert w.idle()
    assert w.run(ops.counts(QUEUE)).completed == len(jobs)
