"""The history of a crowd's queue, and the reader that keeps up with it: the stream itself forgets."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from heavylift.contract.keys import Keys
from tests.proofs.crowd.hands import Told
from tests.proofs.crowd.plan import Asked, Bounds
from tests.proofs.history import Line, line_of

PAGE = 4000
"""Entries read at once; while a page comes full, the crowd waits."""


@dataclass(frozen=True, kw_only=True)
class Trail:
    """All that is known of one queue."""

    queue: str
    bounds: Bounds
    asked: Mapping[str, Asked]
    """Of each job that was to be enqueued."""
    lines: Sequence[Line]
    """Its events, in the order of the stream, which is that of the scripts."""
    added: int
    """Entries the stream ever had."""
    told: Counter[Told]
    """Claims as the processes were told of them."""
    accepted: Counter[str]
    """Ids whose enqueue was acknowledged."""
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Key -> members, of keys that are empty when nothing waits or runs."""


class Reader:
    """Reads along the event streams of some queues."""

    def __init__(self, client: redis.Redis, queues: Sequence[str]) -> None:
        self._client = client
        self._keys = {Keys().events(queue).encode(): queue for queue in queues}
        self._after: dict[Any, Any] = dict.fromkeys(self._keys, b"0-0")
        self.lines: dict[str, list[Line]] = {queue: [] for queue in queues}
        self.ended = 0
        """Terminal events read so far."""

    def read(self, wait_ms: int = 50) -> bool:
        """Read what is new, or wait for it so long; whether there may be very much more."""
        found: Any = self._client.xread(dict(self._after), count=PAGE, block=wait_ms)
        pages = dict(found or ())
        for key, entries in pages.items():
            queue = self._keys[key]
            for entry, fields in entries:
                line = _slim(line_of(queue, entry.decode(), fields))
                self.ended += line.final
                self.lines[queue].append(line)
            self._after[key] = entries[-1][0]
        return any(len(entries) >= PAGE for entries in pages.values())

    def added(self, queue: str) -> int:
        """Return how many entries a queue's stream ever had, those it has forgotten included."""
        key = Keys().events(queue)
        info: Any = self._client.xinfo_stream(key) if self._client.exists(key) else {"entries-added": 0}
        return int(info["entries-added"])


_KEPT = ("execution", "worker", "uid", "delay", "reason", "state", "final")


def _slim(line: Line) -> Line:
    """Return the line with what the checks read; there are hundreds of thousands."""
    kept = {name: sys.intern(line.fields[name]) for name in _KEPT if name in line.fields}
    return Line(line.id, line.queue, sys.intern(line.name), sys.intern(line.job), line.at, kept)
