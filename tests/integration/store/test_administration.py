"""Changing what waits and what ended: promote, change, remove, purge, retry, search; on both stores."""

from __future__ import annotations

import time
from typing import Any

import pytest

from heavylift import administration
from heavylift.contract import limits, payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Next, Verdict, decode, ops
from heavylift.store.model import Change
from tests.integration.store.kit import INSTALL, QUEUE, World, request

FOREVER = 3_600_000
DEEP = [f"ghost-{number}" for number in range(10_001)]
SCHEDULED, DELAYED = f"rq:scheduled:{QUEUE}", f"heavylift:delayed:{QUEUE}"


def change(w: World, job: str, **changes: Any) -> Verdict:
    """Change a job; return the verdict."""
    return w.run(ops.change(w.job(job), Change(**changes))).verdict


def fail(w: World, cls: OutcomeClass = OutcomeClass.ERROR, **more: Any) -> str:
    """Enqueue a job and let it fail; return its id."""
    claim = w.active(**more)
    w.finish(claim, Next.FAIL, cls=cls)
    w.run(ops.finalized(claim.install, claim.namespace, f"{w.job(claim.job).job_name}"))
    return claim.job


def test_a_delayed_job_is_promoted_to_the_back(w: World) -> None:
    """It waits behind what waits, is no longer delayed for RQ's tools either, and a second time changes nothing."""
    delayed, other = w.enqueue(delay_ms=FOREVER).id, w.enqueue().id
    assert w.run(ops.promote(delayed)).verdict is Verdict.APPLIED
    assert w.run(ops.promote(delayed)).verdict is Verdict.ALREADY
    assert w.job(delayed).due is None
    assert not w.redis.exists(SCHEDULED, DELAYED)
    assert [claim.job for claim in w.ask().claims] == [other, delayed]
    assert w.run(ops.promote(delayed)).verdict is Verdict.REFUSED
    assert w.run(ops.promote("nobody")).verdict is Verdict.MISSING
    assert w.names(delayed)[:2] == ["added", "promoted"]


def test_a_retry_that_waits_is_promoted(w: World) -> None:
    """Somebody who knows that the cause is gone need not wait for the backoff."""
    claim = w.active()
    w.finish(claim, Next.RETRY, delay_ms=FOREVER)
    assert w.run(ops.promote(claim.job)).verdict is Verdict.APPLIED
    assert w.claim().attempt == 2


def test_priority_moves_a_job_between_levels(w: World) -> None:
    """It goes behind those that have the priority; the level it leaves is gone; counts stay true."""
    first, moved = w.enqueue(options={"priority": 5}).id, w.enqueue(options={"priority": 7}).id
    assert change(w, moved, priority=5) is Verdict.APPLIED
    assert w.run(ops.counts(QUEUE)).waiting == 2
    assert not w.redis.exists(f"rq:queue:{QUEUE}@7")
    last = w.enqueue().id
    assert change(w, first, priority=-5) is Verdict.APPLIED
    assert [claim.job for claim in w.ask().claims] == [first, last, moved]
    assert w.job(moved).priority == 5


def test_priority_of_a_delayed_and_of_an_active_job(w: World) -> None:
    """A delayed job comes back at its new level; an active one's counts from its next attempt on."""
    delayed = w.enqueue(delay_ms=FOREVER).id
    assert change(w, delayed, priority=-1) is Verdict.APPLIED
    assert w.job(delayed).state is JobState.DELAYED
    claim = w.active()
    assert change(w, claim.job, priority=-2) is Verdict.APPLIED
    w.finish(claim, Next.RETRY)
    w.run(ops.promote(delayed))
    assert [again.job for again in w.ask().claims] == [claim.job, delayed]


def test_a_priority_changed_deep_in_a_list_holds(w: World) -> None:
    """The place it leaves far from both ends of its list is a ghost: the job starts once, at its new level."""
    w.redis.rpush(f"rq:queue:{QUEUE}@3", *DEEP)
    moved = w.enqueue(options={"priority": 3}).id
    w.redis.rpush(f"rq:queue:{QUEUE}@3", *DEEP)
    assert change(w, moved, priority=9) is Verdict.APPLIED
    urgent = w.enqueue(options={"priority": 8}).id
    claimed = []
    for _ in range(200):
        claimed += [claim.job for claim in w.ask().claims]
        if len(claimed) == 2:
            break
    assert claimed == [urgent, moved]
    assert w.ask().claims == ()


