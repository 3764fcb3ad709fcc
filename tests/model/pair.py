"""The model and Redis side by side: what each step does to both, and how they are compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heavylift import schedules
from heavylift.contract import payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import HeavyliftError
from heavylift.spec.schedule import ScheduleDefinition, decide, tick_id
from heavylift.store import (
    ClaimRequest,
    EnqueueRequest,
    Fence,
    FinishRequest,
    Next,
    Observation,
    Op,
    Outcome,
    Spend,
    ops,
)
from heavylift.store.model import Change
from heavylift.store.schedules import ScheduleFire, ScheduleOwner, ScheduleRecord
from heavylift.testing.engine import Engine
from heavylift.testing.store import MemoryStore
from heavylift.testing.work import INSTALL
from tests.model import strangers
from tests.model.clocked import ClockedStore
from tests.model.generator import JOBS, KEYS, LANES, Step
from tests.model.views import QUEUES, broken, difference, of_model, of_redis

NAMESPACE = "analytics"
JOB_IDS = tuple(f"j{index}" for index in range(JOBS))


def _name(job: int | str) -> str:
    """Return the id of a job of the sequence's few, by its number; others have their id."""
    return f"j{job}" if isinstance(job, int) else job


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
    compared: dict[str, int] = field(default_factory=dict)
    """Queue -> events compared before."""
    strangers: bool = False
    """RQ's own commands were among the steps."""

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
            raise MismatchError(f"the answers differ: {difference(_plain(answers[0]), _plain(answers[1])) or answers}")
        return answers[1]

    def compare(self) -> None:
        """Compare all that can be seen.

        Raises:
            MismatchError: it differs, or an invariant does not hold.
        """
        happened = {queue: len(self.engine.state.queue(queue).events) for queue in QUEUES}
        events = [max(n - self.compared.get(queue, 0), 1) for queue, n in happened.items()]
        self.compared = happened
        jobs = (*JOB_IDS, *sorted(self.engine.state.jobs.keys() - set(JOB_IDS)))
        model, real = of_model(self.engine, jobs, events), of_redis(self.real.redis, jobs, events)
        found = broken(real, self.engine.state.now, strangers=self.strangers) or difference(model, real)
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

    def do_unserve(self, queue: str, own: bool) -> None:
        """A HeavyQueue is deleted."""
        self.both(lambda: ops.delete_settings(queue, f"uid-{queue}" if own else "another"))

    def _request(
        self, job: int | str, value: int, named: bool, again: bool = False, depends: Sequence[int] = (), **changes: Any
    ) -> EnqueueRequest:
        data = {"n": value}
        self.requests += 0 if again else 1
        basis: dict[str, Any] = {
            "task": "work",
            "data": payload.encode("work", data),
            "id": _name(job),
            "incarnation": f"{self.requests:016x}" if named else "",
            "fingerprint": payload.fingerprint("work", payload.dumps(data)) if named else "",
            "depends_on": tuple(f"j{parent}" for parent in depends if parent != job),
        }
        return EnqueueRequest(**{**basis, **changes})

    def do_enqueue(self, **given: Any) -> None:
        """A producer enqueues; ``again`` = the same request once more."""
        request = self._request(**given)
        self.both(lambda: ops.enqueue(request))

    def do_batch(self, entries: list[dict[str, Any]]) -> None:
        """A producer enqueues several in one call."""
        requests = [self._request(**given) for given in entries]
        self.both(lambda: ops.enqueue_many(requests))

    def do_rq(self, how: str, job: int | str, queue: str, **more: Any) -> None:
        """Somebody uses RQ's own client."""
        self.strangers = True
        strangers.act(self.real.redis, self.engine.state.clock.micros, how, _name(job), queue, **more)
        jobs = (*JOB_IDS, *sorted(self.engine.state.jobs.keys() - set(JOB_IDS)))
        strangers.take_over(self.real.redis, self.engine.state, QUEUES, jobs)

    def do_schedule(
        self, schedule: str, queue: str, every: int, options: dict[str, Any], suspended: bool | None, uid: str
    ) -> None:
        """A client or the operator defines a schedule."""
        definition = schedules.define(queue, "work", {"n": 1}, {"every": every, **options})
        owner = ScheduleOwner(install=INSTALL, namespace=NAMESPACE, name="h1", uid=uid, generation=1)
        source = schedules.Source(owner=owner, since=self.engine.state.now) if "/" in schedule else None
        self.both(lambda: schedules.put(schedule, definition, by="me", suspended=suspended, source=source))

    def do_tick(self, twice: bool, suspended: bool = False) -> None:
        """The operator decides what is due; ``twice`` = another one did so from the same look.

        ``suspended`` = somebody suspends them in between.
        """
        due = self.both(ops.due_schedules)
        for found in due.schedules:
            definition = ScheduleDefinition.from_json(found.definition)
            decision = decide(definition, found.mark, due.now)
            entry = self._fired(found, definition, tick_id(found.prefix, decision.fire)) if decision.fire else None
            fire = ScheduleFire(
                id=found.id, revision=found.revision, from_mark=found.mark, mark=decision.mark, tick=decision.fire,
                missed=decision.missed, next=decision.next, concurrency=definition.concurrency.value,
                limit=definition.limit, entry=entry,
            )  # fmt: skip
            if suspended:
                self.both(lambda found=found: ops.suspend_schedule(found.id, by="me"))  # type: ignore[misc]
            for _ in range(2 if twice else 1):
                self.both(lambda fire=fire: ops.fire_schedule(fire))  # type: ignore[misc]

    def _fired(self, found: ScheduleRecord, definition: ScheduleDefinition, job: str) -> EnqueueRequest:
        settings = self.engine.state.queue(found.queue).settings
        return schedules.job_request(definition, job, {**(settings or {}), "allow": {"delay": 10_000}})

    def do_steer(self, schedule: str, how: str, current: bool) -> None:
        """Somebody suspends, resumes, deletes or triggers a schedule, or cannot fire it."""
        found = self.both(lambda: ops.get_schedule(schedule))
        if how == "suspend":
            self.both(lambda: ops.suspend_schedule(schedule, by="me"))
        elif how == "resume":
            now = self.engine.state.now
            self.both(lambda: ops.resume_schedule(schedule, by="me", mark=now, next_=now + 5_000))
        elif how == "delete":
            uid = found.owner.uid if found and found.owner and current else ""
            self.both(lambda: ops.delete_schedule(schedule, by="me", uid=uid))
        elif found and how == "trigger":
            self.requests += 1
            job, definition = f"{found.prefix}-manual-{self.requests}", ScheduleDefinition.from_json(found.definition)
            entry = self._fired(found, definition, job)
            self.both(lambda: ops.trigger_schedule(schedule, found.revision if current else "0a", entry))
        elif found:
            self.both(lambda: ops.defer_schedule(schedule, found.revision if current else "0a", "not now"))

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
            self.bounded(reply)
            again = self.real.run(ops.claim(request))
            if again.claims != reply.claims:
                raise MismatchError("the same request gave other claims")

    def bounded(self, reply: Any) -> None:
        """Check the caps and the rate after a claim.

        Raises:
            MismatchError: more run than they admit.
        """
        for queue in {claim.queue for claim in reply.claims}:
            there = self.engine.state.queue(queue)
            settings = there.settings or {}
            self._bounded_keys(
                queue, settings.get("concurrencyPerKey"), [c.job for c in reply.claims if c.queue == queue]
            )
            cap, rate = settings.get("concurrencyMax"), settings.get("rateLimit")
            if cap is not None and len(there.started) > cap:
                raise MismatchError(f"{len(there.started)} run in {queue}, its cap is {cap}")
            since = self.engine.state.now - rate["period"] if rate else 0
            if rate and self.real.redis.zcount(self.real.keys.rate(queue), f"({since}", "+inf") > rate["limit"]:
                raise MismatchError(f"more starts in {queue} than its rate limit admits")

    def _bounded_keys(self, queue: str, most: int | None, claimed: list[str]) -> None:
        members: Any = self.real.redis.zrange(self.real.keys.keyed(queue), 0, -1) if most is not None else []
        running = Counter(member.partition(b"\0")[0].decode() for member in members)
        for key in {self.engine.state.jobs[job].get("hl:key") for job in claimed} - {None}:
            if most is not None and running[str(key)] > most:
                raise MismatchError(f"{running[str(key)]} run by the key {key} in {queue}, its cap is {most}")

    def _fence(self, job: int | str, back: int, by: str) -> Fence | None:
        known = self.executions.get(_name(job), [])
        if len(known) <= back:
            return None
        execution, worker = known[-1 - back]
        uid = f"uid-{execution}" if by == "uid" else None
        return Fence(job=_name(job), execution=execution, worker=worker if by == "worker" else None, uid=uid)

    def do_alive(self, worker: str, ttl: int) -> None:
        """A dispatcher says that it is there, or leaves."""
        leave = ops.unregister_dispatcher
        self.both(lambda: ops.register_dispatcher(INSTALL, worker, ttl) if ttl else leave(INSTALL, worker))

    def do_record(self, job: int | str, back: int) -> None:
        """The dispatcher made the Job."""
        fence = self._fence(job, back, "worker")
        if fence:
            name, uid = f"job-{fence.execution}", f"uid-{fence.execution}"
            self.both(lambda: ops.record(fence, job_name=name, uid=uid, namespace=NAMESPACE))

    def do_observe(self, job: int | str, back: int, phase: str, running: bool, **more: Any) -> None:
        """The operator sees something of the Job or its pod."""
        fence = self._fence(job, back, "uid")
        if fence:
            at = self.engine.state.now if running else None
            seen = Observation(phase=Phase(phase), reason=phase, running_at=at, **more)
            self.both(lambda: ops.observe(fence, seen))

    def do_check(self, job: int | str, back: int, attend: bool) -> None:
        """The dispatcher asks whether it may go on."""
        fence = self._fence(job, back, "worker")
        if fence:
            self.both(lambda: ops.attend(fence) if attend else ops.check(fence))

    def do_release(self, job: int | str, back: int, delay: int, silent: bool) -> None:
        """An execution is given back."""
        fence = self._fence(job, back, "any" if silent else "worker")
        if fence:
            self.both(lambda: ops.release(fence, reason="no room", delay_ms=delay, silent=silent))

    def do_finish(self, job: int | str, back: int, next_: str, cls: str, began: int | None = None, **more: Any) -> None:
        """The operator writes an outcome; its container ``began`` so long (ms) after now."""
        fence = self._fence(job, back, "uid")
        if not fence:
            return
        request = FinishRequest(
            fence=fence, next=Next(next_), outcome=Outcome(cls=OutcomeClass(cls), message="it ended"),
            **{**more, "spend": Spend(more["spend"])},
            started_at=None if began is None else self.engine.state.now + began,
        )  # fmt: skip
        self.both(lambda: ops.finish(request))

    def do_finalized(self, job: int | str) -> None:
        """The operator let go of a Job."""
        for execution, _ in self.executions.get(_name(job), []):
            self.both(lambda execution=execution: ops.finalized(INSTALL, NAMESPACE, f"job-{execution}"))  # type: ignore[misc]

    def do_cancel(self, job: int | str) -> None:
        """A person cancels."""
        self.both(lambda: ops.cancel(_name(job), by="me", reason="enough"))

    def do_retry(self, job: int | str, change: dict[str, Any] | None) -> None:
        """A person runs an ended job again."""
        self.both(lambda: ops.retry(_name(job), Change(**change) if change else None, by="me"))

    def do_promote(self, job: int | str) -> None:
        """A person lets a delayed job wait."""
        self.both(lambda: ops.promote(_name(job)))

    def do_change(self, job: int | str, **change: Any) -> None:
        """A person changes a job."""
        record = self.both(lambda: ops.get_job(_name(job), position=True))
        if record is not None:
            self.both(lambda: ops.change(record, Change(**change)))

    def do_remove(self, job: int | str) -> None:
        """A person removes a job."""
        self.both(lambda: ops.remove(_name(job)))

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
        self.both(_gauges)
        for state in JobState:
            self.both(lambda state=state: ops.list_jobs(queue, state))  # type: ignore[misc]
        for key in KEYS:
            self.both(lambda key=key: ops.dedupe_holder(queue, key))  # type: ignore[misc]
        for key in LANES:
            self.both(lambda key=key: ops.key_standing(queue, key))  # type: ignore[misc]
        for worker in ("w1", "w2"):
            self.both(lambda worker=worker: ops.own_claims(INSTALL, worker))  # type: ignore[misc]

    def do_sweep(self, queue: str) -> None:
        """The operator sweeps what is kept of keys; without strangers there is nothing to mend."""
        _, mended = self.both(lambda: ops.sweep_keys(queue))
        stale = self.both(lambda: ops.sweep_dedupe(queue))[1]
        self.both(lambda: ops.sweep_dependents(queue))
        if (mended or stale) and not self.strangers:
            raise MismatchError(f"a sweep of {queue} mended {mended} entries of keys and {stale} of deduplication")

    def do_trim(self, queue: str) -> None:
        """The operator's retention."""
        self.both(lambda: ops.trim(queue))

    def do_time(self, ms: int) -> None:
        """Time passes."""
        self.engine.state.clock.advance(ms)
        self.real.set_time(self.engine.state.clock.micros)


def _gauges() -> Op[dict[str, Any]]:
    """Return all gauges; of the counters those that are not compared anyway (see views) are left out."""
    found = yield from ops.snapshot(INSTALL, QUEUES)
    for queue in found["queues"].values():
        queue["counters"] = {name: n for name, n in queue["counters"].items() if n and not name.startswith("wait:")}
    return found


def _plain(value: Any) -> Any:
    """Return an answer with its dataclasses as mappings, so that the part that differs can be named."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value
