"""What other queues call their options, for those who come from there: a name of theirs is answered with ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from heavylift.errors import InvalidInputError

_RETENTION = "spec.retention of the HeavyQueue"
_RUN = "timeouts=Timeouts(run=...)"
_DELAY = "delay= (from now)"

_RQS: Final[Mapping[str, str]] = {
    "at_front": "lifo=True",
    "args": "data",
    "description": "labels=",
    "failure_ttl": "spec.retention.failed of the HeavyQueue",
    "job_id": "id=",
    "job_timeout": "timeouts=Timeouts(run=...)",
    "kwargs": "data",
    "meta": "labels=",
    "on_failure": "queue.events or job.wait",
    "on_stopped": "queue.events or job.wait",
    "on_success": "queue.events or job.wait",
    "pipeline": "queue.enqueue_many",
    "rate_limit": "key= and spec.concurrency.perKey of the HeavyQueue",
    "repeat": "queue.schedule(every=...)",
    "result_ttl": "spec.retention.completed of the HeavyQueue",
    "retry": "max_attempts= (one more than Retry.max) and backoff=",
    "timeout": "timeouts=Timeouts(run=...)",
    "ttl": "expires=",
    "unique": "if_exists=, or dedupe= for a key",
    "webhooks": "queue.events",
}
_BULLMQS: Final[Mapping[str, str]] = {
    "attempts": "max_attempts=",
    "deduplication": "dedupe=",
    "endDate": "end= of queue.schedule",
    "immediately": "schedule.trigger()",
    "jobId": "id=",
    "offset": "start= of queue.schedule",
    "parent": "depends_on= of the parent",
    "pattern": "cron= of queue.schedule",
    "removeOnComplete": _RETENTION,
    "removeOnFail": _RETENTION,
    "sizeLimit": "spec.payload.maxSize of the HeavyQueue",
    "startDate": "start= of queue.schedule",
    "tz": "timezone= of queue.schedule",
}
_CELERYS: Final[Mapping[str, str]] = {
    "autoretry_for": "retry_on= of @heavylift.task",
    "countdown": "delay=",
    "dont_autoretry_for": "no_retry_on= of @heavylift.task",
    "eta": _DELAY,
    "link": "depends_on= of the job that follows",
    "max_retries": "max_attempts= (one more than max_retries)",
    "queue": "client.queue(...), or queue= of a task's options",
    "retry_backoff": "backoff=",
    "routing_key": "client.queue(...)",
    "soft_time_limit": _RUN,
    "task_id": "id=",
    "time_limit": _RUN,
}
_SIDEKIQS: Final[Mapping[str, str]] = {
    "at": _DELAY,
    "retry_for": "timeouts=Timeouts(total=...)",
    "retry_in": "backoff=",
    "unique_for": "dedupe=Dedupe(key, ttl=...)",
    "wait": "delay=",
    "wait_until": _DELAY,
}
"""Their option -> what says the same here; the page on how to come from there has all of RQ's and BullMQ's."""
_THEIRS: Final = {"RQ": _RQS, "BullMQ": _BULLMQS, "Celery": _CELERYS, "Sidekiq": _SIDEKIQS}


def unknown(name: str, known: Collection[str]) -> InvalidInputError:
    """Return the error for an option that is not there: what it is called here, and which there are.

    Args:
        name: what was given.
        known: names of all that may be given.
    """
    there = f"options are {', '.join(sorted(known))}"
    for system, words in _THEIRS.items():
        if name in words:
            return InvalidInputError(f"{name} is an option of {system}: here it is {words[name]}; {there}")
    return InvalidInputError(f"there is no option {name!r}; {there}")
