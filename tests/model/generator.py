"""Steps of a sequence, made at random."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from heavylift.contract.states import JobState
from tests.model.views import LEVELS, QUEUES, SCHEDULES

Step = tuple[str, dict[str, Any]]
JOBS = 12
"""Ids a sequence uses: few, so that they meet again."""
KEYS = ("k1", "k2")
LANES = ("red", "green", "blue")
"""Concurrency keys."""


class Generator:
    """Makes steps that mean something more often than not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.keyed = self.random.random() < 0.6
        strange = self.random.random() < 0.35
        scheduled = self.random.random() < 0.3
        self.family = self.random.random() < 0.3
        self.weights = {**_WEIGHTS, **(_STRANGE if strange else {}), **(_SCHEDULED if scheduled else {})}

    def first(self) -> Iterator[Step]:
        """Yield the steps every sequence begins with."""
        for queue in QUEUES:
            yield self.settings(queue)

    def settings(self, queue: str) -> Step:
        """Return a step that gives a queue settings."""
        r = self.random
        rate = {"limit": r.choice((1, 3)), "period": 30_000} if r.random() < 0.3 else None
        keep = {"count": r.choice((1, 3, 1000)), "age": r.choice((60_000, 86_400_000))}
        return "settings", {
            "queue": queue,
            "concurrencyMax": r.choice((None, None, None, None, 0, 1, 2, 3, 5)),
            "concurrencyPerKey": r.choice((None, 1, 1, 2)) if self.keyed else None,
            "concurrencyOrder": "RoundRobin" if self.keyed and r.random() < 0.4 else "Fifo",
            "rateLimit": rate,
            "paused": r.random() < 0.05,
            "defaults": {"maxAttempts": r.choice((1, 3)), "backoff": {"delay": 4_000, "max": 10_000}},
            "breaker": {"consecutiveFailures": r.choice((1, 2, 3))},
            "timeouts": {"pending": 60_000, "run": 60_000, "total": r.choice((None, None, 120_000))},
            "retention": {"completed": keep, "failed": keep},
        }

    def step(self) -> Step:
        """Return the next step."""
        names, weights = zip(*self.weights.items(), strict=True)
        name: str = self.random.choices(names, weights)[0]
        if name == "settings":
            return self.settings(self.random.choice(QUEUES))
        given: dict[str, Any] = getattr(self, f"_{name}")()
        return name, given

    def _job(self) -> int:
        return self.random.randrange(JOBS)

    def _back(self) -> int:
        return self.random.choices((0, 1, 2), (85, 10, 5))[0]

    def _enqueue(self) -> dict[str, Any]:
        r = self.random
        options: dict[str, Any] = {}
        if r.random() < 0.4:
            options["priority"] = r.choice(LEVELS)
        if r.random() < 0.3:
            options["lifo"] = True
        if r.random() < 0.5:
            mode = r.choice(("first", "first", "keep_last", "keep_last", "debounce"))
            ttl = r.choice((5_000, 90_000)) if mode == "debounce" or (mode == "first" and r.random() < 0.5) else None
            options["dedupe"] = {"id": r.choice(KEYS), "mode": mode, **({"ttl": ttl} if ttl else {})}
        if r.random() < 0.2:
            options["maxAttempts"] = r.choice((1, 5))
        if r.random() < 0.1:
            options["timeouts"] = {"total": 30_000}
        if r.random() < (0.6 if self.keyed else 0.05):
            options["key"] = r.choice(LANES)
        depends = r.sample(range(JOBS), r.choice((1, 1, 2))) if r.random() < (0.4 if self.family else 0.05) else []
        return {
            "depends": depends,
            "job": self._job(),
            "value": r.choice((0, 0, 0, 1)),
            "named": "dedupe" in options or r.random() < 0.7,
            "again": r.random() < 0.1,
            "queue": r.choices(QUEUES, (3, 1))[0],
            "if_exists": r.choice(("raise", "return", "retry_failed", "replace", "replace")),
            "delay_ms": r.choice((0, 0, 0, 0, 0, 1, 5_000, 40_000)),
            "expires_ms": r.choice((None, None, None, 4_000, 50_000)),
            "options": options,
        }

    def _batch(self) -> dict[str, Any]:
        return {"entries": [self._enqueue() for _ in range(self.random.choice((2, 3, 5)))]}

    def _claim(self) -> dict[str, Any]:
        r = self.random
        queues = list(QUEUES) if r.random() < 0.7 else [r.choice(QUEUES)]
        return {
            "worker": r.choice(("w1", "w2")),
            "queues": queues,
            "most": r.choice((1, 1, 3, 20)),
            "slots": r.choice((1, 3, 100, 100)),
        }

    def _record(self) -> dict[str, Any]:
        return {"job": self._job(), "back": self._back()}

    def _observe(self) -> dict[str, Any]:
        r = self.random
        running = r.random() < 0.7
        return {
            "job": self._job(),
            "back": self._back(),
            "phase": "running" if running else "pending",
            "running": running and r.random() < 0.9,
            "evidence": r.choice(({}, {"node": "n1"}, {"pod": "p", "restarts": 1})),
            "terminal": r.random() < 0.1,
        }

    def _check(self) -> dict[str, Any]:
        return {"job": self._job(), "back": self._back(), "attend": self.random.random() < 0.6}

    def _release(self) -> dict[str, Any]:
        r = self.random
        return {"job": self._job(), "back": self._back(), "delay": r.choice((0, 0, 7_000)), "silent": r.random() < 0.4}

    def _finish(self) -> dict[str, Any]:
        r = self.random
        often = 8 if self.family else 3
        next_ = r.choices(("complete", "fail", "cancel", "retry"), (often, 2, 1, 5))[0]
        classes = {"complete": ("succeeded",), "cancel": ("cancelled", "job-deleted")}
        return {
            "job": self._job(),
            "back": self._back(),
            "next_": next_,
            "cls": r.choice(classes.get(next_, ("error", "oom", "lost", "timeout", "image", "image"))),
            "spend": r.choice(("attempt", "budget", "none")),
            "delay_ms": r.choice((0, 0, 3_000, 60_000)) if next_ == "retry" else 0,
            "result": r.choice((None, '{"ok":1}')),
            "memory": r.choice((None, None, 2**30)),
            "checkpoint": r.choice((None, None, '{"at":3}')),
            "job_exists": r.random() < 0.8,
            "began": r.choice((None, None, None, -1_500, 0)),
            "hold_ms": r.choice((0, 0, 0, 0, 2_500, 20_000)) if next_ == "retry" else 0,
        }

    def _finalized(self) -> dict[str, Any]:
        return {"job": self._job()}

    _cancel = _promote = _remove = _finalized

    def _retry(self) -> dict[str, Any]:
        r = self.random
        more = {"options": {"resources": {"memory": "8Gi"}}, "priority": r.choice((None, *LEVELS))}
        return {"job": self._job(), "change": more if r.random() < 0.3 else None}

    def _change(self) -> dict[str, Any]:
        r = self.random
        return {
            "job": self._job(),
            "priority": r.choice((None, *LEVELS)),
            "delay_ms": r.choice((None, None, 0, 9_000)),
            "data_json": r.choice((None, None, '{"n":1}')),
        }

    def _purge(self) -> dict[str, Any]:
        states = [state.value for state in JobState if state is not JobState.ACTIVE]
        return {"queue": self.random.choice(QUEUES), "state": self.random.choice(states), "limit": 3}

    def _pause(self) -> dict[str, Any]:
        return {"queue": self.random.choice(QUEUES), "on": self.random.random() < 0.3}

    def _rq(self) -> dict[str, Any]:
        r = self.random
        how = r.choices(("cancel", "requeue", "delete", "enqueue", "empty"), (5, 5, 3, 4, 0.5))[0]
        given: dict[str, Any] = {"how": how, "job": self._job(), "queue": r.choices(QUEUES, (3, 1))[0]}
        if how == "enqueue":
            given |= {"retries": r.choice((0, 0, 2)), "front": r.random() < 0.3}
            given |= {"depends": [self._job()] if r.random() < 0.3 else [], "forgiving": r.random() < 0.5}
        return given

    def _schedule(self) -> dict[str, Any]:
        r = self.random
        return {
            "schedule": r.choice(SCHEDULES),
            "queue": r.choices(QUEUES, (3, 1))[0],
            "every": r.choice((1, 5, 5, 30)),
            "options": {
                "concurrency": r.choice(("Allow", "Forbid", "Replace", "Replace")),
                "catch_up": r.choice(("none", "last", "all")),
                "starting_deadline": r.choice((None, None, 20)),
                "limit": r.choice((None, None, 1, 3)),
                **({"key": r.choice(LANES)} if r.random() < 0.3 else {}),
                **({"delay": 3} if r.random() < 0.2 else {}),
            },
            "suspended": r.choice((None, None, None, True, False)),
            "uid": r.choice(("u1", "u1", "u2")),
        }

    def _tick(self) -> dict[str, Any]:
        return {"twice": self.random.random() < 0.2, "suspended": self.random.random() < 0.1}

    def _steer(self) -> dict[str, Any]:
        r = self.random
        return {
            "schedule": r.choice(SCHEDULES),
            "how": r.choice(("suspend", "resume", "resume", "delete", "trigger", "defer")),
            "current": r.random() < 0.8,
        }

    def _unserve(self) -> dict[str, Any]:
        return {"queue": self.random.choice(QUEUES), "own": self.random.random() < 0.8}

    def _free(self) -> dict[str, Any]:
        return {"queue": self.random.choice(QUEUES), "key": self.random.choice(KEYS)}

    def _look(self) -> dict[str, Any]:
        return {"queue": self.random.choice(QUEUES)}

    _trim = _sweep = _look

    def _alive(self) -> dict[str, Any]:
        return {"worker": self.random.choice(("w1", "w2")), "ttl": self.random.choice((0, 5_000, 90_000))}

    def _time(self) -> dict[str, Any]:
        return {"ms": self.random.choice((1, 500, 2_000, 2_000, 5_000, 10_000, 30_000, 61_000, 400_000))}


_WEIGHTS = {
    "enqueue": 24, "batch": 10, "claim": 18, "record": 5, "observe": 3, "check": 3, "release": 6, "finish": 14,
    "finalized": 2, "cancel": 4, "retry": 4, "promote": 2, "change": 4, "remove": 2, "purge": 2, "pause": 2, "free": 1,
    "look": 1, "trim": 1, "sweep": 1, "time": 8, "settings": 2, "unserve": 0.5, "alive": 3,
}  # fmt: skip
_STRANGE = {"rq": 12}
"""In some sequences people use RQ's own commands, too."""
_SCHEDULED = {"schedule": 8, "tick": 24, "steer": 8, "time": 16}
"""In some sequences there are schedules."""
