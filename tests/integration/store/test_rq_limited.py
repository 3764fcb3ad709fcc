"""The rate limit of RQ's client: it parks jobs where no queue has them, and they must not stay there."""

from __future__ import annotations

from rq import Queue, RateLimit
from rq.job import Job
from rq.rate_limit import RateLimitRegistry
from rq.serializers import JSONSerializer

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Next, ops
from tests.integration.store.kit import QUEUE, World
from tests.integration.store.rqkit import FUNC

LIMIT = RateLimit("api", concurrency=1)


def statuses(w: World, jobs: list[Job]) -> list[str]:
    """Return what RQ says of each."""
    found = (Job.fetch(job.id, connection=w.redis, serializer=JSONSerializer) for job in jobs)
    return [str(job.get_status().value) for job in found]


def test_each_parked_job_has_its_turn(w: World, q: Queue) -> None:
    """Whatever ends one, the next of its key waits in its own queue; nothing of the limit is left."""
    other = Queue("mails", connection=w.redis, serializer=JSONSerializer)
    w.serve("mails")
    jobs = [queue.enqueue(FUNC, rate_limit=LIMIT, job_id=f"j{n}") for n, queue in enumerate((q, q, other, q))]
    jobs[1].cancel()
    assert statuses(w, jobs) == ["queued", "canceled", "rate_limited", "rate_limited"]

    first = w.claim()
    assert (first.job, first.rq["rate_limit_key"]) == (jobs[0].id, "api")
    w.finish(first, Next.FAIL, cls=OutcomeClass.INVALID)
    assert statuses(w, jobs[2:]) == ["queued", "rate_limited"]
    (second,) = w.ask("mails").claims
    assert second.job == jobs[2].id
    w.finish(second, Next.RETRY)
    assert statuses(w, jobs[3:]) == ["rate_limited"]
    w.run(ops.cancel(jobs[2].id, by="ann"))

    last = w.claim()
    w.finish(last)
    assert statuses(w, jobs) == ["failed", "canceled", "canceled", "finished"]
    limit = RateLimitRegistry("api", w.redis)
    assert (limit.get_allowed_job_ids(), limit.get_rate_limited_job_ids()) == ([], [])


def test_a_removed_job_gives_its_place_back(w: World, q: Queue) -> None:
    """Who removes or purges the job that holds the place lets the next one wait."""
    jobs = [q.enqueue(FUNC, rate_limit=LIMIT, job_id=f"j{n}") for n in range(3)]

    w.run(ops.remove(jobs[0].id))
    assert statuses(w, jobs[1:]) == ["queued", "rate_limited"]
    w.run(ops.purge(QUEUE, JobState.WAITING, 1))
    assert statuses(w, jobs[2:]) == ["queued"]


def test_keys_of_other_types_cost_no_end(w: World, q: Queue) -> None:
    """A limit that something else wrote over is left alone, and the job ends all the same."""
    jobs = [q.enqueue(FUNC, rate_limit=LIMIT) for _ in range(2)]
    w.redis.delete("rq:rl:api:rate_limited")
    w.redis.set("rq:rl:api:rate_limited", "x")

    w.finish(w.claim(), Next.FAIL)

    assert statuses(w, jobs) == ["failed", "rate_limited"]
