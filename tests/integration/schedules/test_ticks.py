"""Ticks on real stores: catch-up, concurrency, bounds, changes, and whatever keeps a tick from being fired."""

from __future__ import annotations

import pytest

from heavylift.contract.states import JobState
from heavylift.store import ops
from heavylift.store.model import Verdict
from heavylift.store.schedules import ScheduleFire, ScheduleOwner
from tests.integration.client.conftest import INSTALL
from tests.integration.schedules.stand import OWNER, QUEUE, Stand, ms

DAY = [f"02 {hour:02}:00" for hour in range(1, 24)] + ["03 00:00"]


@pytest.mark.parametrize(
    ("catch_up", "deadline", "made_up", "missed"),
    [
        ("none", None, [], 23),
        ("last", None, ["02 23:00"], 22),
        ("all", None, DAY[:-1], 0),
        ("all", "2h40m", ["02 21:00", "02 22:00", "02 23:00"], 20),
        ("last", "30m", [], 23),
        ("none", "24h", [], 23),
    ],
)
async def test_an_operator_down_for_a_day_is_made_up_for_as_the_policy_says(
    stand: Stand, catch_up: str, deadline: str | None, made_up: list[str], missed: int
) -> None:
    """None, the newest or all of the missed ticks start, none older than its deadline; the next one comes on time."""
    stand.clock.now = ms("2025-01-02T00:00:30")
    stand.define("hourly", cron="0 * * * *", catch_up=catch_up, starting_deadline=deadline)
    await stand.at("2025-01-02T23:35")
    assert stand.hours("hourly") == made_up
    await stand.at("2025-01-03T00:00:20")
    assert stand.hours("hourly") == [*made_up, "03 00:00"]
    assert (stand.record("hourly").fired, stand.record("hourly").missed) == (len(made_up) + 1, missed)
    assert sum(int(event["ticks"]) for event in stand.events("schedule-skipped")) == missed


async def test_back_on_the_tick_it_is_fired_and_no_other(stand: Stand) -> None:
    """Where a tick is due right now, that one makes up for those before it; ``all`` fires them in order first."""
    stand.clock.now = ms("2025-01-02T00:00:30")
    for policy in ("none", "last", "all"):
        stand.define(policy, cron="0 * * * *", catch_up=policy)
    await stand.at("2025-01-03T00:00:59")
    assert stand.hours("none") == stand.hours("last") == ["03 00:00"]
    assert stand.hours("all") == DAY


async def test_ticks_in_quick_succession_are_all_on_time(stand: Stand) -> None:
    """A look that comes 40 s late fires every 10 s of them, whatever the policy."""
    stand.define("quick", every="10s", catch_up="none")
    await stand.at("2025-01-01T00:00:40")
    assert stand.ticks("quick") == [stand.clock.now - late for late in (30_000, 20_000, 10_000, 0)]


async def test_every_tick_counts_once_however_many_decide(stand: Stand) -> None:
    """A decision made from a mark that has moved on changes nothing: neither a second firing nor a second skip."""
    stand.define("hourly", cron="0 * * * *", catch_up="all")
    stand.clock.now = ms("2025-01-01T03:00")
    due = stand.store.run(ops.due_schedules(stand.clock.now))
    (old,) = due.schedules
    await stand.until_idle(0)
    late = ScheduleFire(
        id=old.id, revision=old.revision, from_mark=old.mark, mark=stand.clock.now, missed=3, next=None,
        concurrency="Allow", limit=None,
    )  # fmt: skip
    assert stand.store.run(ops.fire_schedule(late)).verdict is Verdict.ALREADY
    assert stand.hours("hourly") == ["01 01:00", "01 02:00", "01 03:00"]
    assert (stand.record("hourly").fired, stand.record("hourly").missed) == (3, 0)


