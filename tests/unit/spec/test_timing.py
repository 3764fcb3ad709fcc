"""When schedules tick: cron in time zones over daylight saving, periods, bounds, and what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import InvalidInputError
from heavylift.spec.timing import Timing, check_cron, check_timezone, check_timing

PARIS = "Europe/Paris"
ZONES = ("UTC", PARIS, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Havana", "Asia/Kathmandu")
CHANGES = (date(2025, 3, 9), date(2025, 3, 30), date(2025, 4, 6), date(2025, 4, 25), date(2025, 10, 5),
           date(2025, 10, 26), date(2025, 10, 31), date(2025, 11, 2))  # fmt: skip
"""Days on which one of these zones changes its clocks, by half an hour, at two, at midnight."""
MINUTES = {"*": range(60), "*/30": (0, 30), "*/7": range(0, 60, 7), "0": (0,), "15,45": (15, 45), "30": (30,)}
HOURS = {"*": range(24), "*/3": range(0, 24, 3), "0": (0,), "1-3": (1, 2, 3), "2": (2,), "0,23": (0, 23)}


def timing(cron: str | None = None, zone: str | None = None, **more: Any) -> Timing:
    """Return a timing."""
    basis: dict[str, Any] = {"every_ms": None, "start_ms": None, "end_ms": None}
    return check_timing(cron=cron, timezone=zone, **{**basis, **more})


def ms(text: str, zone: str = "UTC") -> int:
    """Return a local time, or one with its offset, as ms since the epoch."""
    found = datetime.fromisoformat(text)
    return round((found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


def local(ticks: Iterator[int], zone: str) -> list[str]:
    """Return ticks as the zone's clocks show them."""
    return [datetime.fromtimestamp(tick / 1000, ZoneInfo(zone)).strftime("%d %H:%M %z") for tick in ticks]


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        ("30 2 * * *", "2025-03-30", ["30 03:00 +0200"]),
        ("0,15,30,45 2 * * *", "2025-03-30", ["30 03:00 +0200"]),
        ("30 2,3 * * *", "2025-03-30", ["30 03:00 +0200", "30 03:30 +0200"]),
        ("0 2,3 * * *", "2025-03-30", ["30 03:00 +0200"]),
        ("*/30 2 * * *", "2025-03-30", []),
        ("0 */2 * * *", "2025-03-30", [f"30 {hour:02} {offset}" for hour, offset in
            (("00:00", "+0100"), *((f"{h:02}:00", "+0200") for h in range(4, 24, 2)))]),
        ("30 2 * * *", "2025-10-26", ["26 02:30 +0200"]),
        ("15,45 2 * * *", "2025-10-26", ["26 02:15 +0200", "26 02:45 +0200"]),
        ("*/30 2 * * *", "2025-10-26", ["26 02:00 +0200", "26 02:30 +0200", "26 02:00 +0100", "26 02:30 +0100"]),
        ("0 9 * * *", "2025-10-26", ["26 09:00 +0100"]),
    ],
)  # fmt: skip
def test_daylight_saving_is_debians_cron(cron: str, day: str, expected: list[str]) -> None:
    """A fixed time that is skipped comes right after, one that comes twice the first time; ``*`` follows real time."""
    begin = ms(f"{day}T00:00", PARIS)
    end = ms(f"{date.fromisoformat(day) + timedelta(days=1)}T00:00", PARIS)
    assert local(timing(cron, PARIS).ticks(begin - 1, end - 1), PARIS) == expected


