"""The model's dispatcher side: claim."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from heavylift.contract import limits
from heavylift.contract.states import JobState
from heavylift.store.decode import rq_time
from heavylift.testing.lanes import key_of
from heavylift.testing.moves import End, sha1, sound
from heavylift.testing.serving import Serving, Taking
from heavylift.testing.state import Fields, QueueState, number, priority_of, state_of, without

_STARTED = (
    "hl:reason", "hl:job", "hl:uid", "hl:running", "hl:evidence", "hl:due", "hl:ended", "hl:attended", "hl:outcome",
    "hl:result", "hl:cancel",
)  # fmt: skip
_COST = {"claim": 5, "key": 4, "ended": 12, "moved": 2, "promoted": 2, "rechecked": 2, "freed": 2, "queue": 6}
_PLAIN = (
    "timeout", "retries_left", "retry_intervals", "enqueue_at_front_on_retry", "success_callback_name",
    "failure_callback_name", "stopped_callback_name", "webhooks", "repeats_left", "repeat_intervals", "rate_limit_key",
    "rate_limit_concurrency", "result_ttl", "failure_ttl", "ttl", "group_id",
)  # fmt: skip
_RESET = {"hl:attempts": "0", "hl:starts": "0", "hl:silent": "0", "hl:budgets": "{}"}
_RQ_TIMEOUT = 180
"""RQ's own default, in seconds: counts as unset."""
_FREED = 10


@dataclass(slots=True, kw_only=True)
class Ask:
    """One claim under way."""

    worker: str
    install: str
    patience: int
    limits: dict[str, int]
    ends: dict[str, dict[str, str]]
    wanted: int
    room: int
    looked: int
    promote: int
    claims: list[list[Any]] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    next_due: int = -1
    bytes: int = 0

    def skip(self) -> None:
        """Count a look at an id."""
        self.looked -= 1

    def soonest(self, wait: int) -> None:
        """Note when something changes by itself, in ms from now."""
        self.next_due = max(wait, 0) if self.next_due < 0 else min(self.next_due, max(wait, 0))


def _due(index: dict[str, int], now: int, most: int) -> list[tuple[int, str]]:
    """Return (time, id) of what is due, soonest first, so many at most."""
    return sorted((at, job) for job, at in index.items() if at <= now)[: max(most, 0)]