async def test_any_operator_takes_over_at_once(stand: Stand) -> None:
    """There is nothing to hand over: whichever looks goes on from the mark."""
    stand.define("hourly", cron="0 * * * *")
    for hour, operator in ((1, 0), (2, 0), (3, 1), (4, 0), (5, 1)):
        await stand.at(f"2025-01-01T{hour:02}:00:05", operator)
    assert stand.hours("hourly") == [f"01 {hour:02}:00" for hour in range(1, 6)]


async def test_no_operator_fires_the_future(stand: Stand) -> None:
    """Redis's clock has the last word: an operator whose own runs ahead gets nothing fired."""
    stand.define("hourly", cron="0 * * * *")
    record = stand.record("hourly")
    ahead = ScheduleFire(
        id=record.id, revision=record.revision, from_mark=record.mark, mark=ms("2190-01-01T00:00"), missed=0, next=None,
        concurrency="Allow", limit=None,
    )  # fmt: skip
    assert stand.store.run(ops.fire_schedule(ahead)).verdict is Verdict.REFUSED
    stand.clock.now = ms("2190-01-01T00:00")
    due = stand.store.run(ops.due_schedules(stand.clock.now))
    assert due.now < stand.clock.now


# -- concurrency ------------------------------------------------------------------------------------------------------
async def test_forbid_skips_while_a_job_is_unfinished(each_stand: Stand) -> None:
    """Waiting, running or between attempts: the tick is skipped with an event; the next one after the end is fired."""
    stand = each_stand
    stand.define("sole", cron="0 * * * *", concurrency="Forbid")
    await stand.at("2025-01-01T01:00")
    await stand.at("2025-01-01T02:00")
    claim = stand.player.claim(QUEUE)
    assert claim is not None
    await stand.at("2025-01-01T03:00")
    stand.player.fail(claim, retry_ms=3_600_000)
    await stand.at("2025-01-01T04:00")
    stand.client.job(claim.job).cancel()
    await stand.at("2025-01-01T05:00")
    assert stand.hours("sole") == ["01 05:00"]
    record = stand.record("sole")
    assert (record.fired, record.skipped, len(record.jobs)) == (2, 3, 1)
    assert [event["reason"] for event in stand.events("schedule-skipped")] == ["forbidden"] * 3
    assert int(stand.player.store.redis.hget(f"heavylift:counters:{QUEUE}", "ticks-skipped") or 0) == 3


async def test_replace_cancels_what_is_unfinished(each_stand: Stand) -> None:
    """A waiting job ends cancelled at once, a running one is asked to stop; the new one is enqueued."""
    stand = each_stand
    stand.define("newest", cron="0 * * * *", concurrency="Replace")
    await stand.at("2025-01-01T01:00")
    first = stand.jobs()[0]
    await stand.at("2025-01-01T02:00")
    assert stand.client.job(first).info().state is JobState.CANCELLED
    claim = stand.player.claim(QUEUE)
    assert claim is not None
    await stand.at("2025-01-01T03:00")
    cancel = stand.client.job(claim.job).info().cancel
    assert (cancel["by"], cancel["reason"]) == ("schedule newest", "replaced by the next tick")
    assert stand.hours("newest") == ["01 03:00"]
    assert set(stand.record("newest").jobs) == {claim.job, stand.jobs()[0]}


async def test_replace_cancels_many_in_bounded_steps(stand: Stand) -> None:
    """After a change from Allow: however many are unfinished, all of them end before the tick is fired, once."""
    stand.define("many", every="1h", catch_up="all")
    await stand.at("2025-01-01T11:00")
    old = stand.jobs()
    claim = stand.player.claim(QUEUE)
    assert claim is not None
    stand.define("many", every="1h", catch_up="all", concurrency="Replace")
    await stand.at("2025-01-01T12:00")
    assert stand.hours("many") == ["01 12:00"]
    assert {stand.client.job(job).info().state for job in old[1:]} == {JobState.CANCELLED}
    assert stand.client.job(claim.job).info().cancel["by"] == "schedule many"
    assert (stand.record("many").fired, stand.record("many").skipped) == (12, 0)


