"""The model's gauges: what a queue has, what holds it back, what of it may start now."""

from __future__ import annotations

import json
import math
from typing import Any

from heavylift.testing.lanes import ring
from heavylift.testing.reading import Reading

_KEYS = 32


class Gauging(Reading):
    """All gauges of an install."""

    def snapshot(self, args: list[Any]) -> str:
        """Return the gauges of an install and its queues."""
        install, *queues = args
        state, now = self.state, self.state.now
        due = [at for at in state.due.values() if at <= now] + list(state.failing.values())
        return json.dumps({
            "at": now, "inflight": len(state.inflight.get(install, {})),
            "unfinalized": len(state.unfinalized.get(install, {})), "dispatchers": self.live(install),
            "schedules": len(state.due), "suspended": sum(at == math.inf for at in state.due.values()),
            "due": int(min(due, default=-1)), "queues": {queue: self._gauges(queue) for queue in queues},
            "queue_names": queues,
        })  # fmt: skip

    def _held(self, queue: str) -> str:
        """Return what holds the whole queue back, or nothing."""
        there = self.state.queue(queue)
        if there.pause is not None or (there.settings or {}).get("paused") is True:
            return "paused"
        return "no-heavyqueue" if there.settings is None else "breaker" if self.breaker(queue) else ""

    def _lanes_room(self, queue: str) -> int:
        """Return how many jobs in lanes may start now: exact over the first keys with room, their caps for others."""
        there, per = self.state.queue(queue), self.rule(queue).per
        total = sum(len(lane) for lane in there.lanes.values())
        if per is None:
            return total
        keys = [key for _, key in ring(there)]
        room = sum(
            max(min(len(there.lanes.get(key, ())), per - self.running(queue, key)), 0) for key in keys[:_KEYS] if key
        )
        return min(room + len(keys[_KEYS:]) * per, total)

    def _gauges(self, queue: str) -> dict[str, Any]:
        there = self.state.queue(queue)
        out: dict[str, Any] = json.loads(self.counts([queue]))
        reason, (left, wait) = self._held(queue), self.rate(queue)
        cap, hold = (there.settings or {}).get("concurrencyMax"), there.held_until - self.state.now
        if hold > 0:
            left, wait = 0, max(hold, wait)
            out |= {"slowed": hold, "slowedBy": there.held_by}
        aside = sum(len(lane) for lane in there.lanes.values()) - self._lanes_room(queue)
        room = out["waiting"] - aside
        room = room if cap is None else min(room, cap - out["active"])
        room = room if left is None else min(room, left)
        breaker = self.breaker(queue)
        if reason == "breaker" and breaker:
            room = min(room, int(breaker[0] == 0 and not breaker[1]))
        elif reason:
            room = 0
        startable = max(room, 0)
        return out | {
            "aside": aside, "rateLeft": -1 if left is None else left, "rateNext": wait or -1,
            "paused": reason == "paused", "held": reason, "cap": -1 if cap is None else cap,
            "install": there.owner.get("install", ""), "startable": startable, "demand": out["active"] + startable,
            "counters": there.counters,
        }  # fmt: skip
