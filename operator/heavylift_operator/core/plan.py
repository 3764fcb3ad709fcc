"""The plan: what stands in Redis and in the cluster -> the actions to take, in order.

``plan`` is total and pure: whatever it is shown, it answers a row of the reconcile table and a list of actions; the
services carry them out and look again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift_operator.core import deadlines
from heavylift_operator.core.classify import Asked, classify
from heavylift_operator.core.evidence import Evidence, Stop
from heavylift_operator.core.outcome import Ended, Underway
from heavylift_operator.core.reading import child, cut, integer, printable, text
from heavylift_operator.core.reconcile import Act, InCluster, InRedis, Record, Row, in_cluster, in_redis, reconcile
from heavylift_operator.core.rules import Cost, Decision, Policy, Random, Spent, Step, decide


# -- actions ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Record the Job's UID in Redis, then plan anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give a silent claim back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepStop:
    """Write our decision to stop the attempt into its evidence, before anything is deleted."""

    stop: Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Write the outcome."""

    ended: Ended
    decision: Decision
    job_exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Send the finishing PATCH (after a Finish with what that stored)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete the Job by UID; ``pods_first``: it stands until its pods are gone."""

    pods_first: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Note that nothing is left to PATCH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Drop what Redis lists of an execution that is over, or whose job is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Log and count something nothing is done about."""

    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Look again after so many ms (the reconciler does so anyway, later)."""

    after_ms: int


Action = Adopt | Release | KeepStop | Finish | Patch | Delete | Confirm | Clear | Report | Again


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All a plan is made from."""

    install: str
    execution: str
    record: Record | None
    evidence: Evidence
    """Evidence kept in Redis and seen just now, merged; ``job`` None = a live GET found none."""
    spent: Spent
    policy: Policy
    result_policy: str
    pending_ms: int | None
    run_ms: int | None
    total_ms: int | None = None
    """The limit over all attempts, for its message; ``spent.total_due`` says when it passes."""
    epoch: bool
    """Redis' data is what the Job came from."""
    listed: bool
    """Redis lists this execution as in flight."""
    owed: bool
    """Redis lists the Job's finishing PATCH as not confirmed."""
    missing_since: int | None
    """When the Job was first found missing, or first found unknown to Redis (ms)."""
    grace_ms: int
    """How long a Job must be missing, or unknown, before that counts: more than two reconcile intervals."""
    now: int
    """The cluster's time, ms."""


def plan(view: View, random: Random) -> tuple[Row, list[Action]]:
    """Return the row of the reconcile table that applies, and what to do, in order."""
    standing = in_redis(view.record, view.execution, view.install, now=view.now, epoch=view.epoch)
    current = view.record is not None and view.record.execution == view.execution
    uid = view.record.job_uid if view.record is not None and current else ""
    cluster = in_cluster(view.evidence.job, view.execution, uid)
    row = reconcile(standing, cluster)
    if cluster is InCluster.ABSENT and view.evidence.job is not None:
        view = replace(view, evidence=replace(view.evidence, job=None))
    simple = _SIMPLE.get(row.act)
    actions = list(simple) if simple is not None else _considered(view, row, standing, random)
    if view.owed and standing in _NOT_ITS_OWN and cluster in {InCluster.ABSENT, InCluster.FINALIZED}:
        actions.append(Confirm())
    return row, actions


_NOT_ITS_OWN = frozenset({InRedis.MOVED_ON, InRedis.VANISHED, InRedis.WIPED})
"""Standings in which Redis has no outcome of the execution: what it lists of it is all that is left."""


_SIMPLE: dict[Act, tuple[Action, ...]] = {
    Act.NOTHING: (),
    Act.RELEASE: (Release(),),
    Act.CONFIRM: (Confirm(),),
    Act.PATCH: (Patch(),),
    Act.PATCH_DELETE: (Delete(pods_first=False), Patch()),  # our finalizer holds it until the PATCH: none runs on
    Act.DELETE: (Delete(),),
}


def _considered(view: View, row: Row, standing: InRedis, random: Random) -> list[Action]:
    match row.act:
        case Act.ADOPT:
            return _adopt(view)
        case Act.CLEAR:
            return [Clear()] if view.listed else []
        case Act.REPORT:
            return [Report(words=row.why)]
        case Act.DISCARD:
            return _discard(view, standing)
        case Act.REFINISH:
            return _refinish(view)
        case Act.WAIT:
            return _missing(view, standing, random)
        case _:
            return _attend(view, standing, random)


def _attend(view: View, standing: InRedis, random: Random) -> list[Action]:
    """Plan for a current attempt: finish it, end it at a deadline, or look again."""
    found = classify(view.evidence, _asked(view, standing))
    job = view.evidence.job
    if isinstance(found, Ended):
        return _finish(view, found, random)
    if job is None:
        return []
    if view.evidence.stop is not None:
        return [Delete()] if job.deleted_at is None else []
    stop = deadlines.expired(job, found, _limits(view), now=view.now)
    if stop is not None:
        return [KeepStop(stop=stop), Delete()]
    return _look_again(view, found)


def _look_again(view: View, found: Underway) -> list[Action]:
    job = view.evidence.job
    due = deadlines.due(job, found, _limits(view)) if job is not None else None
    return [] if due is None else [Again(after_ms=max(due - view.now, 0) + 1)]


