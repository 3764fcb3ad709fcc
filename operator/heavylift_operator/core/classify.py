"""Classification: evidence of one execution -> the outcome it ended with, or what it waits for.

As Kubernetes means it: a Job's condition decides that an attempt is over, its pod says
why. What fits nowhere becomes ``unknown`` with the evidence word for word; nothing here raises on odd evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heavylift.contract.durations import format_ms
from heavylift.contract.envelope import Envelope, decode
from heavylift.contract.names import ExitCode
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core import words
from heavylift_operator.core.evidence import Evidence, JobEvidence, PodEvidence, Stop
from heavylift_operator.core.outcome import Ended, Underway
from heavylift_operator.core.reading import Json, printable

NODE_LOST_AFTER_MS = 60_000
"""A pod still not gone this long after its grace period ended is on a node nobody hears of."""
_SENTENCE = 600
_OF_THE_RUNNER = frozenset({"result", "error", "snooze", "checkpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of the attempt."""

    execution: str
    policy: str = "Optional"
    """``result.policy``: None | Optional | Required."""
    cancelled: bool = False
    """A cancel is requested, or RQ's own commands cancelled or deleted the job."""
    now: int
    """The cluster's time, ms."""


def classify(evidence: Evidence, asked: Asked) -> Ended | Underway:
    """Return how the attempt ended, or that it has not.

    ``evidence.job`` None means that a live GET found no Job.
    """
    job, pod, stop = evidence.job, evidence.pod, evidence.stop
    stopped = asked.cancelled or stop is not None
    if job is None:
        found = _gone(pod, stop, asked)
    elif job.deleted_at is not None and not stopped and _deleted_first(job, pod):
        found = _ended(OutcomeClass.JOB_DELETED, "the Kubernetes Job was deleted before it ended")
    elif job.condition == "Complete":
        found = _complete(pod, asked)
    elif job.condition:
        found = _failed(job, pod, asked)
    elif stopped and job.deleted_at is not None and (pod is None or pod.over or not job.foreground):
        found = _stopped(stop, asked)
    else:
        return _underway(job, pod, asked, stopped=stopped, refused=evidence.refused)
    if stopped and found.cls is not OutcomeClass.SUCCEEDED and not _own_end(pod, asked):
        found = _stopped(stop, asked)
    left = decode(pod.end_message, asked.execution) if pod is not None and pod.ended else Envelope(kind="empty")
    seen = {**_evidence(job, pod), **found.evidence}
    if left.kind in _OF_THE_RUNNER:
        seen.pop("log", None)  # it is no log: the program wrote the file
    return replace(
        found,
        evidence=seen,
        checkpoint=left.checkpoint_json,
        exit_code=found.exit_code if found.exit_code is not None else (pod.exit_code if pod else None),
        started_at=pod.started_at if pod else None,
        ended_at=(pod.finished_at if pod else None) or (job.condition_at if job else None),
    )


def _ended(cls: OutcomeClass, message: str, **rest: object) -> Ended:
    return Ended(cls=cls, message=printable(" ".join(message.split())), **rest)  # type: ignore[arg-type]  # names are Ended's own


# -- ends by somebody's will ------------------------------------------------------------------------------------------
def _deleted_first(job: JobEvidence, pod: PodEvidence | None) -> bool:
    """Return whether the Job's deletion came before its end (same second: the pod's own story decides)."""
    if not job.over or job.condition_at is None or job.deleted_at is None:
        return True
    if job.deleted_at != job.condition_at:
        return job.deleted_at < job.condition_at
    return pod is None or pod.deleted_before_end


def _stopped(stop: Stop | None, asked: Asked) -> Ended:
    if asked.cancelled or stop is None:
        return _ended(OutcomeClass.CANCELLED, "cancelled on request")
    known = {cls.value for cls in OutcomeClass}
    return _ended(OutcomeClass(stop.cls) if stop.cls in known else OutcomeClass.UNKNOWN, stop.message)


def _own_end(pod: PodEvidence | None, asked: Asked) -> bool:
    """Return whether the program ended by itself although we had decided to stop it; a cancel wins all the same."""
    return not asked.cancelled and pod is not None and pod.ended and not pod.deleted_before_end


def _gone(pod: PodEvidence | None, stop: Stop | None, asked: Asked) -> Ended:
    if asked.cancelled or stop is not None:
        return _stopped(stop, asked)
    if pod is not None and pod.ended and not pod.deleted_before_end and not pod.disruption:
        return _complete(pod, asked) if pod.exit_code == ExitCode.OK else _by_container(pod, asked, matched=None)
    return _ended(OutcomeClass.LOST, "the Kubernetes Job is gone without a trace of its end")


