"""Where jobs with concurrency keys wait: what others see of it, what leaves it, and the sweep that mends it."""

from __future__ import annotations

from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Verdict, ops
from tests.integration.store.keykit import INDEXES, ids, keyed, left
from tests.integration.store.kit import QUEUE, World, request
from tests.integration.store.test_gauges import gauges


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


@pytest.mark.parametrize("lifo", [False, True])
def test_a_cancel_deep_in_a_lane_is_found_by_its_time(w: World, lifo: bool) -> None:
    """Taking a job out of a long lane is exact: the count falls by one at once."""
    w.serve(concurrencyPerKey=1)
    for start in range(0, 3000, 500):
        batch = [request(id=f"a{start + i}", options={"key": "a", "lifo": lifo}) for i in range(500)]
        w.run(ops.enqueue_many(batch))
    for job in ("a0", "a1490", "a2999"):
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
