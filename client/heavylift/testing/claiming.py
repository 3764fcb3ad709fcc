"""The model's dispatcher side: claim."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from heavylift.contract.states import JobState
from heavylift.store.decode import rq_time
from heavylift.testing.moves import End, Moves
from heavylift.testing.state import Fields, QueueState, number, priority_of, without

_STARTED = (
    "hl:reason", "hl:job", "hl:uid", "hl:running", "hl:evidence", "hl:due", "hl:ended", "hl:attended", "hl:outcome",
    "hl:result", "hl:cancel",
)  # fmt: skip
_COST = {"claim": 5, "ended": 10, "promoted": 2, "queue": 6}


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

    def soonest(self, wait: int) -> None:
        """Note when something changes by itself, in ms from now."""
        self.next_due = max(wait, 0) if self.next_due < 0 else min(self.next_due, max(wait, 0))


class Claiming(Moves):
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
        reply = [ask.claims, [part for pair in ask.blocked.items() for part in pair], ask.next_due]
        if ask.claims:
            self.state.replies[worker] = (request, reply)
        return reply

    def _serve(self, queue: str, ask: Ask) -> str:
        """Start what may start of one queue; returns why it is not more."""
        there = self.state.queue(queue)
        settings = there.settings
        if there.pause is not None:
            return "paused"
        if not there.delayed and there.levels == {0: []}:
            return "no-heavyqueue" if settings is None else "empty"
        ask.looked -= _COST["queue"]
        if settings and settings.get("paused") is True:
            return "paused"
        if settings is None or there.owner["install"] != ask.install:
            return "no-heavyqueue"
        self._promote(queue, there, ask)
        why = self._start(queue, there, settings, ask)
        for wait in self._waits(there, settings) if why == "rate" else ():
            ask.soonest(wait)
        return why

    def _promote(self, queue: str, there: QueueState, ask: Ask) -> None:
        """Let delayed jobs that are due wait, a bounded number."""
        due = sorted((at, job) for job, at in there.delayed.items() if at <= self.state.now)
        for at, job in due[: max(ask.promote, 0)]:
            ask.promote -= 1
            ask.looked -= _COST["promoted"]
            del there.delayed[job]
            fields = self.state.jobs.get(job)
            if fields and fields["status"] == "scheduled":
                fields |= {"status": "queued", "enqueued_at": self.state.clock.text(at * 1000)}
                self.place(queue, job, fields)
                self.state.emit(queue, "waiting", job, reason="due")
        left = [at for at in there.delayed.values() if at > self.state.now or ask.promote <= 0]
        if left:
            ask.soonest(min(left) - self.state.now)

    def _rate(self, there: QueueState, settings: dict[str, Any]) -> tuple[int | None, int]:
        """Return how many starts the rate admits now (None = any number), and ms until there is one more."""
        rate = settings.get("rateLimit")
        if not rate:
            return None, 0
        limit, period = int(rate["limit"]), int(rate["period"])
        within = sorted(at for at in there.starts.values() if at > self.state.now - period)
        if len(within) < limit:
            return limit - len(within), 0
        return 0, max(min(within[-limit], self.state.now) + period - self.state.now, 1)

    def _waits(self, there: QueueState, settings: dict[str, Any]) -> list[int]:
        held = there.held_until - self.state.now
        return [wait for wait in (self._rate(there, settings)[1], held) if wait > 0]

    def _start(self, queue: str, there: QueueState, settings: dict[str, Any], ask: Ask) -> str:
        order = sorted(there.levels)
        while True:
            why = self._full(there, settings, ask)
            if why:
                return why
            while order and not there.levels.get(order[0]):
                if order[0] != 0:
                    there.levels.pop(order[0], None)
                order.pop(0)
            if not order:
                return "empty"
            job = there.levels[order[0]][0]
            ask.looked -= 1
            if self._judge(queue, job, order[0], settings, ask) == "stop":
                return "enough"
            there.levels[order[0]].remove(job)

    def _full(self, there: QueueState, settings: dict[str, Any], ask: Ask) -> str:
        if len(ask.claims) >= ask.wanted or ask.looked <= 0:
            return "enough"
        cap, rate = settings.get("concurrencyMax"), self._rate(there, settings)[0]
        if cap is not None and len(there.started) >= int(cap):
            return "cap"
        if (rate is not None and rate <= 0) or there.held_until > self.state.now:
            return "rate"
        return "width" if ask.room <= 0 else ""

    def _judge(self, queue: str, job: str, level: int, settings: dict[str, Any], ask: Ask) -> str:
        """Say what to do with a waiting id: ``claimed``, ``gone`` (off its list) or ``stop``."""
        fields = self.state.jobs.get(job)
        if fields is None or fields["status"] != "queued":
            self.drop(queue, job, f"its status is {fields['status']}" if fields else "its job is gone")
            return "gone"
        if level != priority_of(fields):
            self.place(queue, job, fields)
            return "gone"
        size = len(fields["data"])
        code = self._hopeless(fields, settings, ask)
        if not code and ask.claims and ask.bytes + size > ask.limits["bytes"]:
            return "stop"
        if code:
            ask.looked -= _COST["ended"]
            end = ask.ends[code]
            self.finish(queue, job, fields, End(
                state=JobState.FAILED, cls=end["class"], body=end["body"], seq=number(fields, "hl:seq"),
                attempt=number(fields, "hl:attempts") + 1,
            ))  # fmt: skip
            return "gone"
        self._claimed(queue, job, fields, settings, ask)
        ask.bytes += size
        return "claimed"

    def _total_due(self, fields: Fields, settings: dict[str, Any]) -> int | None:
        own = (json.loads(fields.get("hl:options", "{}")).get("timeouts") or {}).get("total")
        total = own or (settings.get("timeouts") or {}).get("total")
        return None if total is None else number(fields, "hl:first", self.state.now) + int(total)

    def _hopeless(self, fields: Fields, settings: dict[str, Any], ask: Ask) -> str:
        """Return why a job ends instead of starting, or nothing."""
        now = self.state.now
        total, expires = self._total_due(fields, settings), fields.get("hl:expires")
        if expires and int(expires) <= now:
            return "expired"
        if len(fields["data"]) > ask.limits["stored"]:
            return "toolarge"
        if number(fields, "hl:starts") >= ask.limits["starts"]:
            return "starts"
        return "total" if total is not None and total <= now else ""

    def _frozen(self, fields: Fields, settings: dict[str, Any]) -> str:
        options = json.loads(fields.get("hl:options", "{}"))
        own, times = options.get("timeouts") or {}, settings.get("timeouts") or {}
        payload, defaults = settings.get("payload") or {}, settings.get("defaults") or {}
        frozen = {
            "maxAttempts": options.get("maxAttempts") or defaults.get("maxAttempts") or 1,
            "timeouts": {
                "pending": own.get("pending") or times.get("pending") or 3_600_000,
                "run": own.get("run") or times.get("run") or 86_400_000,
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
            "status": "started", "started_at": text, "last_heartbeat": text, "ended_at": "", "worker_name": ask.worker,
            "origin": queue, "hl:seq": str(seq), "hl:top": str(max(seq, top)), "hl:exec": execution,
            "hl:worker": ask.worker, "hl:install": ask.install, "hl:ns": there.owner["namespace"],
            "hl:phase": "claimed", "hl:claimed": str(now), "hl:deadline": str(now + ask.patience),
            "hl:attempts": str(attempts), "hl:frozen": frozen, "hl:first": str(first),
        }  # fmt: skip
        member = f"{job}:{execution}"
        there.started[member] = None
        if settings.get("rateLimit"):
            there.starts[member] = now
        self.state.inflight[ask.install][member] = now
        ask.room -= 1
        ask.looked -= _COST["claim"]
        self.state.count(queue, "claimed")
        self.state.emit(
            queue, "active", job, execution=execution, attempt=str(attempts + 1), seq=str(seq), worker=ask.worker,
            wait=str(now - min(rq_time(fields["enqueued_at"]) or now, now)),
        )  # fmt: skip
        ask.claims.append(self._row(queue, job, fields))

    def _row(self, queue: str, job: str, fields: Fields) -> list[Any]:
        """Return one claim as the script gives it."""
        attempt = str(number(fields, "hl:attempts") + 1)
        return [
            job, queue, fields["hl:ns"], fields["hl:exec"], fields["hl:inc"], fields["hl:seq"], attempt,
            fields["hl:task"], fields["data"], fields["hl:claimed"], fields["hl:deadline"],
            fields.get("hl:options", "{}"), fields["hl:frozen"], fields.get("hl:trace", ""), [], self.state.epoch,
            fields.get("hl:silent", "0"), fields.get("hl:memory", ""), fields.get("hl:checkpoint", ""),
        ]  # fmt: skip
