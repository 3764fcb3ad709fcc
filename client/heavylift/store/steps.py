"""What an operation asks of its runner: operations are generators that yield steps and return a value; no I/O here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from heavylift.contract.keys import Keys
from heavylift.errors import HeavyliftError

T = TypeVar("T")
Arg = str | bytes | int


@dataclass(frozen=True, slots=True)
class Call:
    """Run a script; the runner puts the key prefixes in front of the arguments. Safe to repeat: all scripts are."""

    script: str
    args: tuple[Arg, ...] = ()
    most: int = 1
    """The script takes the arguments of so many calls one after another, and answers with a list of their answers."""


@dataclass(frozen=True, slots=True)
class Command:
    """Run one plain command that may be repeated; it is built when the keys are known."""

    build: Callable[[Keys], tuple[Arg, ...]]


Step = Call | Command


@dataclass(frozen=True, slots=True)
class Ahead:
    """Run scripts one after another; while Redis works on one, the next call is made.

    The answer is a list of their answers; the first that fails for good has its HeavyliftError there, as the last.
    """

    calls: Iterator[Call]
    answers: list[Any] = field(default_factory=list)
    """Filled as they come: who makes the calls can read the first of them while Redis works."""


Op = Generator[Step, Any, T]
"""An operation: ``store.run(op)`` gives T."""
AheadOp = Generator[Step | Ahead, Any, T]
"""One that may make calls ahead; ``store.run`` takes it too."""


def in_steps(op: AheadOp[T]) -> Op[T]:
    """Drive an operation in plain steps, one after another, for those who cannot make calls ahead."""
    try:
        asked = next(op)
        while True:
            try:
                answer = (yield from _in_turn(asked)) if isinstance(asked, Ahead) else (yield asked)
            except HeavyliftError as error:
                asked = op.throw(error)
            else:
                asked = op.send(answer)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _in_turn(ahead: Ahead) -> Op[list[Any]]:
    for call in ahead.calls:
        try:
            ahead.answers.append((yield call))
        except HeavyliftError as error:
            ahead.answers.append(error)
            break
    return ahead.answers


def key_of(step: Step, keys: Keys) -> str:
    """Return the key a plain command is about, for messages; empty for scripts, which name keys themselves."""
    if isinstance(step, Call):
        return ""
    parts = step.build(keys)
    return str(parts[1]) if len(parts) > 1 else ""
