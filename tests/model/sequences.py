"""One sequence of operations: made at random, run on the model and on Redis, compared after each step."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from heavylift.contract import payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import HeavyliftError
from heavylift.store import (
    ClaimRequest,
    EnqueueRequest,
    Fence,
    FinishRequest,
    Next,
    Op,
    Outcome,
    Spend,
    ops,
)
from heavylift.store.model import Change
from heavylift.testing.engine import Engine
from heavylift.testing.store import MemoryStore
from tests.model.clocked import ClockedStore
from tests.model.generator import JOBS, KEYS, Generator, Step
from tests.model.views import INSTALL, broken, difference, of_model, of_redis

NAMESPACE = "analytics"


class MismatchError(AssertionError):
    """The model and Redis differ, or an invariant does not hold."""


@dataclass(slots=True)
class Pair:
    """The model and a Redis, side by side."""

    real: ClockedStore
    engine: Engine = field(default_factory=Engine)
    executions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Job -> (execution, worker) of its claims, oldest first."""
    generation: int = 0
    requests: int = 0
    last: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.real.redis.flushdb()
        self.real.set_time(self.engine.state.clock.micros)

    def both(self, make: Callable[[], Op[Any]]) -> Any:
        """Run an operation on both; returns what Redis gave.

        Raises:
            MismatchError: they answer differently.
        """
        answers: list[Any] = []
        for store in (MemoryStore(self.engine), self.real):
            try:
                answers.append(store.run(make()))
            except HeavyliftError as error:
                answers.append((type(error).__name__, str(error)))
        if answers[0] != answers[1]:
            raise MismatchError(f"the model answers {answers[0]!r:.900}\nRedis answers     {answers[1]!r:.900}")
        return answers[1]

    def compare(self) -> None:
        """Compare all that can be seen.

        Raises:
            MismatchError: it differs, or an invariant does not hold.
        """
        jobs = [f"j{index}" for index in range(JOBS)]
        model, real = of_model(self.engine, jobs), of_redis(self.real.redis, jobs)
        found = broken(real, self.engine.state.now) or difference(model, real)
        if found:
            raise MismatchError(found)

    def take(self, step: Step) -> None:
        """Take one step on both, and compare."""
        name, given = step
        getattr(self, f"do_{name}")(**given)
        self.compare()

    # -- the steps ----------------------------------------------------------------------------------------------------
    def do_settings(self, queue: str, **changes: Any) -> None:
        """The operator writes a queue's settings."""
        self.generation += 1
        settings = {"queue": queue, "generation": self.generation, "paused": False, "container": None, **changes}
        put: dict[str, Any] = {
            "generation": self.generation,
            "install": INSTALL,
            "namespace": NAMESPACE,
            "uid": f"uid-{queue}",
        }
        self.both(lambda: ops.put_settings(queue, settings, **put))

    def do_enqueue(self, job: int, value: int, named: bool, again: bool = False, **changes: Any) -> None:
        """A producer enqueues; ``again`` = the same request once more."""
        data = {"n": value}
        self.requests += 0 if again else 1
        basis: dict[str, Any] = {
            "task": "work",
            "data": payload.encode("work", data),
            "id": f"j{job}",
            "incarnation": f"{self.requests:016x}" if named else "",
            "fingerprint": payload.fingerprint("work", payload.dumps(data)) if named else "",
        }
        request = EnqueueRequest(**{**basis, **changes})
        self.both(lambda: ops.enqueue(request))

    def do_claim(self, worker: str, queues: list[str], most: int, slots: int) -> None:
        """A dispatcher claims, and asks again as after a lost reply."""
        self.requests += 1
        request = ClaimRequest(
            worker=worker, request=f"r{self.requests}", install=INSTALL, queues=tuple(queues), max=most, slots=slots,
            deadline_ms=60_000,
        )  # fmt: skip
        reply = self.both(lambda: ops.claim(request))
        for claim in reply.claims:
            self.executions.setdefault(claim.job, []).append((claim.execution, claim.worker))
        if reply.claims:
            self._bounded(reply)
            again = self.real.run(ops.claim(request))
            if again.claims != reply.claims:
                raise MismatchError("the same request gave other claims")

    def _bounded(self, reply: Any) -> None:
        for queue in {claim.queue for claim in reply.claims}:
            there = self.engine.state.queue(queue)
            settings = there.settings or {}
            cap, rate = settings.get("concurrencyMax"), settings.get("rateLimit")
            if cap is not None and len(there.started) > cap:
                raise MismatchError(f"{len(there.started)} run in {queue}, its cap is {cap}")
            since = self.engine.state.now - rate["period"] if rate else 0
            if rate and self.real.redis.zcount(self.real.keys.rate(queue), f"({since}", "+inf") > rate["limit"]:
                raise MismatchError(f"more starts in {queue} than its rate limit admits")

    def _fence(self, job: int, back: int, by: str) -> Fence | None:
        known = self.executions.get(f"j{job}", [])
        if len(known) <= back:
            return None
        execution, worker = known[-1 - back]
        uid = f"uid-{execution}" if by == "uid" else None
        return Fence(job=f"j{job}", execution=execution, worker=worker if by == "worker" else None, uid=uid)

    def do_alive(self, worker: str, ttl: int) -> None:
        """A dispatcher says that it is there, or leaves."""
        leave = ops.unregister_dispatcher
        self.both(lambda: ops.register_dispatcher(INSTALL, worker, ttl) if ttl else leave(INSTALL, worker))

    def do_record(self, job: int, back: int) -> None:
        """The dispatcher made the Job."""
        fence = self._fence(job, back, "worker")
        if fence:
            name, uid = f"job-{fence.execution}", f"uid-{fence.execution}"
            self.both(lambda: ops.record(fence, job_name=name, uid=uid, namespace=NAMESPACE))

    def do_check(self, job: int, back: int, attend: bool) -> None:
        """The dispatcher asks whether it may go on."""
        fence = self._fence(job, back, "worker")
        if fence:
            self.both(lambda: ops.attend(fence) if attend else ops.check(fence))

    def do_release(self, job: int, back: int, delay: int, silent: bool) -> None:
        """An execution is given back."""
        fence = self._fence(job, back, "any" if silent else "worker")
        if fence:
            self.both(lambda: ops.release(fence, reason="no room", delay_ms=delay, silent=silent))

    def do_finish(self, job: int, back: int, next_: str, cls: str, **more: Any) -> None:
        """The operator writes an outcome."""
        fence = self._fence(job, back, "uid")
        if not fence:
            return
        request = FinishRequest(
            fence=fence, next=Next(next_), outcome=Outcome(cls=OutcomeClass(cls), message="it ended"),
            **{**more, "spend": Spend(more["spend"])},
        )  # fmt: skip
        self.both(lambda: ops.finish(request))

    def do_finalized(self, job: int) -> None:
        """The operator let go of a Job."""
        for execution, _ in self.executions.get(f"j{job}", []):
            self.both(lambda execution=execution: ops.finalized(INSTALL, NAMESPACE, f"job-{execution}"))  # type: ignore[misc]

    def do_cancel(self, job: int) -> None:
        """A person cancels."""
        self.both(lambda: ops.cancel(f"j{job}", by="me", reason="enough"))

    def do_retry(self, job: int, change: dict[str, Any] | None) -> None:
        """A person runs an ended job again."""
        self.both(lambda: ops.retry(f"j{job}", Change(**change) if change else None, by="me"))

    def do_promote(self, job: int) -> None:
        """A person lets a delayed job wait."""
        self.both(lambda: ops.promote(f"j{job}"))

    def do_change(self, job: int, **change: Any) -> None:
        """A person changes a job."""
        record = self.both(lambda: ops.get_job(f"j{job}", position=True))
        if record is not None:
            self.both(lambda: ops.change(record, Change(**change)))

    def do_remove(self, job: int) -> None:
        """A person removes a job."""
        self.both(lambda: ops.remove(f"j{job}"))

    def do_purge(self, queue: str, state: str, limit: int) -> None:
        """A person purges."""
        self.both(lambda: ops.purge(queue, JobState(state), limit))

    def do_pause(self, queue: str, on: bool) -> None:
        """A person pauses or resumes."""
        self.both(lambda: ops.pause(queue, by="me") if on else ops.resume(queue))

    def do_free(self, queue: str, key: str) -> None:
        """A person frees a deduplication key."""
        self.both(lambda: ops.release_dedupe(queue, key))

    def do_look(self, queue: str) -> None:
        """Somebody reads."""
        self.both(lambda: ops.counts(queue))
        for state in JobState:
            self.both(lambda state=state: ops.list_jobs(queue, state))  # type: ignore[misc]
        for key in KEYS:
            self.both(lambda key=key: ops.dedupe_holder(queue, key))  # type: ignore[misc]

    def do_trim(self, queue: str) -> None:
        """The operator's retention."""
        self.both(lambda: ops.trim(queue))

    def do_time(self, ms: int) -> None:
        """Time passes."""
        self.engine.state.clock.advance(ms)
        self.real.set_time(self.engine.state.clock.micros)


