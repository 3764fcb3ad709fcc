"""What a task keeps for its job's next attempt: its own state, and how far its loops came; standard library only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from heavylift.contract import limits
from heavylift.contract.plain import dumps, to_plain
from heavylift.errors import ConfigurationError, InvalidPayloadError, PayloadTooLargeError

POSITIONS = "$resume"
"""The key of a checkpoint under which loops keep their positions: name -> items done."""

Write = Callable[[str], None]


class Kept:
    """A checkpoint as it grows; every change is checked, then written at once."""

    def __init__(self, restored: Mapping[str, Any] | None = None, write: Write | None = None) -> None:
        whole = dict(restored or {})
        self._positions = _positions(whole.pop(POSITIONS, None))
        self._state: dict[str, Any] = whole
        self._begun: set[str] = set()
        self._write = write
        self._lock = threading.Lock()
        self.text: str | None = None
        """The checkpoint's JSON; None while this attempt has kept nothing."""

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keep the task's own state.

        Raises:
            InvalidPayloadError, PayloadTooLargeError: it cannot be kept; what was kept before stands.
        """
        plain = to_plain(state, "checkpoint")
        if not isinstance(plain, dict):
            raise InvalidPayloadError(f"checkpoint is a {type(state).__name__}: pass a mapping")
        if POSITIONS in plain:
            raise InvalidPayloadError(f"checkpoint.{POSITIONS} is what ctx.resume keeps: choose another key")
        with self._lock:
            self._save(plain, self._positions)
            self._state = plain

    def position(self, name: str) -> int:
        """Return how many items of a loop are done."""
        return self._positions.get(name, 0)

    def begin(self, name: str) -> None:
        """Note that a loop begins.

        Raises:
            ConfigurationError: one of this name began before.
        """
        if name in self._begun:
            raise ConfigurationError(f"two loops are named {name!r}: tell them apart, ctx.resume(items, name=...)")
        self._begun.add(name)

    def begun(self) -> frozenset[str]:
        """Return the loops that began so far."""
        return frozenset(self._begun)

    def passed(self, name: str, done: int, before: frozenset[str]) -> None:
        """Keep how far a loop came; the loops that began inside its last item are forgotten with the item.

        Raises:
            PayloadTooLargeError: with the task's own state there is no room for it.
        """
        with self._lock:
            inside = self._begun - before
            positions = {loop: at for loop, at in self._positions.items() if loop not in inside}
            positions[name] = done
            self._save(self._state, positions)
            self._positions = positions
            self._begun = set(before)

    def _save(self, state: Mapping[str, Any], positions: Mapping[str, int]) -> None:
        text = dumps({**state, **({POSITIONS: positions} if positions else {})}, "checkpoint")
        size = len(text.encode())
        if size > limits.CHECKPOINT_MAX:
            raise PayloadTooLargeError(
                f"the checkpoint is {size:,} bytes of JSON, more than the {limits.CHECKPOINT_MAX:,} it may have: store "
                "the state elsewhere and keep a reference (object key, path, cursor)"
            )
        self.text = text
        if self._write is not None:
            self._write(text)


def parse(text: str) -> dict[str, Any] | None:
    """Return the checkpoint that an earlier attempt left; None when there is none, or it is no JSON object."""
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def own_state(whole: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the part of a checkpoint that the task itself kept; None when it kept nothing."""
    state = {key: value for key, value in (whole or {}).items() if key != POSITIONS}
    return state if state or (whole is not None and POSITIONS not in whole) else None


def _positions(value: object) -> dict[str, int]:
    found = value if isinstance(value, Mapping) else {}
    return {name: at for name, at in found.items() if isinstance(at, int) and not isinstance(at, bool) and at >= 0}