# -- Complete ---------------------------------------------------------------------------------------------------------
def _complete(pod: PodEvidence | None, asked: Asked) -> Ended:
    if pod is None or not pod.ended:
        if asked.policy == "None":
            return _ended(OutcomeClass.SUCCEEDED, "completed")
        return _ended(
            OutcomeClass.NO_RESULT, "the Job completed, but its pod is gone and with it what it may have left behind"
        )
    if pod.exit_code != ExitCode.OK:
        return _by_container(pod, asked, matched=None)
    envelope = decode(pod.end_message, asked.execution)
    if pod.deleted_before_end and (envelope.kind != "result" or asked.cancelled):
        return _deleted_pod(pod)
    return _result(envelope, asked, pod)


def _result(envelope: Envelope, asked: Asked, pod: PodEvidence) -> Ended:
    done = _ended(OutcomeClass.SUCCEEDED, "completed", exit_code=ExitCode.OK)
    match envelope.kind:
        case "error":
            return _typed(envelope, pod, no_retry=False)
        case "snooze":
            return _snooze(envelope, pod)
        case "result" | "plain":
            return done if asked.policy == "None" else replace(done, result=envelope.value_json)
        case "empty" | "checkpoint":
            why = "the program left no result behind"
        case "invalid":
            why = f"what the program left behind is no result: {envelope.reason}"
    if asked.policy == "Required":
        return _ended(OutcomeClass.NO_RESULT, f"exit code 0, but {why} (result.policy is Required)")
    quiet = envelope.kind != "invalid" or asked.policy == "None"
    return done if quiet else replace(done, evidence={"warning": why})


# -- Failed -----------------------------------------------------------------------------------------------------------
def _failed(job: JobEvidence, pod: PodEvidence | None, asked: Asked) -> Ended:
    reason, said = job.condition_reason, job.condition_message
    matched = words.policy_exit_code(reason, said)
    if (pod is not None and pod.disruption) or words.policy_disruption(reason, said):
        return _disrupted(pod, said)
    if pod is None or (not pod.ended and not pod.culprit and not pod.reason):
        return _failed_unseen(job, pod, matched)
    by_reason = words.pod_reason(pod.reason, pod.message)
    if by_reason is not None:
        return _ended(by_reason, f"{pod.reason}: {pod.message}" if pod.message else pod.reason)
    if reason == "DeadlineExceeded":
        return _ended(OutcomeClass.TIMEOUT, f"the Job ran past its deadline: {said or reason}")
    if pod.deleted_before_end:
        return _deleted_pod(pod)
    if not pod.ended and not pod.culprit:
        return _unknown(job, pod)
    found = _by_container(pod, asked, matched=matched)
    return _unknown(job, pod) if found.cls is OutcomeClass.UNKNOWN else found


def _failed_unseen(job: JobEvidence, pod: PodEvidence | None, matched: int | None) -> Ended:
    """Return the class of a failed Job whose pod's end nobody saw."""
    said = job.condition_message or job.condition_reason
    if matched is not None:
        return _ended(OutcomeClass.ERROR, f"exit code {matched}: {said}", exit_code=matched, no_retry=True)
    if job.condition_reason == "DeadlineExceeded":
        if pod is not None and pod.started_at is None and (stuck := _stuck(pod)):
            return _ended(stuck[0], f"did not start before the Job's deadline: {stuck[1]}")
        return _ended(OutcomeClass.TIMEOUT, f"the Job ran past its deadline: {said}")
    if pod is not None and pod.deleted_at is not None:
        return _deleted_pod(pod)
    if job.condition_reason not in {"BackoffLimitExceeded", ""}:
        return _unknown(job, pod)
    return _ended(OutcomeClass.NO_RESULT, f"the Job failed, but its pod is gone and with it the reason ({said})")


