"""The status of a HeavyQueue: its schema, and the words its conditions use."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Condition(StrEnum):
    """Types of a HeavyQueue's conditions."""

    READY = "Ready"
    """Jobs of this queue are claimed and run."""
    PAUSED = "Paused"
    """Somebody paused it: spec.paused, or a client."""
    METRICS_SERVED = "MetricsServed"
    """HPAs can read its figures from the operator; absent where the operator does not serve them."""


class ReadyReason(StrEnum):
    """Reasons of the Ready condition."""

    SERVING = "Serving"
    QUEUE_NAME_TAKEN = "QueueNameTaken"
    TEMPLATE_INVALID = "TemplateInvalid"
    IMAGE_PULL_FAILING = "ImagePullFailing"
    FORBIDDEN = "Forbidden"
    QUOTA_EXCEEDED = "QuotaExceeded"
    REDIS_UNAVAILABLE = "RedisUnavailable"
    NO_DISPATCHER = "NoDispatcher"


class ScheduleReason(StrEnum):
    """Reasons of a HeavySchedule's Ready condition."""

    SCHEDULING = "Scheduling"
    SUSPENDED = "Suspended"
    ENDED = "Ended"
    INVALID = "Invalid"
    NAME_TAKEN = "NameTaken"
    QUEUE_NOT_SERVED = "QueueNotServed"
    QUEUE_ELSEWHERE = "QueueElsewhere"
    JOB_NOT_ALLOWED = "JobNotAllowed"
    TICK_FAILING = "TickFailing"
    REDIS_UNAVAILABLE = "RedisUnavailable"


def _count(description: str) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": 0, "description": description}


_REASON = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
_CONDITION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
    "properties": {
        "type": {"type": "string", "maxLength": 316},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        },
        "message": {"type": "string", "maxLength": 32768},
    },
}
CONDITIONS: dict[str, Any] = {
    "type": "array",
    "items": _CONDITION_SCHEMA,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
}
"""Structural schema of ``status.conditions``."""
STATUS: dict[str, Any] = {
    "type": "object",
    "description": "What the operator knows of the queue; written at most every 30 s, if changed.",
    "properties": {
        "observedGeneration": _count("Generation of the spec these values belong to."),
        "waiting": _count("Jobs that may be claimed now."),
        "delayed": _count("Jobs that wait for a time: a delay or a retry's backoff."),
        "active": _count("Jobs with a current execution."),
        "failed": _count("Failed jobs that are still kept."),
        "oldestWaitingTime": {
            "type": "string",
            "format": "date-time",
            "description": "When the job waiting longest was enqueued.",
        },
        "conditions": CONDITIONS,
    },
}
"""Structural schema of ``status``."""
