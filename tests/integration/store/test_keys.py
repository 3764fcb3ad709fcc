"""Concurrency keys: caps per key, where jobs wait meanwhile, fair order, and that nothing leaks."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Claim, Fence, Next, Verdict, decode, ops
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World, request
from tests.integration.store.test_gauges import gauges

INDEXES = ("lanes", "heads", "ring", "full", "keyed", "slots", "keyof")


def keyed(w: World, *ids: str, **options: Any) -> None:
    """Enqueue jobs ``<key><number>``: the key is the letter."""
    for job in ids:
        own = {"key": job[0], **options} if job[0] != "_" else options
        w.enqueue(id=job, options=own)


def ids(claims: tuple[Claim, ...]) -> list[str]:
    """Return the claims' jobs."""
    return [claim.job for claim in claims]


def give_back(w: World, claim: Claim) -> None:
    """Release a claim as its dispatcher does."""
    fence = Fence(job=claim.job, execution=claim.execution, worker=claim.worker)
    assert w.run(ops.release(fence, reason="stopping")).verdict is Verdict.APPLIED


def left(w: World) -> dict[str, list[str]]:
    """Return what stands in the indexes of keys."""
    found = {name: w.redis.zrange(f"heavylift:{name}:{QUEUE}", 0, -1) for name in INDEXES[:5]}
    found |= {name: w.redis.hkeys(f"heavylift:{name}:{QUEUE}") for name in INDEXES[5:]}
    found["list"] = w.redis.lrange(f"rq:queue:{QUEUE}@keys", 0, -1)
    return {name: [decode.text(entry) for entry in entries] for name, entries in found.items() if entries}


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
    alive = {f"a\0{one.job}:{one.execution}".encode() for one in again.claims if (one.options or {}) or one.job != "a1"}
    assert set(running) <= {f"a\0{one.job}:{one.execution}".encode() for one in again.claims}
    assert len(running) <= 1, (running, alive)


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


# -- what others see --------------------------------------------------------------------------------------------------
def test_rq_counts_jobs_in_lanes(w: World) -> None:
    """RQ's tools count them as a queue of their own; listing or emptying it costs no job, and claims mend the count."""
    w.serve(concurrencyPerKey=1)
    keyed(w, *(f"a{i}" for i in range(8)), "_1")
    queue, lanes = (Queue(name, connection=w.redis, serializer=JSONSerializer) for name in (QUEUE, f"{QUEUE}@keys"))
    assert {one.name for one in Queue.all(connection=w.redis)} == {QUEUE, lanes.name}
    assert (queue.count, lanes.count) == (1, 8)
    assert len(w.ask().claims) == 2
    assert (queue.count, lanes.count) == (0, 7)
    assert lanes.get_jobs() == []
    w.ask()
    assert lanes.count == 7
    lanes.empty()  # type: ignore[no-untyped-call]
    w.ask()
    assert lanes.count == 7 == w.run(ops.counts(QUEUE)).waiting
    assert len(w.run(ops.list_jobs(QUEUE, JobState.WAITING))) == 7
    assert w.run(ops.queues()) == [QUEUE]


