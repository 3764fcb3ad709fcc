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


@dataclass(slots=True)
class Troubles:
    """Sets a note when a breaker opens and clears the queue's notes at its next success."""

    run: Callable[[Any], Awaitable[Any]]
    worker: str
    clock: Clock
    _clean: set[str] = field(default_factory=set)
    """Queues known to have no note of ours; at the first success of others, notes of an earlier process go, too."""
    _log: Any = field(default_factory=lambda: logs.get("troubles"))

    async def note(self, queue: str, kind: Kind, message: str) -> None:
        """Write down why nothing is claimed from a queue."""
        self._clean.discard(queue)
        self._log.error("claims pause", queue=queue, reason=KINDS[kind], why=message)
        note = {"reason": KINDS[kind], "message": message[:1000], "worker": self.worker, "at": self.clock.now_ms()}
        await self._write(ops.set_trouble(queue, KINDS[kind], note))

    async def clear(self, queue: str) -> None:
        """Take a queue's notes away: a Job was created for it."""
        if queue in self._clean:
            return
        done = [await self._write(ops.clear_trouble(queue, kind)) for kind in KINDS.values()]
        if all(done):
            self._clean.add(queue)

    async def _write(self, op: Any) -> bool:
        try:
            await self.run(op)
        except HeavyliftError:
            return False  # Redis is away or the key is corrupt: the note is a courtesy, the next event writes it again
        return True
