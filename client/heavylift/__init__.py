"""Heavy jobs from an RQ queue in Redis, run as Kubernetes Jobs, every outcome brought back into the queue.

Names load when first used, so that a pod that runs tasks never imports the Redis client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heavylift.aio import AsyncClient, AsyncJob, AsyncQueue
    from heavylift.aio_scheduling import AsyncSchedule
    from heavylift.client import Client, Queue
    from heavylift.context import Context, RateLimited, RetryAfter, Snooze, UnrecoverableError
    from heavylift.contract.outcomes import OutcomeClass
    from heavylift.contract.states import JobState
    from heavylift.dedupe import Dedupe
    from heavylift.errors import (
        BatchError,
        ClusterUnavailableError,
        ConfigurationError,
        DuplicateJobError,
        HeavyliftError,
        InvalidDurationError,
        InvalidInputError,
        InvalidJobIdError,
        InvalidPayloadError,
        InvalidQueueNameError,
        InvalidTemplateError,
        JobCancelledError,
        JobFailedError,
        JobNotFoundError,
        JobStateError,
        NotAllowedError,
        PayloadTooLargeError,
        RedisUnavailableError,
        ScheduleNotFoundError,
        ScheduleOwnedError,
        StoreCorruptError,
        UnknownQueueError,
        WaitTimeoutError,
    )
    from heavylift.jobs import Attempt, Job, JobEvent, JobInfo, QueueCounts
    from heavylift.options import Backoff, EnqueueOptions, JobRequest, Timeouts
    from heavylift.queueinfo import QueueInfo
    from heavylift.scheduleinfo import ScheduleInfo
    from heavylift.schedules import ScheduleOptions
    from heavylift.scheduling import Schedule
    from heavylift.tasks import Failure, Task, task

__version__ = "0.1.0"

_HOMES = {
    "heavylift.aio": ("AsyncClient", "AsyncJob", "AsyncQueue"),
    "heavylift.aio_scheduling": ("AsyncSchedule",),
    "heavylift.client": ("Client", "Queue"),
    "heavylift.context": ("Context", "RateLimited", "RetryAfter", "Snooze", "UnrecoverableError"),
    "heavylift.contract.outcomes": ("OutcomeClass",),
    "heavylift.contract.states": ("JobState",),
    "heavylift.dedupe": ("Dedupe",),
    "heavylift.jobs": ("Attempt", "Job", "JobEvent", "JobInfo", "QueueCounts"),
    "heavylift.options": ("Backoff", "EnqueueOptions", "JobRequest", "Timeouts"),
    "heavylift.queueinfo": ("QueueInfo",),
    "heavylift.scheduleinfo": ("ScheduleInfo",),
    "heavylift.schedules": ("ScheduleOptions",),
    "heavylift.scheduling": ("Schedule",),
    "heavylift.tasks": ("Failure", "Task", "task"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "AsyncQueue",
    "AsyncSchedule",
    "Attempt",
    "Backoff",
    "BatchError",
    "Client",
    "ClusterUnavailableError",
    "ConfigurationError",
    "Context",
    "Dedupe",
    "DuplicateJobError",
    "EnqueueOptions",
    "Failure",
    "HeavyliftError",
    "InvalidDurationError",
    "InvalidInputError",
    "InvalidJobIdError",
    "InvalidPayloadError",
    "InvalidQueueNameError",
    "InvalidTemplateError",
    "Job",
    "JobCancelledError",
    "JobEvent",
    "JobFailedError",
    "JobInfo",
    "JobNotFoundError",
    "JobRequest",
    "JobState",
    "JobStateError",
    "NotAllowedError",
    "OutcomeClass",
    "PayloadTooLargeError",
    "Queue",
    "QueueCounts",
    "QueueInfo",
    "RateLimited",
    "RedisUnavailableError",
    "RetryAfter",
    "Schedule",
    "ScheduleInfo",
    "ScheduleNotFoundError",
    "ScheduleOptions",
    "ScheduleOwnedError",
    "Snooze",
    "StoreCorruptError",
    "Task",
    "Timeouts",
    "UnknownQueueError",
    "UnrecoverableError",
    "WaitTimeoutError",
    "__version__",
    "task",
]


if not TYPE_CHECKING:  # else every misspelt name would pass a type checker

    def __getattr__(name: str) -> Any:
        """Load a public name from its module."""
        if name not in __all__:
            raise AttributeError(f"module 'heavylift' has no attribute {name!r}")
        home = _HOME.get(name, "heavylift.errors")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
