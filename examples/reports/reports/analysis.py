"""The figures in the reports: pure functions of the series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reports.series import Floats, Series

FORTNIGHT = 13.661
"""Days between the Moon's crossings of the equator: the strongest short tide in the length of day."""
MONTH = 27.555
"""Days between the Moon's nearest points (anomalistic month)."""
CHANDLER = 433.0
"""Days of the pole's free wobble."""
YEAR = 365.2422
BLOCK = 30
"""Days kept together when resampling: neighbouring days are alike, so single days must not be drawn."""
BATCH = 50
"""Shuffled series worked on at once: one large matrix product is faster than many small ones."""
RANKED = 300
"""Days a year must have to be ranked."""
LEAP = 0.5
"""Seconds; a larger step of UT1-UTC from one day to the next is a leap second."""


class Stopped(Exception):  # noqa: N818 - not a failure of the analysis: somebody asked it to end
    """The work was asked to stop half-way."""


@dataclass(frozen=True, slots=True)
class YearFigures:
    """One year in figures: ``lod`` in milliseconds beyond 86,400 s, distances in metres."""

    year: int
    days: int
    mean_lod: float
    rank: int
    """1 = the slowest-turning year of the series (longest mean day)."""
    years: int
    longest: tuple[str, float]
    shortest: tuple[str, float]
    clock_drift: float
    """Seconds by which the Earth fell behind the clocks over the year (negative: ran ahead)."""
    leap_seconds: tuple[str, ...]
    """Dates of the first day after each leap second."""
    pole_path: float
    """Metres the pole travelled."""
    pole_width: float
    """The largest distance between two of its positions, in metres."""


def year_figures(series: Series, year: int) -> YearFigures:
    """Return the figures of one year, ranked among all years that have enough days."""
    part = series.span(year, year)
    means = {y: series.span(y, y).lod.mean() for y in range(series.first_year, series.last_year + 1)}
    whole = [y for y in means if y == year or len(series.span(y, y)) >= RANKED]
    slow, fast = int(part.lod.argmax()), int(part.lod.argmin())
    jumps = np.flatnonzero(np.diff(part.ut1_utc) > LEAP) + 1
    pole = part.x + 1j * part.y
    return YearFigures(
        year=year,
        days=len(part),
        mean_lod=float(means[year]),
        rank=1 + sum(means[y] > means[year] for y in whole),
        years=len(whole),
        longest=(str(part.days[slow]), float(part.lod[slow])),
        shortest=(str(part.days[fast]), float(part.lod[fast])),
        clock_drift=float(part.lod.sum() / 1000),
        leap_seconds=tuple(str(part.days[i]) for i in jumps),
        pole_path=float(np.abs(np.diff(pole)).sum()),
        pole_width=float(np.abs(pole[:, None] - pole[None, :]).max()),
    )


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Power by period: ``power`` is the share of the variance a sine of that period explains."""

    periods: Floats
    power: Floats
    threshold: float
    """Power that pure chance reaches in one of a hundred shuffled series."""

    def peak(self, low: float, high: float) -> tuple[float, float]:
        """Return period (days) and power of the highest peak between two periods."""
        inside = np.flatnonzero((self.periods >= low) & (self.periods <= high))
        best = inside[self.power[inside].argmax()]
        return float(self.periods[best]), float(self.power[best])


def spectrum(part: Series, *, shuffles: int, seed: int, tick: Callable[[], None] = lambda: None) -> Spectrum:
    """Return the Lomb-Scargle periodogram of the length of day, slow changes taken out.

    Args:
        part: the days to look at, two years or more for a useful resolution.
        shuffles: how many shuffled series give the threshold.
        seed: of the shuffles, so that a repeated attempt draws the same report.
        tick: called between steps; may raise to stop.
    """
    periods = 1 / np.linspace(1 / 120, 1 / 5, 1200)
    angles = 2 * np.pi * np.arange(len(part))[:, None] / periods[None, :]
    tau = np.arctan2(np.sin(2 * angles).sum(0), np.cos(2 * angles).sum(0)) / 2
    cosine, sine = np.cos(angles - tau), np.sin(angles - tau)
    norms = (cosine**2).sum(0), (sine**2).sum(0)
    signal = high_pass(part.lod)
    signal /= np.sqrt((signal**2).sum())

    def power(values: Floats) -> Floats:
        """Return the power of each period for one series, or for each of several."""
        return np.asarray((values @ cosine) ** 2 / norms[0] + (values @ sine) ** 2 / norms[1], dtype=np.float64)

    random = np.random.default_rng(seed)
    maxima: list[float] = []
    while len(maxima) < shuffles:
        tick()
        some = random.permuted(np.tile(signal, (min(BATCH, shuffles - len(maxima)), 1)), axis=1)
        maxima += power(some).max(axis=1).tolist()
    return Spectrum(periods, power(signal), float(np.quantile(maxima, 0.99)))


def high_pass(values: Floats, window: int = 121) -> Floats:
    """Return the values without their running mean (``window`` days, shorter at the ends)."""
    weights = np.ones(min(window, len(values)))
    mean = np.convolve(values, weights, "same") / np.convolve(np.ones_like(values), weights, "same")
    return np.asarray(values - mean, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the interval that holds it in 95 of 100 resampled series."""

    value: float
    low: float
    high: float


