"""Load curves: points in time with a value each, as text, CSV or JSON."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from heavylift.contract.durations import to_ms
from heavylift.errors import InvalidInputError

POINTS_MAX: Final = 100_000
VALUE_MAX: Final = 10**12
_EXAMPLE: Final = "0s=0,1m=200,10m=0"


@dataclass(frozen=True, slots=True)
class Point:
    """A value from a moment on."""

    at: float
    """Seconds from the start."""
    value: float | None
    """None = it cannot be had from then on."""


def from_text(text: str) -> tuple[Point, ...]:
    """Return the curve of ``0s=0,1m=200,10m=0``; a missing value (``5m=``) stands for one that cannot be had.

    Raises:
        InvalidInputError: not of that form.
    """
    pairs = []
    for part in text.split(","):
        when, equals, value = part.strip().partition("=")
        if not equals:
            raise InvalidInputError(f"{part.strip()[:40]!r} is not TIME=VALUE: write a curve like {_EXAMPLE}")
        pairs.append((when.strip(), value.strip() or None))
    return _curve(pairs)


def from_file(text: str) -> tuple[Point, ...]:
    """Return the curve of a file: CSV with time and value (a heading may stand on top), or a JSON list of such pairs.

    Times are durations (``90s``) or seconds; an empty value, or null, stands for one that cannot be had.

    Raises:
        InvalidInputError: neither of them.
    """
    if text.lstrip().startswith(("[", "{")):
        return _curve(_json_pairs(text))
    rows = [row for row in csv.reader(io.StringIO(text)) if row and any(cell.strip() for cell in row)]
    if rows and not _is_time(rows[0][0].strip()):
        rows = rows[1:]
    return _curve([_csv_pair(row) for row in rows])


def value_at(curve: Sequence[Point], at: float) -> float | None:
    """Return the value at a moment: the last point's at or before it; 0 before the first."""
    passed = bisect_right(curve, at, key=lambda point: point.at)
    return curve[passed - 1].value if passed else 0.0


def _csv_pair(row: list[str]) -> tuple[str, str | None]:
    if len(row) > 2 or not row:  # noqa: PLR2004 - time and value
        raise InvalidInputError(f"a line of the curve has {len(row)} columns: write time,value")
    return row[0].strip(), (row[1].strip() if len(row) > 1 else "") or None


def _json_pairs(text: str) -> list[tuple[Any, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the curve is not JSON: {error}") from None
    if not isinstance(found, list):
        raise InvalidInputError('the curve is not a JSON list: write [["0s", 0], ["1m", 200]]')
    return [_json_pair(entry) for entry in found]


def _json_pair(entry: object) -> tuple[Any, Any]:
    if isinstance(entry, list) and len(entry) == 2:  # noqa: PLR2004 - time and value
        return entry[0], entry[1]
    if isinstance(entry, dict) and entry.keys() == {"time", "value"}:
        return entry["time"], entry["value"]
    raise InvalidInputError(f'{str(entry)[:60]} is no point: write ["1m", 200] or {{"time": "1m", "value": 200}}')


def _is_time(text: str) -> bool:
    try:
        _seconds(text)
    except InvalidInputError:
        return False
    return True


def _seconds(when: object) -> float:
    if isinstance(when, str):
        try:
            return _finite(float(when), when)
        except ValueError:
            return to_ms(when) / 1000
    if isinstance(when, int | float) and not isinstance(when, bool):
        return _finite(float(when), when)
    raise InvalidInputError(f"{str(when)[:40]!r} is no time: write 90s, 5m or seconds")


def _finite(number: float, given: object) -> float:
    if not math.isfinite(number) or not 0 <= number <= VALUE_MAX:
        raise InvalidInputError(f"{given} is out of range: times and values are 0 or more")
    return number


def _value(given: object) -> float | None:
    if given is None:
        return None
    try:
        return _finite(float(given), given)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{str(given)[:40]!r} is not a number") from None


def _curve(pairs: Iterable[tuple[Any, Any]]) -> tuple[Point, ...]:
    points = tuple(Point(_seconds(when), _value(value)) for when, value in pairs)
    if not points:
        raise InvalidInputError(f"the curve has no point: write one like {_EXAMPLE}")
    if len(points) > POINTS_MAX:
        raise InvalidInputError(f"the curve has {len(points):,} points: at most {POINTS_MAX:,}")
    late = next((b for a, b in itertools.pairwise(points) if b.at <= a.at), None)
    if late is not None:
        raise InvalidInputError(f"the curve's times must rise: {late.at:g} s comes after a later or equal one")
    return points
