"""Where each job of a crowd's queue waits and runs, replayed from its events alone. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.proofs.crowd import plan
from tests.proofs.crowd.plan import Asked
from tests.proofs.history import LEAVES_ACTIVE, Line

LEVELS = sorted(set(plan.LEVELS))
Lane = tuple[int, str]
"""Level and concurrency key; the jobs without a key share one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One job that waits."""

    job: str
    since: int
    """Milliseconds; the sooner goes first among the heads of lanes. Below zero: given back, so before all others."""


@dataclass(slots=True)
class Yard:
    """A queue at one moment of its history."""

    asked: Mapping[str, Asked]
    lanes: dict[Lane, deque[Entry]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    """Job -> its execution."""
    of_key: Counter[str] = field(default_factory=Counter)
    """Executions by key."""
    _due: dict[str, int] = field(default_factory=dict)
    _since: dict[str, int] = field(default_factory=dict)

    def lane(self, job: str) -> Lane:
        """Return the lane a job waits in."""
        wants = self.asked.get(job, Asked())
        return wants.level, wants.key

    def first(self, key: str) -> tuple[Lane, Entry] | None:
        """Return the job of a key that goes first, and its lane."""
        lanes = ((level, key) for level in LEVELS)
        return next(((lane, self.lanes[lane][0]) for lane in lanes if self.lanes.get(lane)), None)

    def waiting(self) -> Iterator[tuple[Lane, Entry]]:
        """Yield each lane in which somebody waits, with its head."""
        for lane, entries in self.lanes.items():
            if entries:
                yield lane, entries[0]

    def take(self, line: Line) -> None:
        """Go on by one event."""
        job = line.job
        if line.name == "active":
            self._start(line)
        elif line.final or line.name in LEAVES_ACTIVE:
            self._stop(job)
        if line.name == "added":
            self._wait(line, self.asked.get(job, Asked()).delay)
        elif line.name == "retrying":
            self._wait(line, int(line.fields.get("delay") or 0))
        elif line.name == "waiting":
            key = self.lane(job)[1]
            self._put(job, line.at if key else self._due.pop(job, line.at))
        elif line.name == "released":
            self._give_back(line)

    def _wait(self, line: Line, delay: int) -> None:
        if delay:
            self._due[line.job] = line.at + delay
        else:
            self._put(line.job, line.at)

    def _put(self, job: str, since: int) -> None:
        self._since[job] = since
        self.lanes.setdefault(self.lane(job), deque()).append(Entry(job, since))

    def _give_back(self, line: Line) -> None:
        """Put a job to the front: of its key's lane before all others; in the lists it keeps its time."""
        lane = self.lane(line.job)
        since = -line.at if lane[1] else self._since.get(line.job, line.at)
        self.lanes.setdefault(lane, deque()).appendleft(Entry(line.job, since))

    def _start(self, line: Line) -> None:
        lane = self.lanes.get(self.lane(line.job), deque())
        entry = next((each for each in lane if each.job == line.job), None)
        if entry is not None:
            lane.remove(entry)
        self._stop(line.job)
        self.running[line.job] = line.execution
        self.of_key[self.lane(line.job)[1]] += 1

    def _stop(self, job: str) -> None:
        if self.running.pop(job, None) is not None:
            self.of_key[self.lane(job)[1]] -= 1


def replay(lines: Sequence[Line], asked: Mapping[str, Asked]) -> Iterator[tuple[Yard, Line]]:
    """Yield the yard as each event found it, with the event."""
    yard = Yard(asked)
    for line in lines:
        yield yard, line
        yard.take(line)
