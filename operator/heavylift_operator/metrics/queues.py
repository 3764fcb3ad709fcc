"""What Redis knows of the queues, from one snapshot; the counters among it outlive every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import tallies
from heavylift.store.model import QueueGauges, Snapshot

EVENTS: Final = ("retrying", "retried", "released", "dropped", "quarantined", "conflicts")
"""Counters that scripts keep, beside those with a metric of their own."""


_NO_FAILURES: Final = {
    (cls.value, True): 0 for cls in OutcomeClass if cls not in {OutcomeClass.SUCCEEDED, OutcomeClass.CANCELLED}
}
"""Told from the start: the first failure of a class would be no increase otherwise."""
_OF_INSTALL: Final[tuple[tuple[str, str, Callable[[Snapshot], float | None]], ...]] = (
    ("snapshot_timestamp_seconds", "Redis' time of the figures about queues.", lambda found: found.at / 1000),
    ("dispatchers", "Live dispatchers.", lambda found: found.dispatchers),
    ("executions", "Executions of the installation.", lambda found: found.inflight),
    ("unfinalized_jobs", "Jobs finished in Redis whose PATCH is not confirmed.", lambda found: found.unfinalized),
    (
        "schedule_oldest_due_timestamp_seconds",
        "When the tick of a schedule was due that waits longest; absent = none is due.",
        lambda found: found.oldest_due / 1000 if found.oldest_due is not None else None,
    ),
)


class QueueMetrics(Collector):
    """Gauges and counters of all queues; empty in a replica that does not hold the lock, and once Redis is away."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        """None = not ours to export, or too old."""

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        found = self.snapshot
        yield from _install(found)
        queues = dict(found.queues) if found is not None else {}
        yield from _counts(queues)
        yield from _held(queues)
        yield from _room(queues)
        yield from _counters(queues)
        yield _waits(queues)


def _install(found: Snapshot | None) -> Iterator[Metric]:
    for name, meaning, read in _OF_INSTALL:
        family = GaugeMetricFamily(f"heavylift_{name}", meaning)
        if found is not None and (value := read(found)) is not None:
            family.add_metric([], value)
        yield family
    schedules = GaugeMetricFamily(
        "heavylift_schedules", "Schedules; suspended: those that are over, too.", labels=["state"]
    )
    if found is not None:
        schedules.add_metric(["active"], found.schedules - found.suspended)
        schedules.add_metric(["suspended"], found.suspended)
    yield schedules


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"heavylift_queue_{name}", meaning, labels=["queue", *labels])


def _counts(queues: dict[str, QueueGauges]) -> Iterator[Metric]:
    jobs = _gauge("jobs", "Jobs by state.", "state")
    oldest = _gauge("oldest_waiting_timestamp_seconds", "Since when the job at the head has waited.")
    for name, one in queues.items():
        states = {
            "waiting": one.waiting,
            "delayed": one.delayed,
            "active": one.active,
            "waiting-children": one.waiting_children,
            "completed": one.completed,
            "failed": one.failed,
            "cancelled": one.cancelled,
            "quarantined": one.quarantined,
        }
        for state, count in states.items():
            jobs.add_metric([name, state], count)
        if one.oldest_waiting is not None:
            oldest.add_metric([name], one.oldest_waiting / 1000)
    yield jobs
    yield oldest


def _held(queues: dict[str, QueueGauges]) -> Iterator[Metric]:
    paused = _gauge("paused", "1 while paused, by its HeavyQueue or by a client.")
    held = _gauge(
        "held",
        "1 while this holds the whole queue back: paused, suspended, no-heavyqueue, breaker, ...; else absent.",
        "reason",
    )
    for name, one in queues.items():
        paused.add_metric([name], one.held == "paused")
        if one.held:
            held.add_metric([name, one.held], 1)
    yield paused
    yield held


def _room(queues: dict[str, QueueGauges]) -> Iterator[Metric]:
    cap = _gauge("concurrency_limit", "Executions at once at most; absent = no limit.")
    left = _gauge("rate_left", "Starts left in the window of the rate limit; absent = no limit.")
    waiting = _gauge("waiting", "Waiting jobs, delayed ones that are due included.")
    in_flight = _gauge("in_flight", "Executions.")
    demand = _gauge("demand", "Executions plus what may start now.")
    startable = _gauge("startable", "Jobs that may start now; 0 while held; cap, rate limit and keys applied.")
    aside = _gauge("aside", "Waiting jobs that only the cap of their key holds back.")
    for name, one in queues.items():
        if one.cap is not None:
            cap.add_metric([name], one.cap)
        if one.rate_left is not None:
            left.add_metric([name], one.rate_left)
        for family, value in (
            (waiting, one.waiting),
            (in_flight, one.active),
            (demand, one.demand),
            (startable, one.startable),
            (aside, one.aside),
        ):
            family.add_metric([name], value)
    yield from (waiting, in_flight, demand, startable, aside, cap, left)


def _counters(queues: dict[str, QueueGauges]) -> Iterator[Metric]:
    enqueued = CounterMetricFamily(
        "heavylift_jobs_enqueued", "Jobs that Heavylift's clients enqueued; not those of plain RQ.", labels=["queue"]
    )
    events = CounterMetricFamily(
        "heavylift_queue_events",
        "What happened to jobs beside claims and ends: retries, claims given back, dropped or quarantined entries, ...",
        labels=["queue", "event"],
    )
    outcomes = CounterMetricFamily(
        "heavylift_job_outcomes",
        "Ended attempts by outcome class; final = the job ended with it.",
        labels=["queue", "class", "final"],
    )
    for name, one in queues.items():
        enqueued.add_metric([name], one.counters.get("enqueued", 0))
        for event in EVENTS:
            events.add_metric([name, event], one.counters.get(event, 0))
        for (cls, final), count in {**_NO_FAILURES, **tallies.read(one.counters).outcomes}.items():
            outcomes.add_metric([name, cls, str(final).lower()], count)
    yield from (enqueued, events, outcomes)


def _waits(queues: dict[str, QueueGauges]) -> Metric:
    waits = HistogramMetricFamily(
        "heavylift_job_wait_seconds",
        "How long jobs had waited at each of their claims, since they were enqueued, due or retried.",
        labels=["queue", "task"],
    )
    for name, one in queues.items():
        found = {"": tallies.Histogram(), **tallies.read(one.counters).waits}
        for task, histogram in found.items():
            waits.add_metric([name, task], list(histogram.cumulated), histogram.sum_ms / 1000)
    return waits
