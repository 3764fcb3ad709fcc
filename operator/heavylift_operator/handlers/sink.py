"""Where events arrive: those of Jobs and pods in the main loop, those of custom resources in kopf's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from heavylift.contract.names import Annotation
from heavylift_operator.core.evidence import read_job, read_pod
from heavylift_operator.core.reading import child, flag, items, text
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.informer import Event
from heavylift_operator.services.workqueue import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Reads events and puts items; never blocks."""

    put: Callable[[Item], None]
    queues_changed: Callable[[], None]
    """Called from kopf's thread, as the next one is."""
    schedules_changed: Callable[[], None]
    metrics: Metrics

    def job(self, event: Event) -> None:
        """Take a Job's event."""
        self._heard("Job")
        seen = read_job(child(event, "object"))
        if not seen.name:
            return
        # Leaving the selector (finalized) and leaving the cluster look the same, and show the Job as it was before.
        left = event.get("type") == "DELETED" or seen.finalized
        self.put(
            Item(
                namespace=seen.namespace,
                name=seen.name,
                job_id=seen.job,
                execution=seen.execution,
                job=None if left else seen,
                left=left,
                queue=seen.queue if left else "",
                left_uid=seen.uid if left else "",
            )
        )

    def pod(self, event: Event) -> None:
        """Take a pod's event, with the evidence in it."""
        self._heard("Pod")
        found = child(event, "object")
        meta = child(found, "metadata")
        notes = child(meta, "annotations")
        owner = next(
            (one for one in items(meta, "ownerReferences") if one.get("kind") == "Job" and flag(one, "controller")), {}
        )
        if not text(owner, "name"):
            return
        self.put(
            Item(
                namespace=text(meta, "namespace"),
                name=text(owner, "name"),
                job_id=text(notes, Annotation.JOB_ID, 1024),
                execution=text(notes, Annotation.EXECUTION),
                pod=read_pod(found, gone=event.get("type") == "DELETED"),
                pod_job_uid=text(owner, "uid"),
            )
        )

    def heavyqueue(self, _event: Event) -> None:
        """Take a HeavyQueue's event: the next pass reads them all."""
        self._heard("HeavyQueue")
        self.queues_changed()

    def heavyschedule(self, _event: Event) -> None:
        """Take a HeavySchedule's event: the next pass reads them all."""
        self._heard("HeavySchedule")
        self.schedules_changed()

    def _heard(self, kind: str) -> None:
        self.metrics.watched.labels(kind).set(time.time())
