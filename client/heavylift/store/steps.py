"""What an operation asks of its runner: operations are generators that yield steps and return a value; no I/O here."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from heavylift.contract.keys import Keys

T = TypeVar("T")
Arg = str | bytes | int


@dataclass(frozen=True, slots=True)
class Call:
    """Run a script; the runner puts the key prefixes in front of the arguments. Safe to repeat: all scripts are."""

    script: str
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """Run one plain command that may be repeated; it is built when the keys are known."""

    build: Callable[[Keys], tuple[Arg, ...]]


Step = Call | Command
Op = Generator[Step, Any, T]
"""An operation: ``store.run(op)`` gives T."""


def key_of(step: Step, keys: Keys) -> str:
    """Return the key a plain command is about, for messages; empty for scripts, which name keys themselves."""
    if isinstance(step, Call):
        return ""
    parts = step.build(keys)
    return str(parts[1]) if len(parts) > 1 else ""
