"""Pairwise combinations of a job's options, its queue's settings and its end: rows of a covering array."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

_CANDIDATES = 12

Row = Mapping[str, Any]
PARAMETERS: dict[str, Sequence[Any]] = {
    "priority": (0, -5, 7),
    "lifo": (False, True),
    "key": (None, "red"),
    "dedupe": (None, "first", "throttle", "keep_last", "debounce"),
    "delay": (None, "5s"),
    "expires": (None, "1h", "12s"),
    "max_attempts": (None, 1, 3),
    "backoff": (None, "exponential", "fixed"),
    "jitter": (0, 0.5),
    "if_exists": ("return", "raise", "retry_failed", "replace"),
    "pending": (None, "20s"),
    "run": (None, "15s"),
    "total": (None, "30s"),
    "resources": (None, "2Gi"),
    "checkpoint": (False, True),
    "depends": (False, True),
    "way": ("one", "many"),
    "perKey": (None, 2, 1),
    "order": ("Fifo", "RoundRobin"),
    "cap": (None, 1, 3),
    "rate": (None, {"limit": 2, "period": "30s"}),
    "retention": (None, {"completed": {"count": 1}, "failed": {"count": 1}}),
    "growth": (None, "8Gi", "1280Mi"),
    "pause": (False, True),
    "schedule": (None, "Allow", "Forbid", "Replace"),
    "rq": (None, "retry", "intervals", "in"),
    "end": ("complete", "retry", "fail", "oom", "hang", "stuck", "cancel"),
}
"""What a job asks for; its queue's settings; who else enqueues: a schedule, by its concurrency policy, and RQ's client;
how first attempts end. ``growth``: memory grows by half after an oom, to so much at most; ``pause``: before any start.
"""


def pairs_of(row: Row) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yield the pairs of choices of a row, each as parameter and index of its value."""
    chosen = [(name, values.index(row[name])) for name, values in PARAMETERS.items()]
    yield from itertools.combinations(chosen, 2)


@functools.cache
def covering_array(seed: int = 0) -> list[Row]:
    """Return rows in which each two values of any two parameters meet: the best of some greedy rows at a time."""
    choices = [[(name, index) for index in range(len(values))] for name, values in PARAMETERS.items()]
    left = {pair for one, other in itertools.combinations(choices, 2) for pair in itertools.product(one, other)}
    random, rows = Random(seed), list[Row]()
    while left:
        best = max((_candidate(random, left) for _ in range(_CANDIDATES)), key=lambda row: _covers(row, left))
        rows.append({name: PARAMETERS[name][index] for name, index in best.items()})
        left -= set(pairs_of(rows[-1]))
    return rows


def _covers(row: dict[str, int], left: set[Any]) -> int:
    chosen = [(name, row[name]) for name in PARAMETERS]
    return sum(pair in left for pair in itertools.combinations(chosen, 2))


def _candidate(random: Random, left: set[Any]) -> dict[str, int]:
    """Return a row that begins with a pair still left, and takes for each parameter what covers most of the others."""
    order = {name: place for place, name in enumerate(PARAMETERS)}
    row = dict(random.choice(sorted(left)))
    for name in random.sample(list(PARAMETERS), len(PARAMETERS)):
        if name in row:
            continue

        def gain(index: int, name: str = name) -> tuple[int, float]:
            pairs = (sorted(((name, index), other), key=lambda each: order[each[0]]) for other in row.items())
            return sum(tuple(pair) in left for pair in pairs), random.random()

        row[name] = max(range(len(PARAMETERS[name])), key=gain)
    return row
