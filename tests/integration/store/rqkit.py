"""RQ's own client beside a world, and reading as its tools do."""

from __future__ import annotations

from rq import Queue
from rq.job import Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
    clean_registries,
)
from rq.serializers import JSONSerializer

from tests.integration.store.kit import QUEUE, World

FUNC = "app.build_report"


def fetch(w: World, job: str) -> Job:
    return Job.fetch(job, connection=w.redis, serializer=JSONSerializer)


def scan(w: World) -> dict[str, list[str]]:
    """Read as ``rq info`` and dashboards do, cleanup included."""
    queue = Queue(QUEUE, connection=w.redis, serializer=JSONSerializer)
    clean_registries(queue)
    kinds = {
        "started": StartedJobRegistry,
        "finished": FinishedJobRegistry,
        "failed": FailedJobRegistry,
        "scheduled": ScheduledJobRegistry,
        "deferred": DeferredJobRegistry,
        "canceled": CanceledJobRegistry,
    }
    found = {name: kind(queue=queue).get_job_ids() for name, kind in kinds.items()}
    found["queued"] = queue.get_job_ids()
    assert all(kind(queue=queue).count == len(found[name]) for name, kind in kinds.items())
    return {name: jobs for name, jobs in found.items() if jobs}