def _real_time(minutes: Any, hours: Any, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    found = []
    for tick in range(begin, end, 60):
        shown = datetime.fromtimestamp(tick, zone)
        if shown.minute in minutes and shown.hour in hours:
            found.append(tick * 1000)
    return found


def _once_a_day(minutes: Any, hours: Any, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    """Walk through all minutes: a local time fires when it is first shown, or when the clock has jumped over it."""
    found, shown_so_far = set(), datetime.fromtimestamp(begin - 86_400, zone).replace(tzinfo=None)
    for tick in range(begin - 86_400, end, 60):
        shown = datetime.fromtimestamp(tick, zone).replace(tzinfo=None)
        while shown_so_far < shown:
            shown_so_far += timedelta(minutes=1)
            if shown_so_far.minute in minutes and shown_so_far.hour in hours:
                found.add(tick)
    return [tick * 1000 for tick in sorted(found) if tick >= begin]


@pytest.mark.parametrize("zone", ZONES)
@given(data=st.data())
def test_ticks_are_those_a_clock_watched_minute_by_minute_gives(zone: str, data: st.DataObject) -> None:
    """Around each change of clocks ticks equal those of a plain walk through all minutes, from wherever one starts."""
    minute, hour = data.draw(st.sampled_from(sorted(MINUTES))), data.draw(st.sampled_from(sorted(HOURS)))
    day = data.draw(st.sampled_from(CHANGES))
    begin = round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - 14 * 3600
    begin += 60 * data.draw(st.integers(0, 20 * 60))
    end = begin + 30 * 3600
    walk = _real_time if "*" in (minute[0], hour[0]) else _once_a_day
    expected = walk(MINUTES[minute], HOURS[hour], ZoneInfo(zone), begin, end)
    made = timing(f"{minute} {hour} * * *", zone)
    assert list(made.ticks(begin * 1000 - 1, end * 1000 - 1)) == expected
    assert made.after(begin * 1000 - 1) == (expected[0] if expected else made.after(end * 1000 - 1))
    assert made.newest(begin * 1000 - 1, end * 1000 - 1) == (expected[-1] if expected else None)


def test_each_tick_follows_from_the_one_before() -> None:
    """Asking again after each tick gives the same ticks as asking once: an operator that starts anew loses none."""
    made = timing("*/20 1-3 * * *", PARIS)
    begin, end = ms("2025-10-25T00:00Z"), ms("2025-10-28T00:00Z")
    stepped, at = [], begin
    while (tick := made.after(at)) is not None and tick <= end:
        stepped.append(tick)
        at = tick
    assert stepped == list(made.ticks(begin, end))


@pytest.mark.parametrize(
    ("every", "start", "first"),
    [
        (300_000, None, "2025-01-01T00:05Z"),
        (86_400_000, None, "2025-01-02T00:00Z"),
        (3_600_000, "2024-12-31T23:40Z", "2025-01-01T00:40Z"),
        (3_600_000, "2025-06-01T12:00Z", "2025-06-01T12:00Z"),
    ],
)
def test_every_is_aligned(every: int, start: str | None, first: str) -> None:
    """Ticks stand at whole multiples from the start, or from midnight: defining it again moves none."""
    made = timing(every_ms=every, start_ms=None if start is None else ms(start))
    assert made.after(ms("2025-01-01T00:00:01Z")) == ms(first)
    assert made.newest(0, ms(first)) == ms(first)


def test_start_and_end_are_ticks_too() -> None:
    """The bounds themselves may tick; nothing outside does."""
    made = timing("0 * * * *", start_ms=ms("2025-01-01T10:00Z"), end_ms=ms("2025-01-01T12:00Z"))
    assert local(made.ticks(0, ms("2026-01-01T00:00Z")), "UTC") == [
        "01 10:00 +0000",
        "01 11:00 +0000",
        "01 12:00 +0000",
    ]
    assert made.after(ms("2025-01-01T12:00Z")) is None
    assert made.newest(0, ms("2026-01-01T00:00Z")) == ms("2025-01-01T12:00Z")
    assert made.count(0, ms("2026-01-01T00:00Z")) == 3


@pytest.mark.parametrize(
    ("cron", "day", "newest"),
    [("0 0 29 2 *", "2027-12-31", "2024-02-29T00:00Z"), ("* * 29 2 *", "2027-12-31", "2024-02-29T23:59Z"),
     ("0 12 1 1 *", "2025-12-31", "2025-01-01T12:00Z"), ("* * * * *", "2025-12-31", "2025-12-31T00:00Z")],
)  # fmt: skip
def test_the_newest_tick_is_found_however_rare(cron: str, day: str, newest: str) -> None:
    """Years back or a moment ago."""
    assert timing(cron).newest(0, ms(f"{day}T00:00Z")) == ms(newest)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("0 9 ? * mon-fri", "0 9 * * mon-fri"),
        (" 0  9 * * 1 ", "0 9 * * 1"),
    ],
)
def test_cron_is_written_out(written: str, means: str) -> None:
    """Macros and question marks are CronJob's."""
    assert check_cron(written) == means


@pytest.mark.parametrize(
    "bad",
    ["", "* * * *", "* * * * * *", "61 * * * *", "*/0 * * * *", "5-1 * * * *", "a b c d e", "@reboot", "0 0 30 2 *",
     "CRON_TZ=UTC 0 0 * * *", "0 0 L/0 * *", "1#1 * * * *", "* " * 400, "0 0 31 2 MON#5/0"],
)  # fmt: skip
def test_what_is_no_cron_expression_is_refused_with_the_form(bad: str) -> None:
    """The message shows how to write it; nothing else is raised whatever is given."""
    with pytest.raises(InvalidInputError, match="cron expression"):
        check_cron(bad)


@pytest.mark.parametrize(
    "bad", ["", "Europe", "Local", "localtime", "../../etc/passwd", "Mars/Olympus", "a\0b", "x" * 300]
)
def test_what_is_no_time_zone_is_refused(bad: str) -> None:
    """Only IANA names: no paths, no folders, nothing of this machine's own zone."""
    with pytest.raises(InvalidInputError, match="IANA name"):
        check_timezone(bad)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "either cron"),
        ({"cron": "0 * * * *", "every_ms": 60_000}, "either cron"),
        ({"every_ms": 60_000, "zone": PARIS}, "timezone goes with cron"),
        ({"every_ms": 500}, "whole seconds"),
        ({"every_ms": 1500}, "whole seconds"),
        ({"every_ms": 400 * 86_400_000}, "366 days"),
        ({"cron": "0 * * * *", "start_ms": -1}, "start is out of bounds"),
        ({"cron": "0 * * * *", "end_ms": 10**14}, "end is out of bounds"),
        ({"cron": "0 0 2 1 *", "start_ms": 0, "end_ms": 1000}, "never tick"),
    ],
)
def test_what_cannot_be_a_timing_is_refused(given_: dict[str, Any], message: str) -> None:
    """The message names what to change."""
    with pytest.raises(InvalidInputError, match=message):
        timing(**given_)