def play(store: ClockedStore, seed: int, length: int) -> tuple[list[Step], str]:
    """Play one random sequence; returns its steps up to a mismatch, and the mismatch or nothing."""
    pair, generator, taken = Pair(store), Generator(seed), list[Step]()
    try:
        for step in generator.first():
            taken.append(step)
            pair.take(step)
        for _ in range(length):
            taken.append(_aimed(pair, generator))
            pair.take(taken[-1])
    except MismatchError as error:
        return taken, str(error)
    return taken, ""


def _aimed(pair: Pair, generator: Generator) -> Step:
    """Return the next step; one about an execution is about a job that has one, most of the time."""
    name, given = generator.step()
    r, state = generator.random, pair.engine.state
    wanted = {
        "record": "started", "check": "started", "release": "started", "finish": "started", "promote": "scheduled"
    }.get(name)  # fmt: skip
    fitting = [int(job[1:]) for job, fields in state.jobs.items() if fields["status"] == wanted]
    if wanted and fitting and r.random() < 0.85:
        given["job"] = r.choice(fitting)
    return name, given


def replay(store: ClockedStore, steps: list[Step]) -> str:
    """Play given steps; returns the mismatch, or nothing."""
    pair = Pair(store)
    try:
        for step in steps:
            pair.take(step)
    except MismatchError as error:
        return str(error)
    return ""


def shrink(store: ClockedStore, steps: list[Step]) -> list[Step]:
    """Return fewer steps that still do not match: pieces are left out, large ones first, as long as that is so."""
    size = max(len(steps) // 2, 1)
    while size:
        start = 0
        while start < len(steps):
            shorter = steps[:start] + steps[start + size :]
            if replay(store, shorter):
                steps = shorter
            else:
                start += size
        size //= 2
    return steps


def dump(steps: list[Step]) -> str:
    """Return steps as JSON, one a line."""
    return "[\n" + ",\n".join(json.dumps(step) for step in steps) + "\n]\n"


def load(text: str) -> list[Step]:
    """Return the steps that ``dump`` wrote."""
    return [(name, given) for name, given in json.loads(text)]


@contextlib.contextmanager
def opened(url: str) -> Iterator[ClockedStore]:
    """Open a clocked store on a server of the test's own."""
    client = redis.Redis.from_url(url, socket_timeout=10)
    try:
        yield ClockedStore(redis=client)
    finally:
        client.close()
