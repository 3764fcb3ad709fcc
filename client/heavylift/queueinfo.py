"""What a queue is held to at one moment: its bounds, what they leave, who paused it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from heavylift.store import ops
from heavylift.store.model import QueueCounts, QueueGauges
from heavylift.store.steps import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue as Redis knew it when asked."""

    name: str
    served: bool
    """Whether a HeavyQueue serves it; nothing starts without one."""
    paused: bool
    """By its HeavyQueue (``spec.paused``), by ``queue.pause``, or both."""
    pause: Mapping[str, Any] = field(default_factory=dict)
    """``by``, ``at`` (ms) and ``reason`` of ``queue.pause``; empty = not paused by it."""
    held: str
    """What holds all of it back: paused | suspended | no-heavyqueue | corrupt | breaker; empty = nothing."""
    counts: QueueCounts
    startable: int
    """Jobs that may start now, under all its bounds."""
    concurrency: int | None
    """Executions at once at most (``spec.concurrency.max``); None = no cap."""
    per_key: int | None
    """The same for each key."""
    order: str
    """``Fifo`` | ``RoundRobin``."""
    rate_limit: int | None
    """Starts in any window of ``rate_period``; None = no limit."""
    rate_period: timedelta | None
    rate_left: int | None
    """Starts left now; None = any number. 0 also while a task's ``RateLimited`` holds the queue back."""
    rate_next: timedelta | None
    """How long until there is one more; None = now."""


def queue_info(queue: str) -> Op[QueueInfo]:
    """Return what a queue is held to; it need not exist."""
    settings = (yield from ops.get_settings(queue)) or {}
    owner = yield from ops.settings_owner(queue)
    pause = yield from ops.paused(queue)
    install = owner.install if owner else ""
    gauges = (yield from ops.gauges(install, [queue])).queues[queue]
    rate = settings.get("rateLimit")
    rate = rate if isinstance(rate, Mapping) else {}
    limit, period = _whole(rate.get("limit")), _whole(rate.get("period"))
    return QueueInfo(
        name=queue,
        served=owner is not None,
        paused=pause is not None or settings.get("paused") is True,
        pause=pause or {},
        held=gauges.held,
        counts=_counts(gauges),
        startable=gauges.startable,
        concurrency=gauges.cap,
        per_key=_whole(settings.get("concurrencyPerKey")),
        order="RoundRobin" if settings.get("concurrencyOrder") == "RoundRobin" else "Fifo",
        rate_limit=limit,
        rate_period=None if limit is None or period is None else timedelta(milliseconds=period),
        rate_left=gauges.rate_left,
        rate_next=None if gauges.rate_next is None else timedelta(milliseconds=gauges.rate_next),
    )


def _counts(gauges: QueueGauges) -> QueueCounts:
    return QueueCounts(**{one.name: getattr(gauges, one.name) for one in fields(QueueCounts)})


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