class Claiming(Serving):
    """Claim over some queues."""

    def claim(self, args: list[Any]) -> list[Any]:
        """Take what may start: ``[claims, [queue, reason, ...], next due]``."""
        worker, request, install, most, slots, patience, limits, ends, *queues = args
        last = self.state.replies.get(str(worker))
        if last and last[0] == request:
            return list(last[1])
        bounds = json.loads(limits)
        width = int(slots) * max(self.live(install), 1)
        ask = Ask(
            worker=worker, install=install, patience=int(patience), limits=bounds, ends=json.loads(ends),
            wanted=min(int(most), bounds["max"]), room=width - len(self.state.inflight.setdefault(install, {})),
            looked=bounds["looked"], promote=bounds["promote"],
        )  # fmt: skip
        for queue in queues:
            if len(ask.claims) >= ask.wanted or ask.looked <= 0:
                break
            reason = self._serve(queue, ask)
            if reason != "enough":
                ask.blocked[queue] = reason
        for job in sorted(self.state.todo)[:1]:
            state = state_of(self.state.jobs.get(job)) or JobState.COMPLETED
            self.free_dependents(job, state, _FREED + max(ask.looked, 0) // _COST["freed"])
        reply = [ask.claims, [part for pair in ask.blocked.items() for part in pair], ask.next_due]
        if ask.claims:
            self.state.replies[worker] = (request, reply)
        return reply

    def _serve(self, queue: str, ask: Ask) -> str:
        """Start what may start of one queue; returns why it is not more."""
        there = self.state.queue(queue)
        settings = there.settings
        if not (there.delayed or there.scheduled or there.lanes or there.trouble) and there.levels == {0: []}:
            return "paused" if there.pause is not None else "no-heavyqueue" if settings is None else "empty"
        ask.looked -= _COST["queue"]
        if there.pause is not None or (settings and settings.get("paused") is True):
            return "paused"
        if settings is None or there.owner["install"] != ask.install:
            return "no-heavyqueue"
        self._promote(queue, there, ask)
        return self._start(queue, settings, ask)

    def _promote(self, queue: str, there: QueueState, ask: Ask) -> None:
        """Let delayed jobs that are due wait, a bounded number: ours, then those of RQ's own client."""
        now, second = self.state.now, self.state.now // 1000
        for at, job in _due(there.delayed, now, ask.promote):
            self._promote_one(queue, job, at, ask)
            ask.promote -= 1
        for at, job in _due(there.scheduled, second, ask.promote):
            if job not in there.delayed:
                self._promote_one(queue, job, at * 1000, ask, theirs=True)
            ask.promote -= 1
        left = [at for at in there.delayed.values() if at > now or ask.promote <= 0]
        if left:
            ask.soonest(min(left) - now)
        theirs = [(at, job) for job, at in there.scheduled.items() if at > second or ask.promote <= 0]
        if theirs and min(theirs)[1] not in there.delayed:
            ask.soonest(min(theirs)[0] * 1000 - now)

    def _promote_one(self, queue: str, job: str, due: int, ask: Ask, *, theirs: bool = False) -> None:
        ask.looked -= _COST["promoted"]
        fields = self.state.jobs.get(job)
        theirs_now = fields is not None and fields["origin"] != queue
        if fields is None or theirs_now or fields["status"] != "scheduled":
            what = "it belongs to another queue" if theirs_now else f"its status is {(fields or {}).get('status')}"
            self.drop(queue, job, f"it is among the delayed, {what}" if fields else "its job is gone")
        else:
            fields |= {"status": "queued", "enqueued_at": self.state.clock.text(due * 1000)}
            self.place(queue, job, fields, front=theirs and fields.get("enqueue_at_front") == "1")
            self.state.emit(queue, "waiting", job, reason="due")
        self.undelay(queue, job)

    def _start(self, queue: str, settings: dict[str, Any], ask: Ask) -> str:
        """Start what may start of one queue, and note when more of it may."""
        bounds, before, probing = self.bounds(queue), len(ask.claims), self.breaker(queue) is not None
        gone = False

        def full() -> str:
            if len(ask.claims) >= ask.wanted or ask.looked <= 0:
                return "enough"
            over = (bound.why for bound in bounds if bound.left <= len(ask.claims) - before)
            return next(over, "width" if ask.room <= 0 else "")

        def judge(job: str, level: int, key: str) -> str:
            nonlocal gone
            verdict = self._judge(queue, job, (level, key), settings, ask)
            gone = gone or verdict == "gone"
            return verdict

        ask.looked -= _COST["rechecked"] * self.recheck(queue)
        why = self.serve_waiting(queue, Taking(full, judge, ask.skip))
        if probing and len(ask.claims) > before:
            job, _, _, execution, *_ = ask.claims[-1][0].split("\n")
            self.state.queue(queue).breaker["probe"] = f"{job}:{execution}"
        waits = [bound.wait for bound in bounds if bound.why == why] + [self.rate(queue)[1] if why == "rate" else 0]
        for wait in waits:
            if wait:
                ask.soonest(wait)
        if gone and ask.looked <= 0:
            ask.soonest(0)
        return why

    def _judge(self, queue: str, job: str, where: tuple[int, str], settings: dict[str, Any], ask: Ask) -> str:
        """Say what to do with a waiting id: ``claimed``, ``gone`` (off its list) or ``stop``."""
        ask.skip()
        fields = self.state.jobs.get(job)
        if self._ghost(queue, job, fields) or fields is None or self._misplaced(queue, job, fields, where, ask):
            return "gone"
        waited = self.state.now - min(rq_time(fields.get("enqueued_at")) or self.state.now, self.state.now)
        whole = sound(job, fields)
        reset: Fields | None = None
        if not whole:
            self._adopt(queue, job, fields)
        elif "hl:ended" in fields:
            reset = self._requeued(queue, job, fields)
        size = len(fields["data"])
        code = self._hopeless({**fields, **(reset or {})}, settings, ask)
        if not code and ask.claims and ask.bytes + size > ask.limits["bytes"]:
            return "stop"
        if whole and "hl:exec" in fields:
            self.forget(queue, job, fields["hl:exec"], fields["hl:install"])
            self.state.emit(queue, "stalled", job, execution=fields["hl:exec"], reason="queued again while active")
        if code:
            self._fail(queue, job, {"hl:attempts": fields.get("hl:attempts", "0"), **(reset or {})}, ask, code)
            return "gone"
        if reset:
            fields |= reset
            without(fields, ("hl:first",))
        self._claimed(queue, job, fields, settings, ask)
        self.state.emit(
            queue, "active", job, execution=fields["hl:exec"], attempt=str(number(fields, "hl:attempts") + 1),
            seq=fields["hl:seq"], worker=ask.worker, wait=str(waited),
        )  # fmt: skip
        ask.bytes += size
        return "claimed"

    def _ghost(self, queue: str, job: str, fields: Fields | None) -> bool:
        """Whether the id is no waiting job of this queue; it is noted."""
        if fields is None:
            self.drop(queue, job, "its job is gone")
        elif fields["status"] != "queued":
            self.drop(queue, job, f"its status is {fields['status']}")
        elif fields.get("origin", queue) != queue:
            self.quarantined(queue, job, f"the job belongs to queue {fields['origin']}")
        else:
            return False
        return True

    def _misplaced(self, queue: str, job: str, fields: Fields, where: tuple[int, str], ask: Ask) -> bool:
        """Whether the id stood where its job does not belong; it is put there."""
        if where[0] != priority_of(fields):
            self.place(queue, job, fields)
        elif key_of(fields) != where[1] and self.rule(queue).apart:
            ask.looked -= _COST["moved"]
            if key_of(fields):
                self.lane_put(queue, job, fields, "since")
            else:
                self.place(queue, job, fields)
        else:
            return False
        return True

    def _adopt(self, queue: str, job: str, fields: Fields) -> None:
        """Take a job of plain RQ, or one whose id RQ enqueued anew: nothing of before counts."""
        if "hl:exec" in fields:
            self.forget(queue, job, fields["hl:exec"], fields.get("hl:install", ""))
        without(fields, [name for name in fields if name.startswith("hl:")])
        source = sha1(f"{job}\n{fields.get('created_at', '')}")
        fields |= {"origin": queue, "hl:inc": source[:16], "hl:src": source}
        for index in self.state.queue(queue).ended.values():
            index.pop(job, None)
        retries = number(fields, "retries_left", -1)
        if retries >= 0:
            fields["hl:rqmax"] = str(retries + 1)

    def _requeued(self, queue: str, job: str, fields: Fields) -> Fields:
        """Take a job that had ended and that RQ requeued; returns what its claim resets."""
        self.unlist(queue, job)
        without(fields, ("hl:expires",))
        key = fields.get("hl:dedup", "")
        if key and not self.dedup_rival(queue, key, job):
            self.dedup_take(queue, key, job, again=True)
        return {**_RESET, "hl:first": ""}

    def _fail(self, queue: str, job: str, told: Fields, ask: Ask, code: str) -> None:
        ask.looked -= _COST["ended"]
        end, fields = ask.ends[code], self.state.jobs[job]
        self.finish(queue, job, fields, End(
            state=JobState.FAILED, cls=end["class"], body=end["body"], seq=number(fields, "hl:seq"),
            attempt=number(told, "hl:attempts") + 1,
        ))  # fmt: skip

    def _total_due(self, fields: Fields, settings: dict[str, Any]) -> int | None:
        own = (json.loads(fields.get("hl:options", "{}")).get("timeouts") or {}).get("total")
        total = own or (settings.get("timeouts") or {}).get("total")
        return None if total is None else number(fields, "hl:first", self.state.now) + int(total)

    def _hopeless(self, fields: Fields, settings: dict[str, Any], ask: Ask) -> str:
        """Return why a job ends instead of starting, or nothing."""
        now = self.state.now
        total, expires = self._total_due(fields, settings), fields.get("hl:expires")
        if expires and int(expires) <= now and not number(fields, "hl:starts"):
            return "expired"
        if not fields["data"]:
            return "nodata"
        if len(fields["data"]) > ask.limits["stored"]:
            return "toolarge"
        if number(fields, "hl:starts") >= ask.limits["starts"]:
            return "starts"
        if fields.get("hl:key") and not key_of(fields):
            return "key"
        return "total" if total is not None and total <= now else ""

    def _frozen(self, fields: Fields, settings: dict[str, Any]) -> str:
        options = json.loads(fields.get("hl:options", "{}"))
        own, times = options.get("timeouts") or {}, settings.get("timeouts") or {}
        payload, defaults = settings.get("payload") or {}, settings.get("defaults") or {}
        timeout, asked = number(fields, "timeout", -1), number(fields, "hl:rqmax") or None
        theirs = timeout * 1000 if timeout > 0 and timeout != _RQ_TIMEOUT else None
        frozen = {
            "maxAttempts": options.get("maxAttempts") or asked or defaults.get("maxAttempts") or 1,
            "timeouts": {
                "pending": own.get("pending") or times.get("pending") or 3_600_000,
                "run": own.get("run") or theirs or times.get("run") or 86_400_000,
            },
            "payload": {"format": payload.get("format") or "JSON", "maxSize": payload.get("maxSize") or 65_536},
            "generation": int(self.state.queue(fields["origin"]).owner["generation"]),
            "container": settings.get("container"),
        }
        total = self._total_due(fields, settings)
        return json.dumps(frozen if total is None else {**frozen, "totalDue": total}, separators=(",", ":"))

    def _claimed(self, queue: str, job: str, fields: Fields, settings: dict[str, Any], ask: Ask) -> None:
        now, there = self.state.now, self.state.queue(queue)
        seq, top, attempts = number(fields, "hl:seq"), number(fields, "hl:top"), number(fields, "hl:attempts")
        mine = fields.get("hl:install", ask.install) == ask.install
        mine = mine and fields.get("hl:ns", there.owner["namespace"]) == there.owner["namespace"]
        seq = (seq if mine else max(seq, top)) + 1
        execution, text = f"{fields['hl:inc']}-{seq}", self.state.clock.text()
        first = number(fields, "hl:first", now)
        frozen = self._frozen(fields, settings)
        without(fields, _STARTED)
        fields |= {
            "status": "started", "started_at": text, "last_heartbeat": text, "worker_name": ask.worker,
            **({"ended_at": ""} if "ended_at" in fields else {}),
            "origin": queue, "hl:seq": str(seq), "hl:top": str(max(seq, top)), "hl:exec": execution,
            "hl:worker": ask.worker, "hl:install": ask.install, "hl:ns": there.owner["namespace"],
            "hl:phase": "claimed", "hl:claimed": str(now), "hl:deadline": str(now + ask.patience),
            "hl:attempts": str(attempts), "hl:frozen": frozen, "hl:first": str(first),
        }  # fmt: skip
        member = f"{job}:{execution}"
        there.started[member] = None
        if settings.get("rateLimit"):
            there.starts[member] = now
        if fields.get("hl:key"):
            ask.looked -= _COST["key"]
            there.keyed[member] = fields["hl:key"]
        self.state.inflight[ask.install][member] = now
        self.state.epoch = self.state.epoch or f"{now}-{fields['hl:inc']}"
        ask.room -= 1
        ask.looked -= _COST["claim"]
        self.state.count(queue, "claimed")
        ask.claims.append(self.row(queue, job, fields))

    def row(self, queue: str, job: str, fields: Fields, most: int = limits.STORED_MAX) -> list[Any]:
        """Return one claim as the script gives it, its data if it is not too large."""
        task = fields.get("hl:task", "")
        plain = [] if task else [part for name in _PLAIN if fields.get(name) for part in (name, fields[name])]
        attempt = str(number(fields, "hl:attempts") + 1)
        lines = (
            job, queue, fields["hl:ns"], fields["hl:exec"], fields["hl:inc"], fields["hl:seq"], attempt, task,
            fields["hl:claimed"], fields["hl:deadline"], fields.get("hl:trace", ""), self.state.epoch,
            fields.get("hl:silent", "0"), fields.get("hl:memory", ""),
        )  # fmt: skip
        data = fields["data"] if len(fields["data"]) <= most else b""
        return [
            "\n".join(lines), data, fields.get("hl:options", "{}"), fields["hl:frozen"], plain,
            fields.get("hl:checkpoint", ""),
        ]  # fmt: skip
