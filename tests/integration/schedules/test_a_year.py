"""Two operators over a simulated year with its two changes of clocks: each tick exactly once, whoever dies."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.integration.schedules.stand import Stand, look, ms

PARIS, NEW_YORK = ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York")
BEGIN, END = ms("2025-01-01T00:00"), ms("2026-01-01T00:00")
SPRING, AUTUMN = (
    ("2025-03-29T00:00+01:00", "2025-03-31T00:00+02:00"),
    ("2025-10-25T00:00+02:00", "2025-10-27T00:00+01:00"),
)
SCHEDULES: dict[str, dict[str, Any]] = {
    "night": {"cron": "30 2 * * *", "timezone": "Europe/Paris"},
    "morning": {"cron": "0 9 * * MON-FRI", "timezone": "America/New_York"},
    "spring": {"cron": "0 * * * *", "timezone": "Europe/Paris", "start": SPRING[0], "end": SPRING[1]},
    "autumn": {"cron": "0 * * * *", "timezone": "Europe/Paris", "start": AUTUMN[0], "end": AUTUMN[1]},
    "often": {"every": "36h"},
}


def expected() -> dict[str, list[int]]:
    """Return the year's ticks by hand: days and hours are counted, without any cron."""
    nights, mornings = [], []
    for day in (datetime(2025, 1, 1) + timedelta(days=number) for number in range(365)):  # noqa: DTZ001 - local days
        hour = 3 if (day.month, day.day) == (3, 30) else 2  # 02:30 is skipped that day: the clock springs to 03:00
        minute = 0 if hour == 3 else 30
        nights.append(day.replace(hour=hour, minute=minute, tzinfo=PARIS))  # on 26 October the first 02:30
        if day.weekday() < 5:
            mornings.append(day.replace(hour=9, tzinfo=NEW_YORK))
    return {
        "night": [round(night.timestamp() * 1000) for night in nights],
        "morning": [round(morning.timestamp() * 1000) for morning in mornings],
        "spring": list(range(ms(SPRING[0]), ms(SPRING[1]) + 1, 3_600_000)),  # real time: 47 hours in two days
        "autumn": list(range(ms(AUTUMN[0]), ms(AUTUMN[1]) + 1, 3_600_000)),  # and 49
        "often": [tick for tick in range(0, END + 1, 36 * 3_600_000) if tick > BEGIN],
    }


async def test_a_year_fires_each_tick_once(stand: Stand) -> None:
    """Both operators look at once, late by up to half a minute, and die now and then in the middle of it."""
    draw = random.Random(2025)
    stand.clock.now = BEGIN
    for name, options in SCHEDULES.items():
        stand.define(name, **options)
    for runner in stand.runners:
        runner.chance = 0.005
    moments = sorted({tick for ticks in expected().values() for tick in ticks})
    for moment in moments:
        stand.clock.now = moment + draw.randrange(30_000)
        both = draw.sample(stand.operators, 2)
        await asyncio.gather(*(look(operator) for operator in both))

    for name, ticks in expected().items():
        assert stand.ticks(name) == ticks, name
        assert (stand.record(name).fired, stand.record(name).missed) == (len(ticks), 0)
    assert len(stand.jobs()) == len(set(stand.jobs())) == sum(len(ticks) for ticks in expected().values())
    assert all(runner.deaths > 10 for runner in stand.runners)


def test_the_year_has_its_two_odd_days() -> None:
    """The expectations above hold the two days on which Paris changes its clocks, each with one night."""
    assert (len(expected()["spring"]) - 1, len(expected()["autumn"]) - 1) == (47, 49)
    for day in ("2025-03-30", "2025-10-26"):
        begin, end = ms(f"{day}T00:00", "Europe/Paris"), ms(f"{day}T23:59", "Europe/Paris")
        assert len([tick for tick in expected()["night"] if begin <= tick <= end]) == 1
