"""The operator's Prometheus metrics; never a job id in a label."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from heavylift_operator.core.reading import Json, child, flag, integer

_SECONDS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_STATES: Final = {
    "waiting": "waiting",
    "delayed": "delayed",
    "active": "active",
    "waiting-children": "children",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "quarantined": "quarantined",
}


class QueueGauges(Collector):
    """Gauges of all queues from the newest snapshot; empty in a replica that does not hold the lock."""

    def __init__(self) -> None:
        self.snapshot: Json | None = None
        """What ``ops.snapshot`` answered last; None = not ours to export."""

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        jobs = GaugeMetricFamily("heavylift_queue_jobs", "Jobs by state.", labels=["queue", "state"])
        oldest = GaugeMetricFamily(
            "heavylift_queue_oldest_waiting_timestamp_seconds", "When the oldest waiting job came.", labels=["queue"]
        )
        paused = GaugeMetricFamily("heavylift_queue_paused", "1 while paused.", labels=["queue"])
        cap = GaugeMetricFamily("heavylift_queue_concurrency_limit", "Executions at once at most.", labels=["queue"])
        waiting = GaugeMetricFamily("heavylift_queue_waiting", "Jobs that may start now.", labels=["queue"])
        in_flight = GaugeMetricFamily("heavylift_queue_in_flight", "Executions.", labels=["queue"])
        demand = GaugeMetricFamily(
            "heavylift_queue_demand", "Executions plus what may start now under pause and cap.", labels=["queue"]
        )
        for name, counts in child(self.snapshot, "queues").items():
            for state, key in _STATES.items():
                jobs.add_metric([name, state], integer(counts, key) or 0)
            since, limit = integer(counts, "oldest") or -1, integer(counts, "cap")
            if since >= 0:
                oldest.add_metric([name], since / 1000)
            if limit is not None and limit >= 0:
                cap.add_metric([name], limit)
            paused.add_metric([name], 1 if flag(counts, "paused") else 0)
            waiting.add_metric([name], integer(counts, "waiting") or 0)
            in_flight.add_metric([name], integer(counts, "active") or 0)
            demand.add_metric([name], demanded(counts))
        return iter((jobs, oldest, paused, cap, waiting, in_flight, demand))


def demanded(counts: object) -> int:
    """Return in flight + what may start now (0 if paused, the cap applied)."""
    active, waiting, cap = (integer(counts, key) or 0 for key in ("active", "waiting", "cap"))
    if flag(counts, "paused"):
        return active
    limit = integer(counts, "cap")
    return active + (waiting if limit is None or limit < 0 else max(0, min(waiting, cap - active)))


class Metrics:
    """One registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queues = QueueGauges()
        self.registry.register(self.queues)
        self.outcomes = Counter(
            "heavylift_job_outcomes",
            "Ended attempts; final = the job ended with it.",
            ["queue", "class", "final"],
            registry=self.registry,
        )
        self.repairs = Counter(
            "heavylift_repairs",
            "Rows of the reconcile table that mended something.",
            ["case"],
            registry=self.registry,
        )
        self.conflicts = Counter(
            "heavylift_operator_conflicts", "Reports of executions that are no longer current.", registry=self.registry
        )
        self.wait = self._histogram("wait", "From enqueue to the first claim.")
        self.pending = self._histogram("pending", "From the Job's creation to its container's start.")
        self.run = self._histogram("run", "From the container's start to its end.")
        self._add_gauges()

    def _add_gauges(self) -> None:
        self.reconciled = Gauge(
            "heavylift_reconcile_last_success_timestamp_seconds",
            "When Redis and the cluster were last compared to the end.",
            registry=self.registry,
        )
        self.watched = Gauge(
            "heavylift_watch_last_event_timestamp_seconds",
            "When the last event of a kind came.",
            ["kind"],
            registry=self.registry,
        )
        self.backlog = Gauge("heavylift_operator_work_items", "Items of the work queue.", registry=self.registry)
        self.unfinalized = Gauge(
            "heavylift_unfinalized_jobs", "Jobs finished in Redis whose PATCH is not confirmed.", registry=self.registry
        )
        self.redis_up = Gauge("heavylift_redis_up", "1 while Redis answers.", registry=self.registry)
        self.leads = Gauge(
            "heavylift_operator_leads", "1 in the replica that exports queue gauges.", registry=self.registry
        )
        Gauge("heavylift_build_info", "Always 1.", ["version", "process"], registry=self.registry).labels(
            version=version("heavylift"), process="operator"
        ).set(1)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(f"heavylift_job_{name}_seconds", meaning, ["queue"], buckets=_SECONDS, registry=self.registry)