def _by_container(pod: PodEvidence, asked: Asked, *, matched: int | None) -> Ended:
    """Return the class of what our container, or the one that kept it from running, ended with."""
    if not pod.ended or pod.exit_code in {None, ExitCode.OK}:
        return _by_culprit(pod)
    code = pod.exit_code
    if pod.end_reason == "OOMKilled" or (code == ExitCode.OOM and pod.end_reason in {"", "Error"}):
        limit = f" of {pod.memory_limit}" if pod.memory_limit else ""
        said = f"killed for using more memory than its limit{limit}"
        return _ended(OutcomeClass.OOM, said, memory_limit=pod.memory_limit)
    if pod.end_reason in words.IMAGE_ENDED:
        return _ended(OutcomeClass.IMAGE, f"the container could not start: {_last_words(pod) or pod.end_reason}")
    by_reason = words.pod_reason(pod.end_reason, "")
    if by_reason is not None:
        return _ended(by_reason, f"the container ended as {pod.end_reason}")
    envelope = decode(pod.end_message, asked.execution)
    if envelope.kind == "snooze" or (code == ExitCode.SNOOZE and envelope.kind != "error"):
        return _snooze(envelope, pod)
    no_retry = matched is not None or code == ExitCode.NO_RETRY
    if envelope.kind == "error":
        return _typed(envelope, pod, no_retry=no_retry)
    meaning = {ExitCode.NO_RETRY: " (do not retry)", ExitCode.TERMINATED: " (stopped by SIGTERM)"}.get(code or 0, "")
    tail = _last_words(pod) if envelope.kind != "checkpoint" else ""
    said = f"exit code {code}{meaning}: {tail}" if tail else f"exit code {code}{meaning}"
    return _ended(OutcomeClass.ERROR, said, no_retry=no_retry, evidence=_log(pod))


def _by_culprit(pod: PodEvidence) -> Ended:
    if not pod.culprit:
        return _ended(OutcomeClass.UNKNOWN, "the pod failed without a failed container")
    if pod.culprit_reason == "OOMKilled":
        return _ended(OutcomeClass.OOM, f"container {pod.culprit} was killed for using more memory than its limit")
    if pod.culprit_reason in words.IMAGE_ENDED:
        return _ended(OutcomeClass.IMAGE, f"container {pod.culprit} could not start: {pod.culprit_reason}")
    return _ended(
        OutcomeClass.ERROR,
        f"container {pod.culprit} ended with exit code {pod.culprit_exit}",
        exit_code=pod.culprit_exit,
    )


def _typed(envelope: Envelope, pod: PodEvidence, *, no_retry: bool) -> Ended:
    said = f"{envelope.error_type}: {envelope.message}".strip(": ") or f"exit code {pod.exit_code}"
    evidence: Json = {"errorType": printable(envelope.error_type, 200)}
    if envelope.traceback:
        evidence["traceback"] = printable(envelope.traceback, 4096)
    return _ended(
        OutcomeClass.ERROR,
        said,
        evidence=evidence,
        error_type=envelope.error_type,
        no_retry=no_retry or envelope.no_retry,
        delay_ms=envelope.delay_ms,
    )


def _snooze(envelope: Envelope, pod: PodEvidence) -> Ended:
    said = f": {envelope.message}" if envelope.message else ""
    return _ended(
        OutcomeClass.ERROR,
        f"asked to be run again later{said}",
        exit_code=pod.exit_code,
        snooze=True,
        delay_ms=envelope.delay_ms,
        hold_ms=envelope.delay_ms or 0 if envelope.hold else 0,
    )


def _disrupted(pod: PodEvidence | None, said: str) -> Ended:
    if pod is None or not pod.disruption:
        return _ended(OutcomeClass.DISRUPTED, f"the pod was disrupted: {said}")
    detail = f": {pod.disruption_message}" if pod.disruption_message else ""
    return _ended(OutcomeClass.DISRUPTED, f"the pod was disrupted by {pod.disruption}{detail}")


def _deleted_pod(pod: PodEvidence) -> Ended:
    if pod.disruption:
        return _disrupted(pod, "")
    code = "" if pod.exit_code is None else f" (its program then ended with exit code {pod.exit_code})"
    return _ended(OutcomeClass.POD_DELETED, f"the pod was deleted before it ended{code}")


def _unknown(job: JobEvidence, pod: PodEvidence | None) -> Ended:
    phase = f", pod {pod.phase} {pod.reason}".rstrip() if pod else ", no pod seen"
    return _ended(
        OutcomeClass.UNKNOWN, f"Job {job.condition} with {job.condition_reason}: {job.condition_message}{phase}"
    )


# -- under way --------------------------------------------------------------------------------------------------------
def sighting(pod: PodEvidence) -> Underway:
    """Return what a pod alone says about an attempt, for the evidence kept in Redis."""
    if pod.started_at is not None or pod.ended or pod.over:
        return Underway(phase=Phase.RUNNING, running_at=pod.started_at)
    stuck = _stuck(pod)
    return Underway(
        phase=Phase.PENDING,
        reason=_pending_reason(pod, stuck[0]) if stuck else "starting",
        message=stuck[1] if stuck else "",
        hopeless=pod.waiting in words.IMAGE_HOPELESS,
    )


