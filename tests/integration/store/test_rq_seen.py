"""Where jobs stand that RQ's own client and commands put there, as ours tell it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rq import Queue

from heavylift.contract.states import JobState
from heavylift.jobs import JobInfo
from heavylift.store import Json, Next, ops
from tests.integration.store.kit import QUEUE, World
from tests.integration.store.rqkit import FUNC, fetch

DUE = datetime(2040, 1, 1, tzinfo=UTC)


def test_when_a_job_is_due_that_rq_scheduled(w: World, q: Queue) -> None:
    """RQ keeps it in its registry alone; one job and the list of delayed ones say it."""
    job = q.enqueue_at(DUE, FUNC).id

    page = w.run(ops.list_jobs(QUEUE, JobState.DELAYED))
    assert [JobInfo.read(found).not_before for found in (w.job(job), *page)] == [DUE, DUE]
    w.redis.zadd(f"rq:scheduled:{QUEUE}", {job: "inf"})
    assert JobInfo.read(w.job(job)).not_before is None


@pytest.mark.parametrize("options", [{"priority": 5}, {"key": "acme"}, {}], ids=str)
def test_where_a_job_stands_that_rq_queued_again(w: World, options: Json) -> None:
    """RQ puts it into the one list it knows, whatever its priority and key; its place there is told."""
    w.serve(concurrencyPerKey=1)
    claim = w.active(options=options)
    w.finish(claim, Next.FAIL)
    other = w.enqueue().id

    fetch(w, claim.job).requeue()

    found = [w.run(ops.get_job(job, position=True)) for job in (other, claim.job)]
    assert [job and job.position for job in found] == [0, 1]
