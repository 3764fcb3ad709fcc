"""Failpoints: named places where a test can kill, pause or disturb a real process.

They stand where a crash leaves two systems at odds; each name carries its row of the crash matrix.

Inert unless ``HEAVYLIFT_FAILPOINT`` is set, for example::

    HEAVYLIFT_FAILPOINT=operator.finish.after:kill@3,store.reply:drop-reply

Each entry is ``name:action[@N]``: ``kill`` (SIGKILL to itself), ``pause`` (until the file ``<name>.go`` appears in
``HEAVYLIFT_FAILPOINT_DIR``), ``raise`` (FailpointError) or ``drop-reply`` (ReplyDroppedError: the work is done, its
answer is lost). It acts on the N-th hit of that place alone, the first by default, or on each with ``@*``. Where
``HEAVYLIFT_FAILPOINT_DIR`` is set, an empty file ``<name>.hit`` is left there before it acts.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heavylift.errors import ConfigurationError, HeavyliftError

ENV = "HEAVYLIFT_FAILPOINT"
ENV_DIR = "HEAVYLIFT_FAILPOINT_DIR"

NAMES: dict[str, str] = {
    "dispatcher.claim.before": "C1",
    "dispatcher.claim.after": "C2",
    "dispatcher.create.before": "C4",
    "dispatcher.create.after": "B4",
    "dispatcher.record.after": "B4",
    "operator.observe.before": "O2",
    "operator.observe.after": "O2",
    "operator.finish.after": "F2",
    "operator.patch.after": "F4",
    "store.reply": "O3",
    "kube.create.reply": "B2",
}
"""Every failpoint -> the row of the crash matrix it stands at."""

ACTIONS = ("kill", "pause", "raise", "drop-reply")
_ENTRY = re.compile(r"(?P<name>[a-z.]+):(?P<action>[a-z-]+)(?:@(?P<hit>\d+|\*))?")
_POLL_S = 0.02


class FailpointError(HeavyliftError):
    """A failpoint was told to raise."""


class ReplyDroppedError(FailpointError, ConnectionError):
    """A failpoint lost the answer of a call that took place."""


@dataclass(slots=True)
class _Armed:
    action: str
    hit: int | None
    """None = each hit."""
    hits: int = 0


@dataclass(slots=True)
class _Registry:
    armed: dict[str, _Armed] = field(default_factory=dict)
    folder: Path | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self, name: str) -> str | None:
        """Count one hit and return the action due at it, if any."""
        if not self.armed:
            return None
        with self.lock:
            armed = self.armed.get(name)
            if armed is None:
                return None
            armed.hits += 1
            due = armed.hit is None or armed.hits == armed.hit
        if due and self.folder is not None:
            (self.folder / f"{name}.hit").touch()
        return armed.action if due else None

    def go_file(self, name: str) -> Path:
        if self.folder is None:
            raise ConfigurationError(f"{ENV_DIR} is not set: name the folder where {name}.go ends the pause")
        return self.folder / f"{name}.go"


_registry: _Registry | None = None


def load(environ: Mapping[str, str] | None = None) -> _Registry:
    """Read the environment; processes call this first, so that a wrong name ends them with one clear line.

    Raises:
        ConfigurationError: unknown name or action, or not of the form ``name:action[@N]``.
    """
    global _registry  # noqa: PLW0603 - failpoints belong to the process, as its environment does
    source = os.environ if environ is None else environ
    armed: dict[str, _Armed] = {}
    for entry in filter(None, (part.strip() for part in source.get(ENV, "").split(","))):
        armed.update(_parse(entry))
    folder = source.get(ENV_DIR)
    _registry = _Registry(armed, Path(folder) if folder else None)
    return _registry


def _parse(entry: str) -> dict[str, _Armed]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ConfigurationError(f"{ENV}={entry!r}: write name:action or name:action@N, comma separated")
    name, action, hit = match["name"], match["action"], match["hit"]
    if name not in NAMES:
        raise ConfigurationError(f"{ENV}: no failpoint {name!r}; there are {', '.join(sorted(NAMES))}")
    if action not in ACTIONS:
        raise ConfigurationError(f"{ENV}: no action {action!r} for {name}; there are {', '.join(ACTIONS)}")
    if hit == "0":
        raise ConfigurationError(f"{ENV}: {entry!r} never acts; hits count from 1")
    return {name: _Armed(action, None if hit == "*" else int(hit or 1))}


def _due(name: str) -> str | None:
    if name not in NAMES:
        raise ConfigurationError(f"no failpoint {name!r}: add it to heavylift.contract.failpoints.NAMES")
    registry = load() if _registry is None else _registry
    action = registry.due(name)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise FailpointError(f"failpoint {name}")
    elif action == "drop-reply":
        raise ReplyDroppedError(f"failpoint {name}: the reply is lost")
    return action


def failpoint(name: str) -> None:
    """Act here if the environment says so; from threads only (a pause blocks).

    Raises:
        FailpointError: the action is ``raise``.
        ReplyDroppedError: the action is ``drop-reply``.
    """
    if _due(name) == "pause" and _registry is not None:
        go = _registry.go_file(name)
        while not go.exists():
            time.sleep(_POLL_S)  # another process makes the file; nothing to wait on


async def afailpoint(name: str) -> None:
    """As ``failpoint``, for coroutines: a pause leaves the loop running."""
    if _due(name) == "pause" and _registry is not None:
        go = _registry.go_file(name)
        while not go.exists():  # noqa: ASYNC110 - another process makes the file; nothing to wait on
            await asyncio.sleep(_POLL_S)
