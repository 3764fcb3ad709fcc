"""Who was alive when: the dispatchers' registrations as the server itself saw them, to judge claims by.

The server's MONITOR shows every command of every script in the order in which it was done, so nobody's word is taken.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import redis

from heavylift.contract.keys import Keys
from tests.proofs.waiting import until


@dataclass(frozen=True)
class Term:
    """A dispatcher said, or unsaid, that it lives."""

    at: int
    """Milliseconds since the epoch."""
    worker: str
    until: int
    """Milliseconds since the epoch; 0 = it left."""


@dataclass(frozen=True)
class Step:
    """One change of the set of executions in flight."""

    at: int
    joins: bool
    member: str


@dataclass(frozen=True)
class Width:
    """What bounds an installation over the time of a run."""

    slots: int
    terms: Sequence[Term]
    """In order."""
    order: Sequence[Term | Step] = ()
    """The same and every change of what is in flight, in the order in which the server made them."""

    def live(self, at: int) -> int:
        """Return how many dispatchers lived at a moment; of two counts within a millisecond of it the larger."""
        return max(self._live(moment) for moment in (at - 1, at, at + 1))

    def _live(self, at: int) -> int:
        ends: dict[str, int] = {}
        for term in self.terms:
            if term.at <= at:
                ends[term.worker] = term.until
        return sum(end > at for end in ends.values())

    def breaches(self) -> Iterable[str]:
        """Yield a sentence for each execution that joined while there was no room, by the server's own order."""
        ends: dict[str, int] = {}
        inside: set[str] = set()
        for entry in self.order:
            if isinstance(entry, Term):
                ends[entry.worker] = entry.until
            elif entry.joins:
                live = sum(end > entry.at - 1 for end in ends.values())
                if len(inside) >= self.slots * live and entry.member not in inside:
                    yield f"{entry.member} joined {len(inside)} in flight with {live} dispatchers of {self.slots} slots"
                inside.add(entry.member)
            else:
                inside.discard(entry.member)


class WidthWatch:
    """Watches an installation's registrations and executions; enter it before any of its processes starts."""

    def __init__(self, client: redis.Redis, install: str, slots: int) -> None:
        self._client, self._slots = client, slots
        keys = Keys()
        self._dispatchers, self._inflight = keys.dispatchers(install), keys.inflight(install)
        self._order: list[Term | Step] = []
        self._lock, self._stop, self._ready = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="width", daemon=True)

    def __enter__(self) -> Self:
        """Start, and return once the server shows its commands."""
        self._thread.start()
        until(self._heard, "MONITOR to show commands")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at the next command."""
        self._stop.set()
        self._client.ping()
        self._thread.join(10)

    def width(self) -> Width:
        """Return what was seen so far."""
        with self._lock:
            order = list(self._order)
        return Width(self._slots, [entry for entry in order if isinstance(entry, Term)], order)

    def _heard(self) -> bool:
        self._client.ping()
        return self._ready.wait(0.05)

    def _run(self) -> None:
        known = self._client.get_connection_kwargs()
        listening = redis.Redis(host=known["host"], port=known["port"], socket_timeout=None)  # long silence is no fault
        with listening, listening.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's
            while not self._stop.is_set():
                entry: dict[str, Any] = monitor.next_command()
                self._ready.set()
                self._note(int(float(entry["time"]) * 1000), str(entry["command"]).split())

    def _note(self, at: int, words: list[str]) -> None:
        if len(words) < 3:
            return
        command, key = words[0].upper(), words[1]
        joins = command == "ZADD"
        if command not in {"ZADD", "ZREM"} or key not in {self._dispatchers, self._inflight}:
            return
        named = zip(words[3::2], words[2::2], strict=True) if joins else ((name, "0") for name in words[2:])
        with self._lock:
            for name, score in named:
                term = key == self._dispatchers
                self._order.append(Term(at, name, int(score)) if term else Step(at, joins, name))
