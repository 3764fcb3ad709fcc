"""What the model keeps: jobs as the fields of their hashes, queues as their lists and sets, one clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from heavylift.contract.states import RQ_STATUS, JobState

Fields = dict[str, Any]
"""A job's hash: names of fields and their text; ``data`` is bytes."""
_FUNC = re.compile(r"([\w.]+)\(")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
KEEP = {  # retention where the queue's settings name none
    JobState.COMPLETED: (1000, 86_400_000),
    JobState.FAILED: (5000, 604_800_000),
    JobState.CANCELLED: (5000, 604_800_000),
}


@dataclass(slots=True)
class Clock:
    """The model's time, in microseconds since the epoch; it stands still until it is moved."""

    micros: int = 1_767_225_600_000_000
    """Midnight of 1 January 2026, UTC, unless set."""

    @property
    def ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.micros // 1000

    def advance(self, ms: int) -> None:
        """Move it on."""
        self.micros += ms * 1000

    def text(self, micros: int | None = None) -> str:
        """Return a time as RQ writes it; now when left out."""
        moment = _EPOCH + timedelta(microseconds=self.micros if micros is None else micros)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class Holder:
    """Who holds a deduplication key."""

    job: str
    until: int | None = None
    """ms: a throttle holds until then, over success and failure too."""
    follower: str = ""
    """The job that goes next."""


Waits = tuple[int, int, str]
"""A job in the lane of its key: level, rank, id."""


@dataclass(slots=True)
class QueueState:
    """One queue."""

    levels: dict[int, list[str]] = field(default_factory=lambda: {0: []})
    """Priority -> ids in order."""
    delayed: dict[str, int] = field(default_factory=dict)
    """Id -> due, ms."""
    scheduled: dict[str, int] = field(default_factory=dict)
    """Id -> due, seconds: the same as RQ's registry has it, and what RQ's own client delayed."""
    deferred: dict[str, int] = field(default_factory=dict)
    started: dict[str, None] = field(default_factory=dict)
    """``job:execution`` of what runs."""
    lanes: dict[str, list[Waits]] = field(default_factory=dict)
    """Concurrency key -> its jobs that wait by it, in order."""
    heads: dict[str, int] = field(default_factory=dict)
    """Key with a lane -> ms its first job came."""
    slots: dict[str, str] = field(default_factory=dict)
    """Key with room -> its place in the ring."""
    full: dict[str, int] = field(default_factory=dict)
    """Key -> ms it was last found at its cap."""
    keyed: dict[str, str] = field(default_factory=dict)
    """``job:execution`` of what runs by a key -> the key."""
    ended: dict[JobState, dict[str, int]] = field(default_factory=lambda: {state: {} for state in ENDED})
    """State -> id -> when it ended, ms."""
    kept: dict[JobState, dict[str, int]] = field(default_factory=lambda: {state: {} for state in ENDED})
    """State -> id -> until when RQ's registry lists it, seconds."""
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    breaker: dict[str, int | str] = field(default_factory=dict)
    """failures; while it is open: next (ms), pause (ms), probe (``job:execution``)."""
    trouble: dict[str, str] = field(default_factory=dict)
    dedup: dict[str, Holder] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    """``job:execution`` -> ms: the starts in the window of the rate limit."""
    counters: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    settings: dict[str, Any] | None = None
    settings_text: str = ""
    owner: dict[str, str] = field(default_factory=dict)
    """install, namespace, uid, generation of the settings."""
    settings_at: int = 0
    """ms they were written."""
    pause: dict[str, str] | None = None
    held_until: int = 0
    """ms: a program asked to hold the queue back."""
    held_by: str = ""
    """Its job."""

    def waiting(self) -> list[str]:
        """Return ids of all that waits: by level those in the lists, then by key those in lanes."""
        listed = [job for level in sorted(self.levels) for job in self.levels[level]]
        return listed + [job for key in sorted(self.lanes, key=str.encode) for _, _, job in self.lanes[key]]

    def place(self, job: str, level: int) -> int:
        """Return how many stand before a job of this level, those of sooner levels included."""
        return sum(len(self.levels[one]) for one in self.levels if one < level) + self.levels[level].index(job)


@dataclass(slots=True)
class State:
    """All of one Redis, as far as queues go."""

    clock: Clock = field(default_factory=Clock)
    jobs: dict[str, Fields] = field(default_factory=dict)
    queues: dict[str, QueueState] = field(default_factory=dict)
    inflight: dict[str, dict[str, int]] = field(default_factory=dict)
    """Install -> ``job:execution`` -> ms of its claim."""
    dispatchers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Install -> dispatcher -> until when it counts as alive, ms."""
    unfinalized: dict[str, dict[str, str]] = field(default_factory=dict)
    """Install -> ``namespace/Job name`` -> ``job:execution``."""
    dependents: dict[str, set[str]] = field(default_factory=dict)
    """Job -> those that wait for it."""
    dependencies: dict[str, set[str]] = field(default_factory=dict)
    todo: set[str] = field(default_factory=set)
    """Ended jobs not all of whose dependents were looked at."""
    schedules: dict[str, Fields] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    """Schedule -> when somebody should look at it, ms; infinity = never."""
    failing: dict[str, int] = field(default_factory=dict)
    """Schedule that could not be fired -> the tick that was due, ms."""
    replies: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Worker -> (request, reply) of its last claim that gave anything."""
    epoch: str = ""
    published: Callable[[str], None] = lambda _channel: None

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self.clock.ms

    def queue(self, name: str) -> QueueState:
        """Return a queue, made when it is not there."""
        return self.queues.setdefault(name, QueueState())

    def emit(self, queue: str, event: str, job: str, **more: str) -> None:
        """Note an event."""
        entry = {"event": event, "job": job, "at": str(self.now)}
        entry |= {name.removesuffix("_"): value for name, value in more.items()}
        self.queue(queue).events.append(entry)

    def count(self, queue: str, name: str, n: int = 1) -> None:
        """Count something."""
        counters = self.queue(queue).counters
        counters[name] = counters.get(name, 0) + n


def state_of(job: Fields | None) -> JobState | None:
    """Return a job's state."""
    return None if job is None else RQ_STATUS.get(str(job.get("status", "")))


def priority_of(job: Fields) -> int:
    """Return a job's priority."""
    return int(job.get("hl:priority", "0"))


def number(job: Fields, name: str, default: int = 0) -> int:
    """Return a whole number of a job's hash."""
    found = str(job.get(name, ""))
    return int(found) if found.lstrip("-").isdigit() else default


def flat(job: Fields) -> list[Any]:
    """Return a job's fields as scripts give them: all but the data; of plain RQ, the path of its function."""
    parts = [part for name, value in job.items() if name != "data" for part in (name, value)]
    found = None if "hl:task" in job else _FUNC.match(str(job.get("description", "")))
    return [*parts, "func", found.group(1)] if found else parts


def without(job: Fields, names: Iterable[str]) -> None:
    """Take fields away."""
    for name in names:
        job.pop(name, None)