async def test_replace_does_not_wait_for_what_it_cannot_stop(stand: Stand) -> None:
    """Jobs that stock workers took are left to them; the tick is fired."""
    stand.define("many", every="1h", catch_up="all")
    await stand.at("2025-01-01T06:00")
    for job in stand.jobs():
        stand.store.redis.hset(f"rq:job:{job}", "status", "started")
    stand.store.redis.delete(f"rq:queue:{QUEUE}")
    stand.define("many", every="1h", catch_up="all", concurrency="Replace")
    await stand.at("2025-01-01T07:00")
    assert stand.hours("many") == ["01 07:00"]


async def test_allow_lets_them_pile_up(stand: Stand) -> None:
    """Each tick enqueues, and the schedule knows its unfinished jobs."""
    stand.define("many", every="1h")
    for hour in (1, 2, 3):
        await stand.at(f"2025-01-01T{hour:02}:00")
    assert stand.record("many").jobs == tuple(stand.jobs())
    stand.end_all()
    assert stand.record("many").jobs == ()


# -- bounds and changes -----------------------------------------------------------------------------------------------
async def test_limit_and_end_stop_it(stand: Stand) -> None:
    """It stays, shown as ended, and ticks no more; a higher limit lets it go on from then."""
    stand.define("thrice", every="1h", limit=3)
    stand.define("ending", every="1h", end="2025-01-01T02:00:00+00:00")
    for hour in range(1, 8):
        await stand.at(f"2025-01-01T{hour:02}:00")
    assert stand.hours("thrice") == ["01 01:00", "01 02:00", "01 03:00"]
    assert stand.hours("ending") == ["01 01:00", "01 02:00"]
    infos = {info.id: info for info in stand.client.queue(QUEUE).schedules()}
    assert {(info.state, info.next) for info in infos.values()} == {("ended", None)}
    assert len(stand.events("schedule-ended")) == 2
    stand.define("thrice", every="1h", limit=4)
    for hour in range(8, 11):
        await stand.at(f"2025-01-01T{hour:02}:00")
    assert stand.hours("thrice")[3:] == ["01 08:00"]


async def test_a_limit_that_is_reached_already_promises_no_tick(stand: Stand) -> None:
    """What was fired counts against a limit that is lowered, and stays counted over another timing: it has ended."""
    for name, limit in (("lowered", 9), ("moved", 2)):
        stand.define(name, every="1h", limit=limit)
    for hour in (1, 2):
        await stand.at(f"2025-01-01T{hour:02}:00")
    stand.define("lowered", every="1h", limit=2)
    stand.define("moved", every="30m", limit=2)
    infos = stand.client.queue(QUEUE).schedules()
    assert [(info.id, info.state, info.next, info.fired) for info in infos] == [
        ("lowered", "ended", None, 2), ("moved", "ended", None, 2),
    ]  # fmt: skip


async def test_defined_anew_with_the_same_timing_nothing_is_fired_twice_or_lost(stand: Stand) -> None:
    """Neither a tick that was fired nor one that is overdue is touched; the new job is what later ticks enqueue."""
    stand.define("daily", cron="0 * * * *")
    await stand.at("2025-01-01T01:00")
    stand.clock.now = ms("2025-01-01T02:00:10")
    stand.define("daily", cron="0 * * * *", priority=5)
    await stand.until_idle()
    assert stand.hours("daily") == ["01 01:00"]
    level = stand.store.redis.lrange(f"rq:queue:{QUEUE}@5", 0, -1)
    assert level == [f"daily-{ms('2025-01-01T02:00') // 1000}".encode()]
    assert stand.record("daily").fired == 2


