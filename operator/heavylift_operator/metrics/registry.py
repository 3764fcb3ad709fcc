"""The operator's Prometheus metrics; never a job id in a label."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from heavylift_operator.core.reconcile import ROWS
from heavylift_operator.metrics.queues import QueueMetrics

_SECONDS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_KINDS: Final = ("Job", "Pod", "HeavyQueue")


class Metrics:
    """One registry: what Redis knows of the queues (the leading replica), and what this replica did itself."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each counter, unread
        self.registry = CollectorRegistry()
        self.queues = QueueMetrics()
        self.registry.register(self.queues)
        self._add_counts()
        self._add_gauges()

    def _add_counts(self) -> None:
        self.repairs = Counter(
            "heavylift_repairs",
            "Rows of the reconcile table that mended something.",
            ["case"],
            registry=self.registry,
        )
        for row in ROWS:
            if row.repair:
                self.repairs.labels(case=row.name)
        self.conflicts = Counter(
            "heavylift_operator_conflicts", "Reports of executions that are no longer current.", registry=self.registry
        )
        self.external_requests = Counter(
            "heavylift_external_metrics_requests",
            "Answers of the external metrics API by HTTP status.",
            ["code"],
            registry=self.registry,
        )
        self.pending = self._histogram("pending", "From the Job's creation to its container's start.")
        self.run = self._histogram("run", "From the container's start to its end.")

    def _add_gauges(self) -> None:
        self.reconciled = Gauge(
            "heavylift_reconcile_last_success_timestamp_seconds",
            "When Redis and the cluster were last compared to the end; 0 = not by this replica.",
            registry=self.registry,
        )
        self.compared_s = Gauge(
            "heavylift_reconcile_seconds",
            "How long the last comparison of Redis and the cluster took; 0 = not by this replica.",
            registry=self.registry,
        )
        self.watched = Gauge(
            "heavylift_watch_last_event_timestamp_seconds",
            "When the last event of a kind came; 0 = none yet, or of Jobs: another replica hears them.",
            ["kind"],
            registry=self.registry,
        )
        for kind in _KINDS:
            self.watched.labels(kind)
        self.external_owned = Gauge(
            "heavylift_external_metrics_api_owned",
            "1 while the cluster's APIService for external metrics names our Service; 0 also where it is not served.",
            registry=self.registry,
        )
        self.external_expiry = Gauge(
            "heavylift_external_metrics_certificate_expiry_timestamp_seconds",
            "When the certificate of the external metrics API ends; 0 = there is none.",
            registry=self.registry,
        )
        self.backlog = Gauge("heavylift_operator_work_items", "Items of the work queue.", registry=self.registry)
        self.redis_up = Gauge("heavylift_redis_up", "1 while Redis answers.", registry=self.registry)
        self.leads = Gauge(
            "heavylift_operator_leads", "1 in the replica that exports what Redis knows.", registry=self.registry
        )
        Gauge("heavylift_build_info", "Always 1.", ["version", "process"], registry=self.registry).labels(
            version=version("heavylift"), process="operator"
        ).set(1)

    def serve(self, queue: str, tasks: Iterable[str]) -> None:
        """Begin a queue's histograms at 0: what begins at 1 is no increase to Prometheus.

        Args:
            queue: one that is served.
            tasks: those whose figures are kept apart.
        """
        for task in ("", *tasks):
            self.pending.labels(queue, task)
            self.run.labels(queue, task)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(
            f"heavylift_job_{name}_seconds", meaning, ["queue", "task"], buckets=_SECONDS, registry=self.registry
        )


OVER_REPLICAS: Final = {
    "heavylift_repairs_total": "sum",
    "heavylift_operator_conflicts_total": "sum",
    "heavylift_external_metrics_requests_total": "sum",
    "heavylift_job_pending_seconds": "sum",
    "heavylift_job_run_seconds": "sum",
    "heavylift_reconcile_last_success_timestamp_seconds": "max",
    "heavylift_reconcile_seconds": "max",
    "heavylift_watch_last_event_timestamp_seconds": "each",
    "heavylift_external_metrics_api_owned": "each",
    "heavylift_external_metrics_certificate_expiry_timestamp_seconds": "each",
    "heavylift_operator_work_items": "each",
    "heavylift_redis_up": "each",
    "heavylift_operator_leads": "each",
    "heavylift_build_info": "each",
}
"""How to put the replicas' values together; what is not here comes from the leading replica alone: max."""
