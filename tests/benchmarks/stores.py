"""Both sides of a comparison on Redis: our store and RQ's own client and worker, each on a server of its own."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from rq import Queue as RqQueue
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import SimpleWorker

from heavylift import Backoff, Client, Dedupe, JobRequest
from heavylift.contract import ids
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Claim, ClaimRequest, Fence, FinishRequest, Next, Outcome, Spend, Store, ops
from tests.servers import StoreServer, redis_binary, running

Json = dict[str, Any]
QUEUE: Final = "bench"
INSTALL: Final = "bench/bench"
TASK: Final = "app.build_report"
DATA: Final[Json] = {"year": 2026, "region": "north", "kind": "annual", "format": "pdf"}
RESULT: Final = '{"file": "reports/2026.pdf", "pages": 12}'
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

_COPY: Final = """
local source, list, prefix, priority, keys = KEYS[1], KEYS[2], ARGV[1], ARGV[4], tonumber(ARGV[5])
local names, created = redis.call('HGETALL', source), redis.call('HGET', source, 'created_at')
local at = {}
for i = 1, #names, 2 do at[names[i]] = i + 1 end
if priority ~= '0' then
  names[#names + 1] = 'hl:priority'
  names[#names + 1] = priority
  redis.call('ZADD', KEYS[3], priority, priority)
end
local keyed
if keys > 0 then
  names[#names + 1] = 'hl:key'
  names[#names + 1] = ''
  keyed = #names
end
for n = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1 do
  if keyed then names[keyed] = 'k' .. (n % keys) end
  local id = prefix .. string.format('%08d', n)
  if at['hl:src'] then names[at['hl:src']] = redis.sha1hex(id .. '\\n' .. created) end
  if at['hl:inc'] then names[at['hl:inc']] = string.sub(redis.sha1hex(id .. '\\n' .. created), 1, 16) end
  redis.call('HSET', 'rq:job:' .. id, unpack(names))
  redis.call('RPUSH', list, id)
end
"""
_COPY_STEP: Final = 2_000


def copy_job(
    client: redis.Redis, source: str, count: int, *, prefix: str, priorities: Sequence[int] = (0,), keys: int = 0
) -> None:
    """Put so many waiting jobs like one that is there into the queue, by turns at several priorities and by keys."""
    copy = client.register_script(_COPY)
    step = max(1, min(_COPY_STEP, count // len(priorities)))
    for turn, start in enumerate(range(0, count, step)):
        priority = priorities[turn % len(priorities)]
        level = f"rq:queue:{QUEUE}" + (f"@{priority}" if priority else "")
        named = [f"rq:job:{source}", level, f"heavylift:levels:{QUEUE}"]
        copy(keys=named, args=[prefix, start, min(step, count - start), priority, keys])


@dataclass
class Ours:
    """A served queue and one dispatcher's and one operator's calls on it."""

    server: StoreServer
    store: Store
    client: Client
    redis: redis.Redis
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
                worker="bench", request=ids.new_job_id(), install=INSTALL, queues=(QUEUE,), max=most, slots=WIDE,
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
                Fence(job=one.job, execution=one.execution, worker="bench"), job_name=f"bench-{one.execution}",
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


@dataclass
class Theirs:
    """RQ's own queue and the steps its worker takes around a job, without forking or running anything."""

    server: StoreServer
    redis: redis.Redis
    queue: RqQueue
    worker: SimpleWorker
    taken: list[tuple[RqJob, Execution]] = field(default_factory=list)

    def enqueue(self, count: int) -> None:
        """Enqueue one by one."""
        for _ in range(count):
            self.queue.enqueue(TASK, kwargs=DATA, retry=None)

    def enqueue_many(self, count: int, times: int = 1) -> None:
        """Enqueue batches."""
        for _ in range(times):
            self.queue.enqueue_many([RqQueue.prepare_data(TASK, kwargs=DATA) for _ in range(count)])

    def fill(self, count: int) -> None:
        """Make so many jobs wait."""
        first = self.queue.enqueue(TASK, kwargs=DATA)
        copy_job(self.redis, first.id, count - 1, prefix=f"fill{self.redis.dbsize()}-")

    def claim(self, count: int) -> int:
        """Take so many jobs as RQ's worker does; its heartbeats and state changes are left out, to its advantage."""
        for _ in range(count):
            found = RqQueue.dequeue_any([self.queue], None, connection=self.redis, serializer=JSONSerializer)
            if found is None:
                raise LookupError("RQ's queue ran empty")
            job, _ = found
            execution = self.worker.prepare_execution(job)
            self.worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
            self.taken.append((job, execution))
        return count

    def finish(self, count: int) -> None:
        """End so many of them as RQ's worker ends a success."""
        for _ in range(count):
            job, execution = self.taken.pop()
            job.ended_at, job._result, job._status = now(), RESULT, JobStatus.FINISHED
            self.worker.handle_job_success(job, self.queue, self.queue.started_job_registry, execution)


@contextlib.contextmanager
def ours(**options: str) -> Iterator[Ours]:
    """Give our side on a fresh server."""
    with _server(options) as (server, raw), Store.connect(server.url) as store, Client(server.url) as client:
        made = Ours(server, store, client, raw)
        made.serve()
        yield made


@contextlib.contextmanager
def theirs(**options: str) -> Iterator[Theirs]:
    """Give RQ's side on a fresh server."""
    logging.getLogger("rq.worker").setLevel(logging.CRITICAL)
    with _server(options) as (server, raw):
        queue = RqQueue(QUEUE, connection=raw, serializer=JSONSerializer)
        worker = SimpleWorker([queue], connection=raw, serializer=JSONSerializer)
        worker.register_birth()  # type: ignore[no-untyped-call]
        yield Theirs(server, raw, queue, worker)


@contextlib.contextmanager
def _server(options: dict[str, str]) -> Iterator[tuple[StoreServer, redis.Redis]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(redis_binary(), Path(folder), **options) as server,
        contextlib.closing(server.client()) as raw,
    ):
        yield server, raw
