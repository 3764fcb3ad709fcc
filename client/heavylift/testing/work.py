"""What runs jobs on the model: the pod's own runner in this process, then the queue's own rules for what follows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heavylift import schedules
from heavylift.context import StopFlag
from heavylift.contract import envelope, ids, limits, payload
from heavylift.contract.names import ExitCode
from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.contract.states import Phase
from heavylift.errors import InvalidInputError
from heavylift.pod.environment import JobEnvironment
from heavylift.pod.result_file import ResultFile
from heavylift.pod.runner import run_attempt
from heavylift.pod.stop import StopSignal
from heavylift.spec import quantities
from heavylift.spec.following import Case, Cost, Decision, Random, Spent, Step, backoff_from, bounded, follow
from heavylift.spec.rules import Rule, rules_from_settings
from heavylift.spec.schedule import ScheduleDefinition, decide, tick_id
from heavylift.store import (
    Claim,
    ClaimReply,
    ClaimRequest,
    Fence,
    FinishRequest,
    JobRecord,
    Next,
    Observation,
    Op,
    Outcome,
    Reply,
    Spend,
    ops,
)
from heavylift.store.schedules import ScheduleFire, ScheduleRecord
from heavylift.testing.store import MemoryStore

INSTALL, NAMESPACE, WORKER = "testing/heavylift", "testing", "testing"
_SNOOZE_MS = 60_000
_SLOTS = 1_000_000
_FIXED = {
    OutcomeClass.SUCCEEDED: Step.COMPLETE,
    OutcomeClass.CANCELLED: Step.CANCEL,
    OutcomeClass.INVALID: Step.FAIL,
}
_NEXT = {Step.COMPLETE: Next.COMPLETE, Step.FAIL: Next.FAIL, Step.CANCEL: Next.CANCEL, Step.RETRY: Next.RETRY}
_SPEND = {Cost.ATTEMPT: Spend.ATTEMPT, Cost.BUDGET: Spend.BUDGET, Cost.NONE: Spend.NONE}
_NEVER_RAN = frozenset(
    {OutcomeClass.IMAGE, OutcomeClass.UNSCHEDULABLE, OutcomeClass.QUOTA, OutcomeClass.REJECTED, OutcomeClass.CANCELLED}
)
"""Ends of attempts whose container did not start."""
_SAID = {
    OutcomeClass.OOM: "killed for using more memory than its limit",
    OutcomeClass.TIMEOUT: "ran past its time limit",
    OutcomeClass.DISRUPTED: "its pod was evicted",
}


class _Steady:
    """No jitter: delays are their longest."""

    def random(self) -> float:
        """Return no deviation."""
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended."""

    cls: OutcomeClass
    message: str
    exit_code: int | None = None
    result: str | None = None
    error_type: str = ""
    no_retry: bool = False
    snooze: bool = False
    delay_ms: int | None = None
    hold_ms: int = 0
    checkpoint: str | None = None


@dataclass(slots=True, kw_only=True)
class Planned:
    """An end that a test asked for, instead of running the task."""

    ended: Ended
    task: str | None
    times: int


