"""What Jobs and pods say, as values: read from API objects, merged over time, kept in Redis as JSON.

A pod's object may vanish before its Job's condition appears (an evicted one 0.1 s before), so
evidence is written down as it is seen and only ever grows: an end, once seen, is never unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from heavylift.contract.names import FINALIZER, Annotation, Label
from heavylift_operator.core.reading import Json, child, cut, flag, integer, items, quantity, stamp, text

MESSAGE_LIMIT = 4096
"""Bytes of a termination message (kubelet's own limit)."""
_WORDS = 1000
"""Bytes kept of a sentence of Kubernetes' own."""
_STARTING = ("", "PodInitializing", "ContainerCreating")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEvidence:
    """One pod of ours; times are ms since the epoch, empty and None mean "not seen"."""

    name: str = ""
    uid: str = ""
    node: str = ""
    phase: str = ""
    reason: str = ""
    """``status.reason``: Evicted, NodeShutdown, UnexpectedAdmissionError, ..."""
    message: str = ""
    created_at: int | None = None
    deleted_at: int | None = None
    """When deletion was asked for (deletionTimestamp less the grace period it includes)."""
    grace_ms: int | None = None
    gone: bool = False
    """The object is no longer there."""
    disruption: str = ""
    """Reason of a true DisruptionTarget condition."""
    disruption_message: str = ""
    unscheduled: str = ""
    """Reason of a false PodScheduled condition: Unschedulable, SchedulingGated."""
    unscheduled_message: str = ""
    container: str = ""
    """The container whose end counts."""
    waiting: str = ""
    """Reason it, or an init container before it, waits for; plain starting up is left out."""
    waiting_message: str = ""
    started_at: int | None = None
    ended: bool = False
    """Our container terminated."""
    ended_clean: bool = False
    """It was seen terminated while the pod was not being deleted."""
    exit_code: int | None = None
    end_reason: str = ""
    end_message: str = ""
    """The termination message, at most 4,096 bytes: hostile, maybe log lines."""
    finished_at: int | None = None
    culprit: str = ""
    """Another container that failed, for example ``fetch (init)``; its code and words are the next two."""
    culprit_exit: int | None = None
    culprit_reason: str = ""
    memory_limit: str = ""

    @property
    def over(self) -> bool:
        """Whether no container of this pod can still run."""
        return self.gone or self.phase in {"Succeeded", "Failed"}

    @property
    def deleted_before_end(self) -> bool:
        """Whether deletion was asked for before our container ended (second resolution, doubt counts as before).

        The kubelet's last delete, a second or two after the end, rewrites the pod: no grace period, and a
        deletionTimestamp of that moment. It says nothing about who came first, so without a grace period only a pod
        seen ended and not being deleted is free of doubt.
        """
        if self.deleted_at is None or self.ended_clean:
            return False
        return not self.grace_ms or self.finished_at is None or self.deleted_at <= self.finished_at


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvidence:
    """One Job of ours; times are ms since the epoch."""

    namespace: str
    name: str
    uid: str
    install: str = ""
    queue: str = ""
    job: str = ""
    execution: str = ""
    container: str = ""
    epoch: str = ""
    """Of the Redis data it was claimed from; empty on Jobs of earlier versions."""
    created_at: int | None = None
    started_at: int | None = None
    """``status.startTime``: set anew when a suspended Job is resumed."""
    deleted_at: int | None = None
    foreground: bool = False
    """It is being deleted pods first; otherwise its pods run on for as long as our finalizer holds it."""
    suspended: bool = False
    condition: str = ""
    """``Complete`` or ``Failed`` once true; these never change."""
    condition_reason: str = ""
    condition_message: str = ""
    condition_at: int | None = None
    ending: str = ""
    """``FailureTarget`` or ``SuccessCriteriaMet``: it will end so, pods may still run."""
    finalized: bool = False
    held: bool = False
    """Our finalizer stands."""
    outcome: str = ""
    """The outcome annotation of an earlier finalization, JSON."""
    active: int = 0
    pending_ms: int | None = None
    """Pending limit from the annotation."""
    run_ms: int | None = None

    @property
    def over(self) -> bool:
        """Whether the Job reached its final condition."""
        return bool(self.condition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Our own decision to end an attempt early, kept in the evidence until its pod is gone."""

    cls: str
    message: str
    at: int
    execution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of one execution."""

    job: JobEvidence | None = None
    pod: PodEvidence | None = None
    stop: Stop | None = None
    refused: str = ""
    """The Job controller's words about a pod it could not create."""


def read_job(obj: Mapping[str, Any]) -> JobEvidence:
    """Return what a batch/v1 Job says; never raises."""
    meta, spec, status = child(obj, "metadata"), child(obj, "spec"), child(obj, "status")
    notes, labels = child(meta, "annotations"), child(meta, "labels")
    final = _condition(status, "Complete") or _condition(status, "Failed") or {}
    ending = _condition(status, "FailureTarget") or _condition(status, "SuccessCriteriaMet") or {}
    found = meta.get("finalizers")
    finalizers = found if isinstance(found, list) else []
    return JobEvidence(
        namespace=text(meta, "namespace"),
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        install=text(notes, Annotation.INSTALL, 512),
        queue=text(notes, Annotation.QUEUE, 512),
        job=text(notes, Annotation.JOB_ID, 1024),
        execution=text(notes, Annotation.EXECUTION),
        container=text(notes, Annotation.CONTAINER),
        epoch=text(notes, Annotation.EPOCH),
        created_at=stamp(meta, "creationTimestamp"),
        started_at=stamp(status, "startTime"),
        deleted_at=_asked_at(meta),
        foreground="foregroundDeletion" in finalizers,
        suspended=flag(spec, "suspend"),
        condition=text(final, "type"),
        condition_reason=text(final, "reason"),
        condition_message=text(final, "message", _WORDS),
        condition_at=stamp(final, "lastTransitionTime"),
        ending=text(ending, "type"),
        finalized=text(labels, Label.FINALIZED) == "true",
        held=FINALIZER in finalizers,
        outcome=text(notes, Annotation.OUTCOME, 32 * 1024),
        active=integer(status, "active") or 0,
        pending_ms=_seconds(notes, Annotation.PENDING_DEADLINE),
        run_ms=_seconds(notes, Annotation.RUN_DEADLINE),
    )


def read_pod(obj: Mapping[str, Any], *, container: str = "", gone: bool = False) -> PodEvidence:
    """Return what a pod says; never raises.

    Args:
        obj: the pod.
        container: whose end counts; empty = the pod's annotation, else the first of its spec.
        gone: it comes from a DELETED event.
    """
    meta, spec, status = child(obj, "metadata"), child(obj, "spec"), child(obj, "status")
    ours = container or text(child(meta, "annotations"), Annotation.CONTAINER) or _first(spec)
    disrupted = _condition(status, "DisruptionTarget") or {}
    unscheduled = _condition(status, "PodScheduled", "False") or {}
    deleted_at = _asked_at(meta)
    grace_s = integer(meta, "deletionGracePeriodSeconds")
    pod = PodEvidence(
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        node=text(spec, "nodeName"),
        phase=text(status, "phase", 32),
        reason=text(status, "reason"),
        message=text(status, "message", _WORDS),
        created_at=stamp(meta, "creationTimestamp"),
        deleted_at=deleted_at,
        grace_ms=None if grace_s is None else grace_s * 1000,
        gone=gone,
        disruption=(text(disrupted, "reason") or "DisruptionTarget") if disrupted else "",
        disruption_message=text(disrupted, "message", _WORDS),
        unscheduled=text(unscheduled, "reason"),
        unscheduled_message=text(unscheduled, "message", _WORDS),
        container=ours,
        memory_limit=_memory(spec, ours),
    )
    return _with_containers(pod, status, ours)


def _with_containers(pod: PodEvidence, status: Mapping[str, Any], ours: str) -> PodEvidence:
    for kind, suffix in (("initContainerStatuses", " (init)"), ("containerStatuses", "")):
        for state in items(status, kind):
            if kind == "containerStatuses" and text(state, "name") == ours:
                pod = _with_ours(pod, state)
            else:
                pod = _with_other(pod, state, suffix)
    return pod


def _with_ours(pod: PodEvidence, status: Mapping[str, Any]) -> PodEvidence:
    waiting, running = child(status, "state", "waiting"), child(status, "state", "running")
    ended = child(status, "state", "terminated") or child(status, "lastState", "terminated")
    if ended:
        return replace(
            pod,
            started_at=stamp(ended, "startedAt"),
            ended=True,
            ended_clean=pod.deleted_at is None,
            exit_code=integer(ended, "exitCode"),
            end_reason=text(ended, "reason"),
            end_message=text(ended, "message", MESSAGE_LIMIT),
            finished_at=stamp(ended, "finishedAt"),
            waiting="",
            waiting_message="",
        )
    if running:
        return replace(pod, started_at=stamp(running, "startedAt"), waiting="", waiting_message="")
    reason = text(waiting, "reason")
    if reason in _STARTING:
        return pod
    return replace(pod, waiting=reason, waiting_message=text(waiting, "message", _WORDS))


def _with_other(pod: PodEvidence, status: Mapping[str, Any], suffix: str) -> PodEvidence:
    ended, waiting = child(status, "state", "terminated"), child(status, "state", "waiting")
    code, reason = integer(ended, "exitCode"), text(waiting, "reason")
    if ended and code and not pod.culprit:
        return replace(
            pod, culprit=text(status, "name") + suffix, culprit_exit=code, culprit_reason=text(ended, "reason")
        )
    if reason not in _STARTING and not pod.waiting and not pod.ended and pod.started_at is None:
        return replace(pod, waiting=reason, waiting_message=text(waiting, "message", _WORDS))
    return pod


def merge_pods(old: PodEvidence | None, new: PodEvidence | None) -> PodEvidence | None:
    """Return the two as one: an end once seen stays, what is newer wins otherwise."""
    if old is None or new is None:
        return new or old
    if old.uid != new.uid:
        return _better(old, new)
    asked = _asked_first(old, new)
    last = replace(
        new,
        gone=old.gone or new.gone,
        deleted_at=asked.deleted_at,
        grace_ms=asked.grace_ms,
        ended_clean=old.ended_clean or new.ended_clean,
        started_at=new.started_at if new.started_at is not None else old.started_at,
        **{name: getattr(new, name) or getattr(old, name) for name in _STICKY},
    )
    if old.phase in {"Succeeded", "Failed"} and new.phase not in {"Succeeded", "Failed"}:
        last = replace(last, phase=old.phase)
    if old.ended and not new.ended:
        return replace(last, ended=True, **{name: getattr(old, name) for name in _END}, waiting="", waiting_message="")
    return last


def _asked_first(old: PodEvidence, new: PodEvidence) -> PodEvidence:
    """Return which of two views of a pod knows when its deletion was asked for: the one that shows a grace period."""
    if old.deleted_at is None or new.deleted_at is None:
        return new if old.deleted_at is None else old
    return new if new.grace_ms and not old.grace_ms else old


_STICKY = ("node", "reason", "message", "disruption", "disruption_message", "culprit", "culprit_exit", "culprit_reason",
           "memory_limit", "container")  # fmt: skip
_END = ("exit_code", "end_reason", "end_message", "finished_at", "started_at")


def _better(old: PodEvidence, new: PodEvidence) -> PodEvidence:
    """Return which of two pods of one Job counts: one that ended, then one that started, then the younger."""

    def rank(pod: PodEvidence) -> tuple[bool, bool, bool, int]:
        return pod.ended, pod.started_at is not None, not pod.gone, pod.created_at or 0

    return new if rank(new) > rank(old) else old


_POD_FIELDS = tuple((entry.name, {"str": str, "bool": bool}.get(str(entry.type), int)) for entry in fields(PodEvidence))
"""Each field of a pod's evidence and what it holds, None aside."""


# -- kept in Redis ----------------------------------------------------------------------------------------------------
def pod_json(pod: PodEvidence) -> Json:
    """Return a pod's evidence as JSON, empty parts left out."""
    return _compact({name: getattr(pod, name) for name, _ in _POD_FIELDS})


def pod_from_json(value: Any) -> PodEvidence | None:
    """Return a pod's evidence as it was stored; unsound parts are dropped, nothing at all is None."""
    stored = value if isinstance(value, Mapping) else {}
    known: Json = {}
    for name, kind in _POD_FIELDS:
        found = stored.get(name)
        if isinstance(found, kind) and isinstance(found, bool) is (kind is bool):
            known[name] = cut(found, MESSAGE_LIMIT) if isinstance(found, str) else found
    return PodEvidence(**known) if known else None


def stop_json(stop: Stop) -> Json:
    """Return a stop as JSON."""
    return asdict(stop)


def stop_from_json(value: Any, execution: str) -> Stop | None:
    """Return the stop decided for this execution, or None."""
    at = integer(value, "at")
    cls = text(value, "cls", 32)
    if at is None or not cls or text(value, "execution") != execution:
        return None
    return Stop(cls=cls, message=text(value, "message", _WORDS), at=at, execution=execution)


def _compact(value: Json) -> Json:
    return {key: item for key, item in value.items() if item is not None and item is not False and item != ""}


# -- parts ------------------------------------------------------------------------------------------------------------
def _condition(status: Mapping[str, Any], kind: str, wanted: str = "True") -> Mapping[str, Any] | None:
    for condition in items(status, "conditions"):
        if condition.get("type") == kind and condition.get("status") == wanted:
            return condition
    return None


def _asked_at(meta: Mapping[str, Any]) -> int | None:
    """Return when deletion was asked for: the API server adds the grace period to deletionTimestamp."""
    due = stamp(meta, "deletionTimestamp")
    return None if due is None else due - (integer(meta, "deletionGracePeriodSeconds") or 0) * 1000


def _seconds(notes: Mapping[str, Any], key: str) -> int | None:
    found = text(notes, key, 20)
    return int(found) * 1000 if found.isascii() and found.isdigit() else None


def _first(spec: Mapping[str, Any]) -> str:
    return next((text(container, "name") for container in items(spec, "containers")), "")


def _memory(spec: Mapping[str, Any], ours: str) -> str:
    for container in items(spec, "containers"):
        if text(container, "name") == ours:
            return quantity(child(container, "resources", "limits"), "memory")
    return ""
