"""The loops of schedules: their ticks, in every replica, and their custom resources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime.health import Beat
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.services.schedules import Schedules
from heavylift_operator.services.ticks import LOOK_S, Ticks

TICKS_LIMIT_S: Final = 120.0
"""A look at what is due comes round within this, with Redis' time-outs inside."""
_EVENT_PASS_PAUSE_S: Final = 0.2


@dataclass(slots=True, kw_only=True)
class Scheduling:
    """Runs both loops until told to stop."""

    service: Service
    ticks: Ticks
    schedules: Schedules
    leads: Callable[[], bool]
    served: Callable[[], bool]
    """Whether the custom resources are served."""
    pause_or: Callable[[asyncio.Event, float], Awaitable[None]]
    """Waits so long, or until the event."""
    interval_s: float
    lines: tuple[StateLine, StateLine]
    """Of the ticks, and of the passes over the custom resources."""
    beats: tuple[Beat, Beat]
    """As ``lines``."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a HeavySchedule changed."""

    def add_loops(self) -> None:
        """Register the loops."""
        self.service.add("ticks", self.fire, drain=False)
        self.service.add("heavyschedules", self.serve)

    async def fire(self) -> None:
        """Fire what is due, again and again: no lock, no leader, whoever comes first."""
        while not self.service.stop.is_set():
            wait_s = LOOK_S
            try:
                wait_s = await self.ticks.once()
                self.lines[0].good()
            except RedisUnavailableError:
                pass  # the link has said so
            except HeavyliftError as error:
                self.lines[0].bad(str(error))
            self.beats[0].tick()
            if wait_s:
                await self.service.pause(wait_s)

    async def serve(self) -> None:
        """Bring HeavySchedules and Redis together each interval and soon after any of them changed."""
        while not self.service.stop.is_set():
            self.changed.clear()
            try:
                if self.served():
                    await self.schedules.once(leads=self.leads())
                self.lines[1].good()
            except RedisUnavailableError:
                pass  # the link has said so
            except HeavyliftError as error:
                self.lines[1].bad(str(error))
            self.beats[1].tick()
            await self.pause_or(self.changed, self.interval_s)
            await self.service.pause(_EVENT_PASS_PAUSE_S)  # changes come in bursts