async def test_defined_anew_with_another_timing_it_counts_from_then(stand: Stand) -> None:
    """Ticks of the past by the new expression are not fired."""
    stand.define("daily", cron="0 * * * *")
    await stand.at("2025-01-01T01:00")
    stand.clock.now = ms("2025-01-01T01:40")
    stand.define("daily", cron="*/15 * * * *")
    await stand.until_idle()
    assert stand.hours("daily") == ["01 01:00"]
    await stand.at("2025-01-01T01:45")
    assert stand.hours("daily") == ["01 01:00", "01 01:45"]


async def test_one_that_is_suspended_makes_up_for_nothing(stand: Stand) -> None:
    """Ticks while it was suspended never were; it goes on with the next one."""
    stand.define("hourly", cron="0 * * * *", catch_up="all")
    assert stand.store.run(ops.suspend_schedule("hourly", by="ada")).verdict is Verdict.APPLIED
    assert stand.store.run(ops.suspend_schedule("hourly", by="bob")).verdict is Verdict.ALREADY
    await stand.at("2025-01-01T05:10")
    assert stand.jobs() == []
    resumed = ops.resume_schedule("hourly", by="ada", mark=stand.clock.now, next_=ms("2025-01-01T06:00"))
    assert stand.store.run(resumed).verdict is Verdict.APPLIED
    await stand.at("2025-01-01T06:00")
    assert stand.hours("hourly") == ["01 06:00"]
    assert stand.record("hourly").missed == 0


async def test_a_lost_mark_fires_no_tick_twice(stand: Stand) -> None:
    """Deleted and defined anew at an earlier moment, a tick meets the job it made: the id is the tick's."""
    stand.define("hourly", cron="0 * * * *", catch_up="all")
    await stand.at("2025-01-01T03:00")
    stand.store.run(ops.delete_schedule("hourly", by="ada"))
    stand.clock.now = ms("2025-01-01T00:00")
    stand.define("hourly", cron="0 * * * *", catch_up="all")
    await stand.at("2025-01-01T04:00")
    assert stand.hours("hourly") == ["01 01:00", "01 02:00", "01 03:00", "01 04:00"]
    assert stand.store.run(ops.counters(QUEUE))["enqueued"] == 4


# -- what keeps a tick from being fired -------------------------------------------------------------------------------
async def test_a_queue_that_nobody_serves_counts_as_an_operator_that_is_down(stand: Stand) -> None:
    """No tick is decided; once a HeavyQueue is there, the catch-up policy says what becomes of them."""
    stand.store.run(ops.delete_settings(QUEUE, f"uid-{QUEUE}"))
    stand.define("hourly", cron="0 * * * *", catch_up="all")
    await stand.at("2025-01-01T02:00")
    assert stand.jobs() == []
    assert "no HeavyQueue serves the queue reports" in stand.record("hourly").problem
    assert [event["reason"] for event in stand.events("schedule-deferred")] == [stand.record("hourly").problem]
    assert stand.store.run(ops.gauges(INSTALL, [])).oldest_due == ms("2025-01-01T01:00")
    stand.player.serve(QUEUE)
    stand.store.redis.zadd("heavylift:schedules", {"hourly": stand.clock.now})  # half a minute later
    await stand.until_idle()
    assert stand.hours("hourly") == ["01 01:00", "01 02:00"]
    assert stand.record("hourly").problem == ""
    assert list(stand.store.redis.scan_iter("heavylift:schedules-failing")) == []


async def test_what_the_queue_does_not_allow_is_said_and_waits(stand: Stand) -> None:
    """A job over the queue's maximum is never clamped and never dropped: it waits for its owner."""
    stand.define("greedy", cron="0 * * * *", resources={"memory": "64Gi"})
    stand.define("modest", cron="0 * * * *")
    await stand.at("2025-01-01T01:00")
    assert "resources.memory is not allowed" in stand.record("greedy").problem
    assert stand.hours("modest") == ["01 01:00"]


