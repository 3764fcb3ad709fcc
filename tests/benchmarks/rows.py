"""What a benchmark says: one row per question, with the runs behind it."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a row's value, or on its ratio to the peer."""

    bound: float
    of: Literal["value", "ratio"] = "ratio"
    at: Literal["least", "most"] = "least"

    def met(self, row: Row) -> bool | None:
        """Return whether the row keeps the bound; None where it has no such figure."""
        figure = row.ratio if self.of == "ratio" else row.value
        if figure is None:
            return None
        return figure >= self.bound if self.at == "least" else figure <= self.bound

    def words(self, unit: str) -> str:
        """Return it for people."""
        sign = ">=" if self.at == "least" else "<="
        return f"{sign} {self.bound:g}" + ("x" if self.of == "ratio" else f" {unit}".rstrip())


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: the median of its runs, beside the median of the peer's."""

    bench: str
    what: str
    unit: str
    runs: Sequence[float]
    peer: str = ""
    """What it stands beside; empty = nothing."""
    peer_runs: Sequence[float] = ()
    """As many, each taken right before or after ours."""
    targets: tuple[Target, ...] = ()
    limit: str = ""
    """What keeps the figure from being better."""
    more: Json = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of our runs."""
        return statistics.median(self.runs)

    @property
    def peer_value(self) -> float | None:
        """The median of the peer's runs."""
        return statistics.median(self.peer_runs) if self.peer_runs else None

    @property
    def ratio(self) -> float | None:
        """The median over the runs of ours / the peer's; other work on the machine falls on both sides of each."""
        if not self.peer_runs:
            return None
        pairs = zip(self.runs, self.peer_runs, strict=True)
        return statistics.median(ours / theirs if theirs else 0.0 for ours, theirs in pairs)

    @property
    def met(self) -> bool | None:
        """Whether all targets are kept; None = there is none."""
        known = [verdict for target in self.targets if (verdict := target.met(self)) is not None]
        return all(known) if known else None

    def json(self) -> Json:
        """Return all of it."""
        return {
            "bench": self.bench,
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "runs": list(self.runs),
            "peer": self.peer,
            "peerValue": self.peer_value,
            "peerRuns": list(self.peer_runs),
            "ratio": self.ratio,
            "targets": [target.words(self.unit) for target in self.targets],
            "met": self.met,
            "limit": self.limit,
            **({"more": self.more} if self.more else {}),
        }


WIDTH: Final = 80
_BESIDE: Final = 48
"""Longer questions stand above their figures."""
_HEAD: Final = ("ours", "peer", "ratio", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Return rows for a terminal of 80 columns: by benchmark and question, a line per peer, below them what limits."""
    return "\n\n".join(_group(bench, list(those)) for bench, those in groupby(rows, key=lambda row: row.bench))


def _group(bench: str, rows: Sequence[Row]) -> str:
    """Return one benchmark's part; its figures are aligned among themselves."""
    lines: list[tuple[str, tuple[str, ...]]] = [(bench, _HEAD)]
    for (what, unit), those in groupby(rows, key=lambda row: (row.what, row.unit)):
        named = [(row.peer, _cells(row)) for row in those]
        question = f"  {what}, {unit}" if unit else f"  {what}"
        if len(named) == 1 and not named[0][0] and len(question) <= _BESIDE:
            lines.append((question, named[0][1]))
        else:
            lines.append((question, ()))
            lines += [(f"    {peer}", cells) for peer, cells in named]
    columns = [[cells[i] for _, cells in lines if cells] for i in range(len(_HEAD))]
    widths = [max(map(len, column)) if any(column[1:]) else 0 for column in columns]
    first = max(len(name) for name, cells in lines if cells)
    printed = [
        f"{name:<{first}}{_figures(cells, widths)}".rstrip() if cells else _folded(name) for name, cells in lines
    ]
    limits = dict.fromkeys(row.limit for row in rows if row.limit)
    return "\n".join([*printed, *(_folded(f"  limit: {words}") for words in limits)])


def _figures(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"  {cell:>{width}}" if width else "" for cell, width in zip(cells, widths, strict=True))


def _folded(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="    ")


def _cells(row: Row) -> tuple[str, ...]:
    peer = number(row.peer_value) if row.peer_value is not None else ""
    ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    wanted = ", ".join(target.words(row.unit) for target in row.targets)
    return (number(row.value), peer, ratio, wanted, verdict)


def number(value: float) -> str:
    """Return a figure with three or so digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
