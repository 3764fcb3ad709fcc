"""The measurements: read once, checked, cut into spans of years."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Days = NDArray[np.datetime64]

METRES_PER_ARCSEC = 30.887
"""How far the pole moves over the ground for one second of arc (mean Earth radius of 6,371 km)."""


class ReportInputError(ValueError):
    """What the report was asked for cannot be made; the message says what can."""


@dataclass(frozen=True, slots=True)
class Series:
    """Days in a row and what was measured on each; all arrays have the same length.

    Attributes:
        days: the dates (UTC), ``datetime64[D]``, ascending.
        x: the pole's position towards Greenwich, in metres from its reference position.
        y: the same towards 90 degrees west, in metres.
        ut1_utc: Earth-rotation time minus clock time, in seconds; jumps up by one at a leap second.
        lod: what the day lasted beyond 86,400 s, in milliseconds.
        lod_error: the standard error of ``lod``, in milliseconds.
    """

    days: Days
    x: Floats
    y: Floats
    ut1_utc: Floats
    lod: Floats
    lod_error: Floats

    def __len__(self) -> int:
        """Return the number of days."""
        return len(self.days)

    @property
    def years(self) -> NDArray[np.int64]:
        """The calendar year of each day."""
        return self.days.astype("datetime64[Y]").astype(np.int64) + 1970

    @property
    def first_year(self) -> int:
        """The first year with measurements."""
        return int(self.years[0])

    @property
    def last_year(self) -> int:
        """The last year with measurements; usually incomplete."""
        return int(self.years[-1])

    def span(self, first: int, last: int) -> Series:
        """Return the days of the years from ``first`` to ``last``, both included (fewer at the ends of the series)."""
        lower, upper = np.searchsorted(self.years, [first, last + 1])
        cut = slice(int(lower), int(upper))
        return Series(self.days[cut], self.x[cut], self.y[cut], self.ut1_utc[cut], self.lod[cut], self.lod_error[cut])

    def around(self, year: int, years: int) -> Series:
        """Return ``years`` years with ``year`` in their middle, or as near to it as the ends of the series allow."""
        first = min(max(year - years // 2, self.first_year), self.last_year - years + 1)
        return self.span(first, first + years - 1)


@cache
def load() -> Series:
    """Return the whole series that comes with this package.

    Raises:
        RuntimeError: the packaged file is damaged: a gap, a value that is no number.
    """
    packed = resources.files("reports").joinpath("data/earth-rotation.csv.gz").read_bytes()
    rows = gzip.decompress(packed).decode("ascii").splitlines()[1:]
    cells = [row.split(",") for row in rows]
    days = np.array([row[0] for row in cells], dtype="datetime64[D]")
    values = np.array([row[1:] for row in cells], dtype=np.float64)
    if not np.isfinite(values).all() or (np.diff(days) != np.timedelta64(1, "D")).any():
        raise RuntimeError("earth-rotation.csv.gz is damaged: make it again with convert.py")
    x, _, y, _, ut1_utc, _, lod, lod_error = values.T
    return Series(days, x * METRES_PER_ARCSEC, y * METRES_PER_ARCSEC, ut1_utc, lod, lod_error)


def check_year(name: str, year: object, series: Series) -> int:
    """Return the year if the series covers it.

    Raises:
        ReportInputError: it is no whole number, or there are no measurements for it.
    """
    if not isinstance(year, int) or isinstance(year, bool):
        raise ReportInputError(f"{name} must be a whole number such as 1999, not {year!r}")
    if not series.first_year <= year <= series.last_year:
        raise ReportInputError(
            f"there are no measurements for {name} {year}: the series runs from {series.days[0]} to "
            f"{series.days[-1]}, so ask for a year from {series.first_year} to {series.last_year}"
        )
    return year
