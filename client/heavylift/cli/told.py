"""What an action says it did: sentences for people as it goes, rows for programs at its end; bars while it goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress

from heavylift.cli.exits import safe
from heavylift.cli.output import Format, emit

Step = Callable[[int, int], None]
"""Told how many are done, and of how many."""


@dataclass
class Told:
    """Collects what was done."""

    form: Format
    key: str = "id"
    rows: list[dict[str, Any]] = field(default_factory=list)

    def did(self, sentence: str, **row: Any) -> None:
        """Say one thing that was done; ``row`` is what programs get of it."""
        if self.form is Format.TABLE:
            print(safe(sentence))
        else:
            self.rows.append(row)


@contextmanager
def telling(form: Format, key: str = "id") -> Iterator[Told]:
    """Return where to say what was done; programs get their rows at the end, whatever ended it."""
    told = Told(form, key)
    try:
        yield told
    finally:
        if form is not Format.TABLE:
            emit(told.rows, form, (), key)


@contextmanager
def progress(title: str) -> Iterator[Step]:
    """Return what moves a bar on a terminal; it does nothing elsewhere."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, of: bars.update(bar, completed=done, total=of)
