"""The measurements that come with the reports example."""

from __future__ import annotations

import numpy as np
import pytest

from reports.series import ReportInputError, check_year, load


def test_the_series_has_one_row_for_each_day_since_1973() -> None:
    """Tens of thousands of real days, none missing, none twice."""
    series = load()

    assert len(series) == 19_650
    assert str(series.days[0]) == "1973-01-03"
    assert (series.first_year, series.last_year) == (1973, 2026)
    assert (np.diff(series.days) == np.timedelta64(1, "D")).all()


def test_a_span_holds_whole_years() -> None:
    """Both years of a span are included, leap days too."""
    part = load().span(1999, 2000)

    assert (str(part.days[0]), str(part.days[-1]), len(part)) == ("1999-01-01", "2000-12-31", 365 + 366)


@pytest.mark.parametrize(("year", "first", "last"), [(1973, 1973, 1979), (1999, 1996, 2002), (2026, 2020, 2026)])
def test_the_years_around_a_year_are_as_many_at_the_ends(year: int, first: int, last: int) -> None:
    """A fit needs its length; near an end of the series the window moves inwards."""
    part = load().around(year, 7)

    assert (part.first_year, part.last_year) == (first, last)


def test_earth_rotation_time_jumps_only_at_leap_seconds() -> None:
    """The column is the one it says: 27 minus the early ones, each at the start of January or July."""
    series = load()
    jumps = series.days[np.flatnonzero(np.diff(series.ut1_utc) > 0.5) + 1]

    assert len(jumps) == 25  # since 1973-01-03; the list of leap seconds has 2 before that day
    assert {str(day)[5:] for day in jumps} == {"01-01", "07-01"}
    assert str(jumps[-1]) == "2017-01-01"


@pytest.mark.parametrize("year", [1850, 1972, 2027])
def test_a_year_without_measurements_is_refused_with_the_years_there_are(year: int) -> None:
    """The message tells a person what to ask for instead."""
    with pytest.raises(ReportInputError, match=f"for year {year}: .* ask for a year from 1973 to 2026"):
        check_year("year", year, load())


@pytest.mark.parametrize("year", ["next year", "1999", 1999.0, None, True, [1999]])
def test_what_is_no_whole_number_is_refused(year: object) -> None:
    """JSON may hold anything; only whole numbers are years."""
    with pytest.raises(ReportInputError, match="first must be a whole number such as 1999, not "):
        check_year("first", year, load())
