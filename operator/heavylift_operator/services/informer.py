"""Informers of Jobs and pods: they list once, watch from there on, and list anew where the server's history ran out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import ClusterUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import EXPIRED, KubeStatusError
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.cluster import WATCH_S, Cluster, Kind
from heavylift_operator.core.reading import child, text

Event = Mapping[str, Any]
"""``{"type": "ADDED" | "MODIFIED" | "DELETED" | None, "object": {...}}``; None = from a listing."""

INFORMER_LIMIT_S: Final = 3.0 * WATCH_S
"""A informer ticks at each event, bookmark and new watch; silent for longer it is stuck."""
_TOLD: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})
_AT_ONCE: Final = 20
"""Events taken in a row before others get their turn: a burst must not keep ends from being attended to."""
_CHECK_S: Final = 60.0
"""Between two looks, while somebody else hears it, whether we could."""
_REST_S: Final = 0.1
"""Between two watches."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0
_SERVERS_OWN: Final = 500
_TOO_MANY: Final = 429


@dataclass(slots=True, kw_only=True)
class Informer:
    """Hears one kind in one namespace, if it is its turn; what it misses while cut off, the reconciler finds."""

    kind: Kind
    namespace: str
    cluster: Cluster
    hear: Callable[[Event], None]
    service: Service
    line: StateLine
    beat: Beat
    turn: asyncio.Event | None = None
    """Set while it is ours to hear this; None = always."""
    version: str = ""
    """Where the next watch goes on; empty = list first."""
    listed: bool = False
    reached: bool = True
    """The API server answers, if only to refuse."""
    _log: Any = field(default_factory=lambda: logs.get("events"))

    def check(self) -> tuple[bool, str]:
        """Return the state as a readiness check."""
        why = "" if self.listed else f"{self.kind}s in namespace {self.namespace} were not listed yet"
        return self.line.ok and self.listed, self.line.why or why

    async def run(self) -> None:
        """List and watch until the process ends; trouble is said once, and tried again with growing pauses."""
        pause_s = _FIRST_PAUSE_S
        while not self.service.stop.is_set():
            self.beat.tick()
            try:
                await (self._round() if self._ours() else self._stand_by())
            except KubeStatusError as error:
                self.reached = error.status < _SERVERS_OWN
                if error.status < _SERVERS_OWN and error.status != _TOO_MANY:
                    self.version = ""  # history it no longer has, or rights that we did not have meanwhile
                if error.status != EXPIRED:
                    self.line.bad(str(error))
            except ClusterUnavailableError as error:
                self.reached = False
                self.line.bad(str(error))
            else:
                pause_s = _FIRST_PAUSE_S
                await self.service.pause(_REST_S)
                continue
            await self.service.pause(pause_s * random.uniform(0.5, 1.0))
            pause_s = _FIRST_PAUSE_S if self.line.ok else min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ours(self) -> bool:
        return self.turn is None or self.turn.is_set()

    async def _stand_by(self) -> None:
        """Make sure that listing is allowed, then wait for our turn, a minute at most; what happened is listed then."""
        self.version = ""
        await self.cluster.check(self.kind, self.namespace)
        self.listed = True
        self._good()
        if self.turn is not None:
            await self.service.pause_or(self.turn, _CHECK_S)

    async def _round(self) -> None:
        """List if need be, then watch to the watch's end, or until it is not ours any more."""
        if not self.version:
            await self._list()
        row = 0
        async for event in self.cluster.watch(self.kind, self.namespace, self.version, self._good):
            self.beat.tick()
            if not self._ours():
                return
            if event.get("type") in _TOLD:
                self._tell(event)
            self.version = text(child(event, "object", "metadata"), "resourceVersion") or self.version
            row += 1
            if row % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _list(self) -> None:
        version = ""
        async for page in self.cluster.listings(self.kind, self.namespace):
            self.beat.tick()
            version = page.resource_version
            for found in page.items:
                self._tell({"type": None, "object": found})
        self.version, self.listed = version, True
        self._good()

    def _good(self) -> None:
        self.reached = True
        self.line.good()

    def _tell(self, event: Event) -> None:
        try:
            self.hear(event)
        except Exception:  # noqa: BLE001 - one odd object must not hold up all the others
            name = text(child(event, "object", "metadata"), "name")
            self._log.exception("an event could not be read", kind=self.kind.value, name=name)
