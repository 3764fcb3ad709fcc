"""Outcome classes: one word for why an attempt ended, spelled for each place it appears in."""

from __future__ import annotations

from enum import StrEnum


class OutcomeClass(StrEnum):
    """Why an attempt ended; the value is the kebab-case word of Python, Redis, CLI and metric labels."""

    SUCCEEDED = "succeeded"
    """The Job completed and its pod was not being deleted when it ended."""
    ERROR = "error"
    """The program ended with an exit code or a typed error of its own."""
    OOM = "oom"
    """Killed for using more memory than its limit."""
    TIMEOUT = "timeout"
    """Ran past its run time limit."""
    DISRUPTED = "disrupted"
    """Evicted, preempted, drained or on a node that shut down."""
    NODE_LOST = "node-lost"
    """Its node is unreachable; nobody knows whether the program still runs."""
    JOB_DELETED = "job-deleted"
    """Somebody deleted the Job before it ended."""
    POD_DELETED = "pod-deleted"
    """Somebody deleted the pod before it ended."""
    IMAGE = "image"
    """The image cannot be pulled or the container cannot be created from it."""
    UNSCHEDULABLE = "unschedulable"
    """No node could take the pod before the pending limit."""
    QUOTA = "quota"
    """The namespace's quota admits no pod."""
    REJECTED = "rejected"
    """Admission refused the Job or its pod."""
    NO_RESULT = "no-result"
    """Ended, but what it should have left behind is missing or not valid."""
    INVALID = "invalid"
    """The job itself cannot be run as stored; always fails."""
    LOST = "lost"
    """Gone without a trace."""
    UNKNOWN = "unknown"
    """Something new; the evidence is kept word for word."""
    CANCELLED = "cancelled"
    """Cancelled by the client, kubectl, RQ or a rule."""

    @property
    def spec_key(self) -> str:
        """The key under ``spec.outcomes`` of a HeavyQueue, for example ``nodeLost``."""
        head, *rest = self.value.split("-")
        return head + "".join(word.capitalize() for word in rest)

    @property
    def reason(self) -> str:
        """The CamelCase reason of a condition, for example ``NodeLost``; ``oom`` is ``OutOfMemory``."""
        if self is OutcomeClass.OOM:
            return "OutOfMemory"
        return "".join(word.capitalize() for word in self.value.split("-"))


class Action(StrEnum):
    """What a rule does with an outcome; the value is the word used in a HeavyQueue."""

    RETRY = "Retry"
    """Run again; spends an attempt, or the class's own budget where ``maxRetries`` is given."""
    REQUEUE = "Requeue"
    """Run again; spends no attempt, backs off, bounded by ``maxRetries`` where given."""
    WAIT = "Wait"
    """Do nothing yet; the attempt stays current."""
    REPLACE = "Replace"
    """Start the next attempt after a delay although the old one may still run."""
    FAIL = "Fail"
    """End the job as failed."""
    CANCEL = "Cancel"
    """End the job as cancelled."""


CONFIGURABLE: tuple[OutcomeClass, ...] = (
    OutcomeClass.ERROR,
    OutcomeClass.OOM,
    OutcomeClass.TIMEOUT,
    OutcomeClass.DISRUPTED,
    OutcomeClass.NODE_LOST,
    OutcomeClass.JOB_DELETED,
    OutcomeClass.POD_DELETED,
    OutcomeClass.IMAGE,
    OutcomeClass.UNSCHEDULABLE,
    OutcomeClass.QUOTA,
    OutcomeClass.REJECTED,
    OutcomeClass.NO_RESULT,
    OutcomeClass.LOST,
    OutcomeClass.UNKNOWN,
)
"""The classes a HeavyQueue can give a rule for; the others have one fixed meaning."""