@pytest.mark.parametrize("priority", [0, 3])
def test_what_is_taken_out_near_an_end_of_a_deep_list_counts_no_more(w: World, priority: int) -> None:
    """First and last jobs of a long backlog are cancelled, removed and moved, and what waits is what is counted."""
    level = f"rq:queue:{QUEUE}" + (f"@{priority}" if priority else "")
    enqueued = [w.enqueue(options={"priority": priority}).id for _ in range(6)]
    w.redis.rpush(level, *DEEP)
    for job in enqueued[3:]:  # to the other end
        w.redis.lrem(level, 1, job)
        w.redis.rpush(level, job)
    for cancelled, removed, moved in (enqueued[:3], enqueued[3:]):
        assert w.run(ops.cancel(cancelled, by="ann", reason="")).verdict is Verdict.APPLIED
        assert w.run(ops.remove(removed)).verdict is Verdict.APPLIED
        assert change(w, moved, delay_ms=FOREVER) is Verdict.APPLIED
    assert w.redis.llen(level) == w.run(ops.counts(QUEUE)).waiting == len(DEEP)


def test_more_priorities_than_a_look_goes_through_are_refused(w: World) -> None:
    """The 33rd priority in use is refused by name; those in use and 0 are taken, and counts stay true."""
    for priority in range(1, 33):
        w.enqueue(options={"priority": priority})
    refused = w.run(ops.enqueue(request(options={"priority": 40})))
    assert (refused.error, "32 priorities" in refused.message) == ("levels", True)
    job = w.enqueue().id
    assert change(w, job, priority=41) is Verdict.REFUSED
    assert change(w, job, priority=7) is Verdict.APPLIED
    assert w.run(ops.counts(QUEUE)).waiting == 33
    assert len(w.ask(max=20).claims) == 20
    w.enqueue(options={"priority": 40})


