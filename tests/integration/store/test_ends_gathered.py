"""Several ends in one call whose jobs have concurrency and deduplication keys, against real stores."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.states import JobState
from heavylift.store import Claim, FinishRequest, Next, Spend, Verdict, decode, ops
from heavylift.store.model import Fence
from tests.integration.store.keykit import INDEXES, ids, keyed, left
from tests.integration.store.kit import QUEUE, World, outcome

DEDUP = f"heavylift:dedup:{QUEUE}"


def _end(claim: Claim, next_: Next) -> FinishRequest:
    fence = Fence(job=claim.job, execution=claim.execution)
    return FinishRequest(fence=fence, outcome=outcome(), next=next_, spend=Spend.ATTEMPT)


def _end_all(w: World, claims: tuple[Claim, ...], *, together: bool = True, retried: str = "") -> None:
    """End claims; one job of them is to go on."""
    ends = [ops.finish(_end(claim, Next.RETRY if claim.job == retried else Next.COMPLETE)) for claim in claims]
    done: list[Any] = w.store.run_many(ends) if together else [w.run(end) for end in ends]
    assert [reply.verdict for reply in done] == [Verdict.APPLIED] * len(claims)


def _shape(w: World) -> dict[str, list[str]]:
    """Return the indexes of keys, in their order, without what differs from one run to the next: times, executions."""
    found = left(w)
    parts = {"lanes": lambda entry: entry[:2] + entry[22:], "ring": lambda entry: entry[0] + entry[22:],
             "keyed": lambda entry: entry.split(":")[0], "keyof": lambda entry: entry.split(":")[0]}  # fmt: skip
    shape = {name: [parts.get(name, str)(entry) for entry in entries] for name, entries in found.items()}
    return {name: sorted(entries) if name in INDEXES[5:] else entries for name, entries in shape.items()}


def _placed(w: World) -> bool:
    """Whether each slot's place stands in the ring, and nothing else."""
    slots = w.redis.hgetall(f"heavylift:slots:{QUEUE}").items()
    ring = [decode.text(entry) for entry in w.redis.zrange(f"heavylift:ring:{QUEUE}", 0, -1)]
    return sorted(f"{decode.text(place)}\0{decode.text(key)}" for key, place in slots) == ring


ORDERS: dict[str, dict[str, Any]] = {
    "no key at its cap": {"concurrencyPerKey": 9},
    "at caps": {"concurrencyPerKey": 2},
    "fair": {"concurrencyOrder": "RoundRobin"},
    "fair at caps": {"concurrencyOrder": "RoundRobin", "concurrencyPerKey": 2},
}


@pytest.mark.parametrize("lowered", [False, True], ids=["as before", "cap lowered"])
@pytest.mark.parametrize("order", ORDERS)
def test_keys_after_a_call_are_as_after_each_by_itself(w: World, order: str, lowered: bool) -> None:
    """What stands in the indexes of keys and who goes next is the same, together or one after another."""

    def ended(*, together: bool) -> tuple[Any, ...]:
        w.redis.flushdb()
        w.serve(**ORDERS[order])
        keyed(w, "a1", "a2", "a3", "b1", "b2", "b3", "b4", "c1", "d1", "d2", "e1", "e2", "e3", "e4", "_1")
        claims = w.ask(max=9).claims
        if lowered:
            w.serve(**{**ORDERS[order], "concurrencyPerKey": 1})
        _end_all(w, claims[:7], together=together, retried="b1")
        assert _placed(w)
        after, then = _shape(w), ids(w.ask(max=4).claims)
        _end_all(w, claims[7:], together=together)
        return ids(claims), after, then, _shape(w)

    assert ended(together=True) == ended(together=False)


def test_the_last_jobs_of_keys_leave_nothing(w: World) -> None:
    """Where no job waits by its key, ends of a call take all keys out of all indexes, strays of them too."""
    w.serve(concurrencyPerKey=2)
    keyed(w, "a1", "a2", "b1", "c1")
    claims = w.ask().claims
    w.redis.hset(f"heavylift:slots:{QUEUE}", "a", "f" + "0" * 20)
    w.redis.zadd(f"heavylift:ring:{QUEUE}", {"f" + "0" * 20 + "\0a": 0})
    w.redis.zadd(f"heavylift:heads:{QUEUE}", {"b": 1})
    w.redis.zadd(f"heavylift:full:{QUEUE}", {"c": 1})
    _end_all(w, claims)
    assert left(w) == {}
    assert w.idle()