def _limits(view: View) -> deadlines.Limits:
    return deadlines.Limits(
        pending_ms=view.pending_ms, run_ms=view.run_ms, total_ms=view.total_ms, total_due=view.spent.total_due
    )


def _asked(view: View, standing: InRedis) -> Asked:
    return Asked(
        execution=view.execution,
        policy=view.result_policy,
        cancelled=standing in {InRedis.CANCELLING, InRedis.CANCEL_YOUNG},
        now=view.now,
    )


EVIDENCE_PATIENCE_MS = 5_000
"""How long after a Job's end its pod's last words may still be on their way to us."""
RECORD_PATIENCE_MS = 2_000
"""How long a dispatcher gets to record the Job it created before we do."""


def _adopt(view: View) -> list[Action]:
    job = view.evidence.job
    age = view.now - job.created_at if job is not None and job.created_at is not None else RECORD_PATIENCE_MS
    fresh = 0 <= age < RECORD_PATIENCE_MS and job is not None and not job.over and job.deleted_at is None
    return [] if fresh else [Adopt()]  # its pod's first event, or the next pass, looks again


def _unheard(view: View) -> bool:
    """Return whether the Job ended just now and its pod's end, gone or late, may still come by event."""
    job, pod = view.evidence.job, view.evidence.pod
    if job is None or job.condition_at is None or (pod is not None and (pod.ended or not pod.gone)):
        return False
    return 0 <= view.now - job.condition_at < EVIDENCE_PATIENCE_MS


def _finish(view: View, ended: Ended, random: Random) -> list[Action]:
    if _unheard(view):
        return [Again(after_ms=500)]
    decision = decide(ended, view.policy, view.spent, view.now, random)
    if decision.step is Step.WAIT:
        return [Again(after_ms=decision.delay_ms + 1)] if decision.delay_ms else []
    if decision.why:
        ended = replace(ended, message=printable(f"{ended.message} ({decision.why})"))
    exists = view.evidence.job is not None
    actions: list[Action] = [Finish(ended=ended, decision=decision, job_exists=exists)]
    if exists and ended.cls is OutcomeClass.NODE_LOST:
        actions.append(Delete(pods_first=False))
    if exists:
        actions.append(Patch())
    return actions


def _missing(view: View, standing: InRedis, random: Random) -> list[Action]:
    if view.missing_since is None or view.now - view.missing_since < view.grace_ms:
        return []
    found = classify(view.evidence, _asked(view, standing))
    return _finish(view, found, random) if isinstance(found, Ended) else []


def _discard(view: View, standing: InRedis) -> list[Action]:
    """Plan for a Job whose execution is not, or no longer, Redis' business."""
    job = view.evidence.job
    known = standing is InRedis.VANISHED and view.listed
    waited = view.missing_since is not None and view.now - view.missing_since >= view.grace_ms
    if job is None or not (known or waited):
        return []
    pod = view.evidence.pod
    if job.deleted_at is None and not job.over:
        return [Delete()]
    if job.over or pod is None or pod.over or not job.foreground:
        return [Delete(pods_first=False), Patch()]
    return []


# -- finishing again from the annotation ------------------------------------------------------------------------------
def _refinish(view: View) -> list[Action]:
    job = view.evidence.job
    read = read_annotation(job.outcome if job else "", view.execution)
    if read is None:
        return [Report(words="the Job is finalized, but its outcome annotation cannot be read")]
    return [Finish(ended=read[0], decision=read[1]), Confirm()]


def write_annotation(stored: Mapping[str, Any], finish: Finish | None, result: str | None) -> str:
    """Return the outcome annotation: what Redis stored, with what a rebuild needs besides."""
    whole = dict(stored)
    whole["result"] = result
    if finish is not None:
        whole["spend"] = finish.decision.cost.value
        whole["delayMs"] = finish.decision.delay_ms
        if finish.ended.checkpoint is not None:
            whole["checkpoint"] = finish.ended.checkpoint
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def read_annotation(annotation: str, execution: str) -> tuple[Ended, Decision] | None:
    """Return outcome and decision of an annotation of this execution, None if it is none."""
    try:
        whole = json.loads(annotation)
    except (ValueError, RecursionError):
        return None
    classes = {cls.value: cls for cls in OutcomeClass}
    steps = {step.value: step for step in Step}
    cls, step = classes.get(text(whole, "class")), steps.get(text(whole, "next"))
    if cls is None or step is None or step is Step.WAIT or text(whole, "execution") != execution:
        return None
    result = text(whole, "result", 4096)
    costs = {cost.value: cost for cost in Cost}
    ended = Ended(
        cls=cls,
        message=cut(text(whole, "message", 2048), 2048),
        exit_code=integer(whole, "exitCode"),
        evidence=dict(child(whole, "evidence")),
        result=result or None,
        checkpoint=text(whole, "checkpoint", limits.CHECKPOINT_MAX) or None,
        ended_at=integer(whole, "at"),
    )
    cost = costs.get(text(whole, "spend"), Cost.NONE)
    delay_ms, memory = max(0, integer(whole, "delayMs") or 0), integer(whole, "memory")
    return ended, Decision(step=step, cost=cost, delay_ms=delay_ms, memory=memory)
