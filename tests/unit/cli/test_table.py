"""Tables fit the terminal they are printed on, and every cell stays readable."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.cli import autoscale, doctor, jobs, queues, schedules
from heavylift.cli.table import layout

HEADER = [column.upper() for column in jobs.COLUMNS]
ROW = ["c" * 32, "reports", "annual", "active/running", "2/3", "disrupted", "45s", "waits for " + "a node " * 20]


def test_without_a_width_nothing_is_cut() -> None:
    """Piped output has one line per row, whatever its length."""
    lines = layout(HEADER, [ROW])

    assert len(lines) == 2
    assert lines[1].endswith(ROW[-1].rstrip())


def test_a_long_reason_goes_below_its_row() -> None:
    """At 80 columns the short columns stay whole and the reason follows, indented."""
    lines = layout(HEADER, [ROW], 80)

    assert max(map(len, lines)) <= 80
    assert lines[0].split() == HEADER[:-1]
    assert "active/running" in lines[1]
    assert "disrupted" in lines[1]
    below = [line for line in lines if line.startswith("    ")]
    assert " ".join(" ".join(below).split()) == ROW[-1].strip()


def test_few_columns_stay_side_by_side() -> None:
    """A table of two or three columns folds its last one in place."""
    lines = layout(["CHECK", "LEVEL", "MESSAGE"], [["redis", "fail", "word " * 40]], 80)

    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["CHECK", "LEVEL", "MESSAGE"]
    assert len(lines) > 2


@pytest.mark.parametrize(
    "columns",
    [jobs.COLUMNS, queues.COLUMNS, schedules.COLUMNS, doctor.COLUMNS, autoscale.COLUMNS],
    ids=["jobs", "queues", "schedules", "doctor", "autoscale"],
)
def test_every_table_fits_80_columns(columns: tuple[str, ...]) -> None:
    """The headers of each table fit, so that rows of ordinary values do."""
    lines = layout([column.upper() for column in columns], [["x" * 40] * len(columns)], 80)

    assert max(map(len, lines)) <= 80


CELL = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=60)


@given(st.lists(st.lists(CELL, min_size=5, max_size=5), max_size=4), st.integers(30, 120))
def test_no_text_is_lost(rows: list[list[str]], width: int) -> None:
    """Whatever the cells, each line fits and every letter of every cell is printed."""
    header = ["A", "B", "C", "D", "E"]
    lines = layout(header, rows, width)

    assert max(map(len, lines)) <= width
    printed = re.sub(r"\s", "", "".join(lines[1:]))
    wanted = re.sub(r"\s", "", "".join("".join(row) for row in rows))
    assert sorted(printed) == sorted(wanted), textwrap.shorten(str(rows), 200)
