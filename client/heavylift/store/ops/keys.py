"""Concurrency keys: what holds one back, and the sweep that compares their indexes with what runs and waits."""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.contract import limits
from heavylift.store import decode
from heavylift.store.steps import Call, Op


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStanding:
    """One key of a queue at one moment."""

    running: int
    """Executions of its jobs."""
    waiting: int
    """Its jobs in its lane; those that came before the queue kept keys apart may stand in the lists still."""
    cap: int | None
    """Executions at once at most; None = no cap."""
    fair: bool
    """Keys take turns."""


def key_standing(queue: str, key: str) -> Op[KeyStanding]:
    """Return what holds back the jobs of one key."""
    running, waiting, cap, fair = yield Call("key_standing", (queue, key))
    return KeyStanding(
        running=int(running),
        waiting=int(waiting),
        cap=int(cap) if int(cap) >= 0 else None,
        fair=decode.text(fair) == "1",
    )


@dataclass(frozen=True, slots=True)
class KeyCursor:
    """Where a sweep goes on; ``KeyCursor()`` begins one, and comes back when it is done."""

    running: bytes = b""
    executions: int = 0
    waiting: bytes = b""
    keys: int = 0


def sweep_keys(queue: str, cursor: KeyCursor = KeyCursor()) -> Op[tuple[KeyCursor, int]]:
    """Take one bounded step of a sweep over a queue's keys; returns where to go on and how many entries were mended.

    What runs counts for its key only while the started registry lists it, and every such execution counts; what waits
    by its key is a queued job of that key; the indexes follow from both. Mended ones are counted (``repaired:keys``).
    """
    answer = yield Call(
        "sweep_keys",
        (queue, limits.KEY_SWEEP_STEP, cursor.running, cursor.executions, cursor.waiting, cursor.keys),
    )
    running, executions, waiting, keys, mended = answer
    following = KeyCursor(decode.raw(running), int(executions), decode.raw(waiting), int(keys))
    return following, int(mended)
