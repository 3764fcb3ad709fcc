"""Operators that were away: what policies, limits, bounds and clocks that change make of the ticks in between."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from heavylift.contract.states import JobState
from heavylift.store import ops
from tests.integration.schedules.stand import QUEUE, Stand, look, ms

DAY = [f"02 {hour:02}:00" for hour in range(1, 24)]
"""The ticks of a day on which nobody looked."""


async def _both_back(stand: Stand, moment: str) -> None:
    """Let both operators come back at once; now and then one dies in the middle of it."""
    stand.clock.now = ms(moment)
    for runner in stand.runners:
        runner.chance = 0.05
    await asyncio.gather(*map(look, stand.operators))


@pytest.mark.parametrize(
    ("options", "waiting", "counts"),
    [
        ({"concurrency": "Forbid", "catch_up": "all"}, DAY[:1], (1, 22, 0)),
        ({"concurrency": "Forbid", "catch_up": "last"}, DAY[-1:], (1, 0, 22)),
        ({"concurrency": "Replace", "catch_up": "all"}, DAY[-1:], (23, 0, 0)),
        ({"concurrency": "Replace", "catch_up": "none"}, [], (0, 0, 23)),
        ({"limit": 3, "catch_up": "all"}, DAY[:3], (3, 0, 0)),
        ({"limit": 1, "catch_up": "last"}, DAY[-1:], (1, 0, 22)),
        ({"limit": 2, "catch_up": "all", "concurrency": "Replace"}, DAY[1:2], (2, 0, 0)),
        ({"end": "2025-01-02T10:00:00+00:00", "catch_up": "all"}, DAY[:10], (10, 0, 0)),
        ({"end": "2025-01-02T10:00:00+00:00", "catch_up": "last"}, DAY[9:10], (1, 0, 9)),
        ({"end": "2025-01-02T10:30:00+00:00", "catch_up": "none"}, [], (0, 0, 10)),
        ({"end": "2025-01-02T10:00:00+00:00", "catch_up": "last", "starting_deadline": "1h"}, [], (0, 0, 10)),
        ({"start": "2025-01-02T20:00:00+00:00", "catch_up": "all"}, DAY[19:], (4, 0, 0)),
    ],
    ids=str,
)
async def test_a_day_away(
    stand: Stand, options: dict[str, Any], waiting: list[str], counts: tuple[int, int, int]
) -> None:
    """Fired, skipped and missed ticks are those of policy, limit and bounds together, whoever of both decides them."""
    stand.clock.now = ms("2025-01-02T00:00:30")
    stand.define("hourly", cron="0 * * * *", **options)
    await _both_back(stand, "2025-01-02T23:35")
    assert stand.hours("hourly") == waiting
    record = stand.record("hourly")
    assert (record.fired, record.skipped, record.missed) == counts
    added = [event.job for event in stand.store.run(ops.events(QUEUE, count=10_000)) if event.name == "added"]
    assert len(added) == len(set(added)) == record.fired
    replaced = {stand.client.job(job).info().state for job in set(added) - set(stand.jobs())}
    assert replaced <= {JobState.CANCELLED}
    over = "limit" in options or "end" in options
    assert stand.client.schedule("hourly").info().state == ("ended" if over else "active")
    assert len(stand.events("schedule-ended")) == over


CHANGES: dict[str, tuple[str, str, list[str]]] = {
    "forward by half an hour": (
        "Australia/Lord_Howe",
        "15 2 * * *",
        ["2025-10-04T02:15+10:30", "2025-10-05T02:30+11:00", "2025-10-06T02:15+11:00"],
    ),
    "back by half an hour": (
        "Australia/Lord_Howe",
        "45 1 * * *",
        ["2025-04-05T01:45+11:00", "2025-04-06T01:45+11:00", "2025-04-07T01:45+10:30"],
    ),
    "forward at midnight": (
        "Africa/Cairo",
        "0 0 * * *",
        ["2025-04-24T00:00+02:00", "2025-04-25T01:00+03:00", "2025-04-26T00:00+03:00"],
    ),
    "back at midnight": (
        "Africa/Cairo",
        "30 23 * * *",
        ["2025-10-29T23:30+03:00", "2025-10-30T23:30+03:00", "2025-10-31T23:30+02:00"],
    ),
    "forward at midnight, west": (
        "America/Havana",
        "30 0 * * *",
        ["2025-03-08T00:30-05:00", "2025-03-09T01:00-04:00", "2025-03-10T00:30-04:00"],
    ),
    "back to midnight": (
        "America/Havana",
        "30 0 * * *",
        ["2025-11-01T00:30-04:00", "2025-11-02T00:30-04:00", "2025-11-03T00:30-05:00"],
    ),
    "half hours in real time": (
        "Australia/Lord_Howe",
        "*/30 1-2 * * *",
        [
            *("2025-04-06T01:00+11:00", "2025-04-06T01:30+11:00", "2025-04-06T01:30+10:30"),
            *("2025-04-06T02:00+10:30", "2025-04-06T02:30+10:30"),
        ],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("catch_up", ["all", "last"])
async def test_away_while_the_clocks_change(stand: Stand, name: str, catch_up: str) -> None:
    """What was missed over a change of clocks is made up for as if somebody had looked: by hand, with their offsets."""
    zone, cron, shown = CHANGES[name]
    ticks = [ms(moment) for moment in shown]
    stand.clock.now = ticks[0] - 60_000
    stand.define("local", cron=cron, timezone=zone, catch_up=catch_up)
    back = datetime.fromtimestamp(ticks[-1] / 1000, ZoneInfo("UTC")) + timedelta(minutes=5)
    await _both_back(stand, back.isoformat())
    assert stand.ticks("local") == (ticks if catch_up == "all" else ticks[-1:])
    assert stand.record("local").missed == (0 if catch_up == "all" else len(ticks) - 1)