def tide(part: Series, *, resamples: int, seed: int, tick: Callable[[], None] = lambda: None) -> Estimate:
    """Return the amplitude of the fortnightly tide in the length of day, in milliseconds, by block bootstrap."""
    time = np.arange(len(part), dtype=np.float64)
    columns = [np.ones_like(time), time / len(part)]
    for period in (FORTNIGHT, MONTH, 9.133, YEAR / 2, YEAR):
        columns += [np.cos(2 * np.pi * time / period), np.sin(2 * np.pi * time / period)]
    design = np.stack(columns, axis=1)

    def amplitude(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        fit = np.linalg.lstsq(design[rows], part.lod[rows], rcond=None)[0]
        return float(np.hypot(fit[2], fit[3]))

    random = np.random.default_rng(seed)
    blocks = -(-len(part) // BLOCK)
    draws = []
    for _ in range(resamples):
        tick()
        starts = random.integers(0, max(1, len(part) - BLOCK + 1), blocks)
        rows = (starts[:, None] + np.arange(min(BLOCK, len(part)))[None, :]).ravel()
        draws.append(amplitude(rows))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(amplitude(np.arange(len(part))), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Wobble:
    """The pole's two circles, fitted over one window; radii in metres."""

    chandler: float
    annual: float
    centre: tuple[float, float]


def wobble(part: Series) -> Wobble:
    """Return the radii of the free (Chandler) and the yearly wobble and the centre they go around."""
    time = np.arange(len(part), dtype=np.float64)
    free, yearly = (np.exp(2j * np.pi * time / period) for period in (CHANDLER, YEAR))
    design = np.stack([np.ones_like(free), free, yearly, yearly.conj()], axis=1)
    pole = part.x - 1j * part.y  # y is counted towards the west
    centre, chandler, annual, _ = np.linalg.lstsq(design, pole, rcond=None)[0]
    return Wobble(float(abs(chandler)), float(abs(annual)), (float(centre.real), -float(centre.imag)))


def distances(part: Series) -> Floats:
    """Return how far apart the pole stood on each two days, in metres, as an n x n matrix.

    This is the hungry one: 16 bytes for every pair of days while it works, so 214 MB for ten years, 6 GB for all.
    """
    matrix = part.x[:, None] - part.x[None, :]
    other = part.y[:, None] - part.y[None, :]
    return np.hypot(matrix, other, out=matrix)


def day_of_year_band(series: Series) -> tuple[Floats, Floats, Floats]:
    """Return the 10th, 50th and 90th percentile of the length of day for each of 366 days of the year."""
    in_year = (series.days - series.days.astype("datetime64[Y]")).astype(np.int64)
    groups = [series.lod[in_year == day] for day in range(366)]
    low, middle, high = np.array([np.quantile(group, [0.1, 0.5, 0.9]) for group in groups]).T
    return low, middle, high
