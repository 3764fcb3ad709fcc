"""What a crowd is given to do: jobs whose number decides what they ask for and how they end, and the bounds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from heavylift.contract import ids, payload
from heavylift.store import EnqueueRequest, Json

INSTALL, NAMESPACE, TASK = "prod/heavylift", "analytics", "annual"
QUEUES = ("steady", "fair")
"""First in, first out over all keys; and one in which keys take turns."""
PROCESSES = 8
SLOTS = 16
"""Of each process: the width is eight times this, below the caps of both queues together."""
LEVELS = (-5, 0, 0, 0, 7)
KEYS = 6
_DATA = payload.encode(TASK, {"year": 2026})
_FINGERPRINT = payload.fingerprint(TASK, payload.dumps({"year": 2026}))
_DELAY_MS = 20


class Fate(Enum):
    """How a job's attempts end."""

    SUCCEED = "succeed"
    RETRY = "retry"
    """The first attempt fails and is repeated at once."""
    RETRY_LATER = "retry later"
    SNOOZE = "snooze"
    """The first attempt ends without being counted."""
    FAIL = "fail"


_FATES = {3: Fate.RETRY, 7: Fate.RETRY_LATER, 11: Fate.SNOOZE, 15: Fate.FAIL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a queue's settings allow at most."""

    cap: int = 80
    """Executions at once."""
    per_key: int = 6
    """Executions of one key at once."""
    limit: int = 15
    """Starts in any window; below the cap and below what one claim takes, so that it binds on any machine."""
    period: int = 12
    """The window, milliseconds."""
    fair: bool = False
    """Keys take turns, jobs without one share a turn; otherwise first in, first out by level."""

    def settings(self, queue: str) -> Json:
        """Return them as a queue's settings."""
        return {
            "queue": queue,
            "generation": 1,
            "paused": False,
            "concurrencyMax": self.cap,
            "concurrencyPerKey": self.per_key,
            "concurrencyOrder": "RoundRobin" if self.fair else None,
            "rateLimit": {"limit": self.limit, "period": self.period},
            "defaults": {"priority": 0, "maxAttempts": 2},
            "timeouts": {"pending": 3_600_000, "run": 86_400_000, "heartbeat": None, "total": None},
            "payload": {"format": "JSON", "maxSize": 65536},
            "retention": {
                "completed": {"count": 10_000_000, "age": 86_400_000},
                "failed": {"count": 10_000_000, "age": 604_800_000},
            },
            "container": None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one job was enqueued with, and how it ends."""

    level: int = 0
    key: str = ""
    """Concurrency key; empty = none."""
    delay: int = 0
    """Milliseconds before it may start."""
    fate: Fate = Fate.SUCCEED


def asked(number: int) -> Asked:
    """Return what the job of this number asks for; all combinations occur, as the periods have no common divisor."""
    turn = number // len(LEVELS) % (KEYS + 1 + KEYS // 2)
    return Asked(
        level=LEVELS[number % len(LEVELS)],
        key=f"k{turn}" if turn < KEYS else "",
        delay=_DELAY_MS if number % 23 == 5 else 0,
        fate=_FATES.get(number % 17, Fate.SUCCEED),
    )


def job_id(queue: str, number: int) -> str:
    """Return the id of a queue's job of this number."""
    return f"{queue}-{number:07}"


def number_of(job: str) -> int:
    """Return the number in a job's id."""
    return int(job.rpartition("-")[2])


def request(queue: str, number: int) -> EnqueueRequest:
    """Return the request that enqueues it."""
    wants = asked(number)
    options: Json = {"priority": wants.level} | ({"key": wants.key} if wants.key else {})
    return EnqueueRequest(
        queue=queue,
        task=TASK,
        data=_DATA,
        id=job_id(queue, number),
        incarnation=ids.new_incarnation(),
        fingerprint=_FINGERPRINT,
        delay_ms=wants.delay,
        options=options,
    )


def batches(jobs: int, size: int = 200) -> Iterator[tuple[str, range]]:
    """Yield (queue, numbers) until each queue has its half of so many jobs."""
    half = jobs // len(QUEUES)
    for start in range(0, half, size):
        for queue in QUEUES:
            yield queue, range(start, min(start + size, half))
