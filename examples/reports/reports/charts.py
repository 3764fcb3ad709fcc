"""The pages of the reports, drawn with matplotlib into figures of their own (no global state, no display)."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, datestr2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.analysis import Estimate, Spectrum, Wobble, YearFigures
from reports.series import Floats, Series

PAGE = (11.0, 7.5)
"""Width and height of a page in inches."""
INK, ACCENT, SOFT, PALE = "#1f2933", "#c2410c", "#2f6690", "#cbd5e1"
WOBBLE_YEARS = 7
"""Years around a year in which its wobbles are fitted: the shortest span that tells them apart."""
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "font.size": 10.5,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def page(title: str, note: str) -> Figure:
    """Return an empty page with its title and, at the foot, a note."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=PAGE, layout="constrained")
    figure.get_layout_engine().set(rect=(0.02, 0.05, 0.96, 0.86))  # type: ignore[union-attr, call-arg]
    figure.text(0.04, 0.945, title, fontsize=18, fontweight="bold", color=INK)
    figure.text(0.04, 0.02, note, fontsize=8.5, color="#64748b")
    return figure


def _axes(figure: Figure, *where: int) -> Axes:
    """Return axes in the report's style."""
    with mpl.rc_context(_STYLE):
        axes: Axes = figure.add_subplot(*where)
    return axes


def _dates(axes: Axes) -> None:
    """Label the x axis with dates, as short as they can be."""
    locator = AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def length_of_day(part: Series, band: tuple[Floats, Floats, Floats], figures: YearFigures) -> Figure:
    """Return the page with each day's length against what the other years had on that date."""
    figure = page(
        f"The length of the day in {figures.year}",
        f"Rank {figures.rank} of {figures.years} (1 = longest mean day). The Earth "
        f"{'fell behind' if figures.clock_drift > 0 else 'ran ahead of'} the clocks by "
        f"{abs(figures.clock_drift):.3f} s. Measurements: US Naval Observatory, finals2000A.",
    )
    axes = _axes(figure, 1, 1, 1)
    days = part.days
    in_year = (days - days.astype("datetime64[Y]")).astype(np.int64)
    low, middle, high = (values[in_year] for values in band)
    axes.fill_between(days, low, high, color=PALE, alpha=0.7, lw=0, label="eight of ten years since 1973")
    axes.plot(days, middle, color="#64748b", lw=1, label="their median")
    axes.plot(days, part.lod, color=SOFT, lw=1.1, label=str(figures.year))
    axes.axhline(0, color=INK, lw=0.8)
    axes.axhline(figures.mean_lod, color=ACCENT, lw=1.2, ls="--", label=f"mean {figures.mean_lod:+.3f} ms")
    for (day, value), word, offset in ((figures.longest, "longest", 12), (figures.shortest, "shortest", -18)):
        at = np.datetime64(day)
        axes.plot([at], [value], "o", color=ACCENT, ms=5)
        axes.annotate(
            f"{word}: {day}, {value:+.2f} ms", (at, value), (0, offset), textcoords="offset points", ha="center"
        )
    for day in figures.leap_seconds:
        axes.axvline(float(datestr2num(day)), color=ACCENT, lw=0.8)  # type: ignore[no-untyped-call]
        axes.annotate("leap second", (np.datetime64(day), axes.get_ylim()[0]), (4, 6), textcoords="offset points")
    axes.margins(x=0.01, y=0.12)
    axes.set_ylabel("ms beyond 86,400 s")
    axes.legend(loc="upper center", ncols=4, bbox_to_anchor=(0.5, 1.09))
    _dates(axes)
    return figure


def pole(around: Series, part: Series, fit: Wobble, figures: YearFigures) -> Figure:
    """Return the page with the pole's path over the year, and the years around it behind."""
    figure = page(
        f"The way of the pole in {figures.year}",
        f"It went {figures.pole_path:.1f} m; its positions lie up to {figures.pole_width:.1f} m apart. Circles fitted "
        f"over {WOBBLE_YEARS} years: Chandler {fit.chandler:.2f} m, yearly {fit.annual:.2f} m.",
    )
    axes = _axes(figure, 1, 1, 1)
    axes.plot(around.x, around.y, color=PALE, lw=1.2, label=f"{around.first_year}-{around.last_year}", zorder=1)
    months = part.days.astype("datetime64[M]").astype(int) % 12 + 1
    dots = axes.scatter(part.x, part.y, c=months, cmap="twilight_shifted", s=14, vmin=0.5, vmax=12.5, zorder=2)
    axes.plot(*fit.centre, "+", color=ACCENT, ms=14, mew=2, label="centre of the wobble")
    axes.annotate(f"{part.days[0]}", (part.x[0], part.y[0]), (6, 6), textcoords="offset points")
    axes.annotate(f"{part.days[-1]}", (part.x[-1], part.y[-1]), (6, 6), textcoords="offset points")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("metres towards Greenwich")
    axes.set_ylabel("metres towards 90° west")
    figure.colorbar(dots, ax=axes, label="month", ticks=range(1, 13), shrink=0.8)
    axes.legend(loc="upper right")
    return figure


def periods(found: Spectrum, fortnight: Estimate, title: str, note: str) -> Figure:
    """Return the page with the periods in the length of day and the level that chance reaches."""
    figure = page(title, note)
    axes = _axes(figure, 1, 1, 1)
    axes.fill_between(found.periods, 0, found.power * 100, color=SOFT, alpha=0.25, lw=0)
    axes.plot(found.periods, found.power * 100, color=SOFT, lw=1.2)
    axes.axhline(found.threshold * 100, color=ACCENT, ls="--", lw=1.2, label="one shuffled series in 100 gets here")
    axes.set_xscale("log")
    axes.set_xlim(5, 120)
    ticks = [5, 7, 9.1, 13.7, 27.6, 60, 120]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    period, power = found.peak(13, 14.5)
    axes.annotate(
        f"the Moon's fortnightly tide\n{fortnight.value:.3f} ms ({fortnight.low:.3f} to {fortnight.high:.3f})",
        (period, power * 100),
        (-14, -4),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    axes.set_xlabel("period, days")
    axes.set_ylabel("share of the variance, %")
    axes.legend(loc="upper right")
    return figure


def returns(matrix: Floats, part: Series, title: str, note: str) -> Figure:
    """Return the page with the distance of the pole between each two days."""
    figure = page(title, note)
    axes = _axes(figure, 1, 1, 1)
    step = max(1, len(part) // 900)
    start, end = part.first_year, part.first_year + len(part) / 365.2425
    image = axes.imshow(
        matrix[::step, ::step], cmap="magma", origin="lower", extent=(start, end, start, end), interpolation="nearest"
    )
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
        axis.set_major_formatter("{x:.0f}")
    figure.colorbar(image, ax=axes, label="metres between the pole's positions", shrink=0.85)
    return figure


def radii(centres: list[float], fits: list[Wobble], title: str, note: str) -> Figure:
    """Return the page with the radii of both wobbles over time."""
    figure = page(title, note)
    axes = _axes(figure, 1, 1, 1)
    axes.plot(centres, [fit.chandler for fit in fits], color=SOFT, lw=2, label="Chandler wobble, 433 days")
    axes.plot(centres, [fit.annual for fit in fits], color=ACCENT, lw=2, label="yearly wobble")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("radius, metres")
    axes.set_xlabel("middle of a window of 6.4 years")
    axes.legend(loc="best")
    return figure
