"""What a queue's counters hold beside plain counts: ended attempts by class, waits by length (``_tally.lua``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass

_BOUNDS = (*(str(bound) for bound in limits.WAIT_BOUNDS_MS), "inf")
_CLASSES = frozenset(cls.value for cls in OutcomeClass)


@dataclass(slots=True)
class Histogram:
    """Counts by length, and the sum of the lengths."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    """One per bound of ``limits.WAIT_BOUNDS_MS``, and the last for what is longer; not cumulated."""
    sum_ms: int = 0

    @property
    def cumulated(self) -> Iterator[tuple[str, int]]:
        """Yield (upper bound in seconds as Prometheus writes it, how many are at most that long)."""
        total = 0
        for bound, count in zip((*limits.WAIT_BOUNDS_MS, None), self.counts, strict=True):
            total += count
            yield "+Inf" if bound is None else str(bound / 1000), total


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """One queue's tallies since its counters began."""

    outcomes: Mapping[tuple[str, bool], int]
    """(outcome class, whether the job ended with it) -> attempts."""
    waits: Mapping[str, Histogram]
    """Task, or "" for all tasks that are not kept apart -> how long jobs waited for each of their claims."""


def read(counters: Mapping[str, int]) -> Tallies:
    """Return the tallies among a queue's counters; fields that are none of ours are left out."""
    outcomes: dict[tuple[str, bool], int] = {}
    waits: defaultdict[str, Histogram] = defaultdict(Histogram)
    for name, count in counters.items():
        kind, _, rest = name.partition(":")
        what, _, task = rest.partition(":")
        if count < 0:
            continue
        if kind == "outcome" and what in _CLASSES and task in {"0", "1"}:
            outcomes[what, task == "1"] = count
        elif kind == "wait" and (what == "sum" or what in _BOUNDS):
            if len(task) > limits.TASK_NAME_MAX or (task not in waits and len(waits) > limits.TALLIED_TASKS_MAX):
                continue
            if what == "sum":
                waits[task].sum_ms = count
            else:
                waits[task].counts[_BOUNDS.index(what)] = count
    return Tallies(outcomes=outcomes, waits=dict(waits))
