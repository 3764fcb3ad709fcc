"""Attempts as users have them: the task runs by the pod's own runner, the operator's own plan says what follows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from typing_extensions import override

from heavylift.context import StopFlag
from heavylift.contract import payload
from heavylift.contract.names import FINALIZER, Annotation
from heavylift.pod.environment import JobEnvironment
from heavylift.pod.result_file import ResultFile
from heavylift.pod.runner import run_attempt
from heavylift.pod.stop import StopSignal
from heavylift.store import Claim, Store, ops
from heavylift.store.steps import Op
from heavylift.testing.client import Queues
from heavylift_operator.core import plan as plans
from heavylift_operator.core.evidence import Evidence, read_job, read_pod
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.actions import Actor, Context
from heavylift_operator.services.views import Known, Views
from heavylift_operator.services.workqueue import Item
from tests.integration.client.conftest import INSTALL, NAMESPACE, Player

Json = dict[str, Any]


class NoJitter(random.Random):
    """Waits are as long as they can be."""

    @override
    def random(self) -> float:
        """Draw nothing off."""
        return 0.0


@dataclass
class _Link:
    """The operator's connection, over the test's store."""

    store: Store

    async def run(self, op: Op[Any]) -> Any:
        """Run one operation."""
        return self.store.run(op)


class _Cluster:
    """Takes the finishing PATCH."""

    class clock:  # noqa: N801 - stands for an attribute
        """Only when a PATCH went out is asked of it."""

        monotonic = staticmethod(lambda: 0.0)

    async def patch_finished(self, *_: object) -> bool:
        """Take it."""
        return True


@dataclass
class Attempts:
    """Dispatcher, pod and operator of one queue, one attempt at a time."""

    player: Player
    folder: Path
    random: random.Random = field(default_factory=NoJitter)
    metrics: Metrics = field(default_factory=Metrics)

    def serve(self, queue: str, **spec: Any) -> None:
        """Write the settings of a HeavyQueue with this spec."""
        self.player.serve(queue, **spec)

    def idle(self) -> bool:
        """Whether nothing may start now."""
        return self.player.claim() is None

    def take(self, *queues: str) -> Claim:
        """Claim a job that must be there."""
        claim = self.player.claim(*queues)
        assert claim is not None
        return claim

    def run(self, *queues: str) -> Claim:
        """Claim the next job and run its task to the end of the attempt."""
        claim = self.take(*queues)
        code, said = self.in_its_pod(claim)
        self.ended(claim, code, said)
        return claim

    def in_its_pod(self, claim: Claim, allow: tuple[str, ...] = ()) -> tuple[int, str]:
        """Return exit code and termination message of the runner; ``heavylift run`` is a thin edge over it."""
        path = self.folder / "result"
        path.unlink(missing_ok=True)
        job = JobEnvironment(
            job_id=claim.job, task=claim.task, queue=claim.queue, attempt=claim.attempt, execution=claim.execution,
            payload=payload.decode(claim.data).data_json, checkpoint=claim.checkpoint, result_file=ResultFile(path),
        )  # fmt: skip
        ending = run_attempt(job, (), allow, StopSignal(StopFlag()))
        ResultFile(path).write(ending.envelope)
        return ending.code, path.read_text()

    def ended(self, claim: Claim, code: int, said: str = "", *, reason: str = "", **pod: Any) -> None:
        """Let the container of a claim end with an exit code and a termination message."""
        now = _written()
        end = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "message": said,
               "startedAt": now, "finishedAt": now}  # fmt: skip
        condition = "Failed" if code else "Complete"
        self.over(claim, condition, phase="Failed" if code else "Succeeded", state={"terminated": end}, **pod)

    def over(
        self, claim: Claim, condition: str, *, phase: str, state: Json, memory: str = "64Mi", conditions: Any = ()
    ) -> None:
        """Let the operator see the end of a claim's Job and pod, and do what it plans."""
        fence = self.player.running(claim)
        record = self.player.store.run(ops.get_job(claim.job))
        assert record is not None
        job = read_job(_job(claim, record.job_name, fence.uid or "", condition))
        pod = read_pod(_pod(phase, state, memory, conditions), container="main")
        item = Item(namespace=NAMESPACE, name=record.job_name, job_id=claim.job, execution=claim.execution, job=job)
        settings = self.player.store.run(ops.get_settings(claim.queue)) or {}
        now = round(datetime.now(UTC).timestamp() * 1000)
        known = Known(
            item=item, record=record, settings=settings, seen=Evidence(job=job, pod=pod), listed=True, now=now
        )
        row, actions = plans.plan(Views(install=INSTALL, grace_ms=0).view(known), self.random)
        actor = Actor(
            link=cast("Any", _Link(self.player.store)), cluster=cast("Any", _Cluster()), metrics=self.metrics,
            install=INSTALL,
        )  # fmt: skip
        context = Context(item=item, record=record, job=job, settings=settings, now=now)
        assert any(isinstance(action, plans.Finish) for action in actions), (row, actions)
        for action in actions:
            assert asyncio.run(actor.do(action, context, row)), action


def _written() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _job(claim: Claim, name: str, uid: str, condition: str) -> Json:
    now = _written()
    return {
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": uid, "creationTimestamp": now, "finalizers": [FINALIZER],
            "annotations": {
                Annotation.JOB_ID: claim.job, Annotation.EXECUTION: claim.execution, Annotation.QUEUE: claim.queue,
                Annotation.INSTALL: INSTALL, Annotation.CONTAINER: "main",
            },
        },
        "spec": {},
        "status": {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": now}]},
    }  # fmt: skip


def _pod(phase: str, state: Json, memory: str, conditions: Any) -> Json:
    limits = {"limits": {"memory": memory}}
    return {
        "metadata": {"name": "pod", "uid": "uid-pod", "creationTimestamp": _written()},
        "spec": {"containers": [{"name": "main", "resources": limits}]},
        "status": {
            "phase": phase, "conditions": list(conditions), "containerStatuses": [{"name": "main", "state": state}],
        },
    }  # fmt: skip


@dataclass
class Doubled:
    """The same, in memory: the double's own dispatcher, pod and operator."""

    queues: Queues

    def serve(self, queue: str, **spec: Any) -> None:
        """Serve a queue as a HeavyQueue with this spec does."""
        self.queues.serve(queue, spec)

    def run(self) -> Claim:
        """Claim the next job and run its task to the end of the attempt."""
        (claim,) = self.queues.worker.ask(1).claims
        self.queues.worker.work(claim)
        return claim

    def idle(self) -> bool:
        """Whether nothing may start now."""
        return not self.queues.worker.ask(1).claims


EVICTED: Mapping[str, str] = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
