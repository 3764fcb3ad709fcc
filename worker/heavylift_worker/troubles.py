"""What only the dispatcher knows, told to the operator through Redis: it becomes conditions of the HeavyQueue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.service import Clock
from heavylift.store import ops
from heavylift_worker.answers import Kind

KINDS: Final[dict[Kind, str]] = {
    Kind.FORBIDDEN: "Forbidden",
    Kind.QUOTA: "QuotaExceeded",
    Kind.NAMESPACE: "NamespaceUnavailable",
    Kind.BUSY: "ClusterUnavailable",
    Kind.REJECTED: "Rejected",
    Kind.INVALID: "TemplateInvalid",
}
"""Answer -> the kind of its note in ``heavylift:trouble:<queue>``."""
_CLEAN_S: Final = 30.0
"""How long a queue whose notes we took away counts as having none."""


@dataclass(slots=True)
class Troubles:
    """Sets a note when a breaker opens and clears the queue's notes at its next success."""

    run: Callable[[Any], Awaitable[Any]]
    worker: str
    clock: Clock
    _cleaned: dict[str, float] = field(default_factory=dict)
    """Queue -> when its notes were taken away last; others, alive or not, may have left new ones since."""
    _log: Any = field(default_factory=lambda: logs.get("troubles"))

    async def note(self, queue: str, kind: Kind, message: str) -> None:
        """Write down why nothing is claimed from a queue."""
        self._cleaned.pop(queue, None)
        self._log.error("claims pause", queue=queue, reason=KINDS[kind], why=message)
        note = {"reason": KINDS[kind], "message": message[:1000], "worker": self.worker, "at": self.clock.now_ms()}
        await self._write(ops.set_trouble(queue, KINDS[kind], note))

    async def clear(self, queue: str) -> None:
        """Take a queue's notes away: a Job was created for it."""
        now = self.clock.monotonic()
        if now - self._cleaned.get(queue, -_CLEAN_S) < _CLEAN_S:
            return
        done = [await self._write(ops.clear_trouble(queue, kind)) for kind in KINDS.values()]
        if all(done):
            self._cleaned[queue] = now

    async def _write(self, op: Any) -> bool:
        try:
            await self.run(op)
        except HeavyliftError:
            return False  # Redis is away or the key is corrupt: the note is a courtesy, the next event writes it again
        return True