def _underway(
    job: JobEvidence, pod: PodEvidence | None, asked: Asked, *, stopped: bool, refused: str
) -> Ended | Underway:
    lost = None if pod is None or pod.over or pod.ended else _overdue(pod, asked.now)
    if lost is not None and asked.cancelled:
        return _ended(
            OutcomeClass.CANCELLED, "cancelled on request; its node does not answer, so its program may run on"
        )
    if pod is not None and lost is not None:
        waited = format_ms((asked.now - lost) // 1000 * 1000)
        node = f"node {pod.node}" if pod.node else "its node"
        return _ended(
            OutcomeClass.NODE_LOST,
            f"{node} has not answered for {waited}: nobody knows whether the program still runs",
            since=lost,
            evidence=_evidence(job, pod),
        )
    if pod is not None and (pod.started_at is not None or pod.ended or pod.over):
        reason = "stopping" if stopped else "ending" if pod.ended or pod.over or job.ending else ""
        return Underway(phase=Phase.RUNNING, reason=reason, running_at=pod.started_at)
    if stopped:
        return Underway(phase=Phase.PENDING, reason="stopping")
    return _pending(job, pod, refused)


def _overdue(pod: PodEvidence, now: int) -> int | None:
    """Return since when (ms) a pod should have been gone, or None."""
    if pod.deleted_at is None or pod.node == "":
        return None
    due = pod.deleted_at + (pod.grace_ms or 0) + NODE_LOST_AFTER_MS
    return due if now > due else None


def _pending_reason(pod: PodEvidence, cls: OutcomeClass) -> str:
    return "gated" if pod.unscheduled == "SchedulingGated" else cls.value


def _pending(job: JobEvidence, pod: PodEvidence | None, refused: str) -> Underway:
    if job.suspended:
        return Underway(phase=Phase.PENDING, reason="suspended", message="the Job is suspended")
    if pod is None and refused:
        cls = words.failed_create(refused)
        return Underway(phase=Phase.PENDING, reason=cls.value, message=printable(refused, _SENTENCE), stuck=cls)
    if pod is None:
        return Underway(phase=Phase.PENDING, reason="no-pod", stuck=OutcomeClass.UNSCHEDULABLE)
    stuck = _stuck(pod)
    if stuck is None:
        return Underway(phase=Phase.PENDING, reason="starting", stuck=OutcomeClass.UNSCHEDULABLE)
    cls, said = stuck
    return Underway(
        phase=Phase.PENDING,
        reason=_pending_reason(pod, cls),
        message=said,
        stuck=cls,
        hopeless=pod.waiting in words.IMAGE_HOPELESS,
    )


def _stuck(pod: PodEvidence) -> tuple[OutcomeClass, str] | None:
    """Return what keeps a pod from starting, and Kubernetes' words for it."""
    if pod.waiting:
        said = f"{pod.waiting}: {pod.waiting_message}" if pod.waiting_message else pod.waiting
        return OutcomeClass.IMAGE, printable(said, _SENTENCE)
    if pod.unscheduled:
        said = f"{pod.unscheduled}: {pod.unscheduled_message}" if pod.unscheduled_message else pod.unscheduled
        return OutcomeClass.UNSCHEDULABLE, printable(said, _SENTENCE)
    return None


# -- evidence for people ----------------------------------------------------------------------------------------------
def _last_words(pod: PodEvidence) -> str:
    """Return the last line the program left that has something to read, cut to a sentence."""
    lines = [line.strip() for line in pod.end_message.splitlines() if line.strip()]
    return printable(lines[-1], _SENTENCE) if lines else ""


def _log(pod: PodEvidence) -> Json:
    return {"log": printable(pod.end_message, 2048)} if pod.end_message else {}


def _evidence(job: JobEvidence | None, pod: PodEvidence | None) -> Json:
    found: Json = {}
    if job is not None:
        found |= {
            "job": job.name,
            "condition": job.condition,
            "conditionReason": job.condition_reason,
            "conditionMessage": printable(job.condition_message, _SENTENCE),
        }
    if pod is not None:
        found |= {
            "pod": pod.name,
            "node": pod.node,
            "container": pod.container,
            "reason": pod.end_reason or pod.reason or pod.waiting,
            "disruption": pod.disruption,
            "memoryLimit": pod.memory_limit,
            "log": printable(pod.end_message, 2048) if pod.exit_code else "",
        }
    return {key: value for key, value in found.items() if value}