def test_listing_pages_over_lists_and_lanes(w: World) -> None:
    """Waiting jobs are listed page by page, those in lanes after those in lists."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2", "_1", "b1", "_2", "a3")
    pages = [w.run(ops.list_jobs(QUEUE, JobState.WAITING, start=start, count=4)) for start in (0, 4)]
    assert [[job.id for job in page] for page in pages] == [["_1", "_2", "a1", "a2"], ["a3", "b1"]]


GOES: dict[str, Any] = {
    "our cancel": lambda w: w.run(ops.cancel("a2", by="ann")),
    "RQ's cancel": lambda w: Job.fetch("a2", connection=w.redis, serializer=JSONSerializer).cancel(),
    "RQ's delete": lambda w: Job.fetch("a2", connection=w.redis, serializer=JSONSerializer).delete(),
    "replaced": lambda w: w.run(ops.enqueue(request(id="a2", if_exists="replace", options={"key": "b"}))),
    "expired": lambda w: w.redis.hset("rq:job:a2", "hl:expires", 1),
    "another type": lambda w: (w.redis.delete("rq:job:a2"), w.redis.set("rq:job:a2", "x")),
}


@pytest.mark.parametrize("goes", GOES)
def test_a_job_that_leaves_its_lane_leaves_nothing(w: World, goes: str) -> None:
    """Cancelled, deleted, replaced or broken while it waited: it does not run, and the lane goes on behind it."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2", "a3")
    (claim,) = w.ask().claims
    GOES[goes](w)
    w.finish(claim)
    claims = w.ask().claims
    assert ids(claims)[0] == "a3" or ids(claims) == ["a2", "a3"]
    assert ("a2" in ids(claims)) == (goes == "replaced")
    for claim in claims:
        w.finish(claim)
    assert left(w) == {}


def test_a_cancel_deep_in_a_lane_is_found_by_its_time(w: World) -> None:
    """Taking a job out of a long lane is exact: the count falls by one at once."""
    w.serve(concurrencyPerKey=1)
    for start in range(0, 3000, 100):
        w.run(ops.enqueue_many([request(id=f"a{start + i}", options={"key": "a"}) for i in range(100)]))
    for job in ("a0", "a1500", "a2999"):
        assert w.run(ops.cancel(job, by="ann")).verdict is Verdict.APPLIED
    assert w.redis.zcard(f"heavylift:lanes:{QUEUE}") == 2997 == w.redis.llen(f"rq:queue:{QUEUE}@keys")
    assert gauges(w).waiting == 2997


def test_an_unusable_key_ends_the_job(w: World) -> None:
    """A key no producer of ours can write ends the job as invalid, and stops nobody."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "_1")
    w.redis.hset("rq:job:_1", "hl:key", "tab\there")
    w.enqueue(id="x1")
    w.redis.hset("rq:job:x1", "hl:key", "k" * 201)
    assert ids(w.ask().claims) == ["a1"]
    for job in ("_1", "x1"):
        assert w.job(job).state is JobState.FAILED
        assert w.job(job).outcome["class"] == OutcomeClass.INVALID.value


@pytest.mark.parametrize("entry", ["junk", "a\0junk", "a\0" + "9" * 20 + "a1", "a\0" + "1" * 20])
def test_junk_in_the_lanes_is_quarantined(w: World, entry: str) -> None:
    """An entry nobody of ours wrote stops no lane and is not run."""
    w.serve(concurrencyPerKey=1)
    w.redis.zadd(f"heavylift:lanes:{QUEUE}", {entry: 0})
    keyed(w, "a1", "a2")
    (claim,) = w.ask().claims
    w.finish(claim)
    (claim,) = w.ask().claims
    w.finish(claim)
    assert {"a1", "a2"} == {job.id for job in w.run(ops.list_jobs(QUEUE, JobState.COMPLETED))}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_of_another_type_stop_the_queue_only(w: World, name: str) -> None:
    """A stranger's key in an index' place: no claim, a trouble note, nothing lost; mended, all goes on."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "_1")
    key = f"heavylift:{name}:{QUEUE}"
    w.redis.rename(key, "aside") if w.redis.exists(key) else w.redis.set("aside", "")
    w.redis.set(key, "x")
    assert w.ask().blocked == {QUEUE: "corrupt"}
    assert key in w.run(ops.troubles(QUEUE))["corrupt"]["message"]
    assert w.run(ops.enqueue(request(options={"key": "a"}))).error == "corrupt"
    gauges(w)
    w.redis.delete(key)
    if w.redis.type("aside") != b"string":
        w.redis.rename("aside", key)
    assert sorted(ids(w.ask().claims)) == ["_1", "a1"]


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


