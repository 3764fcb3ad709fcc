"""Watching an installation with a long backlog: what must never be seen, and figures against the history of events.

Every claim and end is an event in Redis with the time of its script, so the history tells exactly how many were in
flight at any moment, since when the oldest job waited, and how long each waited for its claim.
"""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from heavylift.contract import limits
from heavylift.store import Event
from heavylift_operator.services.scrape import FRESH_S
from tests.benchmarks.census import Census
from tests.benchmarks.site import Site
from tests.proofs.processes import Daemon

Json = dict[str, Any]
WAITS: Final = frozenset({"added", "waiting"})
"""Events after which a job of this watch waits: nothing is delayed and no attempt fails."""
LEAVES: Final = frozenset({"completed", "failed", "cancelled", "released", "retrying", "stalled"})
EVERY_S: Final = FRESH_S + 0.1
"""An operator answers twice from one look at Redis when it is asked more often."""
_CHUNK: Final = 10
"""Jobs enqueued at once have the same time: small, so that the oldest is another one every few claims."""
_SAMPLE: Final = re.compile(r"^(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$")


@dataclass(kw_only=True)
class Seen:
    """What was seen, and what should not have been."""

    width: int
    retention: int
    in_flight_max: int = 0
    """By the history of events, between any two of them."""
    unfinished_max: int = 0
    """Jobs in the API server that had not ended, after each change of one."""
    jobs_max: int = 0
    """Jobs in the API server, ended ones too, after each change of one."""
    oldest_compared: int = 0
    oldest_seen: set[int] = field(default_factory=set)
    """Different moments since when the oldest waited (ms)."""
    waits_compared: int = 0
    completed: int = 0
    wrong: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Note something wrong; a few are enough."""
        if len(self.wrong) < 20:
            self.wrong.append(what)

    def lines(self) -> list[str]:
        """Return it for people."""
        return [
            f"completed while watched: {self.completed}",
            f"most in flight: {self.in_flight_max} (width {self.width})",
            f"most Jobs at work in the API server: {self.unfinished_max} (width {self.width})",
            f"most Jobs in the API server: {self.jobs_max} (width {self.width} + retention {self.retention})",
            f"oldest waiting equal to the history: {self.oldest_compared} times, {len(self.oldest_seen)} moments",
            f"waits in the histogram equal to the history's: {self.waits_compared}",
            *(f"WRONG: {words}" for words in self.wrong),
        ]


@dataclass
class Past:
    """The history of events so far."""

    width: int
    after: str = "0"
    waiting: dict[str, int] = field(default_factory=dict)
    """Job -> since when it waits (ms)."""
    order: list[int] = field(default_factory=list)
    in_flight: set[str] = field(default_factory=set)
    waits_ms: list[int] = field(default_factory=list)

    def oldest(self) -> int | None:
        """Return since when the oldest waiting job waits (ms), None when none does."""
        return min(self.waiting.values(), default=None)

    def take(self, events: Sequence[Event], seen: Seen) -> None:
        """Go on with the history."""
        for event in events:
            self.after, at = event.id, event.at
            if event.name in WAITS:
                self.waiting[event.job] = at
            elif event.name == "active":
                self.waits_ms.append(at - self.waiting.pop(event.job, at))
                self.in_flight.add(event.job)
            elif event.name in LEAVES:
                self.in_flight.discard(event.job)
            seen.completed += event.name == "completed"
            seen.in_flight_max = max(seen.in_flight_max, len(self.in_flight))
            if len(self.in_flight) > self.width:
                seen.say(f"{len(self.in_flight)} in flight after event {event.id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is watched."""

    seconds: float = 180.0
    jobs: int = 5_000
    """Enqueued at the start."""
    width: int = 20
    """Executions the dispatchers may have in flight."""
    retention: int = 200
    """Finished Jobs the queue keeps."""
    run_ms: int = 2_000
    enough: int | None = None
    """Ends seen after which it is enough, before the time is over."""