def test_keys_below_their_caps_again_have_their_places(w: World) -> None:
    """Keys that come down from their caps in one call are full no more, and their next jobs go."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2", "b1", "b2")
    claims = w.ask().claims
    assert _shape(w)["full"] == ["a", "b"]
    _end_all(w, claims)
    assert "full" not in left(w)
    assert ids(w.ask().claims) == ["a2", "b2"]


def test_strangers_entries_in_a_lane_are_put_aside(w: World) -> None:
    """What is no entry goes to the quarantine when an end looks at the lane; the job behind it has its place."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2", "b1", "b2")
    claims = w.ask().claims
    w.redis.zadd(f"heavylift:lanes:{QUEUE}", {"a\0!": 0, "b\0!": 0})
    _end_all(w, claims)
    assert w.run(ops.counters(QUEUE))["quarantined"] == 2
    assert ids(w.ask().claims) == ["a2", "b2"]


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_of_a_wrong_type_stops_no_end(w: World, index: str) -> None:
    """Each end of the call is written though one of the indexes of keys is something else."""
    w.serve(concurrencyPerKey=1)
    keyed(w, "a1", "a2", "b1", "b2")
    claims = w.ask().claims
    w.redis.delete(f"heavylift:{index}:{QUEUE}")
    w.redis.set(f"heavylift:{index}:{QUEUE}", "not ours")
    _end_all(w, claims)
    assert [w.job(claim.job).state for claim in claims] == [JobState.COMPLETED] * 2
    assert w.redis.get(f"heavylift:{index}:{QUEUE}") == b"not ours"


def _offer(w: World, job: str, key: str, mode: str = "first", **more: Any) -> str:
    return w.enqueue(id=job, options={"dedupe": {"id": key, "mode": mode, **more}}).id


def test_deduplication_keys_of_a_call(w: World) -> None:
    """Plain ones are freed together; a throttle holds, a follower goes on, and what is not the job's stays."""
    for job, key in (("plain", "k1"), ("other", "k2"), ("taken", "k4"), ("odd", "k5")):
        _offer(w, job, key)
    _offer(w, "throttle", "k3", ttl=3_600_000)
    _offer(w, "before", "k6", "keep_last")
    claims = w.ask().claims
    follower = _offer(w, "after", "k6", "keep_last")
    w.redis.hset(DEDUP, mapping={"k4": "somebody", "k5": "odd|what|is|this"})
    _end_all(w, claims)
    held = {decode.text(key): decode.text(text).split("|")[0] for key, text in w.redis.hgetall(DEDUP).items()}
    assert held == {"k3": "throttle", "k4": "somebody", "k5": "odd", "k6": "after"}
    assert (follower, w.waiting(), w.job("after").state) == ("after", ["after"], JobState.WAITING)
    assert w.enqueue(id="new", options={"dedupe": {"id": "k1", "mode": "first"}}).created


def test_followers_go_before_what_a_later_end_lets_go(w: World) -> None:
    """In a call with others too, who follows a job waits before one that is retried, or let go, by an end after it."""
    _offer(w, "before", "k1", "keep_last")
    w.enqueue(id="retried")
    w.enqueue(id="parent")
    claims = w.ask().claims
    _offer(w, "after", "k1", "keep_last")
    w.enqueue(id="child", depends_on=("parent",))
    _end_all(w, claims, retried="retried")
    assert w.waiting() == ["after", "retried", "child"]


def test_deduplication_keys_of_a_wrong_type_stop_no_end(w: World) -> None:
    """Each end of the call is written though the keys are no hash."""
    for job in ("one", "two"):
        _offer(w, job, f"key of {job}")
    claims = w.ask().claims
    w.redis.delete(DEDUP)
    w.redis.set(DEDUP, "not ours")
    _end_all(w, claims)
    assert [w.job(claim.job).state for claim in claims] == [JobState.COMPLETED] * 2
    assert w.redis.get(DEDUP) == b"not ours"


def test_old_jobs_give_their_deduplication_keys_back(w: World) -> None:
    """Retention frees what removed jobs still hold, a throttle too, and leaves what is another's."""
    w.serve(retention={"completed": {"count": 0, "age": 86_400_000}, "failed": {"count": 0, "age": 60_000}})
    _offer(w, "throttle", "k1", ttl=3_600_000)
    _offer(w, "plain", "k2")
    claims = w.ask().claims
    w.redis.hset(DEDUP, "k2", "another")
    _end_all(w, claims)
    assert w.redis.exists("rq:job:throttle", "rq:job:plain") == 0
    assert w.redis.hgetall(DEDUP) == {b"k2": b"another"}
