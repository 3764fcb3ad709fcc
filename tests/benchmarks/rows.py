"""What a benchmark says: one row per question, with the runs behind it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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


def table(rows: Sequence[Row]) -> str:
    """Return rows as aligned text, grouped by benchmark, with what limits each group below it."""
    head = ("", "ours", "peer", "ratio", "target", "")
    body = [(row, _cells(row)) for row in rows]
    widths = [max([len(head[i]), *(len(cells[i]) for _, cells in body)]) for i in range(len(head))]
    lines, group, said = [_line(head, widths).rstrip()], "", list[str]()
    for row, cells in body:
        if row.bench != group:
            lines += [f"    limit: {words}" for words in said]
            lines += [f"{row.bench}"]
            group, said = row.bench, []
        lines.append(_line(cells, widths).rstrip())
        if row.limit and row.limit not in said:
            said.append(row.limit)
    return "\n".join([*lines, *(f"    limit: {words}" for words in said)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([f"  {first}", *rest])


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{number(row.peer_value)} {row.peer}" if row.peer_value is not None else ""
    ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    wanted = ", ".join(target.words(row.unit) for target in row.targets)
    return (row.what, f"{number(row.value)} {row.unit}", peer, ratio, wanted, verdict)


def number(value: float) -> str:
    """Return a figure with three or so digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
