"""Deduplication: who holds a key, until when, and what an enqueue that meets it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract import payload
from heavylift.contract.states import JobState
from heavylift.errors import StoreCorruptError
from heavylift.store import Claim, Enqueued, Fence, Next, Verdict, decode, ops
from tests.integration.store.kit import QUEUE, World, request

KEYS = f"heavylift:dedup:{QUEUE}"
FOREVER = 3_600_000


def offer(w: World, mode: str = "first", year: int = 2026, ttl: int | None = None, **more: Any) -> Enqueued:
    """Enqueue with the key ``annual``."""
    dedupe = {"id": "annual", "mode": mode} if ttl is None else {"id": "annual", "mode": mode, "ttl": ttl}
    return w.enqueue(value={"year": year}, options={"dedupe": dedupe, **more.pop("options", {})}, **more)


def year_of(w: World, job: str) -> str:
    """Return the data a job holds now."""
    data = w.redis.hget(f"rq:job:{job}", "data")
    assert isinstance(data, bytes)
    return payload.decode(data).data_json


def holder(w: World) -> str:
    """Return what the key's field holds; empty when it is free."""
    return decode.text(w.redis.hget(KEYS, "annual"))


def test_first_keeps_one_unfinished_job(w: World) -> None:
    """While a job of the key waits, is delayed or active, an enqueue returns it and an event tells so."""
    first = offer(w, delay_ms=FOREVER)
    again = offer(w)
    assert (again.id, again.created, again.state) == (first.id, False, JobState.DELAYED)
    w.run(ops.promote(first.id))
    claim = w.claim()
    while_active = offer(w)
    assert (claim.job, while_active.id, while_active.state) == (first.id, first.id, JobState.ACTIVE)
    told = [event.fields for event in w.events() if event.name == "deduplicated"]
    assert [(fields["key"], fields["replaced"]) for fields in told] == [("annual", "0"), ("annual", "0")]
    assert w.run(ops.counters(QUEUE))["deduplicated"] == 2
    assert w.run(ops.counts(QUEUE)).waiting == 0


def _complete(w: World, job: str) -> None:
    claim = w.claim()
    assert claim.job == job
    w.finish(claim)


def _fail(w: World, job: str) -> None:
    claim = w.claim()
    assert claim.job == job
    w.finish(claim, Next.FAIL)


def _expire(w: World, job: str) -> None:
    w.redis.hset(f"rq:job:{job}", "hl:expires", 1)
    assert not w.ask().claims


def _cancel(w: World, job: str) -> None:
    assert w.run(ops.cancel(job, by="ann")).verdict is Verdict.APPLIED


def _cancel_active(w: World, job: str) -> None:
    claim = w.claim()
    assert w.run(ops.cancel(job, by="ann")).verdict is Verdict.CANCELLED
    assert not offer(w).created, "its pod still runs"
    w.finish(claim, Next.CANCEL)


def _rq_cancel(w: World, job: str) -> None:
    Job.fetch(job, connection=w.redis, serializer=JSONSerializer).cancel()


def _rq_delete(w: World, job: str) -> None:
    Job.fetch(job, connection=w.redis, serializer=JSONSerializer).delete()


def _purge(w: World, job: str) -> None:
    assert w.run(ops.purge(QUEUE, JobState.WAITING, 10)) == 1, job


ENDS: dict[str, Callable[[World, str], None]] = {
    "complete": _complete,
    "fail": _fail,
    "expire": _expire,
    "cancel": _cancel,
    "cancel while active": _cancel_active,
    "rq cancel": _rq_cancel,
    "rq delete": _rq_delete,
    "purge": _purge,
}


@pytest.mark.parametrize("mode", ["first", "keep_last"])
@pytest.mark.parametrize("end", ENDS)
def test_the_key_is_free_after_each_end(w: World, end: str, mode: str) -> None:
    """Whatever ends or removes a job, the next enqueue makes a new one; ends of ours leave nothing behind."""
    job = offer(w, mode)
    ENDS[end](w, job.id)
    if not end.startswith("rq "):
        assert holder(w) == ""
    assert offer(w, mode).created
    assert w.redis.hlen(KEYS) == 1


def test_a_retry_between_attempts_is_no_end(w: World) -> None:
    """The key is held until the last attempt failed."""
    job = offer(w)
    w.finish(w.claim(), Next.RETRY, delay_ms=FOREVER)
    assert offer(w).id == job.id


@pytest.mark.parametrize(("end", "held"), [(_complete, True), (_fail, True), (_cancel, False), (_purge, False)])
def test_a_throttle_holds_for_its_time(w: World, end: Callable[[World, str], None], held: bool) -> None:
    """With a ttl the key outlives success and failure, not a cancel or a removal."""
    job = offer(w, ttl=FOREVER)
    end(w, job.id)
    again = offer(w, ttl=FOREVER)
    assert (again.id == job.id, again.created) == (held, not held)


