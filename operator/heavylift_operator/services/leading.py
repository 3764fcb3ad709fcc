"""Who leads: the replica that holds a lock in Redis hears Jobs and compares; the others stand by with pods' ends.

All duties are safe to do twice, so the lock decides nothing about what is right: it saves double work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift.store import ops

LOCK: Final = "operator"
LOCK_S: Final = 6.0
"""How long the lock of a replica that died stands, at most; it is renewed four times in that time."""
_SHORTEST_S: Final = 3.0
DEAF_S: Final = 10.0
"""A holder that has heard nothing of the cluster for this long leaves the lock to a replica that may."""
_YIELDS_EVERY_S: Final = 60.0
"""Where nobody hears the cluster, somebody must lead all the same: schedules tick, figures are shown."""
_LEAVE_S: Final = 2.0
ASKED_AGAIN_S: Final = 2.0
"""An unanswered comparison is made again this soon, s: one lost reply is no reason to give the lock away."""
_UNANSWERED_MAX: Final = 2


def lock_s(interval_s: float) -> float:
    """Return for how long the lock is taken, where Redis and the cluster are compared at this interval."""
    return min(max(3 * interval_s, _SHORTEST_S), LOCK_S)


@dataclass(slots=True)
class Answers:
    """Whether the API server answers comparisons, if only to refuse them."""

    _unanswered: int = 0
    """Comparisons without an answer, one after the other."""

    @property
    def come(self) -> bool:
        """Whether it is there: at most one comparison was left without an answer."""
        return self._unanswered < _UNANSWERED_MAX

    def note(self, *, answered: bool) -> None:
        """Take note of one comparison."""
        self._unanswered = 0 if answered else self._unanswered + 1

    def pause_s(self, interval_s: float) -> float:
        """Return how long to wait for the next comparison, of what it is by the settings."""
        return min(interval_s, ASKED_AGAIN_S) if self._unanswered == 1 else interval_s


@dataclass(slots=True, kw_only=True)
class Leadership:
    """This replica's part."""

    link: RedisLink
    service: Service
    identity: str
    ttl_s: float
    hears: Callable[[], bool] = lambda: True
    """Whether this replica reaches the cluster."""
    taken: Callable[[], None] = lambda: None
    """Called when this replica begins to lead."""
    followed: Callable[[], None] = lambda: None
    """Called whenever another replica is known to lead."""
    leads: bool = False
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set from when this replica led until another one is known to: what is heard meanwhile is for us to attend to."""
    _deaf_since: float | None = None
    _yielded: float | None = None
    _log: Any = field(default_factory=lambda: logs.get("operator"))

    @property
    def stands_by(self) -> bool:
        """Whether another replica leads, as far as is known."""
        return not self.turn.is_set()

    async def run(self) -> None:
        """Take or keep the lock until the process ends."""
        while not self.service.stop.is_set():
            if self._is_deaf():
                await self.leave()
                self._yielded, self._deaf_since = self.service.clock.monotonic(), None
                self._log.warning("the lock is left to another replica: this one does not reach the cluster")
                await self.service.pause(self.ttl_s / 2)
            await self.once()
            await self.service.pause(self.ttl_s / 4)

    async def once(self) -> None:
        """Ask for the lock once; without Redis nobody leads."""
        try:
            held = await self.link.run(ops.take_lock(LOCK, self.identity, round(self.ttl_s * 1000)))
        except HeavyliftError:
            self.leads = False  # whose turn it is stays as it was
            return
        led, self.leads = self.leads, held
        if held and not led:
            self._deaf_since = None
            self.turn.set()
            self.taken()
        elif not held:
            self.turn.clear()
            self.followed()

    async def leave(self) -> None:
        """Give the lock back, if it is ours; never fails."""
        if not self.leads:
            return
        self.leads = False
        try:
            await asyncio.wait_for(self.link.run(ops.drop_lock(LOCK, self.identity)), _LEAVE_S)
        except (HeavyliftError, TimeoutError):
            return  # it expires

    def _is_deaf(self) -> bool:
        """Return whether we lead without reaching the cluster, and it is time for another replica to try."""
        now = self.service.clock.monotonic()
        if not self.leads or self.hears():
            self._deaf_since = None
            return False
        if self._deaf_since is None:
            self._deaf_since = now
        lately = self._yielded is not None and now - self._yielded < _YIELDS_EVERY_S
        return now - self._deaf_since >= DEAF_S and not lately