# -- the sweep --------------------------------------------------------------------------------------------------------
def swept(w: World) -> int:
    """Sweep the whole queue; returns how many entries were mended."""
    cursor, mended = w.run(ops.sweep_keys(QUEUE))
    for _ in range(100):
        if cursor == ops.KeyCursor():
            return mended
        cursor, found = w.run(ops.sweep_keys(QUEUE, cursor))
        mended += found
    raise AssertionError("the sweep does not end")


def lose(name: str, *members: str) -> Any:
    """Return a harm: these members (all without any) vanish from an index."""

    def harm(w: World) -> None:
        key = f"heavylift:{name}:{QUEUE}"
        if not members:
            w.redis.delete(key)
        elif name in INDEXES[5:]:
            w.redis.hdel(key, *members)
        else:
            w.redis.zrem(key, *members)

    return harm


HARMS: dict[str, tuple[Any, int]] = {
    "nothing": (lambda _: None, 0),
    "running entries lost": (lose("keyed"), 2),
    "places lost": (lose("slots"), 1),
    "the ring lost": (lose("ring"), 1),
    "full keys forgotten": (lose("full"), 1),
    "heads lost": (lose("heads"), 2),
    "a head too many": (lambda w: w.redis.zadd(f"heavylift:heads:{QUEUE}", {"zz": 1}), 1),
    "a running entry too many": (lambda w: w.redis.zadd(f"heavylift:keyed:{QUEUE}", {"b\0gone:1-1": 0}), 1),
    "a job gone": (lambda w: w.redis.delete("rq:job:a3"), 1),
    "a job cancelled by RQ": (lambda w: w.redis.hset("rq:job:b2", "status", "canceled"), 1),
}


@pytest.mark.parametrize("harm", HARMS)
def test_the_sweep_mends_and_counts(w: World, harm: str) -> None:
    """Whatever was lost or left behind is mended from what runs and waits, and counted; nothing is done twice."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "b1", "a2", "a3")
    claims = w.ask().claims
    assert ids(claims) == ["a1", "b1"]
    w.serve(concurrencyPerKey=2)
    keyed(w, "b2")
    done, mended = HARMS[harm]
    done(w)
    assert swept(w) == mended
    assert swept(w) == 0
    assert w.run(ops.counters(QUEUE)).get("repaired:keys", 0) == mended
    w.serve(concurrencyPerKey=1)
    assert w.ask().claims == ()
    for claim in claims:
        w.finish(claim)
    gone = {"a job gone": {"a3"}, "a job cancelled by RQ": {"b2"}}.get(harm, set())
    order = ids(w.ask().claims)
    for job in order:
        w.run(ops.cancel(job, by="ann"))
    assert set(order) == {"a2", "b2"} - gone


def test_the_sweep_of_a_large_queue_goes_in_steps(w: World) -> None:
    """Each step is bounded, and the steps meet everything."""
    w.serve(concurrencyPerKey=1)
    w.run(ops.enqueue_many([request(id=f"k{n}", options={"key": f"key-{n % 300}"}) for n in range(900)]))
    w.redis.delete(f"heavylift:ring:{QUEUE}", f"heavylift:slots:{QUEUE}")
    assert swept(w) == 300
    assert len(w.ask().claims) > 10
    standing = w.run(ops.key_standing(QUEUE, "key-1"))
    assert (standing.running, standing.waiting, standing.cap, standing.fair) == (1, 2, 1, False)


def test_a_position_in_a_lane_is_told(w: World) -> None:
    """A job that waits by its key tells its place among those of its key, and its key."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "b1", "a2", "a3")
    keyed(w, "a0", priority=-1)
    for job, place in {"a0": 0, "a1": 1, "b1": 0, "a3": 3}.items():
        found = w.run(ops.get_job(job, position=True))
        assert found is not None
        assert (found.position, found.key) == (place, job[0])
