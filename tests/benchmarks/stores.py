"""Our side of a comparison on Redis: our store and client on a server of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from heavylift import Backoff, Client, Dedupe, JobRequest
from heavylift.contract import ids
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Claim, ClaimRequest, Fence, FinishRequest, Next, Outcome, Spend, Store, ops
from tests.benchmarks.backing import Backing
from tests.benchmarks.load import DATA, QUEUE, RESULT, TASK, Json, copy_job
from tests.benchmarks.signs import Signs, signs
from tests.servers import StoreServer

INSTALL: Final = "bench/bench"
WORKER: Final = "bench"
SETTINGS: Final[Json] = {
    "queue": QUEUE,
    "paused": False,
    "concurrencyMax": None,
    "defaults": {"priority": 0, "maxAttempts": 3},
    "timeouts": {"pending": 3_600_000, "run": 86_400_000, "heartbeat": None, "total": None},
    "payload": {"format": "JSON", "maxSize": 65536},
    "retention": {"completed": {"count": 1000, "age": 86_400_000}, "failed": {"count": 5000, "age": 604_800_000}},
    "container": None,
    "allow": {"minPriority": -1000},
}
WIDE: Final = 100_000_000
"""Slots: no benchmark of the store stops at the width."""


@dataclass
class Ours:
    """A served queue and one dispatcher's and one operator's calls on it."""

    server: StoreServer
    store: Store
    client: Client
    redis: redis.Redis
    signs: Signs
    filled: int = 0
    claims: list[Claim] = field(default_factory=list)
    """Claimed and not finished."""

    def serve(self, **changes: Any) -> None:
        """Give the queue its settings."""
        self.filled += 1
        self.store.run(
            ops.put_settings(
                QUEUE, {**SETTINGS, "generation": self.filled, **changes}, generation=self.filled, install=INSTALL,
                namespace="bench", uid="uid",
            )
        )  # fmt: skip

    def enqueue_many(self, count: int, times: int = 1) -> None:
        """Enqueue batches, as producers do."""
        for _ in range(times):
            self.client.queue(QUEUE).enqueue_many([JobRequest(TASK, DATA) for _ in range(count)])

    def enqueue_with_all(self, count: int) -> None:
        """Enqueue a batch of jobs that use every option of a queue's order and bounds."""
        requests = [
            JobRequest(
                TASK, DATA, priority=(-5, 0, 7)[n % 3], lifo=n % 11 == 0, key=f"k{n % 100}",
                dedupe=Dedupe(ids.new_job_id()), expires="24h", max_attempts=2,
                backoff=Backoff.exponential("10s", max="10m"),
            )
            for n in range(count)
        ]  # fmt: skip
        self.client.queue(QUEUE).enqueue_many(requests)

    def fill(self, count: int, *, priorities: Sequence[int] = (0,), keys: int = 0) -> None:
        """Make so many jobs wait, quickly: the first is enqueued, the others are copies of it."""
        first = self.client.queue(QUEUE).enqueue(TASK, DATA)
        self.filled += 1
        copy_job(self.redis, first.id, count - 1, prefix=f"fill{self.filled}-", priorities=priorities, keys=keys)

    def claim(self, most: int, calls: int = 1) -> int:
        """Claim so often up to so many jobs; returns how many it were."""
        taken = 0
        for _ in range(calls):
            request = ClaimRequest(
                worker=WORKER, request=ids.new_job_id(), install=INSTALL, queues=(QUEUE,), max=most, slots=WIDE,
                deadline_ms=60_000,
            )  # fmt: skip
            claims = self.store.run(ops.claim(request)).claims
            self.claims += claims
            taken += len(claims)
        return taken

    def record(self) -> None:
        """Record a Job for everything claimed, as dispatchers do."""
        done = [
            ops.record(
                Fence(job=one.job, execution=one.execution, worker=WORKER), job_name=f"bench-{one.execution}",
                uid=f"uid-{one.execution}", namespace="bench",
            )
            for one in self.claims
        ]  # fmt: skip
        self.store.run_many(done)

    def finish(self, count: int) -> None:
        """Finish so many of the claimed jobs, one call each."""
        for _ in range(count):
            self.store.run(ops.finish(_end(self.claims.pop())))

    def finish_many(self, count: int, at_once: int = 10, **changes: Any) -> None:
        """Finish so many of the claimed jobs, some in each pipeline; ``changes`` = other fields of requests."""
        for _ in range(count // at_once):
            self.store.run_many([ops.finish(_end(self.claims.pop(), **changes)) for _ in range(at_once)])

    def confirm(self) -> None:
        """Say that the API server took the finishing PATCH of all that ended: until then retention keeps a job."""
        left = self.store.run(ops.unfinalized(INSTALL, limit=100_000))
        self.store.run_many([ops.finalized(INSTALL, namespace, name) for namespace, name, _, _ in left])


def _end(claim: Claim, **changes: Any) -> FinishRequest:
    fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
    if changes:
        return FinishRequest(fence=fence, **changes)
    return FinishRequest(
        fence=fence,
        outcome=Outcome(cls=OutcomeClass.SUCCEEDED, message="", exit_code=0, evidence={"pod": "bench-abcde"}),
        next=Next.COMPLETE,
        spend=Spend.ATTEMPT,
        result=RESULT,
    )


@contextlib.contextmanager
def ours(backing: Backing) -> Iterator[Ours]:
    """Give our side on a fresh server."""
    with (
        backing.server() as server,
        contextlib.closing(server.client()) as raw,
        Store.connect(server.url) as store,
        Client(server.url) as client,
        signs(server.url, store, install=INSTALL, queue=QUEUE, worker=WORKER) as kept,
    ):
        made = Ours(server, store, client, raw, kept)
        made.serve()
        yield made
