"""What runs in the pod: one function for each kind of report (``heavylift run reports.tasks``)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

import heavylift
from reports import analysis, charts
from reports.series import ReportInputError, Series, check_year, load

WINDOW = 2338
"""Days in which the two wobbles come back into step (6.4 years): the shortest span that tells them apart."""
RESAMPLES = range(100, 100_001)
"""How often the tide may be estimated anew."""
Value = str | int | float | list[str]


@heavylift.task(queue="reports", no_retry_on=(ReportInputError,))
def annual(ctx: heavylift.Context, year: int, resamples: int = 6000) -> dict[str, Value | dict[str, Value]]:
    """Report on one year: the length of its days, the pole's path, the tides; three pages.

    Args:
        ctx: what runs this.
        year: a year the series covers.
        resamples: how often the tide is estimated anew for its interval; more is slower and steadier.

    Raises:
        ReportInputError: the year or the number of resamples cannot be used.
    """
    series = load()
    check_year("year", year, series)
    _check_resamples(resamples)
    part, around = series.span(year, year), series.around(year, 5)
    tick = _stopper(ctx)
    figures = analysis.year_figures(series, year)
    found = analysis.spectrum(around, shuffles=1000, seed=year, tick=tick)
    fortnight = analysis.tide(around, resamples=resamples, seed=year, tick=tick)
    fit = analysis.wobble(series.around(year, charts.WOBBLE_YEARS))
    pages = [
        charts.length_of_day(part, analysis.day_of_year_band(series), figures),
        charts.pole(around, part, fit, figures),
        charts.periods(
            found,
            fortnight,
            f"Tides in the length of the day around {year}",
            f"Lomb-Scargle periodogram of {len(around)} days ({around.first_year}-{around.last_year}), slow changes "
            f"taken out; interval from {resamples} resampled series.",
        ),
    ]
    summary: dict[str, Value] = {
        "year": year,
        "days": figures.days,
        "meanMs": round(figures.mean_lod, 4),
        "rank": f"{figures.rank} of {figures.years}",
        "longestDay": f"{figures.longest[0]} {figures.longest[1]:+.3f} ms",
        "shortestDay": f"{figures.shortest[0]} {figures.shortest[1]:+.3f} ms",
        "clockDriftSeconds": round(figures.clock_drift, 4),
        "leapSeconds": list(figures.leap_seconds),
        "poleMetres": round(figures.pole_path, 2),
        "fortnightlyTideMs": f"{fortnight.value:.4f} ({fortnight.low:.4f} to {fortnight.high:.4f})",
    }
    return {**_save(ctx, f"annual/{year}.pdf", pages), "summary": summary}


@heavylift.task(queue="reports", no_retry_on=(ReportInputError,))
def span(ctx: heavylift.Context, first: int, last: int) -> dict[str, Value | dict[str, Value]]:
    """Report on several years: when the pole came back to where it was, and how its wobbles grew and shrank; two pages.

    It holds the pole's distance between each two days in memory: 214 MB for ten years, 6 GB for the whole series.

    Args:
        ctx: what runs this.
        first: the first year.
        last: the last year, included; at least 7 years in all.

    Raises:
        ReportInputError: the years cannot be used.
    """
    series = load()
    check_year("first", first, series)
    check_year("last", last, series)
    part = series.span(first, last)
    if last < first:
        raise ReportInputError(f"first year {first} lies after last year {last}: exchange them")
    if len(part) < WINDOW:
        raise ReportInputError(f"{first} to {last} has {len(part)} days: the wobbles need {WINDOW}, so take 7 years")
    tick = _stopper(ctx)
    matrix = analysis.distances(part)
    starts = range(0, len(part) - WINDOW + 1, 15)
    fits = []
    for start in starts:
        tick()
        fits.append(analysis.wobble(_days(part, start, start + WINDOW)))
    apart = float(matrix.max())
    back = float((matrix < 1.0).mean() * 100)
    centres = [first + (start + WINDOW / 2) / analysis.YEAR for start in starts]
    pages = [
        charts.returns(
            matrix,
            part,
            f"When the pole came back, {first} to {last}",
            f"Dark: the pole stood close to where it was. {len(part)} days, {len(part) ** 2 / 1e6:.1f} million pairs; "
            f"{back:.1f} % of them within a metre, {apart:.1f} m at most.",
        ),
        charts.radii(centres, fits, f"Two wobbles, {first} to {last}", f"{len(fits)} windows, fitted separately."),
    ]
    summary: dict[str, Value] = {
        "first": first,
        "last": last,
        "days": len(part),
        "withinAMetrePercent": round(back, 2),
        "farthestMetres": round(apart, 2),
        "chandlerMetres": f"{fits[0].chandler:.2f} to {fits[-1].chandler:.2f}",
        "yearlyMetres": f"{fits[0].annual:.2f} to {fits[-1].annual:.2f}",
    }
    return {**_save(ctx, f"span/{first}-{last}.pdf", pages), "summary": summary}


def _check_resamples(value: object) -> None:
    """Refuse what would take for ever or say nothing."""
    if not isinstance(value, int) or value not in RESAMPLES:
        raise ReportInputError(
            f"resamples must be a whole number from {RESAMPLES[0]} to {RESAMPLES[-1]}, not {value!r}"
        )


def _days(part: Series, start: int, stop: int) -> Series:
    """Return some of the days by position."""
    cut = slice(start, stop)
    return Series(part.days[cut], part.x[cut], part.y[cut], part.ut1_utc[cut], part.lod[cut], part.lod_error[cut])


def _stopper(ctx: heavylift.Context) -> Callable[[], None]:
    """Return a function for long loops that ends them once the pod is asked to stop."""

    def tick() -> None:
        if ctx.stopping:
            raise analysis.Stopped("asked to stop before the report was finished")

    return tick


def _save(ctx: heavylift.Context, name: str, pages: Sequence[Figure]) -> dict[str, Value]:
    """Write the pages as PDF and the first as PNG under ``REPORTS_DIR``; return what refers to them.

    Each file appears whole or not at all, and a repeated attempt replaces it. Attempts may overlap, so each writes to a
    name of its own first: no two have the same execution id.

    Raises:
        RuntimeError: the folder is not there or not writable; the message says what to mount.
    """
    folder = Path(os.environ.get("REPORTS_DIR", "/reports"))
    target = folder / name
    unfinished = target.with_name(f".{target.stem}.{ctx.execution}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with PdfPages(unfinished, metadata={"Title": f"Earth rotation, {target.stem}", "CreationDate": None}) as pdf:
            for figure in pages:
                pdf.savefig(figure)
        size, digest = unfinished.stat().st_size, hashlib.sha256(unfinished.read_bytes()).hexdigest()
        unfinished.replace(target)
        pages[0].savefig(unfinished, format="png", dpi=110)
        unfinished.replace(target.with_suffix(".png"))
    except OSError as error:
        raise RuntimeError(
            f"cannot write {target}: {error.strerror}; mount a volume at {folder} that user {os.getuid()} may write to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return {
        "report": name,
        "preview": str(Path(name).with_suffix(".png")),
        "pages": len(pages),
        "bytes": size,
        "sha256": digest,
    }
