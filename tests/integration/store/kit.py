"""A small world for store tests: one store, one served queue, a dispatcher and an operator played by hand."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from heavylift.contract import ids, payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import (
    Claim,
    ClaimReply,
    ClaimRequest,
    Enqueued,
    EnqueueRequest,
    Event,
    Fence,
    FinishReply,
    FinishRequest,
    JobRecord,
    Json,
    Next,
    Op,
    Outcome,
    Spend,
    Store,
    Verdict,
    decode,
    ops,
)
from tests.servers import StoreServer

T = TypeVar("T")
INSTALL, NAMESPACE, WORKER, QUEUE = "prod/heavylift", "analytics", "w1", "reports"
SETTINGS: Json = {
    "queue": QUEUE,
    "generation": 1,
    "paused": False,
    "concurrencyMax": None,
    "defaults": {"priority": 0, "maxAttempts": 1},
    "timeouts": {"pending": 3_600_000, "run": 86_400_000, "heartbeat": None, "total": None},
    "payload": {"format": "JSON", "maxSize": 65536},
    "retention": {
        "completed": {"count": 1000, "age": 86_400_000},
        "failed": {"count": 5000, "age": 604_800_000},
    },
    "container": None,
}
_ids = itertools.count(1)


def request(**changes: Any) -> EnqueueRequest:
    """Return a request for the task ``annual`` with small data; any field may be given."""
    task, data = changes.pop("task", "annual"), changes.pop("value", {"year": 2026})
    basis: dict[str, Any] = {
        "queue": QUEUE,
        "task": task,
        "data": payload.encode(task, data),
        "id": f"job-{next(_ids)}",
        "incarnation": ids.new_incarnation(),
        "fingerprint": payload.fingerprint(task, payload.dumps(data)),
    }
    return EnqueueRequest(**{**basis, **changes})


def outcome(cls: OutcomeClass = OutcomeClass.SUCCEEDED, message: str = "done", **more: Any) -> Outcome:
    """Return an outcome."""
    return Outcome(cls=cls, message=message, **more)


@dataclass
class World:
    """One store with short ways to say what a dispatcher and an operator do."""

    server: StoreServer
    store: Store
    redis: redis.Redis
    settings: Json = field(default_factory=lambda: copy.deepcopy(SETTINGS))
    generation: int = 0

    def run(self, op: Op[T]) -> T:
        """Run one operation."""
        return self.store.run(op)

    def serve(self, queue: str = QUEUE, *, install: str = INSTALL, namespace: str = NAMESPACE, **changes: Any) -> None:
        """Give a queue settings; changes replace top-level values."""
        self.generation += 1
        settings = {**copy.deepcopy(self.settings), "queue": queue, **changes}
        done = self.run(
            ops.put_settings(
                queue, settings, generation=self.generation, install=install, namespace=namespace, uid=f"uid-{queue}"
            )
        )
        assert done.verdict is Verdict.APPLIED, done

    def enqueue(self, **changes: Any) -> Enqueued:
        """Enqueue one job that must be accepted."""
        done = self.run(ops.enqueue(request(**changes)))
        assert not done.error, done
        return done

    def ask(self, *queues: str, **changes: Any) -> ClaimReply:
        """Claim with a fresh request id."""
        basis: dict[str, Any] = {
            "worker": WORKER,
            "request": ids.new_job_id(),
            "install": INSTALL,
            "queues": queues or (QUEUE,),
            "max": 20,
            "slots": 100,
            "deadline_ms": 60_000,
        }
        return self.run(ops.claim(ClaimRequest(**{**basis, **changes})))

    def claim(self, **changes: Any) -> Claim:
        """Claim exactly one job."""
        (claim,) = self.ask(**{"max": 1, **changes}).claims
        return claim

    def record(self, claim: Claim, uid: str = "") -> str:
        """Record a Job for a claim; returns its UID."""
        uid = uid or f"uid-{claim.execution}"
        fence = Fence(job=claim.job, execution=claim.execution, worker=claim.worker)
        done = self.run(ops.record(fence, job_name=name_of(claim), uid=uid, namespace=claim.namespace))
        assert done.verdict in {Verdict.APPLIED, Verdict.ALREADY, Verdict.CANCELLED}, done
        return uid

    def active(self, **changes: Any) -> Claim:
        """Enqueue, claim and record one job."""
        job = self.enqueue(**changes).id
        claim = self.claim()
        assert claim.job == job
        self.record(claim)
        return claim

    def finish(self, claim: Claim, next_: Next = Next.COMPLETE, **changes: Any) -> FinishReply:
        """Finish as the operator does; ``cls``, ``message`` and all of FinishRequest may be given."""
        words = {Next.COMPLETE: OutcomeClass.SUCCEEDED, Next.CANCEL: OutcomeClass.CANCELLED}
        cls = changes.pop("cls", words.get(next_, OutcomeClass.ERROR))
        basis: dict[str, Any] = {
            "fence": Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}"),
            "outcome": outcome(cls, changes.pop("message", "done")),
            "next": next_,
            "spend": Spend.ATTEMPT,
        }
        return self.run(ops.finish(FinishRequest(**{**basis, **changes})))

    def job(self, job: str) -> JobRecord:
        """Return a job that must be there."""
        found = self.run(ops.get_job(job))
        assert found is not None, f"no job {job}"
        return found

    def events(self, queue: str = QUEUE) -> list[Event]:
        """Return all events of a queue."""
        return self.run(ops.events(queue, count=10_000))

    def names(self, job: str) -> list[str]:
        """Return the names of a job's events, in order."""
        return [event.name for event in self.events() if event.job == job]

    def finals(self, job: str) -> list[str]:
        """Return the names of a job's terminal events."""
        return [event.name for event in self.events() if event.job == job and event.fields.get("final") == "1"]

    def waiting(self, queue: str = QUEUE) -> list[str]:
        """Return the ids in RQ's list, in order."""
        return [decode.text(entry) for entry in self.redis.lrange(f"rq:queue:{queue}", 0, -1)]

    def idle(self) -> bool:
        """Whether nothing is in flight anywhere."""
        left = (*self.redis.scan_iter("rq:execution*"), *self.redis.scan_iter("rq:wip:*"),
                *self.redis.scan_iter("rq:worker:*:executions"))  # fmt: skip
        return not left and self.run(ops.inflight_count(INSTALL)) == 0


def name_of(claim: Claim) -> str:
    """Return the Kubernetes Job's name of a claim."""
    return ids.job_name(claim.install, claim.queue, claim.job, claim.incarnation, claim.seq)


@contextlib.contextmanager
def world(server: StoreServer, *, serve: bool = True) -> Iterator[World]:
    """Open a world on an empty server; its queue is served unless told otherwise."""
    with Store.connect(server.url, patience=5.0) as store, contextlib.closing(server.client()) as client:
        made = World(server, store, client)
        if serve:
            made.serve()
        yield made
