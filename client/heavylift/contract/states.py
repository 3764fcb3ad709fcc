"""The job's states, their RQ words and the transitions between them (drawn in docs/state-machine.md)."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    DELAYED = "delayed"
    ACTIVE = "active"
    WAITING_CHILDREN = "waiting-children"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows but a retry by a person."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


class Phase(StrEnum):
    """What an active job's execution is doing (side field ``hl:phase``)."""

    CLAIMED = "claimed"
    """Claimed; no Job is recorded yet."""
    PENDING = "pending"
    """The Job exists; no container of it runs (``hl:reason`` says why when known)."""
    RUNNING = "running"
    """Its container runs or ran."""


RQ_STATUS: dict[str, JobState] = {
    "created": JobState.WAITING,
    "queued": JobState.WAITING,
    "ready_to_enqueue": JobState.WAITING,
    "rate_limited": JobState.WAITING,
    "scheduled": JobState.DELAYED,
    "started": JobState.ACTIVE,
    "deferred": JobState.WAITING_CHILDREN,
    "finished": JobState.COMPLETED,
    "failed": JobState.FAILED,
    "canceled": JobState.CANCELLED,
    "stopped": JobState.CANCELLED,
}
"""Every status RQ 3 writes, and the state it means."""

STATUS_WRITTEN: dict[JobState, str] = {
    JobState.WAITING: "queued",
    JobState.DELAYED: "scheduled",
    JobState.ACTIVE: "started",
    JobState.WAITING_CHILDREN: "deferred",
    JobState.COMPLETED: "finished",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "canceled",
}
"""The one status our scripts write for each state."""

TRANSITIONS: dict[str, tuple[tuple[JobState | None, JobState], ...]] = {
    "enqueue": (
        (None, JobState.WAITING),
        (None, JobState.DELAYED),
        (None, JobState.WAITING_CHILDREN),
    ),
    "promote": ((JobState.DELAYED, JobState.WAITING), (JobState.WAITING_CHILDREN, JobState.WAITING)),
    "change": ((JobState.WAITING, JobState.DELAYED), (JobState.DELAYED, JobState.WAITING)),
    "claim": ((JobState.WAITING, JobState.ACTIVE),),
    "release": ((JobState.ACTIVE, JobState.WAITING), (JobState.ACTIVE, JobState.DELAYED)),
    "finish": (
        (JobState.ACTIVE, JobState.COMPLETED),
        (JobState.ACTIVE, JobState.FAILED),
        (JobState.ACTIVE, JobState.CANCELLED),
        (JobState.ACTIVE, JobState.DELAYED),
        (JobState.ACTIVE, JobState.WAITING),
    ),
    "cancel": (
        (JobState.WAITING, JobState.CANCELLED),
        (JobState.DELAYED, JobState.CANCELLED),
        (JobState.WAITING_CHILDREN, JobState.CANCELLED),
    ),
    "retry": ((JobState.FAILED, JobState.WAITING), (JobState.CANCELLED, JobState.WAITING)),
    "expire": ((JobState.WAITING, JobState.FAILED), (JobState.DELAYED, JobState.FAILED)),
}
"""Operation -> the (from, to) pairs it may make; ``None`` is "does not exist"."""
