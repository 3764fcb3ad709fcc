"""Carrying out what a plan says, against Redis and the cluster."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract.failpoints import afailpoint
from heavylift.contract.outcomes import OutcomeClass
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift.store.model import Fence, FinishReply, FinishRequest, JobRecord, Next, Outcome, Spend, Verdict
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core import plan as plans
from heavylift_operator.core.evidence import JobEvidence
from heavylift_operator.core.reading import Json, child, integer
from heavylift_operator.core.reconcile import Act, Row
from heavylift_operator.core.staying import Staying
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.shelf import Shelf
from heavylift_operator.services.workqueue import Item, Key

_COUNT_DEFAULT: Final = 200
_SAID_MAX: Final = 10_000
_PATCHED_MAX: Final = 20_000
_ECHOES_S: Final = 60.0


@dataclass(slots=True, kw_only=True)
class Context:
    """What the actions of one plan have in common."""

    item: Item
    record: JobRecord | None
    job: JobEvidence | None
    settings: Json
    now: int
    stored: Json | None = None
    """What Redis stored as the outcome, once finished."""
    finish: plans.Finish | None = None


@dataclass(slots=True, kw_only=True)
class Actor:
    """Does one action at a time; all of them are safe to repeat."""

    link: RedisLink
    cluster: Cluster
    metrics: Metrics
    install: str
    condemned: set[str] = field(default_factory=set)
    """UIDs of Jobs being discarded: once begun it is seen through."""
    _patched: OrderedDict[Key, float] = field(default_factory=OrderedDict)
    """Jobs whose finishing PATCH we sent, and when."""
    shelf: Shelf | None = None
    """Makes room for finished Jobs; None = nobody counts them."""
    _staying: Staying = field(default_factory=Staying)
    _said: set[tuple[str, str]] = field(default_factory=set)
    _log: Any = field(default_factory=lambda: logs.get("finisher"))

    async def do(self, action: plans.Action, context: Context, row: Row) -> bool:
        """Carry an action out; return whether the rest of the plan still holds."""
        match action:
            case plans.Finish():
                return await self._finish(action, context)
            case plans.Patch():
                await self._patch(context)
            case plans.Delete():
                await self._delete(action, context, row)
            case plans.Release():
                await self._release(context)
            case plans.Confirm():
                await self.link.run(ops.finalized(self.install, context.item.namespace, context.item.name))
            case plans.Clear():
                await self._clear(context)
            case plans.Report():
                self._report(action, context, row)
            case _:
                raise TypeError(f"not an action of ours: {action!r}")
        return True

    def just_patched(self, key: Key) -> bool:
        """Return whether events of this Job are only echoes of an end we saw through just now."""
        sent = self._patched.get(key)
        return sent is not None and self.cluster.clock.monotonic() - sent < _ECHOES_S

    # -- Redis --------------------------------------------------------------------------------------------------------
    async def _finish(self, action: plans.Finish, context: Context) -> bool:
        ended, decision = action.ended, action.decision
        request = FinishRequest(
            fence=_fence(context),
            outcome=Outcome(
                cls=ended.cls, message=ended.message, exit_code=ended.exit_code, evidence=_plain(ended.evidence)
            ),
            next=Next(decision.step.value),
            spend=Spend(decision.cost.value),
            delay_ms=decision.delay_ms,
            memory=decision.memory,
            checkpoint=ended.checkpoint,
            hold_ms=ended.hold_ms,
            result=ended.result,
            started_at=ended.started_at,
            ended_at=ended.ended_at,
            job_exists=action.job_exists,
        )
        if action.job_exists and context.job is not None and self.shelf is not None:
            await self.shelf.room(context.job.queue, context.item.key)
        reply = await self.link.run(ops.finish(request))
        await afailpoint("operator.finish.after")
        if reply.verdict not in {Verdict.APPLIED, Verdict.ALREADY}:
            self.metrics.conflicts.inc()
            self._log.warning(
                "an outcome was refused", job=context.item.job_id, verdict=reply.verdict.value, why=reply.message
            )
            return False
        context.stored, context.finish = reply.stored, action
        if reply.verdict is Verdict.APPLIED:
            self._account(action, reply, context)
        return True

    def _account(self, action: plans.Finish, reply: FinishReply, context: Context) -> None:
        record, ended = context.record, action.ended
        queue = record.queue if record is not None else ""
        cls = str(reply.stored.get("class") or ended.cls.value)
        self._log.info(
            "attempt ended",
            job=context.item.job_id,
            execution=context.item.execution,
            queue=queue,
            outcome=cls,
            why=ended.message[:300],
            next=str(reply.stored.get("next") or action.decision.step.value),
        )
        created = context.job.created_at if context.job is not None else None
        task = _watched(context)
        _time(self.metrics.pending.labels(queue, task), created, ended.started_at)
        _time(self.metrics.run.labels(queue, task), ended.started_at, ended.ended_at)

    async def _release(self, context: Context) -> None:
        fence = Fence(job=context.item.job_id, execution=context.item.execution)
        reason = "its dispatcher went silent before a Job was recorded"
        reply = await self.link.run(ops.release(fence, reason=reason, silent=True))
        self._log.warning(
            "a silent claim was given back", job=context.item.job_id, verdict=reply.verdict.value, why=reply.message
        )

    async def _clear(self, context: Context) -> None:
        """Let the store drop what still lists an execution: any fenced script does when it is not the current one."""
        await self.link.run(ops.check(Fence(job=context.item.job_id, execution=context.item.execution)))

    def _report(self, action: plans.Report, context: Context, row: Row) -> None:
        key = (row.name, context.job.uid if context.job is not None else context.item.execution)
        if key in self._said:
            return
        if len(self._said) >= _SAID_MAX:
            self._said.clear()
        self._said.add(key)
        self._log.error(
            "left alone",
            case=row.name,
            why=action.words,
            job=context.item.job_id,
            execution=context.item.execution,
            kubernetes_job=f"{context.item.namespace}/{context.item.name}",
        )

    # -- the cluster --------------------------------------------------------------------------------------------------
    async def _patch(self, context: Context) -> None:
        if context.job is None:
            return
        stored, finish = _outcome(context)
        result = finish.ended.result if finish is not None else _result(context)
        annotation = plans.write_annotation(stored, finish, result) if stored else None
        ttl_s = self._ttl_s(context, context.job, stored)
        await self.cluster.patch_finished(context.job, annotation, ttl_s)
        self.condemned.discard(context.job.uid)
        self._patched[context.job.namespace, context.job.name] = self.cluster.clock.monotonic()
        if len(self._patched) > _PATCHED_MAX:
            self._patched.popitem(last=False)
        await afailpoint("operator.patch.after")
        await self.link.run(ops.finalized(self.install, context.job.namespace, context.job.name))
        if self.shelf is not None:
            self.shelf.let_go(context.job, ttl_s)

    def _ttl_s(self, context: Context, job: JobEvidence, stored: Json) -> int:
        """Return ttlSecondsAfterFinished: the Job's age since its end plus how long it is to stay from now."""
        success = stored.get("class") == OutcomeClass.SUCCEEDED.value
        pods = child(context.settings, "retention", "pods")
        count = integer(pods, "count")
        stays_s = self._staying.seconds(
            job.queue,
            success=success,
            wanted_ms=integer(pods, "succeeded" if success else "failed"),
            count=_COUNT_DEFAULT if count is None else count,
            now=self.cluster.clock.monotonic(),
        )
        age_s = max(0, (context.now - job.condition_at) // 1000) if job.condition_at is not None else 0
        return age_s + stays_s

    async def _delete(self, action: plans.Delete, context: Context, row: Row) -> None:
        if context.job is None:
            return
        if row.act is Act.DISCARD:
            self.condemned.add(context.job.uid)
        if row.repair:
            self._log.warning(
                "a Job is deleted",
                case=row.name,
                why=row.why,
                kubernetes_job=f"{context.job.namespace}/{context.job.name}",
            )
        await self.cluster.delete_job(context.job, pods_first=action.pods_first)


def _fence(context: Context) -> Fence:
    uid = context.job.uid if context.job is not None else None
    return Fence(job=context.item.job_id, execution=context.item.execution, uid=uid)


def _plain(evidence: Json) -> Json:
    """Return evidence without empty parts."""
    return {key: value for key, value in evidence.items() if value not in (None, "")}


def _outcome(context: Context) -> tuple[Json, plans.Finish | None]:
    """Return what Redis holds as this execution's outcome, and the finish that wrote it just now."""
    execution = context.item.execution
    if context.stored is not None and context.stored.get("execution") == execution:
        return context.stored, context.finish
    record = context.record
    if record is None:
        return {}, None
    if record.outcome.get("execution") == execution:
        return record.outcome, None
    return next((entry for entry in reversed(record.history) if entry.get("execution") == execution), {}), None


def _result(context: Context) -> str | None:
    record = context.record
    ours = record is not None and record.outcome.get("execution") == context.item.execution
    return record.result if record is not None and ours else None


def _watched(context: Context) -> str:
    """Return the task if the queue's figures of it are kept apart."""
    task = context.record.task if context.record is not None else ""
    apart = child(context.settings, "metrics").get("tasks")
    return task if isinstance(apart, list) and task in apart else ""


def _time(histogram: Any, start: int | None, end: int | None) -> None:
    if start is not None and end is not None and end >= start:
        histogram.observe((end - start) / 1000)
