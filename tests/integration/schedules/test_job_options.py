"""The options of a schedule's jobs, through its ticks; and what ends or holds the ticks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from heavylift import JobState
from heavylift.store.steps import Op, T
from heavylift_operator.services.ticks import Ticks
from tests.integration.schedules.stand import QUEUE, Mortal, Stand, ms


async def test_a_ticks_job_is_as_the_schedule_says(stand: Stand) -> None:
    """Priority, place, key, time to start in and attempts are those of any job with these options."""
    stand.player.serve(QUEUE, concurrency={"perKey": 1})
    usual = stand.client.queue(QUEUE).enqueue("annual", {}, priority=5)
    stand.define("urgent", every="1h", priority=2, key="t", max_attempts=4, expires="1h")
    await stand.at("2025-01-01T01:00:10")
    (tick,) = stand.record("urgent").jobs
    info = stand.client.job(tick).info()
    assert (info.priority, info.key, info.max_attempts) == (2, "t", 4)
    assert info.enqueued_at is not None
    assert info.expires_at is not None
    assert (info.expires_at - info.enqueued_at).total_seconds() == pytest.approx(3600, abs=0.001)
    claims = [stand.player.claim(QUEUE) for _ in range(2)]
    assert [claim and claim.job for claim in claims] == [tick, usual.id]


@pytest.mark.parametrize(("policy", "left"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
async def test_a_delayed_job_of_a_schedule_is_unfinished(stand: Stand, policy: str, left: int) -> None:
    """A job that is put off after its tick counts for the policy as one that waits."""
    stand.define("late", every="1h", concurrency=policy, delay="5m")
    await stand.at("2025-01-01T01:00:10")
    await stand.at("2025-01-01T02:00:10")
    delayed = [info.id for info in stand.client.queue(QUEUE).jobs(JobState.DELAYED)]
    first, second = "late-1735693200", "late-1735696800"
    assert delayed == {"Allow": [first, second], "Forbid": [first], "Replace": [second]}[policy]
    assert len(delayed) == left


async def test_the_last_tick_of_a_limit_ends_the_schedule(stand: Stand) -> None:
    """It is told as ended at once, with no next tick to wait for."""
    stand.define("twice", every="1h", limit=2)
    await stand.at("2025-01-01T01:00:10")
    assert stand.client.schedule("twice").info().state == "active"
    await stand.at("2025-01-01T02:00:10")
    info = stand.client.schedule("twice").info()
    assert (info.state, info.next, info.fired) == ("ended", None, 2)
    assert [event["reason"] for event in stand.events("schedule-skipped")] == []


@dataclass
class Overtaken:
    """An operator's connection; something happens right after its look, before what it decides."""

    inner: Mortal
    happens: Callable[[], object]
    looked: bool = False

    async def run(self, op: Op[T]) -> T:
        """Run one operation."""
        result = await self.inner.run(op)
        if not self.looked:
            self.looked = True
            self.happens()
        return result


async def test_a_tick_that_was_seen_before_a_suspension_is_not_fired(stand: Stand) -> None:
    """An operator that decided from what it saw before changes nothing any more."""
    stand.define("hourly", every="1h")
    stand.clock.now = ms("2025-01-01T01:00:10")
    link = Overtaken(stand.runners[0], stand.client.schedule("hourly").suspend)
    await Ticks(link=link, not_after=stand.clock).once()
    assert link.looked
    info = stand.client.schedule("hourly").info()
    assert (info.state, info.fired, info.missed, stand.jobs()) == ("suspended", 0, 0, [])