def run(here: Site, plan: Plan) -> Seen:
    """Start an installation with two operators and two dispatchers, fill its queue and watch."""
    pods = {"succeeded": "10m", "failed": "24h", "count": plan.retention}
    here.serve(ends={"heavylift-test/run-ms": str(plan.run_ms)}, retention={"pods": pods})
    leader, _ = here.operators(2)
    for _ in range(2):
        here.daemon("dispatcher", SLOTS=str(plan.width // 2))
    return watch(here, leader, plan)


def watch(here: Site, leader: Daemon, plan: Plan) -> Seen:
    """Fill the queue and watch for so long; ``leader`` is the operator that exports the queue's figures."""
    seen = Seen(width=plan.width, retention=plan.retention)
    with Census(here.kube, here.name) as census:
        past = _follow(here, leader, plan, seen)
        _compare_waits(here, leader, past, seen)
    judge(census, seen)
    return seen


def judge(census: Census, seen: Seen) -> None:
    """Hold the Jobs that stood against the width and the retention."""
    seen.jobs_max, seen.unfinished_max = census.most, census.most_unfinished
    if census.trouble:
        seen.say(f"Jobs were not counted throughout: {census.trouble}")
    if seen.unfinished_max > seen.width:
        seen.say(f"{seen.unfinished_max} Jobs at work in the API server")
    if seen.jobs_max > seen.width + seen.retention:
        seen.say(f"{seen.jobs_max} Jobs in the API server")


def _follow(here: Site, leader: Daemon, plan: Plan, seen: Seen) -> Past:
    """Fill the queue and compare figures with the history until the time is over; return the history."""
    past = Past(plan.width)
    for start in range(0, plan.jobs, _CHUNK):
        here.enqueue(min(_CHUNK, plan.jobs - start))
        past.take(here.events(past.after), seen)  # the stream keeps the last 10,000
    end = time.monotonic() + plan.seconds
    while time.monotonic() < end and (plan.enough is None or seen.completed < plan.enough):
        past.take(here.events(past.after), seen)
        before = past.oldest()
        told = figures(leader, here.name)
        past.take(here.events(past.after), seen)
        compare_oldest(before, told.oldest_ms, past.oldest(), seen)
        time.sleep(EVERY_S)  # a sample sooner would be the same look again
    return past


def compare_oldest(before: int | None, told: int | None, after: int | None, seen: Seen) -> None:
    """Hold a gauge against the history just before and just after it was read: it only moves forward."""
    if told is None or before is None or after is None:
        if not (told is None and after is None):
            seen.say(f"oldest waiting is {told}, the history says {before} to {after}")
    elif before <= told <= after:
        seen.oldest_compared += 1
        seen.oldest_seen.add(told)
    else:
        seen.say(f"oldest waiting is {told}, the history says {before} to {after}")


def _compare_waits(here: Site, leader: Daemon, past: Past, seen: Seen) -> None:
    """Hold the histogram against the history while no job is claimed."""
    here.client.queue(here.name).pause(reason="comparing")
    past.take(here.events(past.after), seen)
    time.sleep(EVERY_S)  # as above
    told = figures(leader, here.name)
    expected = [0] * (len(limits.WAIT_BOUNDS_MS) + 1)
    for wait in past.waits_ms:
        expected[bisect.bisect_left(limits.WAIT_BOUNDS_MS, wait)] += 1
    cumulated = [sum(expected[: n + 1]) for n in range(len(expected))]
    if told.waits != cumulated:
        seen.say(f"the histogram of waits is {told.waits}, the history gives {cumulated}")
    if abs(told.waits_s - sum(past.waits_ms) / 1000) > 0.001:
        seen.say(f"the waits add up to {told.waits_s} s, in the history to {sum(past.waits_ms) / 1000} s")
    seen.waits_compared = len(past.waits_ms)


@dataclass(frozen=True, slots=True)
class Figures:
    """What an operator's metrics say of a queue."""

    oldest_ms: int | None
    waits: list[int]
    """Cumulated, by bound."""
    waits_s: float


def figures(leader: Daemon, queue: str) -> Figures:
    """Read them from its metrics page."""
    oldest, waits, total = None, list[int](), 0.0
    status, page = leader.probe("/metrics")
    if status != HTTPStatus.OK:
        raise ConnectionError(f"{leader.name} answers {status}: {page[:200]}")
    for line in page.splitlines():
        found = _SAMPLE.match(line)
        if found is None or f'queue="{queue}"' not in found["labels"]:
            continue
        if found["name"] == "heavylift_queue_oldest_waiting_timestamp_seconds":
            oldest = round(float(found["value"]) * 1000)
        elif found["name"] == "heavylift_job_wait_seconds_bucket":
            waits.append(round(float(found["value"])))
        elif found["name"] == "heavylift_job_wait_seconds_sum":
            total = float(found["value"])
    return Figures(oldest or None, waits, total)
