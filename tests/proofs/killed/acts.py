"""All that clients, dispatchers and operators do to the queues, drawn by lot or in a fixed tour of every script."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from heavylift.contract import ids, payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.store import (
    Claim,
    ClaimRequest,
    EnqueueRequest,
    Fence,
    FinishRequest,
    InFlight,
    Json,
    Next,
    Observation,
    Outcome,
    Spend,
    Store,
    ops,
)
from heavylift.store.model import Change
from heavylift.store.schedules import ScheduleFire, SchedulePut
from tests.proofs.audit import BURST, LATEST
from tests.proofs.crowd.plan import INSTALL, NAMESPACE, QUEUES, TASK, Bounds

_DATA = payload.encode(TASK, {"year": 2026})
_FINGERPRINT = payload.fingerprint(TASK, payload.dumps({"year": 2026}))
_POOL = tuple(f"p{n}" for n in range(12))
"""Ids used again and again; nothing depends on them: who waits for a removed job is let go by a sweep."""
_IF_EXISTS = ("raise", "return", "retry_failed", "replace")
_ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
_PURGED = (*_ENDED, JobState.WAITING, JobState.DELAYED, JobState.WAITING_CHILDREN)
_KEPT = 60


def serve(store: Store) -> None:
    """Give both queues settings: caps, keys, a rate limit, short retention by count."""
    for queue in QUEUES:
        settings = Bounds(cap=8, per_key=2, limit=25, period=20, fair=queue == QUEUES[1]).settings(queue)
        settings["retention"]["completed"]["count"] = _KEPT
        store.run(
            ops.put_settings(queue, settings, generation=1, install=INSTALL, namespace=NAMESPACE, uid=f"uid-{queue}")
        )


class Actor:
    """One process: what it knows, and what it holds."""

    def __init__(self, store: Store, name: str, choice: random.Random) -> None:
        self.store = store
        self.name = name
        self.choice = choice
        self._known: deque[str] = deque(_POOL, maxlen=50)
        self._held: list[tuple[Claim, str]] = []
        """With the UID of the Job recorded, empty = none."""
        self._count = 0
        self._acts: dict[str, tuple[int, Callable[[], object]]] = {
            "enqueue": (8, self._enqueue),
            "claim": (9, self._claim),
            "observe": (2, self._observe),
            "finish": (9, self._finish),
            "release": (2, self._release),
            "reconcile": (3, self._reconcile),
            "cancel": (2, lambda: self.store.run(ops.cancel(self._some(), by="ann"))),
            "retry": (2, self._retry),
            "change": (3, self._change),
            "promote": (1, lambda: self.store.run(ops.promote(self._some()))),
            "remove": (1, lambda: self.store.run(ops.remove(self._some()))),
            "purge": (1, lambda: self.store.run(ops.purge(self._queue(), choice.choice(_PURGED), 10))),
            "trim": (1, lambda: self.store.run(ops.trim(self._queue()))),
            "free": (1, lambda: self.store.run(ops.release_dedupe(self._queue(), f"{BURST}{choice.randrange(2)}"))),
            "pause": (1, self._pause),
            "schedule": (1, self._schedule),
            "tick": (2, self._tick),
            "trigger": (1, self._trigger),
            "defer": (1, self._defer),
            "suspend": (1, self._suspend),
            "unschedule": (1, lambda: self.store.run(ops.delete_schedule(self._which(), by="ann"))),
        }

    def act(self, name: str = "") -> None:
        """Do one thing: this one, or one drawn by lot."""
        if not name:
            names, weights = zip(*((name, weight) for name, (weight, _) in self._acts.items()), strict=True)
            (name,) = self.choice.choices(names, weights)
        self._acts[name][1]()

    # -- what is drawn --------------------------------------------------------------------------------------------
    def _queue(self) -> str:
        return self.choice.choice(QUEUES)

    def _some(self) -> str:
        return self.choice.choice(self._known)

    def _which(self) -> str:
        return f"s{self.choice.randrange(3)}"

    def _likely(self, chance: float) -> bool:
        return self.choice.random() < chance

    def _request(self, job: str = "") -> EnqueueRequest:
        self._count += 1
        again = not job and self._likely(0.25)
        job = job or (self.choice.choice(_POOL) if again else f"{self.name}-{self._count}")
        options: Json = {"priority": self.choice.choice((-5, 0, 0, 7)), "lifo": self._likely(0.2)}
        if self._likely(0.6):
            options["key"] = f"k{self.choice.randrange(3)}"
        if self._likely(0.4):
            options["dedupe"] = self._dedupe()
        alone = options.get("dedupe", {}).get("mode") != "keep_last"  # the client refuses the two together
        others = [other for other in self._known if other != job and other not in _POOL]
        return EnqueueRequest(
            queue=self._queue(),
            task=TASK,
            data=_DATA,
            id=job,
            incarnation=ids.new_incarnation(),
            fingerprint=_FINGERPRINT,
            if_exists=self.choice.choice(_IF_EXISTS),
            delay_ms=self.choice.randint(1, 30) if self._likely(0.15) else 0,
            expires_ms=self.choice.randint(1, 30) if self._likely(0.05) else None,
            depends_on=(self.choice.choice(others),) if others and alone and self._likely(0.1) else (),
            options=options,
        )

    def _dedupe(self) -> Json:
        mode = self.choice.choice(("first", "keep_last", "debounce"))
        if mode == "first":
            if self._likely(0.3):
                return {"id": f"{BURST}throttle", "mode": mode, "ttl": 40}
            return {"id": f"first{self.choice.randrange(4)}", "mode": mode}
        if mode == "keep_last":
            return {"id": f"{LATEST}{self.choice.randrange(3)}", "mode": mode}
        return {"id": f"{BURST}{self.choice.randrange(2)}", "mode": mode, "ttl": 20}

    # -- what is done ---------------------------------------------------------------------------------------------
    def _enqueue(self) -> None:
        requests = [self._request() for _ in range(self.choice.randint(1, 6))]
        for done in self.store.run(ops.enqueue_many(requests)):
            if done.created:
                self._known.append(done.id)

    def _claim(self) -> None:
        request = ClaimRequest(
            worker=self.name,
            request=ids.new_job_id(),
            install=INSTALL,
            queues=self.choice.choice((QUEUES, QUEUES[::-1])),
            max=self.choice.randint(1, 6),
            slots=20,
            deadline_ms=1,
        )
        for claim in self.store.run(ops.claim(request)).claims:
            fence, uid = self._fence(claim, ""), ""
            if claim.silent or self._likely(0.2):
                self.store.run(ops.attend(fence))
            self.store.run(ops.check(fence))
            if self._likely(0.8):
                uid = secrets.token_hex(4)
                self.store.run(ops.record(fence, job_name=_name(claim), uid=uid, namespace=claim.namespace))
            self._held.append((claim, uid))

    def _fence(self, claim: Claim, uid: str) -> Fence:
        return Fence(job=claim.job, execution=claim.execution, worker=None if uid else self.name, uid=uid or None)

    def _take(self) -> tuple[Claim, str] | None:
        if not self._held:
            self._claim()
        return self._held.pop(self.choice.randrange(len(self._held))) if self._held else None

    def _observe(self) -> None:
        if taken := self._take():
            seen = Observation(
                phase=Phase.RUNNING, reason="", running_at=taken[0].claimed_at, evidence={"pod": {"n": 1}}
            )
            self.store.run(ops.observe(self._fence(*taken), seen))
            self._held.append(taken)

    def _finish(self) -> None:
        if taken := self._take():
            claim, uid = taken
            ends = self.choice.choice((Next.COMPLETE, Next.COMPLETE, Next.RETRY, Next.FAIL, Next.CANCEL))
            cls = {Next.COMPLETE: OutcomeClass.SUCCEEDED, Next.CANCEL: OutcomeClass.CANCELLED}
            req = FinishRequest(
                fence=self._fence(claim, uid),
                outcome=Outcome(cls=cls.get(ends, OutcomeClass.ERROR), message="done"),
                next=ends,
                spend=self.choice.choice(tuple(Spend)),
                delay_ms=self.choice.choice((0, 0, 10)),
                hold_ms=self.choice.choice((0, 0, 0, 2)),
                job_exists=bool(uid),
            )
            self.store.run_many([ops.finish(req)])
            if uid and self._likely(0.8):
                self.store.run(ops.finalized(INSTALL, claim.namespace, _name(claim)))

    def _release(self) -> None:
        if taken := self._take():
            delay = self.choice.choice((0, 10))
            self.store.run(ops.release(self._fence(*taken), reason="stopping", delay_ms=delay))

    def _reconcile(self) -> None:
        """Do as an operator does with what dispatchers left, were they killed or not."""
        _, page = self.store.run(ops.inflight(INSTALL))
        for entry in self.choice.sample(page, min(len(page), 4)):
            reconcile(self.store, entry)

    def _retry(self) -> None:
        state = self.choice.choice((JobState.FAILED, JobState.CANCELLED))
        found, _, _ = self.store.run(ops.find_ended(self._queue(), state))
        if found and self._likely(0.5):
            self.store.run(ops.retry(self.choice.choice(found).id, Change(priority=self.choice.choice((0, 7)))))
        elif found:
            self.store.run(ops.retry_many(found[:5]))

    def _change(self) -> None:
        page = self.store.run(ops.list_jobs(self._queue(), self.choice.choice(_PURGED)))
        found = self.choice.choice(page) if page else self.store.run(ops.get_job(self._some()))
        if found is not None:
            change = Change(
                priority=self.choice.choice((None, -5, 7)),
                delay_ms=self.choice.choice((None, 0, 15)),
                data_json=self.choice.choice((None, '{"year":2026}')),
            )
            self.store.run(ops.change(found, change))

    def _pause(self) -> None:
        queue = self._queue()
        self.store.run(ops.pause(queue, by="ann"))
        self.store.run(ops.resume(queue))

    def _schedule(self) -> None:
        now = self.store.run(ops.now())
        put = SchedulePut(
            id=self._which(),
            queue=QUEUES[0],
            definition={"v": self.choice.randrange(3)},
            timing={"every": self.choice.randrange(2)},
            prefix="s",
            since=now - 10,
            next=now - 5,
            by="ann",
        )
        self.store.run(ops.put_schedule(put))

    def _tick(self) -> None:
        due = self.store.run(ops.due_schedules())
        for found in due.schedules:
            fire = ScheduleFire(
                id=found.id,
                revision=found.revision,
                from_mark=found.mark,
                mark=max(due.now, found.mark),
                missed=self.choice.randrange(2),
                next=due.now + 10,
                concurrency=self.choice.choice(("Allow", "Forbid", "Replace")),
                limit=self.choice.choice((None, 3)),
                tick=found.next,
                entry=self._request(f"{found.id}-{found.next}"),
            )
            self.store.run(ops.fire_schedule(fire))

    def _trigger(self) -> None:
        if known := self.store.run(ops.all_schedules()):
            found = self.choice.choice(known)
            self.store.run(ops.trigger_schedule(found.id, found.revision, self._request()))

    def _defer(self) -> None:
        if known := self.store.run(ops.all_schedules()):
            found = self.choice.choice(known)
            self.store.run(ops.defer_schedule(found.id, found.revision, "not now"))

    def _suspend(self) -> None:
        which, now = self._which(), self.store.run(ops.now())
        self.store.run(ops.suspend_schedule(which, by="ann"))
        self.store.run(ops.resume_schedule(which, by="ann", mark=now, next_=now + 5))


def _name(claim: Claim) -> str:
    return ids.job_name(claim.install, claim.queue, claim.job, claim.incarnation, claim.seq)


TOUR = (
    *("enqueue",) * 5,
    *("schedule", "schedule", "tick", "trigger", "defer", "claim", "finish", "finish", "observe", "release"),
    *(
        "change",
        "cancel",
        "claim",
        "finish",
        "finish",
        "finish",
        "retry",
        "promote",
        "remove",
        "free",
        "pause",
        "reconcile",
    ),
    *("enqueue", "claim", "change", "finish", "finish", "suspend", "trim", "retry", "purge", "tick", "unschedule"),
    *("release", "cancel", "enqueue", "claim", "finish", "retry", "change", "trigger", "purge", "finish", "purge"),
    *("claim", "reconcile"),
)
"""Every kind of act, so that an actor with a fixed seed comes by every script that writes (a test counts them)."""


def tour(store: Store, seed: int) -> None:
    """Do all of it once, the same with the same seed but for what depends on the clock."""
    actor = Actor(store, f"tour{seed}", random.Random(seed))
    for name in TOUR:
        actor.act(name)


def settle(store: Store) -> None:
    """Bring everything to its end as an operator, a dispatcher and a person would who come later.

    Raises:
        RuntimeError: something did not come to an end.
    """
    for queue in QUEUES:
        store.run(ops.resume(queue))
    for schedule in store.run(ops.all_schedules()):
        store.run(ops.delete_schedule(schedule.id, by="heir"))
    for _ in range(2000):
        _reconcile_all(store)
        request = ClaimRequest(
            worker="heir", request=ids.new_job_id(), install=INSTALL, queues=QUEUES, max=20, slots=100, deadline_ms=1
        )
        claims = store.run(ops.claim(request)).claims
        for claim in claims:
            fence = Fence(job=claim.job, execution=claim.execution, worker="heir")
            store.run(ops.record(fence, job_name=_name(claim), uid=f"u-{claim.execution}", namespace=claim.namespace))
        for state, op in ((JobState.DELAYED, ops.promote), (JobState.WAITING_CHILDREN, _give_up)):
            for queue in QUEUES:
                for job in [] if claims else store.run(ops.list_jobs(queue, state)):
                    store.run(op(job.id))
        counts = [store.run(ops.counts(queue)) for queue in QUEUES]
        if not any(each.waiting + each.delayed + each.active + each.waiting_children for each in counts):
            return
    raise RuntimeError(f"not all came to an end: {counts}")


def _give_up(job: str) -> Any:
    return ops.cancel(job, by="heir", reason="what it depends on did not complete")


def _reconcile_all(store: Store) -> None:
    cursor = 0
    while True:
        cursor, page = store.run(ops.inflight(INSTALL, cursor))
        for entry in page:
            reconcile(store, entry)
        if not cursor:
            return


def reconcile(store: Store, entry: InFlight) -> None:
    """End an execution that has a Job, give back any other, whoever claimed it."""
    found = store.run(ops.get_job(entry.job))
    fence = Fence(job=entry.job, execution=entry.execution, uid=found.job_uid if found else None)
    if found and found.job_uid:
        end = Outcome(cls=OutcomeClass.SUCCEEDED, message="done")
        store.run(ops.finish(FinishRequest(fence=fence, outcome=end, next=Next.COMPLETE, spend=Spend.ATTEMPT)))
        store.run(ops.finalized(INSTALL, found.namespace, found.job_name))
    else:
        store.run(ops.release(fence, reason="its dispatcher is gone", silent=True))