def test_delay_is_changed_both_ways(w: World) -> None:
    """A waiting job becomes delayed, a delayed one later, sooner or due; RQ's registry follows."""
    job = w.enqueue().id
    assert change(w, job, delay_ms=FOREVER) is Verdict.APPLIED
    assert (w.job(job).state, w.waiting()) == (JobState.DELAYED, [])
    due = w.job(job).due
    assert due is not None
    assert change(w, job, delay_ms=2 * FOREVER) is Verdict.APPLIED
    later = w.job(job).due
    assert later is not None
    assert FOREVER - 10_000 < later - due < FOREVER + 10_000
    assert w.redis.zscore(DELAYED, job) == later
    assert w.redis.zscore(SCHEDULED, job) == -(-later // 1000)
    assert change(w, job, delay_ms=0) is Verdict.APPLIED
    assert w.claim().job == job
    assert not w.redis.exists(SCHEDULED, DELAYED)


def test_data_is_changed_with_its_fingerprint(w: World) -> None:
    """The next attempt gets the new data, ``if_exists`` compares with it; nothing of it changes while it is active."""
    w.enqueue(id="annual")
    assert change(w, "annual", data_json='{"year":2027}') is Verdict.APPLIED
    again = w.enqueue(id="annual", value={"year": 2027}, if_exists="return")
    assert not again.created
    claim = w.claim()
    assert payload.decode(claim.data).data_json == '{"year":2027}'
    assert change(w, "annual", data_json="{}") is Verdict.REFUSED
    assert change(w, "annual", delay_ms=5) is Verdict.REFUSED
    w.finish(claim)
    assert change(w, "annual", priority=1) is Verdict.REFUSED


def test_data_of_plain_rq_is_left_alone(w: World, q: Any) -> None:
    """RQ's own jobs name their function inside the data: it is not rewritten."""
    job = q.enqueue("app.build", 1).id
    assert change(w, job, data_json="{}") is Verdict.REFUSED
    assert change(w, job, priority=4) is Verdict.APPLIED
    assert w.claim().job == job


def test_remove_leaves_nothing(w: World) -> None:
    """Jobs of any state go with all their keys, but for an active one and one whose Job is not let go."""
    claim = w.active()
    assert w.run(ops.remove(claim.job)).verdict is Verdict.REFUSED
    child = w.enqueue(depends_on=(claim.job,)).id
    waiting, delayed = w.enqueue(options={"priority": 4}).id, w.enqueue(delay_ms=FOREVER).id
    for job in (child, waiting, delayed):
        assert w.run(ops.remove(job)).verdict is Verdict.APPLIED
        assert w.run(ops.remove(job)).verdict is Verdict.MISSING
    assert all(w.finals(job) == ["removed"] for job in (child, waiting, delayed))
    w.finish(claim)
    assert "let go" in w.run(ops.remove(claim.job)).message
    w.run(ops.finalized(claim.install, claim.namespace, w.job(claim.job).job_name))
    assert w.run(ops.remove(claim.job)).verdict is Verdict.APPLIED
    ids = (claim.job, child, waiting, delayed)
    left = [key.decode() for key in w.redis.scan_iter("*") if any(job in key.decode() for job in ids)]
    assert left == []
    assert w.idle()


@pytest.mark.parametrize(
    ("state", "make"),
    [
        (JobState.WAITING, {}),
        (JobState.WAITING, {"options": {"priority": 9}}),
        (JobState.DELAYED, {"delay_ms": FOREVER}),
        (JobState.WAITING_CHILDREN, {"depends_on": ("parent",)}),
    ],
)
def test_purge_of_what_has_not_ended(w: World, state: JobState, make: dict[str, Any]) -> None:
    """All of one state go, in steps, each with one final event; the others stay."""
    parent = w.active(id="parent")
    stays = w.enqueue(delay_ms=FOREVER if state is JobState.WAITING else 0).id
    jobs = [w.enqueue(**make).id for _ in range(limits.PURGE_STEP + 7)]
    assert w.run(administration.purge(QUEUE, state, dry_run=True, progress=None)) >= len(jobs)
    assert w.run(ops.purge(QUEUE, state, 3)) == 3
    told: list[tuple[int, int]] = []
    left = len(jobs) - 3
    assert w.run(administration.purge(QUEUE, state, dry_run=False, progress=lambda *n: told.append(n))) == left
    assert told == [(left, left)]
    assert all(w.finals(job) == ["removed"] for job in jobs)
    assert not any(w.redis.exists(f"rq:job:{job}") for job in jobs)
    assert not w.job(stays).state.terminal
    assert w.job(parent.job).state is JobState.ACTIVE
    counts = w.run(ops.counts(QUEUE))
    assert (counts.waiting + counts.delayed, counts.waiting_children) == (1, 0)
    assert w.run(ops.counters(QUEUE))["purged"] == len(jobs)


def test_purge_of_what_ended(w: World) -> None:
    """Failed jobs go; those whose Kubernetes Job is not let go yet stay, and hide none behind them."""
    held = w.active()
    w.finish(held, Next.FAIL)
    failed = [fail(w) for _ in range(5)]
    done = w.active()
    w.finish(done)
    assert w.run(ops.purge(QUEUE, JobState.FAILED, 2)) == 2
    assert w.run(ops.purge(QUEUE, JobState.FAILED, 100)) == 3
    assert not any(w.redis.exists(f"rq:job:{job}") for job in failed)
    assert w.job(held.job).state is JobState.FAILED
    assert w.job(done.job).state is JobState.COMPLETED
    assert decode.text(w.redis.zrange(f"rq:failed:{QUEUE}", 0, -1)[0]) == held.job


def test_purge_of_jobs_with_keys(w: World) -> None:
    """Jobs that wait aside by their key go as well, and nothing of the key is left."""
    w.serve(concurrencyPerKey=1)
    jobs = [w.enqueue(options={"key": f"tenant-{number % 3}"}).id for number in range(9)]
    running = w.ask()
    assert len(running.claims) == 3
    assert w.run(ops.purge(QUEUE, JobState.WAITING, 100)) == 6
    assert w.run(ops.counts(QUEUE)).waiting == 0
    for claim in running.claims:
        w.finish(claim)
    gone = [job for job in jobs if job not in {claim.job for claim in running.claims}]
    assert not any(w.redis.exists(f"rq:job:{job}") for job in gone)
    left = [
        key for key in w.redis.scan_iter("heavylift:*") if any(word in key for word in (b"lanes", b"ring", b"keyed"))
    ]
    assert left == []


def test_a_delay_taken_from_a_job_that_waits_for_others(w: World) -> None:
    """It goes as soon as what it depends on has completed; a delay it is given holds it from then on."""
    parent = w.enqueue()
    soon = w.enqueue(depends_on=(parent.id,), delay_ms=FOREVER).id
    later = w.enqueue(depends_on=(parent.id,)).id
    assert change(w, soon, delay_ms=0) is Verdict.APPLIED
    assert change(w, later, delay_ms=FOREVER) is Verdict.APPLIED
    assert w.job(soon).due is None
    claim = w.claim()
    w.record(claim)
    w.finish(claim)
    assert (w.job(soon).state, w.job(later).state) == (JobState.WAITING, JobState.DELAYED)
    assert w.claim().job == soon


@pytest.mark.parametrize("options", [{}, {"key": "tenant"}, {"priority": 3}])
def test_purge_leaves_what_runs(w: World, options: dict[str, Any]) -> None:
    """A job queued anew by RQ's tools while it runs stays, with its execution; what waits behind it goes, in steps."""
    w.serve(concurrencyPerKey=5)
    claims = [w.active(options=options) for _ in range(3)]
    waiting = [w.enqueue(options=options).id for _ in range(limits.PURGE_STEP + 5)]
    for claim in claims:
        w.redis.hset(f"rq:job:{claim.job}", "status", "queued")
        w.redis.lpush(f"rq:queue:{QUEUE}" if "priority" not in options else f"rq:queue:{QUEUE}@3", claim.job)
    assert w.run(ops.purge(QUEUE, JobState.WAITING, 1000)) == len(waiting)
    assert not any(w.redis.exists(f"rq:job:{job}") for job in waiting)
    assert w.run(ops.purge(QUEUE, JobState.WAITING, 1000)) == 0
    assert w.run(ops.inflight_count(INSTALL)) == 3
    assert {claim.job for claim in w.ask().claims} == {claim.job for claim in claims}


def test_every_level_in_use_is_counted_listed_and_purged(w: World) -> None:
    """Priorities that came due together may be more than can be enqueued at once: all of their jobs are seen."""
    jobs = [request(options={"priority": priority}, delay_ms=FOREVER) for priority in range(1, 41)]
    w.run(ops.enqueue_many(jobs))
    for job in jobs:
        assert w.run(ops.promote(job.id)).verdict is Verdict.APPLIED
    assert w.run(ops.counts(QUEUE)).waiting == 40
    listed = [job.id for job in w.run(ops.list_jobs(QUEUE, JobState.WAITING, count=100))]
    assert listed == [job.id for job in jobs]
    assert w.run(ops.purge(QUEUE, JobState.WAITING, 1000)) == 40
    assert not any(w.redis.exists(f"rq:job:{job.id}") for job in jobs)


def test_ended_jobs_are_found_by_class_and_time(w: World) -> None:
    """The dead letters of one class since a time, newest first, page by page; other states have no class."""
    old = fail(w, OutcomeClass.OOM)
    w.redis.zadd(f"heavylift:ended:failed:{QUEUE}", {old: time.time() * 1000 - 7_200_000})
    oom = [fail(w, OutcomeClass.OOM) for _ in range(3)]
    fail(w, OutcomeClass.ERROR)

    def found(**wanted: Any) -> list[str]:
        named = administration.Filter.of("failed", wanted.get("cls"), wanted.get("since"), None)
        return [info.id for info in w.run(administration.jobs(QUEUE, named, 100))]

    assert found(cls="oom") == [*reversed(oom), old]
    assert found(cls="oom", since="1h") == [*reversed(oom)]
    assert len(found(since="1h")) == 4
    assert found(cls="image") == []


def test_search_and_bulk_retry_go_over_pages(w: World) -> None:
    """More failed jobs than a page or a step: all of the class run again, oldest first, with what was changed."""
    jobs = [
        fail(w, OutcomeClass.OOM if number % 2 else OutcomeClass.ERROR) for number in range(2 * limits.FIND_STEP + 4)
    ]
    w.serve(allow={"maxAttempts": 4})
    told: list[tuple[int, int]] = []
    bulk = administration.BulkRetry(
        queue=QUEUE,
        wanted=administration.Filter(cls="oom"),
        changes={"priority": 2, "data": {"year": 1999}, "max_attempts": 4},
        progress=lambda *n: told.append(n),
    )
    done = w.run(bulk.run("ann"))
    assert done.jobs == tuple(jobs[1::2])
    assert done.errors == ()
    assert told[-1] == (len(done.jobs), len(done.jobs))
    assert len(told) == -(-len(done.jobs) // limits.RETRY_STEP)
    claims = w.ask(max=2).claims
    assert [claim.job for claim in claims] == jobs[1:4:2]
    assert payload.decode(claims[0].data).data_json == '{"year":1999}'
    assert (claims[0].options["maxAttempts"], claims[0].attempt, w.job(jobs[1]).priority) == (4, 1, 2)
    assert w.run(ops.counts(QUEUE)).failed == len(jobs) - len(done.jobs)


def test_bulk_retry_tells_who_was_refused_and_why(w: World) -> None:
    """A job whose deduplication key another one took is refused by name; the others run."""
    dedupe = {"dedupe": {"id": "annual", "mode": "first"}}
    first, other = fail(w, options=dedupe), fail(w)
    holder = w.enqueue(options=dedupe).id
    done = w.run(administration.BulkRetry(queue=QUEUE, wanted=administration.Filter(), changes={}).run("ann"))
    assert done.jobs == (other,)
    assert [holder in str(error) and first in str(error) for error in done.errors] == [True]


def test_a_retry_whose_reply_was_lost_is_applied_once(w: World) -> None:
    """The same operation sent again changes nothing, however many jobs it names."""
    jobs = [fail(w) for _ in range(2)]
    op = ops.retry_many([w.job(job) for job in jobs])
    step = next(op)

    def again(wanted: Any) -> Any:
        return (yield wanted)

    first, second = w.run(again(step)), w.run(again(step))
    assert [decode.text(row[0]) for row in first] == ["applied", "applied"]
    assert [decode.text(row[0]) for row in second] == ["already", "already"]
    assert w.waiting() == jobs
    op.close()
