"""Operations carried forward side by side: the next steps of all of them go to Redis in one pipeline. No I/O here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, Generic

from heavylift.errors import HeavyliftError
from heavylift.store.steps import Op, Step, T

PIPELINE_MAX: Final = 200
"""Steps sent at once; Redis serves other clients between any two of them, but holds all their answers until then."""


class Batch(Generic[T]):
    """Some operations under way; each ends for itself, with its value or with its error."""

    def __init__(self, ops: Sequence[Op[T]]) -> None:
        self._ops = ops
        self._due: dict[int, Step] = {}
        self._ended: dict[int, T | HeavyliftError] = {}
        for index in range(len(ops)):
            self._advance(index, None)

    def due(self) -> list[tuple[int, Step]]:
        """Return the next steps, at most ``PIPELINE_MAX``, each with its operation's index; empty = all ended."""
        return list(islice(self._due.items(), PIPELINE_MAX))

    def answered(self, index: int, answer: Any) -> None:
        """Hand an answer, or the HeavyliftError instead of one, to the operation whose step it belongs to."""
        del self._due[index]
        self._advance(index, answer)

    def ended(self) -> list[T | HeavyliftError]:
        """Return what each operation gave, in the order given."""
        return [self._ended[index] for index in range(len(self._ops))]

    def close(self) -> None:
        """Give up those that have not ended."""
        for index in self._due:
            self._ops[index].close()

    def _advance(self, index: int, answer: Any) -> None:
        op = self._ops[index]
        try:
            step = op.throw(answer) if isinstance(answer, HeavyliftError) else op.send(answer)
        except StopIteration as stop:
            self._ended[index] = stop.value
        except HeavyliftError as error:
            self._ended[index] = error
        else:
            self._due[index] = step
