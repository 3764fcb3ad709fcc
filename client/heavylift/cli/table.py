"""Tables for people, laid out for the width there is; pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

GAP = 2
_INDENT = "    "


def layout(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Return the lines of a table.

    What does not fit goes, in this order: the last column to lines of its own below each row, then the widest columns
    are folded, never below the width of their header.

    Args:
        header: names of the columns.
        rows: one text per column.
        width: columns of the terminal; None = no bound.
    """
    own = list(zip(*[header, *rows], strict=True))
    widths = [max(map(len, column)) for column in own]
    if width is None or _total(widths) <= width:
        return [_line(row, widths) for row in (header, *rows)]
    below = len(header) > _FEW
    shown = widths[:-1] if below else widths
    fitted = _fit(shown, [len(name) for name in header], width)
    lines = list(_folded([*header[: len(shown)]], fitted))
    for row in rows:
        lines += _folded(row[: len(shown)], fitted)
        if below and row[-1] not in {"", "-"}:
            lines += textwrap.wrap(row[-1], width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return lines


_FEW = 3
"""Tables of so few columns keep the last one beside the others."""


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _fit(widths: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Return widths that fit, the widest ones cut first."""
    fitted = list(widths)
    while _total(fitted) > width:
        room = [found - bound for found, bound in zip(fitted, least, strict=False)]
        widest = max(range(len(fitted)), key=lambda index: (room[index] > 0, fitted[index]))
        if room[widest] <= 0:
            break
        fitted[widest] -= 1
    return fitted


def _folded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    parts = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    for index in range(max(map(len, parts))):
        yield _line([part[index] if index < len(part) else "" for part in parts], widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
