"""Running the sides of a comparison by turns."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.benchmarks.backing import Backing

K = TypeVar("K", bound=str)
V = TypeVar("V")
LEAST: Final = 5
"""Rounds of what a disturbed one would decide otherwise, however few are asked for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured, and on which store."""

    runs: int = 5
    quick: bool = False
    backing: Backing = field(default_factory=Backing)

    def of(self, full: int, quick: int) -> int:
        """Return a count of things: the first, or with ``--quick`` the second."""
        return quick if self.quick else full


def by_turns(sides: Mapping[K, Callable[[], V]], runs: int) -> dict[K, list[V]]:
    """Run each side so many times, by turns, and each round in the other order; return what they gave."""
    found: dict[K, list[V]] = {name: [] for name in sides}
    for run in range(runs):
        names = list(sides)
        for name in names if run % 2 == 0 else reversed(names):
            gc.collect()
            found[name].append(sides[name]())
    return found


def timed(work: Callable[[], object]) -> float:
    """Return how long it took, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share (0..1) does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