def test_a_throttles_time_ends_while_its_job_waits(w: World) -> None:
    """When the time is over a second job is made; its end does not touch the newer holder."""
    first = offer(w, ttl=FOREVER)
    w.redis.hset(KEYS, "annual", f"{first.id}|1")
    second = offer(w, ttl=FOREVER)
    assert second.created
    _complete(w, first.id)
    assert holder(w).startswith(second.id)
    assert offer(w).id == second.id


def test_a_removal_by_retention_frees_a_throttle(w: World) -> None:
    """A key needs its job: once retention removed it, the key is free."""
    w.serve(retention={"completed": {"count": 0, "age": 60_000}})
    job = offer(w, ttl=FOREVER)
    _complete(w, job.id)
    assert not w.redis.exists(f"rq:job:{job.id}")
    assert offer(w, ttl=FOREVER).created


def test_keep_last_replaces_what_has_not_started(w: World) -> None:
    """The latest data takes the place of what waits; the place in the queue stays."""
    first = offer(w, "keep_last", 2024)
    other = w.enqueue()
    last = offer(w, "keep_last", 2026, options={"maxAttempts": 3})
    assert (last.id, last.created) == (first.id, False)
    assert year_of(w, first.id) == '{"year":2026}'
    assert w.job(first.id).options == {"maxAttempts": 3}
    assert [claim.job for claim in w.ask().claims] == [first.id, other.id]


@pytest.mark.parametrize("next_", [Next.COMPLETE, Next.FAIL, Next.CANCEL])
def test_keep_last_runs_the_latest_after_the_active_one(w: World, next_: Next) -> None:
    """While one is active one follower waits for its end, however it ends, with the latest data."""
    offer(w, "keep_last", 2024)
    claim = w.claim()
    follower = offer(w, "keep_last", 2025)
    newest = offer(w, "keep_last", 2026)
    assert (follower.created, follower.state) == (True, JobState.WAITING_CHILDREN)
    assert (newest.id, newest.created, newest.state) == (follower.id, False, JobState.WAITING_CHILDREN)
    assert w.job(follower.id).reason == f"follows {claim.job}"
    assert w.ask().claims == ()
    w.finish(claim, Next.RETRY, delay_ms=0)
    second = w.claim()
    assert second.job == claim.job, "another attempt is not the end"
    w.finish(second, next_)
    last = w.claim()
    assert (last.job, year_of(w, last.job)) == (follower.id, '{"year":2026}')
    assert holder(w) == follower.id
    w.finish(last)
    assert holder(w) == ""


def test_the_latest_data_runs_last_when_the_active_one_is_given_back(w: World) -> None:
    """A job whose pod was never made waits again as if it had not started: the follower keeps the latest data."""
    offer(w, "keep_last", 2024)
    claim = w.claim()
    follower = offer(w, "keep_last", 2025)
    assert w.run(ops.release(fence_of(claim), reason="quota")).verdict is Verdict.APPLIED
    assert offer(w, "keep_last", 2026).id == follower.id
    order = []
    for _ in range(2):
        claim = w.claim()
        order.append(payload.decode(claim.data).data_json)
        w.finish(claim)
    assert order == ['{"year":2024}', '{"year":2026}']


def test_a_follower_that_is_cancelled_leaves_the_key_to_the_other(w: World) -> None:
    """The next enqueue makes a new follower."""
    offer(w, "keep_last")
    claim = w.claim()
    follower = offer(w, "keep_last")
    _cancel(w, follower.id)
    assert holder(w) == claim.job
    another = offer(w, "keep_last")
    assert (another.created, another.state) == (True, JobState.WAITING_CHILDREN)


@pytest.mark.parametrize("end", [_rq_cancel, _rq_delete])
def test_a_follower_goes_on_when_rq_removes_the_other(w: World, end: Callable[[World, str], None]) -> None:
    """RQ's own cancel and delete tell nobody: the next enqueue or the sweep lets the follower go."""
    job = offer(w, "keep_last").id
    claim = w.claim()
    follower = offer(w, "keep_last")
    assert w.run(ops.release(fence_of(claim), reason="test")).verdict is Verdict.APPLIED
    w.redis.hset(f"rq:job:{job}", "hl:seq", 1)
    end(w, job)
    assert w.ask().claims == ()
    assert w.run(ops.sweep_dedupe(QUEUE)) == (0, 1)
    assert w.claim().job == follower.id


def fence_of(claim: Claim) -> Fence:
    """Return the fence of the dispatcher that holds a claim."""
    return Fence(job=claim.job, execution=claim.execution, worker=claim.worker)


