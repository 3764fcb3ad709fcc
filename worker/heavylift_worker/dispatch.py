"""One claim's way into the cluster: decode, render, recheck, create, record; or finish, or back to the queue."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from heavylift.contract import limits, payload
from heavylift.contract.failpoints import afailpoint
from heavylift.contract.ids import printable
from heavylift.contract.outcomes import OutcomeClass
from heavylift.errors import InvalidInputError, InvalidTemplateError
from heavylift.runtime import logs
from heavylift.runtime.service import Clock
from heavylift.spec.models import HeavyQueue
from heavylift.store import ops
from heavylift.store.model import Claim, Fence, FinishRequest, Next, Outcome, Reply, Spend, Verdict
from heavylift.store.steps import Op
from heavylift_worker.answers import Answer, Kind
from heavylift_worker.create import Creator
from heavylift_worker.gate import Gate
from heavylift_worker.metrics import Metrics
from heavylift_worker.queues import QueueCache
from heavylift_worker.rejection import after_rejection
from heavylift_worker.render import render
from heavylift_worker.settings import DispatcherSettings
from heavylift_worker.troubles import Troubles

Json = dict[str, Any]
T = TypeVar("T")

_CACHE_DELAY_MS = 1000


class Runner(Protocol):
    """Runs operations of the store."""

    async def run(self, op: Op[T]) -> T:
        """Run one operation."""


@dataclass(slots=True, kw_only=True)
class Dispatch:
    """Carries claims through; one instance per process, many claims at once."""

    link: Runner
    creator: Creator
    cache: QueueCache
    gate: Gate
    troubles: Troubles
    metrics: Metrics
    settings: DispatcherSettings
    clock: Clock
    stopping: Callable[[], bool]
    handed_back: list[Claim] = field(default_factory=list)
    """Claims without a Job when the process was told to end: to be released in order."""
    rng: random.Random = field(default_factory=random.Random)
    log: FilteringBoundLogger = field(default_factory=lambda: logs.get("dispatch"))

    async def handle(self, claim: Claim, *, resumed: bool = False) -> None:
        """Bring one claim to a recorded Job, an end, or back to its queue.

        Args:
            claim: the job.
            resumed: an earlier try of ours may have created its Job already.

        Raises:
            RedisUnavailableError: the claim is as before; resume it once Redis is back.
        """
        started = self.clock.monotonic()
        queue = self.cache.queue(claim.queue, claim.namespace)
        if queue is None:
            reason = f"the dispatcher sees no sound HeavyQueue for {claim.queue} in {claim.namespace}"
            # Another namespace's HeavyQueue of this name owns the queue: claiming on would only stir its jobs.
            self.gate.queues.of(claim.queue).failed(reason, at_once=True)
            await self._release(claim, reason, delay_ms=_CACHE_DELAY_MS)
            return
        if claim.silent and not resumed:
            await self.link.run(ops.attend(_fence(claim)))  # should it be this job that ends us
        try:
            manifest, task = self._manifest(claim, queue)
        except InvalidTemplateError as error:
            await self._settle(claim, queue, Answer(Kind.REJECTED, str(error)), {})
            return
        except InvalidInputError as error:
            await self._finish(claim, OutcomeClass.INVALID, str(error))
            return
        if self.stopping():
            self.handed_back.append(claim)
            return
        await afailpoint("dispatcher.create.before")
        if not resumed and not await self._still_wanted(claim):
            return
        answer = await self._create(claim, queue, manifest, resumed=resumed)
        self.metrics.answered(claim.queue, answer.kind, adopted=answer.adopted)
        await self._settle(claim, queue, answer, manifest)
        if answer.kind is Kind.CREATED and not resumed:
            apart = task if task in queue.spec.metrics.tasks else ""
            self.metrics.dispatch.labels(claim.queue, apart).observe(self.clock.monotonic() - started)

    def _manifest(self, claim: Claim, queue: HeavyQueue) -> tuple[Json, str]:
        decoded = payload.decode(claim.data, max_size=queue.spec.payload.max_size, stored_max=limits.STORED_MAX)
        return render(claim, queue, decoded, self.settings.install_id), decoded.task

    async def _still_wanted(self, claim: Claim) -> bool:
        """Look once more just before the Job comes to be: was the job cancelled, deleted, or given to another."""
        reply: Reply = await self.link.run(ops.check(_fence(claim)))
        match reply.verdict:
            case Verdict.APPLIED | Verdict.ALREADY:
                return True
            case Verdict.CANCELLED | Verdict.MISSING:
                why = "cancelled" if reply.verdict is Verdict.CANCELLED else "deleted"
                await self._finish(claim, OutcomeClass.CANCELLED, f"{why} before its Job was created")
            case _:
                self._lost(claim, f"before its Job was created: {reply.message}")
        return False

    async def _create(self, claim: Claim, queue: HeavyQueue, manifest: Json, *, resumed: bool) -> Answer:
        patience = self.settings.create_patience
        if resumed:
            left = (claim.deadline - self.clock.now_ms()) / 1000
            patience = min(patience, left - (self.settings.claim_deadline - patience))

        def retrying(count: int) -> None:
            self.gate.retries(queue.namespace, count)

        return await self.creator.create(manifest, claim.execution, patience_s=patience, retrying=retrying)

    async def _settle(self, claim: Claim, queue: HeavyQueue, answer: Answer, manifest: Json) -> None:
        """Do what the answer table says (architecture: "Dispatcher")."""
        match answer.kind:
            case Kind.CREATED:
                self.gate.created(claim.queue, queue.namespace)
                await afailpoint("dispatcher.create.after")
                await self._record(claim, queue, manifest["metadata"]["name"], answer.uid)
                await self.troubles.clear(claim.queue)
            case Kind.NAME_TAKEN:
                await self._finish(claim, OutcomeClass.REJECTED, f"name taken: {answer.message}")
            case Kind.REJECTED | Kind.INVALID:
                await self._refused(claim, queue, answer)
            case Kind.FORBIDDEN:
                await self._release(claim, f"the dispatcher may not create Jobs: {answer.message}")
                if self.gate.queues.of(claim.queue).failed(answer.message, at_once=True):
                    remedy = f" (give its service account create and get on jobs in namespace {queue.namespace})"
                    await self.troubles.note(claim.queue, answer.kind, answer.message + remedy)
            case Kind.BUSY | Kind.QUOTA | Kind.NAMESPACE | Kind.LOOK:
                if self.stopping():
                    self.handed_back.append(claim)
                    return
                await self._release(claim, answer.message)
                if self.gate.namespace_failed(queue.namespace, answer.message):
                    await self.troubles.note(claim.queue, answer.kind, answer.message)

    async def _refused(self, claim: Claim, queue: HeavyQueue, answer: Answer) -> None:
        if answer.kind is Kind.INVALID:
            await self._finish(claim, OutcomeClass.INVALID, answer.message)
        else:
            record = await self.link.run(ops.get_job(claim.job))
            following = after_rejection(claim, queue, record, self.rng)
            await self._finish(claim, OutcomeClass.REJECTED, answer.message, following)
        threshold = queue.spec.breaker.consecutive_failures
        if self.gate.queue_failed(claim.queue, answer.message, threshold=threshold):
            await self.troubles.note(claim.queue, answer.kind, answer.message)

    async def _record(self, claim: Claim, queue: HeavyQueue, name: str, uid: str) -> None:
        op = ops.record(_fence(claim), job_name=name, uid=uid, namespace=queue.namespace)
        reply: Reply = await self.link.run(op)
        await afailpoint("dispatcher.record.after")
        match reply.verdict:
            case Verdict.APPLIED | Verdict.ALREADY:
                self.log.info("created", job=claim.job, queue=claim.queue, execution=claim.execution, name=name)
            case Verdict.CANCELLED:
                # The operator, who has the right, deletes it.
                self.log.info("cancelled while its Job was created", job=claim.job, execution=claim.execution)
            case _:
                self._lost(claim, f"while its Job was created: {reply.message}")

    async def _release(self, claim: Claim, reason: str, *, delay_ms: int = 0) -> None:
        words = printable(reason, 500)
        reply: Reply = await self.link.run(ops.release(_fence(claim), reason=words, delay_ms=delay_ms))
        self.log.warning("released", job=claim.job, queue=claim.queue, why=words, verdict=reply.verdict.value)

    async def _finish(
        self,
        claim: Claim,
        cls: OutcomeClass,
        message: str,
        following: tuple[Next, Spend, int] = (Next.FAIL, Spend.NONE, 0),
    ) -> None:
        next_, spend, delay_ms = following
        if cls is OutcomeClass.CANCELLED:
            next_ = Next.CANCEL
        words = message.encode("utf-8", "replace")[: limits.MESSAGE_MAX].decode("utf-8", "ignore")
        request = FinishRequest(
            fence=_fence(claim),
            outcome=Outcome(cls=cls, message=words),
            next=next_,
            spend=spend,
            delay_ms=delay_ms,
            job_exists=False,
        )
        reply = await self.link.run(ops.finish(request))
        self.log.info(
            "finished without a Job", job=claim.job, queue=claim.queue, outcome=cls.value, verdict=reply.verdict.value
        )

    def _lost(self, claim: Claim, when: str) -> None:
        """Somebody else has the job now: nothing of it is ours to touch."""
        self.metrics.conflicts.labels(claim.queue).inc()
        self.log.warning("the claim passed to somebody else", job=claim.job, execution=claim.execution, when=when)


def _fence(claim: Claim) -> Fence:
    return Fence(job=claim.job, execution=claim.execution, worker=claim.worker)
