"""The dispatcher's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from heavylift_worker.answers import Kind
from heavylift_worker.breaker import State

_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0)

_ADOPTED: Final = "adopted"
_ANSWERS: Final = (*(kind.value for kind in Kind if kind is not Kind.LOOK), _ADOPTED)
"""A Job that needs a look is counted as what the look finds."""


class Metrics:
    """One registry; never a job id in a label."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter, unread
        self.registry = CollectorRegistry()
        self._add_counts()
        self._add_gauges()

    def _add_counts(self) -> None:
        self.claimed = Counter(
            "heavylift_jobs_claimed", "Jobs this dispatcher claimed.", ["queue"], registry=self.registry
        )
        self.dispatch = Histogram(
            "heavylift_job_dispatch_seconds",
            "From a claim to its recorded Job.",
            ["queue", "task"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.answers = Counter(
            "heavylift_job_creates",
            "What became of creates (answer: created, adopted, name-taken, busy, quota, namespace, forbidden, ...).",
            ["queue", "answer"],
            registry=self.registry,
        )
        self.conflicts = Counter(
            "heavylift_dispatcher_conflicts",
            "Claims that had passed to somebody else when their Job was to be recorded.",
            ["queue"],
            registry=self.registry,
        )

    def _add_gauges(self) -> None:
        self.slots = Gauge(
            "heavylift_dispatcher_slots",
            "Slots by state: total, in-use (this dispatcher's share of the installation's executions), creating.",
            ["state"],
            registry=self.registry,
        )
        self.redis_up = Gauge("heavylift_redis_up", "1 while Redis answers.", registry=self.registry)
        self.breakers = Gauge(
            "heavylift_dispatcher_breaker_open",
            "1 while a breaker lets nothing or only a probe through (scope: namespace, queue).",
            ["scope", "name"],
            registry=self.registry,
        )
        Gauge("heavylift_build_info", "Always 1.", ["version", "process"], registry=self.registry).labels(
            version=version("heavylift"), process="dispatcher"
        ).set(1)

    def serve(self, queue: str, tasks: Iterable[str]) -> None:
        """Begin a queue's counts at 0: the first of a series that begins at 1 would be no increase to Prometheus.

        Args:
            queue: one that is served from now on, or was before.
            tasks: those whose figures are kept apart.
        """
        self.claimed.labels(queue)
        self.conflicts.labels(queue)
        for answer in _ANSWERS:
            self.answers.labels(queue, answer)
        for task in ("", *tasks):
            self.dispatch.labels(queue, task)

    def answered(self, queue: str, kind: Kind, *, adopted: bool) -> None:
        """Count what became of one create."""
        self.answers.labels(queue, _ADOPTED if adopted else kind.value).inc()

    def show_breakers(self, scope: str, states: dict[str, State]) -> None:
        """Set the breakers' gauges of one scope."""
        for name, state in states.items():
            self.breakers.labels(scope=scope, name=name).set(0 if state is State.CLOSED else 1)


OVER_REPLICAS: Final = {
    "heavylift_jobs_claimed_total": "sum",
    "heavylift_job_dispatch_seconds": "sum",
    "heavylift_job_creates_total": "sum",
    "heavylift_dispatcher_conflicts_total": "sum",
    "heavylift_dispatcher_slots": "sum",
    "heavylift_redis_up": "each",
    "heavylift_dispatcher_breaker_open": "max",
    "heavylift_build_info": "each",
}
"""How to put the replicas' values together."""
