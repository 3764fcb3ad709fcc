"""What is fired and what is missed over any sequence of looks, around changes of clocks of every kind."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.spec.schedule import ON_TIME_MS, CatchUp, ScheduleDefinition, decide
from heavylift.spec.timing import Timing, check_timing

HOUR, DAY = 3_600_000, 86_400_000
PLACES = {
    "Europe/Paris": ("30 2 * * *", "2025-03-30", "2025-10-26"),
    "Australia/Lord_Howe": ("*/20 * * * *", "2025-10-05", "2025-04-06"),  # by half an hour
    "Africa/Cairo": ("15 0 * * *", "2025-04-25", "2025-10-31"),  # at midnight
    "America/Havana": ("0 * * * *", "2025-03-09", "2025-11-02"),  # at midnight and at one
}
"""Zone -> an expression that meets its changes, and the days on which its clocks spring forward and fall back."""


def expected(timing: Timing, policy: CatchUp, deadline: int | None, looks: list[int]) -> tuple[list[int], list[int]]:
    """Return what is fired and what is missed, look by look, from the list of all ticks."""
    fired: list[int] = []
    missed: list[int] = []
    for before, now in itertools.pairwise(looks):
        due = list(timing.ticks(before, now))
        able = [tick for tick in due if deadline is None or now - tick <= deadline]
        on_time = [tick for tick in able if now - tick <= ON_TIME_MS]
        fire = {
            CatchUp.ALL: able,
            CatchUp.LAST: on_time or able[-1:],
            CatchUp.NONE: on_time,
        }[policy]
        fired += fire
        missed += [tick for tick in due if tick not in fire]
    return fired, missed


@pytest.mark.parametrize("zone", PLACES)
@given(data=st.data())
def test_each_tick_is_fired_once_or_counted_as_missed(zone: str, data: st.DataObject) -> None:
    """However long nobody looked, and wherever in a change of clocks: the policy's ticks in order, the rest counted."""
    cron, *changes = PLACES[zone]
    day = datetime.fromisoformat(data.draw(st.sampled_from(changes))).replace(tzinfo=UTC)
    begin = round(day.timestamp() * 1000) - DAY + data.draw(st.integers(0, DAY // 1000)) * 1000
    pauses = st.sampled_from((1000, 59_000, 61_000, HOUR - 1, HOUR, 3 * HOUR, DAY + 1, 2 * DAY))
    looks = [begin]
    for pause in data.draw(st.lists(pauses, min_size=1, max_size=6)):
        looks.append(looks[-1] + pause)
    policy = data.draw(st.sampled_from(CatchUp))
    deadline = data.draw(st.sampled_from((None, 30_000, 2 * HOUR)))
    end = data.draw(st.sampled_from((None, begin + 7 * HOUR)))
    timing = check_timing(cron=cron, timezone=zone, every_ms=None, start_ms=None, end_ms=None)
    if end is not None and timing.after(begin) is not None:
        timing = Timing(cron=cron, timezone=zone, end_ms=end)
    schedule = ScheduleDefinition(queue="q", timing=timing, catch_up=policy, starting_deadline_ms=deadline)

    fired, missed, mark = [], 0, begin
    for now in looks[1:]:
        while True:
            decision = decide(schedule, mark, now)
            assert decision.next == timing.after(decision.mark)
            mark, missed = decision.mark, missed + decision.missed
            if decision.fire is None:
                break
            fired.append(decision.fire)
    ticks, lost = expected(timing, policy, deadline, looks)
    assert (fired, missed) == (ticks, len(lost))
