"""Who works for a row: each attempt is rendered, ends as the row says, and is held against the row's options."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from typing_extensions import override

import heavylift
from heavylift.contract import ids, limits, payload
from heavylift.contract.names import Annotation, Env
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import RQ_STATUS, Phase
from heavylift.spec import quantities
from heavylift.spec.models import HeavyQueue
from heavylift.spec.render import GRACE_S, render
from heavylift.store import Claim, ClaimReply, Fence, Observation, ops
from heavylift.testing.state import ENDED
from heavylift.testing.store import MemoryStore
from heavylift.testing.work import INSTALL, NAMESPACE, Ended, Worker
from heavylift_operator.core import deadlines
from heavylift_operator.core.evidence import JobEvidence, Stop
from heavylift_operator.core.outcome import Underway
from tests.model.pair import MismatchError
from tests.model.pairs import Row
from tests.model.views import QUEUES

QUEUE = QUEUES[0]
WORK, OTHER, PLAIN = "pairs.work", "pairs.other", f"{__name__}.plain"
SCHEDULE, BY_RQ = "s1", "j4"
DELAY_MS = 5_000
_EXPIRES_MS = {"1h": 3_600_000, "12s": 12_000}
_RQ_WAITS = (3_000, 5_000)
_GIVEN = {"pending": 20_000, "run": 15_000, "total": 30_000}
_BUILT_IN = {"pending": 60_000, "run": 40_000}
_DEAD = {"oom": OutcomeClass.OOM, "error": OutcomeClass.ERROR}
_GIB = 2**30
_WINDOW_MS = 30_000


def spec_of(row: Row) -> dict[str, Any]:
    """Return the spec of a row's HeavyQueue."""
    growth = {"memory": {"growthPercent": 50, "max": row["growth"]}} if row["growth"] else {}
    memory = {"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/testing:1", **memory}]}
    spec = {
        "jobTemplate": {"spec": {"template": {"spec": pod}}},
        "concurrency": {"max": row["cap"], "perKey": row["perKey"], "order": row["order"]},
        "rateLimit": row["rate"],
        "retention": row["retention"],
        "timeouts": {"pending": "1m", "run": "40s"},
        "defaults": {"maxAttempts": 2, "backoff": {"delay": "1s", "max": "1h", "jitterPercent": 0}},
        "outcomes": {"timeout": {"action": "Retry"}, "oom": {"action": "Retry", **growth}},
        "allow": {"minPriority": -10, "delay": "1h", "resources": {"memory": "4Gi"}},
    }
    return {name: value for name, value in spec.items() if value is not None}


@heavylift.task(name=WORK)
def work(ctx: heavylift.Context, n: int, fails: int = 0, keeps: bool = False) -> dict[str, Any]:
    """Fail so many times, keeping how far it came; give back what was kept."""
    if keeps:
        ctx.checkpoint({"at": ctx.attempt})
    if ctx.attempt <= fails:
        raise RuntimeError("not yet")
    return {"n": n, "restored": ctx.restored}


@heavylift.task(name=OTHER)
def other() -> None:
    """Do nothing."""


def plain(n: int) -> int:
    """Give back what RQ's own client brought."""
    return n