class Worker:
    """Dispatcher, pod and operator in one, working when asked."""

    def __init__(self, store: MemoryStore, allow: Sequence[str]) -> None:
        self.store = store
        self.allow = allow
        self.planned: list[Planned] = []
        self.draw: Random = _Steady()
        """Of jitter."""
        self._asked = 0

    def plan(self, cls: OutcomeClass, *, task: str | None, times: int, message: str) -> None:
        """Let the next attempts end like this."""
        code = {OutcomeClass.ERROR: 1, OutcomeClass.OOM: 137}.get(cls)
        said = message or _SAID.get(cls) or f"ended as {cls.value} by request of the test"
        self.planned.append(Planned(ended=Ended(cls=cls, message=said, exit_code=code), task=task, times=times))

    def ask(self, most: int = limits.CLAIM_MAX) -> ClaimReply:
        """Claim over all queues."""
        self._asked += 1
        queues = tuple(sorted(self.store.engine.state.queues))
        return self.store.run(ops.claim(ClaimRequest(
            worker=WORKER, request=f"ask-{self._asked}", install=INSTALL, queues=queues, max=most, slots=_SLOTS,
            deadline_ms=limits.CLAIM_DEADLINE_MS,
        )))  # fmt: skip

    def tick(self) -> int | None:
        """Fire the ticks of schedules that are due, as the operator does; returns ms until the next one, or None."""
        while True:
            due = self.store.run(ops.due_schedules())
            if not due.schedules:
                return due.next_ms
            for schedule in due.schedules:
                try:
                    self.store.run(self._decided(schedule, due.now))
                except InvalidInputError as error:
                    self.store.run(ops.defer_schedule(schedule.id, schedule.revision, str(error)))

    def _decided(self, schedule: ScheduleRecord, now: int) -> Op[Reply]:
        """Return the operation that decides a schedule's next ticks.

        Raises:
            InvalidInputError: its job is not allowed in its queue (any more).
        """
        definition = ScheduleDefinition.from_json(schedule.definition)
        decision, entry = decide(definition, schedule.mark, now), None
        if decision.fire is not None:
            settings = self.store.run(ops.get_settings(schedule.queue))
            entry = schedules.job_request(definition, tick_id(schedule.prefix, decision.fire), settings)
        return ops.fire_schedule(ScheduleFire(
            id=schedule.id, revision=schedule.revision, from_mark=schedule.mark, mark=decision.mark,
            missed=decision.missed, next=decision.next, concurrency=definition.concurrency.value,
            limit=definition.limit, tick=decision.fire, entry=entry,
        ))  # fmt: skip

    def work(self, claim: Claim) -> None:
        """Run one claimed job to the end of its attempt."""
        name = ids.job_name(claim.install, claim.queue, claim.job, claim.incarnation, claim.seq)
        fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
        self.store.run(ops.record(fence, job_name=name, uid=fence.uid or "", namespace=NAMESPACE))
        ended = self._planned(claim.task)
        if ended is None or ended.cls not in _NEVER_RAN:
            now = self.store.engine.state.now
            self.store.run(ops.observe(fence, Observation(phase=Phase.RUNNING, running_at=now)))
        ended = ended or self._run(claim)
        self.finish(fence, ended, claim)
        self.store.run(ops.finalized(INSTALL, NAMESPACE, name))

    def _planned(self, task: str) -> Ended | None:
        for plan in self.planned:
            if plan.task in {None, task}:
                plan.times -= 1
                if not plan.times:
                    self.planned.remove(plan)
                return plan.ended
        return None

    def _run(self, claim: Claim) -> Ended:
        """Run the task here, as its pod would."""
        with tempfile.TemporaryDirectory(prefix="heavylift-") as folder:
            job = JobEnvironment(
                job_id=claim.job, task=claim.task, queue=claim.queue, attempt=claim.attempt, execution=claim.execution,
                payload=payload.decode(claim.data).data_json, checkpoint=claim.checkpoint,
                result_file=ResultFile(Path(folder) / "result"),
            )  # fmt: skip
            ending = run_attempt(job, (), self.allow, StopSignal(StopFlag()))
        said = envelope.decode(ending.envelope, claim.execution)
        if said.kind == "result":
            return Ended(cls=OutcomeClass.SUCCEEDED, message="", exit_code=0, result=said.value_json)
        return Ended(
            cls=OutcomeClass.ERROR,
            message=f"{said.error_type}: {said.message}" if said.error_type else said.message,
            exit_code=ending.code,
            error_type=said.error_type,
            no_retry=said.no_retry or ending.code == ExitCode.NO_RETRY,
            snooze=said.kind == "snooze",
            delay_ms=said.delay_ms,
            hold_ms=(said.delay_ms or 0) if said.hold else 0,
            checkpoint=said.checkpoint_json,
        )

    def finish(self, fence: Fence, ended: Ended, claim: Claim) -> None:
        """Write what follows the end of an attempt."""
        found = self.store.run(ops.get_job(fence.job))
        if found is None:
            raise InvalidInputError(f"job {fence.job} is gone while it runs")
        decision = self._decide(ended, found)
        if decision.step is Step.WAIT:
            return
        began = None if ended.cls in _NEVER_RAN else claim.claimed_at
        message = f"{ended.message} ({decision.why})" if decision.why else ended.message
        self.store.run(ops.finish(FinishRequest(
            fence=fence, outcome=Outcome(cls=ended.cls, message=message, exit_code=ended.exit_code),
            next=_NEXT[decision.step], spend=_SPEND[decision.cost], delay_ms=decision.delay_ms, result=ended.result,
            started_at=began, memory=decision.memory, checkpoint=ended.checkpoint, hold_ms=ended.hold_ms,
        )))  # fmt: skip

    def _decide(self, ended: Ended, job: JobRecord) -> Decision:
        """Return what follows: the rules are the operator's own, read from the queue's settings."""
        now = self.store.engine.state.now
        settings = self.store.run(ops.get_settings(job.queue)) or {}
        spent = Spent(
            attempts=job.attempts_made, max_attempts=int(job.frozen["maxAttempts"]), starts=job.starts,
            budgets=job.budgets, total_due=job.frozen.get("totalDue"),
        )  # fmt: skip
        if ended.cls in _FIXED:
            return Decision(step=_FIXED[ended.cls])
        if ended.snooze:
            delay = _SNOOZE_MS if ended.delay_ms is None else ended.delay_ms
            return bounded(Decision(step=Step.RETRY, delay_ms=delay), spent, now)
        rule = rules_from_settings(settings).get(ended.cls) or Rule(action=Action.FAIL)
        names = {ended.error_type, ended.error_type.rsplit(".", 1)[-1]} - {""}
        if ended.no_retry or ended.exit_code in rule.no_retry_exit_codes or names & rule.no_retry_errors:
            return Decision(step=Step.FAIL, cost=Cost.ATTEMPT, why="not to be retried")
        case = Case(cls=ended.cls.value, now=now, asked_ms=ended.delay_ms)
        backoff = replace(backoff_from(job.options, settings.get("defaults")), listed_ms=job.retry_delays)
        decided = follow(rule, case, spent, backoff, self.draw)
        if ended.cls is not OutcomeClass.OOM:
            return decided
        return Decision(step=decided.step, cost=decided.cost, delay_ms=decided.delay_ms, why=decided.why,
                        memory=_grown(rule, job))  # fmt: skip


def _grown(rule: Rule, job: JobRecord) -> int | None:
    """Return the memory the next attempt asks for, where the job or an attempt before said how much this one had."""
    asked: Any = (job.options.get("resources") or {}).get("memory")
    return rule.grown(job.memory or (quantities.to_bytes(asked) if isinstance(asked, str) else None))
