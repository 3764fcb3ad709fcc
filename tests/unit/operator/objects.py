"""Builders of Jobs, pods and records as the operator meets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from heavylift.contract.names import FINALIZER, Annotation, Label
from heavylift.contract.states import JobState
from heavylift.spec.rules import default_rules
from heavylift_operator.core.evidence import Evidence, PodEvidence, Stop, read_job, read_pod
from heavylift_operator.core.plan import View
from heavylift_operator.core.rules import Backoff, Policy, Spent

T0 = 1_795_000_000_000
"""A moment, ms since the epoch, on a whole second."""
EXECUTION = "inc-1"
INSTALL = "ns/release"


def at(seconds: float) -> str:
    """Return T0 plus some seconds as Kubernetes writes it."""
    return datetime.fromtimestamp(T0 / 1000 + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(*conditions: Mapping[str, Any], deleted: float | None = None, **more: Any) -> dict[str, Any]:
    """Return a Job of ours; ``more``: labels, finalizers, suspend, annotations, start."""
    meta: dict[str, Any] = {
        "name": "reports-abc-1",
        "namespace": "analytics",
        "uid": "uid-1",
        "creationTimestamp": at(0),
        "labels": {Label.INSTALL: "hash", **more.get("labels", {})},
        "annotations": {
            Annotation.JOB_ID: "annual-2026",
            Annotation.EXECUTION: EXECUTION,
            Annotation.QUEUE: "reports",
            Annotation.INSTALL: INSTALL,
            Annotation.CONTAINER: "main",
            Annotation.PENDING_DEADLINE: "60",
            Annotation.RUN_DEADLINE: "600",
            **more.get("annotations", {}),
        },
        "finalizers": more.get("finalizers", [FINALIZER]),
    }
    if deleted is not None:
        meta |= {"deletionTimestamp": at(deleted), "deletionGracePeriodSeconds": 0}
    status: dict[str, Any] = {"conditions": list(conditions)}
    if not more.get("suspend"):
        status["startTime"] = at(more.get("start", 0))
    return {"metadata": meta, "spec": {"suspend": bool(more.get("suspend"))}, "status": status}


def condition(kind: str, reason: str = "", message: str = "", when: float = 30) -> dict[str, Any]:
    """Return a true condition of a Job."""
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(when)}


COMPLETE = condition("Complete", "CompletionsReached")
FAILED = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def pod(phase: str = "Running", *, deleted: float | None = None, grace: int = 30, **more: Any) -> dict[str, Any]:
    """Return the Job's pod; ``more``: main (state of our container), reason, message, conditions, others, inits."""
    meta: dict[str, Any] = {"name": "reports-abc-1-x", "uid": "pod-1", "creationTimestamp": at(1)}
    if deleted is not None:
        meta |= {"deletionTimestamp": at(deleted + grace), "deletionGracePeriodSeconds": grace}
    statuses = [{"name": name, "state": state} for name, state in more.get("others", {}).items()]
    if "main" in more:
        statuses.append({"name": "main", "state": more["main"]})
    return {
        "metadata": meta,
        "spec": {
            "nodeName": more.get("node", "node-1"),
            "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": {
            "phase": phase,
            "reason": more.get("reason", ""),
            "message": more.get("message", ""),
            "conditions": list(more.get("conditions", [])),
            "containerStatuses": statuses,
            "initContainerStatuses": [{"name": name, "state": state} for name, state in more.get("inits", {}).items()],
        },
    }


def terminated(code: int, reason: str = "", message: str = "", end: float = 25) -> dict[str, Any]:
    """Return the state of a container that ended."""
    reason = reason or ("Completed" if code == 0 else "Error")
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": at(5),
            "finishedAt": at(end),
        }
    }


RUNNING = {"running": {"startedAt": at(5)}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def disruption(reason: str) -> dict[str, Any]:
    """Return a true DisruptionTarget condition."""
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": f"by {reason}"}


def evidence(
    job_object: Mapping[str, Any] | None, *pods: Mapping[str, Any] | PodEvidence, stop: Stop | None = None
) -> Evidence:
    """Return the evidence of a Job and its pod."""
    seen = None
    for one in pods:
        seen = one if isinstance(one, PodEvidence) else read_pod(one, container="main")
    return Evidence(job=read_job(job_object) if job_object is not None else None, pod=seen, stop=stop)


@dataclass(frozen=True)
class FakeRecord:
    """A job's record as the core reads it."""

    state: JobState = JobState.ACTIVE
    rq_status: str = "started"
    incarnation: str = "inc"
    seq: int = 1
    execution: str = EXECUTION
    install: str = INSTALL
    job_uid: str = "uid-1"
    deadline: int | None = T0 + 60_000
    cancel: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()


class Middle:
    """A random source that always gives the middle."""

    def random(self) -> float:
        """Return one half."""
        return 0.5


NO_JITTER = Policy(rules=default_rules(), backoff=Backoff(kind="Fixed", delay_ms=1000, jitter=0))


def view(record: FakeRecord | None, seen: Evidence, **more: Any) -> View:
    """Return a view at T0 + 10 s unless told otherwise."""
    known: dict[str, Any] = {
        "install": INSTALL,
        "execution": EXECUTION,
        "record": record,
        "evidence": seen,
        "spent": Spent(max_attempts=3),
        "policy": NO_JITTER,
        "result_policy": "Optional",
        "pending_ms": 60_000,
        "run_ms": 600_000,
        "epoch": True,
        "listed": True,
        "owed": False,
        "missing_since": None,
        "grace_ms": 40_000,
        "now": T0 + 10_000,
    }
    return View(**(known | more))
