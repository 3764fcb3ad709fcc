"""kopf in a thread and event loop of its own: in ours it would take over SIGTERM and end tasks it did not start."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import kopf
from typing_extensions import override

from heavylift.runtime import logs
from heavylift_operator.handlers.events import registry
from heavylift_operator.handlers.sink import Sink

_BACKOFFS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0)
_LAST_BACKOFF: Final = 20.0
_TICK_S: Final = 2.0


class Patience:
    """Back-offs without end: kopf exits when its own run out, and every start is a full listing."""

    def __iter__(self) -> Iterator[float]:
        """Begin anew."""
        return itertools.chain(_BACKOFFS, itertools.repeat(_LAST_BACKOFF))


class NoDiffs(kopf.DiffBaseStorage):
    """No memory of how objects were: we ask for no change handlers, and kopf would copy each object for every event."""

    @override
    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    @override
    def fetch(self, *, body: Any) -> None:
        return None

    @override
    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Keep nothing."""


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: no writes, no peering, no scanning."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.networking.error_backoffs = Patience()
    chosen.persistence.diffbase_storage = NoDiffs()
    chosen.watching.server_timeout = 280
    return chosen


@dataclass(slots=True, kw_only=True)
class EventSource:
    """Runs kopf until ``stop``; tells when it lives, and when it died and why."""

    sink: Sink
    namespaces: tuple[str, ...]
    ticked: Callable[[], None]
    """Called from kopf's thread while its loop turns."""
    died: Callable[[str], None]
    """Called from kopf's thread when it ended without being asked to."""
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _log: Any = field(default_factory=lambda: logs.get("events"))

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask kopf to end and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        for name in ("kopf", "kopf.objects"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it is said by our own probes
        why = "kopf ended"
        try:
            asyncio.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread must be said
            why = f"kopf ended: {type(error).__name__}: {error}"
        if not self._stop.is_set():
            self.died(why)

    async def _operate(self) -> None:
        ticking = asyncio.create_task(self._tick(), name="tick")
        try:
            await kopf.operator(
                registry=registry(self.sink),
                settings=settings(),
                standalone=True,
                clusterwide=False,
                namespaces=self.namespaces,
                stop_flag=self._stop,
            )
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            self.ticked()
            await asyncio.sleep(_TICK_S)