@pytest.mark.parametrize(("install", "namespace"), [(INSTALL, "elsewhere"), ("other/heavylift", OWNER.namespace)])
async def test_a_heavyschedule_fires_into_its_own_namespace_only(stand: Stand, install: str, namespace: str) -> None:
    """Rights in one namespace never start a pod in another."""
    owner = ScheduleOwner(install=install, namespace=namespace, name="daily", uid="u", generation=1)
    stand.define(f"{namespace}/daily", owner=owner, every="1h")
    stand.define("mine/daily", owner=OWNER, every="1h")
    await stand.at("2025-01-01T01:00")
    assert stand.jobs() == [f"mine/daily-{stand.clock.now // 1000}"]
    assert "is served in namespace analytics, not in" in stand.record(f"{namespace}/daily").problem


async def test_a_taken_id_is_skipped_and_said(stand: Stand) -> None:
    """A stranger's job under a tick's id is left alone, and the schedule goes on."""
    taken = f"hourly-{ms('2025-01-01T01:00') // 1000}"
    stand.client.queue(QUEUE).enqueue("other", {"mine": True}, id=taken)
    stand.define("hourly", cron="0 * * * *")
    await stand.at("2025-01-01T01:00")
    assert "was enqueued with another task or other data" in stand.record("hourly").problem
    await stand.at("2025-01-01T02:00")
    assert stand.hours("hourly") == ["01 01:00", "01 02:00"]
    assert (stand.record("hourly").fired, stand.record("hourly").skipped) == (1, 1)
    assert stand.client.job(taken).info().task == "other"


HOSTILE: dict[str, dict[str, str | bytes]] = {
    "no JSON": {"definition": "{"},
    "no object": {"definition": "[1]"},
    "another version": {"definition": '{"v": 2}'},
    "evil cron": {"definition": '{"v":1,"queue":"reports","cron":"* * * * 1#1/2","job":{}}'},
    "no job": {"definition": '{"v":1,"queue":"reports","every":1000,"timezone":"UTC"}'},
    "evil options": {
        "definition": '{"v":1,"queue":"reports","every":1000,"job":{"task":"t","data":{},"options":{"resources":[[]]}}}'
    },
    "deep": {"definition": '{"v":1,"queue":"reports","every":1000,"job":' + "[" * 5000 + "]" * 5000 + "}"},
    "many jobs": {"jobs": "x " * 130_000},
    "no numbers": {"mark": "x", "fired": "NaN", "next": b"\xff", "jobs": b"\xff \x00 \xf0"},
    "huge": {"definition": "x" * 300_000},
    "no queue": {"queue": ""},
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_schedule_holds_up_no_other(stand: Stand, name: str) -> None:
    """Whatever stands in its hash, it is put off with a word about it, and the others tick on."""
    stand.define("evil", cron="0 * * * *")
    stand.define("good", cron="0 * * * *")
    for field, value in HOSTILE[name].items():
        stand.store.redis.hset("heavylift:schedule:evil", field, value)
    await stand.at("2025-01-01T01:00")
    assert stand.hours("good") == ["01 01:00"]
    assert stand.client.schedule("good").info().state == "active"
    stand.client.schedules()
    score = stand.store.redis.zscore("heavylift:schedules", "evil")
    assert score is not None
    assert score > stand.clock.now


async def test_a_key_of_the_wrong_type_holds_up_no_other(each_stand: Stand) -> None:
    """A schedule's key that is no hash, and an index entry without a schedule, are put off or dropped."""
    stand = each_stand
    stand.define("good", cron="0 * * * *")
    stand.store.redis.set("heavylift:schedule:text", "x")
    stand.store.redis.zadd("heavylift:schedules", {"text": 1, "ghost": 1})
    await stand.at("2025-01-01T01:00")
    assert stand.hours("good") == ["01 01:00"]
    assert stand.store.redis.zscore("heavylift:schedules", "ghost") is None
