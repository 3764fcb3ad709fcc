"""A sample of all queues, and which values of it a request may see; pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from heavylift_operator.core.reading import child, integer, text
from heavylift_operator.metrics_api.selector import Selector
from heavylift_operator.metrics_api.status import StatusError

METRICS: Final = ("heavylift_queue_demand", "heavylift_queue_in_flight", "heavylift_queue_waiting")
"""All external metrics; also names of resources in discovery and in RBAC rules."""
_NAMED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue at the moment of the sample; counts of jobs."""

    name: str
    namespace: str
    """Of its HeavyQueue."""
    waiting: int
    in_flight: int
    demand: int

    @property
    def labels(self) -> dict[str, str]:
        """What selectors see."""
        return {"queue": self.name, "namespace": self.namespace}

    def value(self, metric: str) -> int:
        """Return a metric's value.

        Raises:
            KeyError: no such metric.
        """
        return dict(zip(METRICS, (self.demand, self.in_flight, self.waiting), strict=True))[metric]


@dataclass(frozen=True, slots=True)
class Sample:
    """All queues at one moment."""

    at_ms: int
    """Redis' time, ms since the epoch."""
    taken: float
    """The process' monotonic clock when it was asked for, seconds."""
    queues: tuple[Queue, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a value list."""

    metric: str
    labels: Mapping[str, str]
    timestamp: str
    """RFC 3339, UTC."""
    value: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may see what: the release's namespace sees every queue, a watched one the queues that live there."""

    home: str
    watched: frozenset[str]

    def sees(self, namespace: str, queues: Iterable[Queue]) -> tuple[Queue, ...]:
        """Return the queues an HPA of this namespace may see.

        Raises:
            StatusError: 404, the namespace is neither of them.
        """
        if namespace == self.home:
            return tuple(queues)
        if namespace in self.watched:
            return tuple(queue for queue in queues if queue.namespace == namespace)
        raise StatusError(
            HTTPStatus.NOT_FOUND,
            f"namespace {namespace[:63]} has no queues of this installation: ask from {self.home} or from a watched "
            "namespace (watchNamespaces)",
        )


def read(snapshot: Mapping[str, Any], served: Mapping[str, str], *, install: str, taken: float) -> Sample:
    """Return the sample in the store's snapshot.

    A queue whose name another installation holds is left out: what it counts is not ours to scale on.

    Args:
        snapshot: as ``ops.snapshot`` answers.
        served: queue -> namespace of the HeavyQueue that owns its name.
        install: this installation's id.
        taken: the monotonic clock's time before the snapshot was asked for.
    """
    found = []
    for name, namespace in sorted(served.items()):
        counts = child(snapshot, "queues", name)
        if text(counts, "install") in {"", install}:
            waiting, in_flight, demand = (max(0, integer(counts, key) or 0) for key in ("waiting", "active", "demand"))
            found.append(Queue(name, namespace, waiting, in_flight, demand))
    return Sample(at_ms=integer(snapshot, "at") or 0, taken=taken, queues=tuple(found))


def items(sample: Sample, metric: str, visible: tuple[Queue, ...], selector: Selector) -> list[Item]:
    """Return one item per queue that matches, "0" included.

    Without a selector an installation without queues is one item of "0", as an HPA takes an empty list for an error.

    Raises:
        StatusError: 404, there is no such metric, or the selector matches no queue.
    """
    if metric not in METRICS:
        raise StatusError(HTTPStatus.NOT_FOUND, f"no metric {metric[:100]}: there are {', '.join(METRICS)}")
    stamp = _rfc3339(sample.at_ms)
    if not visible and not selector.requirements:
        return [Item(metric, {}, stamp, 0)]
    matching = [queue for queue in visible if selector.matches(queue.labels)]
    if not matching:
        names = [queue.name for queue in visible]
        known = ", ".join(names[:_NAMED_MAX]) + (", ..." if len(names) > _NAMED_MAX else "") or "none"
        raise StatusError(
            HTTPStatus.NOT_FOUND, f"no queue matches the selector {str(selector)[:200]}: the queues are {known}"
        )
    return [Item(metric, queue.labels, stamp, queue.value(metric)) for queue in matching]


def _rfc3339(ms: int) -> str:
    """Return a time as Kubernetes writes it: whole seconds, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))
