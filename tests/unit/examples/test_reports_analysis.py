"""The figures of the reports, held against what is known about the Earth."""

from __future__ import annotations

import numpy as np
import pytest

from reports import analysis
from reports.series import load


def test_the_shortest_day_of_2024_is_the_fifth_of_july() -> None:
    """5 July 2024 was 1.66 ms short of 24 hours, the shortest day measured so far."""
    figures = analysis.year_figures(load(), 2024)

    assert figures.shortest[0] == "2024-07-05"
    assert figures.shortest[1] == pytest.approx(-1.66, abs=0.02)
    assert figures.days == 366
    assert figures.leap_seconds == ()


def test_a_leap_second_is_found_and_the_drift_is_what_clocks_say() -> None:
    """Summing up the days' excess gives the change of UT1-UTC, the leap second taken out."""
    part = load().span(1997, 1997)
    figures = analysis.year_figures(load(), 1997)

    assert figures.leap_seconds == ("1997-07-01",)
    assert figures.clock_drift == pytest.approx(part.ut1_utc[0] - part.ut1_utc[-1] + 1.0, abs=0.01)


def test_years_are_ranked_by_their_mean_day() -> None:
    """The Earth turned slowest in the early seventies."""
    assert analysis.year_figures(load(), 1973).rank == 1
    assert analysis.year_figures(load(), 2020).rank > 40


def test_the_spectrum_has_the_moons_periods_and_little_besides() -> None:
    """The fortnightly and the monthly tide stand high above what shuffled days reach."""
    found = analysis.spectrum(load().span(1995, 1999), shuffles=50, seed=1)

    fortnight, month = found.peak(13, 14.5), found.peak(26, 29)
    assert fortnight[0] == pytest.approx(analysis.FORTNIGHT, abs=0.1)
    assert month[0] == pytest.approx(analysis.MONTH, abs=0.3)
    assert min(fortnight[1], month[1]) > 10 * found.threshold
    assert found.peak(16, 24)[1] < 3 * found.threshold


def test_the_tides_interval_holds_its_estimate_and_repeats_with_its_seed() -> None:
    """The same seed gives the same interval, so a repeated attempt writes the same report."""
    part = load().span(1995, 1999)
    one, two = (analysis.tide(part, resamples=100, seed=7) for _ in range(2))

    assert one == two
    assert 0 < one.low < one.value < one.high < 1


def test_both_wobbles_have_their_known_size() -> None:
    """In the eighties the Chandler circle had a radius of some 5 to 6 m, the yearly one of 2.5 to 3 m."""
    fit = analysis.wobble(load().span(1980, 1986))

    assert 5 < fit.chandler < 6.2
    assert 2.4 < fit.annual < 3.1


def test_distances_are_symmetric_and_zero_on_the_diagonal() -> None:
    """The matrix holds a distance for each pair of days."""
    part = load().span(1999, 1999)
    matrix = analysis.distances(part)

    assert matrix.shape == (365, 365)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    assert matrix[0, 1] == pytest.approx(np.hypot(part.x[0] - part.x[1], part.y[0] - part.y[1]))


def test_long_loops_ask_whether_to_stop() -> None:
    """A tick that raises ends the work half-way."""

    def stop() -> None:
        raise analysis.Stopped

    with pytest.raises(analysis.Stopped):
        analysis.tide(load().span(1999, 1999), resamples=100, seed=1, tick=stop)
