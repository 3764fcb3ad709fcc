"""Waits and outcomes, counted in Redis: what the metrics say is what the events say."""

from __future__ import annotations

from datetime import UTC, datetime

from rq import Queue

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Fence, Next, Spend, ops, tallies
from tests.integration.store.kit import INSTALL, QUEUE, World
from tests.proofs.waiting import until


def told(w: World) -> tallies.Tallies:
    """Return the queue's tallies."""
    return tallies.read(w.run(ops.counters(QUEUE)))


def waits_of_events(w: World) -> tuple[list[int], int]:
    """Return the buckets and the sum that the events of the queue's claims add up to."""
    expected = tallies.Histogram()
    for event in w.events():
        if event.name == "active":
            waited = int(event.fields["wait"])
            longer = [n for n, bound in enumerate(limits.WAIT_BOUNDS_MS) if waited <= bound]
            expected.counts[longer[0] if longer else len(limits.WAIT_BOUNDS_MS)] += 1
            expected.sum_ms += waited
    return expected.counts, expected.sum_ms


def test_the_wait_histogram_is_what_the_events_say(w: World) -> None:
    """Claims at once, after a while, after a retry and after a release are in the same buckets, to the millisecond."""
    old = [w.enqueue().id for _ in range(4)]
    for job, ago_s in zip(old, (1, 70, 90_000, 0), strict=True):
        moment = now_ms(w) // 1000 - ago_s
        w.redis.hset(f"rq:job:{job}", "enqueued_at", rq_time(moment))
    claims = w.ask().claims
    for claim in claims:
        w.record(claim)
    w.finish(claims[0], Next.RETRY, cls=OutcomeClass.ERROR)
    w.run(ops.release(fence_of(w, claims[1].job), reason="quota"))
    w.ask()

    found = told(w).waits[""]
    assert (found.counts, found.sum_ms) == waits_of_events(w)
    assert sum(found.counts) == w.run(ops.counters(QUEUE))["claimed"] == 6
    assert found.counts[-1] == 1
    assert found.sum_ms >= 90_000_000


def test_a_delayed_job_waits_since_it_was_due(w: World) -> None:
    """Not since it was enqueued, and not only since it was moved among the waiting."""
    job = w.enqueue(delay_ms=50).id
    due = int(w.redis.zscore(f"heavylift:delayed:{QUEUE}", job) or 0)
    until(lambda: now_ms(w) > due + 500, "half a second after it was due")
    claim = w.claim()
    (active,) = [event for event in w.events() if event.name == "active"]
    assert int(active.fields["wait"]) == claim.claimed_at - due


def test_tasks_the_queue_watches_are_kept_apart(w: World) -> None:
    """Only those its settings name."""
    w.serve(metrics={"tasks": ["annual"]})
    for task in ("annual", "monthly", "annual"):
        w.enqueue(task=task)
    w.ask()
    assert {task: sum(found.counts) for task, found in told(w).waits.items()} == {"annual": 2, "": 1}


def test_a_plain_jobs_task_is_its_functions_path(w: World, q: Queue) -> None:
    """As RQ's description of it begins."""
    w.serve(metrics={"tasks": ["os.getpid"]})
    q.enqueue("os.getpid")
    w.ask()
    assert list(told(w).waits) == ["os.getpid"]


def test_every_end_is_counted_by_class(w: World) -> None:
    """Retries, ends, cancels of waiting jobs and jobs that a claim ends; a repeated finish counts once."""
    retried = w.active()
    w.finish(retried, Next.RETRY, cls=OutcomeClass.OOM)
    again = w.claim()
    w.record(again)
    for _ in range(2):
        w.finish(again, Next.FAIL, cls=OutcomeClass.OOM)
    w.finish(w.active(), spend=Spend.NONE)
    w.run(ops.cancel(w.enqueue().id, by="test"))
    w.enqueue(expires_ms=1)
    accepted = now_ms(w)
    until(lambda: now_ms(w) > accepted + 1, "the job to expire")
    assert not w.ask().claims

    assert told(w).outcomes == {
        ("oom", False): 1,
        ("oom", True): 1,
        ("succeeded", True): 1,
        ("cancelled", True): 1,
        ("timeout", True): 1,
    }


def fence_of(w: World, job: str) -> Fence:
    """Return the fence of a job's current execution."""
    return Fence(job=job, execution=w.job(job).execution)


def rq_time(seconds: int) -> str:
    """Return a moment as RQ writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now_ms(w: World) -> int:
    """Return the store's time."""
    seconds, micros = w.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_a_look_costs_the_same_at_any_depth(w: World) -> None:
    """As many commands with three jobs as with tens of thousands in every place a queue has."""

    def commands() -> dict[str, int]:
        w.redis.config_resetstat()
        w.run(ops.gauges(INSTALL, (QUEUE,)))
        found = {name: one["calls"] for name, one in w.redis.info("commandstats").items()}
        return {name: calls for name, calls in found.items() if name not in {"cmdstat_info", "cmdstat_evalsha"}}

    for delay in (0, 0, 3_600_000):
        w.enqueue(delay_ms=delay)
    w.claim()
    w.run(ops.gauges(INSTALL, (QUEUE,)))
    few = commands()
    ids = [f"ghost-{n}" for n in range(20_000)]
    w.redis.rpush(f"rq:queue:{QUEUE}", *ids)
    for key in (f"heavylift:delayed:{QUEUE}", f"rq:finished:{QUEUE}", f"rq:wip:{QUEUE}", "heavylift:schedules"):
        w.redis.zadd(key, dict.fromkeys(ids, 1))
    assert commands() == few
