"""The figures of a scrape: one look at Redis for each, whatever the queues hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from heavylift.errors import HeavyliftError
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Clock
from heavylift.store import ops
from heavylift.store.model import Snapshot
from heavylift_operator.metrics.registry import Metrics

FRESH_S: Final = 1.0
"""Scrapes within this share one look."""
STALE_S: Final = 30.0
"""Figures older than this are not shown at all: no figure is better than a wrong one."""
LOOK_S: Final = 5.0
"""A look takes no longer; Prometheus gives a scrape ten seconds."""


@dataclass(slots=True, kw_only=True)
class Scrape:
    """Brings the metrics about queues up to date before they are read."""

    link: RedisLink
    metrics: Metrics
    clock: Clock
    install: str
    leads: Callable[[], bool]
    queues: Callable[[], Sequence[str]]
    """Names of the queues to tell about."""
    _taken: float = float("-inf")
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Look at Redis if the last look is not fresh; never raises for a Redis that is away."""
        async with self._looking:
            if not self.leads():
                self._forget()
            elif self.clock.monotonic() - self._taken > FRESH_S:
                await self._look()
            self.metrics.redis_up.set(1 if self.link.line.ok else 0)

    async def _look(self) -> None:
        now = self.clock.monotonic()
        try:
            async with asyncio.timeout(LOOK_S):
                found = await self.link.run(ops.gauges(self.install, self.queues()))
        except (HeavyliftError, TimeoutError):
            if now - self._taken > STALE_S:
                self._forget()
            return
        self.metrics.queues.snapshot, self._taken = told(found, self.install), now

    def _forget(self) -> None:
        self.metrics.queues.snapshot, self._taken = None, float("-inf")


def told(found: Snapshot, install: str) -> Snapshot:
    """Return the snapshot without queues that are another install's, or nobody's and never used by a client of ours."""
    ours = {
        name: one
        for name, one in found.queues.items()
        if one.install == install or (not one.install and one.counters.get("enqueued", 0) > 0)
    }
    return replace(found, queues=ours)
