"""Calls of a script that takes several at once, made into one command. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.store.faults import busy
from heavylift.store.steps import Arg

Words = tuple[Arg, ...]
HEAD: Final = 5
"""Words of a script's call in front of its own: EVAL or EVALSHA, the script, the number of keys, two prefixes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One command that is asked for."""

    words: Words
    most: int = 1
    """As of ``Call.most``; more than 1 = it may share a command, and its answer is one of a list."""


@dataclass(slots=True)
class Parcel:
    """One command that is sent, and how many were asked for in it."""

    words: list[Arg]
    most: int
    count: int = 1

    def takes(self, asked: Asked) -> bool:
        """Return whether one more may share this command."""
        return self.count < self.most == asked.most and tuple(self.words[:HEAD]) == asked.words[:HEAD]


@dataclass(slots=True)
class Post:
    """What is sent together."""

    parcels: list[Parcel] = field(default_factory=list)

    def add(self, asked: Asked) -> None:
        """Take in one more, in the order of its answer."""
        last = self.parcels[-1] if self.parcels else None
        if last is not None and last.takes(asked):
            last.words += asked.words[HEAD:]
            last.count += 1
        else:
            self.parcels.append(Parcel(list(asked.words), asked.most))

    def answers(self, replies: Sequence[Any]) -> Iterator[Any]:
        """Return an answer, or an exception, for each that was asked for."""
        for parcel, reply in zip(self.parcels, replies, strict=True):
            if parcel.most == 1:
                yield reply
            elif isinstance(reply, Exception):
                yield from [reply] * parcel.count
            else:
                yield from reply


def post(asked: Sequence[Asked]) -> Post:
    """Return how these are sent."""
    found = Post()
    for one in asked:
        found.add(one)
    return found


def left_over(answers: Sequence[Any]) -> list[int]:
    """Return which calls are to be asked for again, together: others came first, and were enough for one command."""
    found = [index for index, answer in enumerate(answers) if isinstance(answer, Exception) and busy(answer)]
    return found if len(found) < len(answers) else []


def alone(asked: Asked, reply: Any) -> Any:
    """Return the answer of a command that was sent by itself.

    Raises:
        Exception: what the script met on its way.
    """
    if asked.most == 1:
        return reply
    (answer,) = reply
    if isinstance(answer, Exception):
        raise answer
    return answer