def test_debounce_starts_after_the_last_of_a_burst(w: World) -> None:
    """Each enqueue moves the start and replaces the data; once the job is due the next one is a new job."""
    first = offer(w, "debounce", 2024, ttl=FOREVER)
    due = w.job(first.id).due
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {first.id: 1})
    last = offer(w, "debounce", 2026, ttl=FOREVER)
    assert (last.id, last.created, last.state) == (first.id, False, JobState.DELAYED)
    assert year_of(w, first.id) == '{"year":2026}'
    moved = w.redis.zscore(f"heavylift:delayed:{QUEUE}", first.id)
    assert due is not None
    assert moved is not None
    assert moved >= due
    assert w.job(first.id).due == moved
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {first.id: 1})
    assert w.claim().job == first.id
    new = offer(w, "debounce", 2027, ttl=FOREVER)
    assert (new.created, new.state) == (True, JobState.DELAYED)


def test_entries_of_one_batch_meet_each_other(w: World) -> None:
    """Two entries with one key in a batch make one job; each entry has its verdict."""
    entries = [request(options={"dedupe": {"id": name, "mode": "first"}}) for name in ("a", "b", "a")]
    made = w.run(ops.enqueue_many(entries))
    assert [(one.id, one.created) for one in made] == [
        (entries[0].id, True),
        (entries[1].id, True),
        (entries[0].id, False),
    ]


def test_a_repeat_of_an_enqueue_changes_nothing(w: World) -> None:
    """A lost reply is asked for again: the same job, no second one, no second event."""
    entry = request(options={"dedupe": {"id": "annual", "mode": "keep_last"}})
    first, second = (w.run(ops.enqueue(entry)) for _ in range(2))
    assert first == second
    assert first.created
    w.claim()
    follower = request(options={"dedupe": {"id": "annual", "mode": "keep_last"}})
    assert w.run(ops.enqueue(follower)) == w.run(ops.enqueue(follower))
    assert w.names(follower.id) == ["added"]


def test_keys_are_of_one_queue(w: World) -> None:
    """The same key in another queue is another key."""
    w.serve("other")
    assert offer(w).created
    assert offer(w, queue="other").created


def test_a_retry_takes_the_key_again_or_is_refused(w: World) -> None:
    """A failed job that is retried holds its key; while another job holds it, the retry is refused by name."""
    job = offer(w).id
    _fail(w, job)
    assert w.run(ops.retry(job)).verdict is Verdict.APPLIED
    assert offer(w).id == job
    _fail(w, job)
    other = offer(w).id
    refused = w.run(ops.retry(job))
    assert refused.verdict is Verdict.REFUSED
    assert other in refused.message


def test_ids_and_keys_together(w: World) -> None:
    """An id that exists decides first; a replacement keeps its own key and yields to another job's."""
    job = offer(w, id="one").id
    again = offer(w, id="one", if_exists="return")
    assert (again.id, again.created) == (job, False)
    assert offer(w, id="one", if_exists="replace").created
    assert holder(w) == "one"
    w.enqueue(id="two", value={"year": 2026})
    met = offer(w, id="two", if_exists="replace")
    assert (met.id, met.created) == ("one", False)
    assert w.job("two").state is JobState.WAITING


def test_a_replaced_job_keeps_its_dependents(w: World) -> None:
    """Who depends on an id goes on when what replaced it completes."""
    w.enqueue(id="one", value={"year": 2026})
    child = w.enqueue(depends_on=("one",))
    w.enqueue(id="one", value={"year": 2026}, if_exists="replace")
    _complete(w, "one")
    assert w.claim().job == child.id


def test_the_sweep_frees_what_nobody_holds(w: World) -> None:
    """Keys whose job is gone, ended behind our back or was never ours are removed and counted; live ones stay."""
    live = offer(w).id
    for number in range(150):
        w.redis.hset(KEYS, f"gone-{number}", f"nobody-{number}")
    w.redis.hset(KEYS, "odd", "\x00|||")
    w.redis.hset(KEYS, "over", f"{live}|1")
    cursor, freed = 0, 0
    for _ in range(50):
        cursor, step = w.run(ops.sweep_dedupe(QUEUE, cursor))
        freed += step
        if cursor == 0:
            break
    assert freed == 151, "a throttle whose time is over is no fault"
    assert w.redis.hgetall(KEYS) == {b"annual": live.encode()}
    assert w.run(ops.counters(QUEUE))["repaired:dedupe"] == 151


def test_a_key_of_a_wrong_type_refuses_by_name(w: World) -> None:
    """Nothing is written, the message names the key; jobs without a key are not kept out for it by its end."""
    job = offer(w)
    w.redis.delete(KEYS)
    w.redis.set(KEYS, "x")
    done = w.run(ops.enqueue(request(options={"dedupe": {"id": "annual", "mode": "first"}})))
    assert (done.error, KEYS in done.message) == ("corrupt", True)
    _complete(w, job.id)
    with pytest.raises(StoreCorruptError, match=KEYS):
        w.run(ops.sweep_dedupe(QUEUE))