class Pods(Worker):
    """Dispatcher, pods and operator for one row."""

    def __init__(self, store: MemoryStore, row: Row, asked: Row) -> None:
        super().__init__(store, (PLAIN,))
        self.row = row
        self.draw = Random(str(sorted(row.items())))
        metadata = {"name": QUEUE, "namespace": NAMESPACE, "generation": 1}
        self.queue = HeavyQueue.parse(
            {"apiVersion": "heavylift.dev/v1alpha1", "kind": "HeavyQueue", "metadata": metadata, "spec": spec_of(asked)}
        )
        self._starts: list[int] = []
        self._revived: set[str] = set()
        self.due: dict[str, int] = {}
        """Job -> no start before (ms)."""
        self._total: dict[tuple[str, str], int] = {}
        """Job and its incarnation -> end of its total time (ms)."""
        self._kept: dict[tuple[str, str], str] = {}
        """Its checkpoint."""
        self._memory: dict[tuple[str, str], int] = {}
        """What its next attempt asks for at least."""

    @property
    def now(self) -> int:
        """This moment, ms."""
        return self.store.engine.state.now

    def anew(self, job: str) -> None:
        """Note that an ended job is run again: its total time counts anew, what it kept and its memory stay."""
        self._revived.add(job)
        self._total = {life: due for life, due in self._total.items() if life[0] != job}

    # -- schedules ----------------------------------------------------------------------------------------------------
    @override
    def tick(self) -> int | None:
        """Fire what is due; with Forbid and Replace one job of the schedule is unfinished at most."""
        if not self.store.engine.state.schedules:
            return None
        following = super().tick()
        jobs = self.store.engine.state.jobs
        unfinished = [
            job for job, fields in jobs.items()
            if job.startswith(f"{SCHEDULE}-") and RQ_STATUS[fields["status"]] not in ENDED and "hl:cancel" not in fields
        ]  # fmt: skip
        if self.row["schedule"] in {"Forbid", "Replace"}:
            _same(max(len(unfinished), 1), 1, f"unfinished jobs of a schedule ({unfinished})")
        return following

    # -- claims -------------------------------------------------------------------------------------------------------
    @override
    def ask(self, most: int = limits.CLAIM_MAX) -> ClaimReply:
        """Claim: within the row's bounds, by level, and held back by nothing that the row has not."""
        reply, row = super().ask(most), self.row
        running = self.store.engine.state.queue(QUEUE)
        self._starts += [claim.claimed_at for claim in reply.claims]
        bounds = {
            "cap": (row["cap"], len(running.started)),
            "keys": (row["perKey"], Counter(running.keyed.values()).get("red", 0)),
            "rate": (row["rate"] and row["rate"]["limit"], sum(at > self.now - _WINDOW_MS for at in self._starts)),
        }
        for name, (bound, found) in bounds.items():
            _same(bound is None or found <= bound, True, f"{found} within the {name} of {bound}")
        held = reply.blocked.get(QUEUE, "empty")
        _same(held in {name for name, (bound, _) in bounds.items() if bound} | {"empty", "paused"}, True, held)
        levels = [self._level(claim) for claim in reply.claims]
        if row["order"] == "Fifo":
            _same(levels, sorted(levels), "the levels of one claim")
        return reply

    def _level(self, claim: Claim) -> int:
        return self.row["priority"] if claim.task == WORK else 0

    # -- attempts -----------------------------------------------------------------------------------------------------
    @override
    def work(self, claim: Claim) -> None:
        """Run one attempt as the row says, and hold what is seen of it against the row."""
        self._as_asked(claim)
        end = self.row["end"] if claim.task == WORK and claim.seq == 1 else ""
        if claim.job == BY_RQ and claim.attempt == 1 and self.row["rq"] != "in":
            end = "error"
        if claim.task == OTHER and claim.seq == 1 and self.row["growth"]:
            end = "oom"
        if end in {"hang", "stuck"}:
            self._without_end(claim, hangs=end == "hang")
        else:
            self._die(end)
            super().work(claim)
        self._again(claim, end)

    def _die(self, end: str) -> None:
        if end in _DEAD:
            self.plan(_DEAD[end], task=None, times=1, message="")

    @override
    def _run(self, claim: Claim) -> Ended:
        """Run the task: it finds what it kept before."""
        life = claim.job, claim.incarnation
        before = self._kept.get(life, "")
        ended = super()._run(claim)
        if claim.task == WORK and ended.result is not None:
            restored = json.loads(before) if before else None
            _same(json.loads(ended.result)["restored"], restored, f"what {claim.job} found")
        kept = self.row["checkpoint"] and claim.task == WORK and ended.result is None
        _same(ended.checkpoint, f'{{"at":{claim.attempt}}}' if kept else None, f"what {claim.job} keeps")
        if ended.checkpoint is not None:
            self._kept[life] = ended.checkpoint
        return ended

    def _without_end(self, claim: Claim, *, hangs: bool) -> None:
        """Let an attempt run on and on, or wait for a node for ever, until the operator's rules for that end it."""
        name = ids.job_name(claim.install, claim.queue, claim.job, claim.incarnation, claim.seq)
        fence = Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}")
        self.store.run(ops.record(fence, job_name=name, uid=fence.uid or "", namespace=NAMESPACE))
        if hangs:
            self.store.run(ops.observe(fence, Observation(phase=Phase.RUNNING, running_at=self.now)))
        stop = self._stopped(claim, hangs=hangs)
        self.finish(fence, Ended(cls=OutcomeClass(stop.cls), message=stop.message), claim)
        self.store.run(ops.finalized(INSTALL, NAMESPACE, name))

    def _stopped(self, claim: Claim, *, hangs: bool) -> Stop:
        """Return the operator's decision once the deadline is over that the row says."""
        job = JobEvidence(namespace=NAMESPACE, name="x", uid="x", created_at=self.now)
        state = Underway(phase=Phase.PENDING, stuck=OutcomeClass.UNSCHEDULABLE)
        if hangs:
            state = Underway(phase=Phase.RUNNING, running_at=self.now)
        bounds = deadlines.Limits(
            pending_ms=claim.frozen["timeouts"]["pending"],
            run_ms=claim.frozen["timeouts"]["run"],
            total_due=claim.frozen.get("totalDue"),
        )
        wanted = self.now + self._limit("run" if hangs else "pending", claim)
        total = self._total.get((claim.job, claim.incarnation), wanted)
        self.store.engine.state.clock.advance(max(min(wanted, total) - self.now, 0))
        if wanted and self.now <= total and (early := deadlines.expired(job, state, bounds, now=self.now)):
            raise MismatchError(f"{claim.job} was stopped early: {early}")
        self.store.engine.state.clock.advance(1)
        stop = deadlines.expired(job, state, bounds, now=self.now)
        if stop is None:
            raise MismatchError(f"{claim.job} goes on after its deadline: {bounds}")
        _same(stop.cls, "timeout" if hangs or total < wanted else "unschedulable", f"the end of {claim.job}")
        return stop

    # -- what must be seen --------------------------------------------------------------------------------------------
    def _limit(self, name: str, claim: Claim) -> int:
        return _GIVEN[name] if self.row[name] and claim.task == WORK else _BUILT_IN[name]

    def _as_asked(self, claim: Claim) -> None:
        """Hold a claim, and the Job made of it, against what was asked for."""
        due = self.due.pop(claim.job, 0)
        if claim.job.startswith(f"{SCHEDULE}-"):
            tick = int(claim.job.rpartition("-")[2]) * 1000
            due = max(due, tick + DELAY_MS if self.row["delay"] else tick)
        _same(max(claim.claimed_at, due), claim.claimed_at, f"the start of {claim.job}, not before {due}")
        if claim.task == WORK:
            self._as_stored(claim)
        life = claim.job, claim.incarnation
        if self.row["total"] and claim.task == WORK:
            self._total.setdefault(life, claim.claimed_at + _GIVEN["total"])
        times = {name: self._limit(name, claim) for name in ("pending", "run")}
        attempts = self.row["max_attempts"] if claim.task == WORK else None
        attempts = 3 if claim.job == BY_RQ and self.row["rq"] != "in" else attempts
        _same(claim.frozen["maxAttempts"], attempts or 2, f"the attempts of {claim.job}")
        _same(claim.frozen["timeouts"], times, f"the timeouts of {claim.job}")
        _same(claim.frozen.get("totalDue"), self._total.get(life), f"the total time of {claim.job}")
        _same(claim.memory, self._memory.get(life), f"the grown memory of {claim.job}")
        _same(claim.checkpoint, self._kept.get(life, ""), f"the checkpoint of {claim.job}")
        self._rendered(claim, times)

    def _as_stored(self, claim: Claim) -> None:
        """Hold what stands of a job of the row when it starts against the row."""
        row, found = self.row, self.store.run(ops.get_job(claim.job))
        if found is None:
            raise MismatchError(f"{claim.job} was claimed, and is not there")
        asked = (row["priority"], row["lifo"], row["key"] or "")
        _same((found.priority, found.lifo, found.key), asked, f"priority, lifo and key of {claim.job}")
        alone = claim.job.startswith(f"{SCHEDULE}-")
        _same(found.dedupe, "d" if row["dedupe"] and not alone else "", f"the deduplication key of {claim.job}")
        if claim.seq == 1 and claim.job not in self._revived:
            _same(found.expires is None, row["expires"] is None, f"{claim.job} has no end of its waiting")
        if found.expires is not None and claim.seq == 1:
            left, most = found.expires - claim.claimed_at, _EXPIRES_MS[row["expires"]]
            floor = 0 if row["expires"] == "12s" else _EXPIRES_MS["12s"]
            _same(floor < left <= most, True, f"{left} ms left of {most} to start {claim.job}")
        if row["depends"] and not alone and row["dedupe"] != "keep_last":
            parent = self.store.run(ops.get_job("j3"))
            _same(parent is None or parent.state in ENDED, True, f"what {claim.job} depends on has ended")

    def _rendered(self, claim: Claim, times: Mapping[str, int]) -> None:
        life = claim.job, claim.incarnation
        job = render(claim, self.queue, payload.decode(claim.data), INSTALL)
        pod = job["spec"]["template"]
        main = pod["spec"]["containers"][0]
        seen = pod["metadata"]["annotations"]
        both = (seen[Annotation.PENDING_DEADLINE], seen[Annotation.RUN_DEADLINE])
        _same(both, tuple(str(times[name] // 1000) for name in ("pending", "run")), f"the deadlines of {claim.job}")
        whole = sum(times.values())
        left = max(self._total.get(life, claim.claimed_at + whole) - claim.claimed_at, 1)
        _same(job["spec"]["activeDeadlineSeconds"], -(-min(whole, left) // 1000) + GRACE_S, f"the time of {claim.job}")
        asked = self._memory_of(claim) or _GIB
        given = {name: quantities.to_bytes(main["resources"][name]["memory"]) for name in ("limits", "requests")}
        want = max(asked, self._memory.get(life, 0))
        _same(given, {"limits": want, "requests": want}, f"the memory of {claim.job}")
        environment = {entry["name"]: entry["value"] for entry in main["env"]}
        _same(environment.get(Env.CHECKPOINT, ""), self._kept.get(life, ""), f"the checkpoint {claim.job} is given")

    def _again(self, claim: Claim, end: str) -> None:
        """Hold the wait for the next attempt, if there is one, against the backoff; note what that one must get."""
        events = reversed(self.store.engine.state.queue(QUEUE).events)
        last = next(event for event in events if event["job"] == claim.job)
        if last["event"] != "retrying":
            return
        delay, wanted = int(last.get("delay") or 0), self._wait(claim)
        share = 1 - self.row["jitter"] if self._own_backoff(claim) else 1
        _same(min(max(delay, round(wanted * share)), wanted), delay, f"the wait of {claim.job}, at most {wanted}")
        if share < 1:
            _same(delay < wanted, True, f"the wait of {claim.job}, {delay}, is less than all of {wanted}")
        self.due[claim.job] = self.now + delay
        asked, growth = self._memory_of(claim), self.row["growth"]
        if end == "oom" and growth and asked and asked < quantities.to_bytes(growth):
            self._memory[claim.job, claim.incarnation] = min(asked * 3 // 2, quantities.to_bytes(growth))

    def _memory_of(self, claim: Claim) -> int | None:
        """Return what a job asks for itself; None = what the template says."""
        if claim.task == WORK:
            return 2 * _GIB if self.row["resources"] else None
        return _GIB if claim.task == OTHER else None

    def _own_backoff(self, claim: Claim) -> bool:
        return claim.task == WORK and self.row["backoff"] is not None

    def _wait(self, claim: Claim) -> int:
        """Return the wait before the next attempt, without jitter (ms)."""
        if claim.job == BY_RQ and self.row["rq"] == "intervals":
            return _RQ_WAITS[claim.attempt - 1]
        if not self._own_backoff(claim):
            return int(1_000 * 2 ** (claim.attempt - 1))
        return 4_000 if self.row["backoff"] == "fixed" else min(2_000 * 2 ** (claim.attempt - 1), 3_000)


def _same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise MismatchError(f"{what}: {found!r} instead of {wanted!r}")
