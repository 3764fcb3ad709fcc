"""Schedules through both clients and the command line, on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from heavylift import AsyncClient, Client, ScheduleInfo
from heavylift.cli.app import main
from heavylift.contract.states import JobState
from heavylift.errors import (
    HeavyliftError,
    InvalidInputError,
    ScheduleNotFoundError,
    ScheduleOwnedError,
    UnknownQueueError,
)
from heavylift.store import ops
from heavylift.store.schedules import ScheduleOwner, SchedulePut

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer

NINE: dict[str, Any] = {"cron": "0 9 * * *", "timezone": "Europe/Paris"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    served: Player,  # noqa: ARG001 - what it serves is meant
    redis_server: StoreServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run ``heavylift schedules ...`` on the test's Redis."""
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", redis_server.url)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(("schedules", *arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def of_a_resource(player: Player) -> None:
    """Define a schedule as the operator does for a HeavySchedule."""
    definition = {"v": 1, "queue": "reports", "cron": None, "timezone": "UTC", "every": 3_600_000, "start": None,
                  "end": None, "limit": None, "concurrency": "Allow", "catchUp": "Last", "startingDeadline": None,
                  "job": {"task": "annual", "data": {}, "delay": 0, "expires": None, "options": {}}}  # fmt: skip
    owner = ScheduleOwner(install="heavylift/heavylift", namespace="analytics", name="daily", uid="u", generation=1)
    put = SchedulePut(
        id="analytics/daily",
        queue="reports",
        definition=definition,
        timing={},
        prefix="daily-x",
        since=1,
        next=4_000_000_000_000,
        owner=owner,
    )
    player.store.run(ops.put_schedule(put))


@pytest.mark.usefixtures("served")
def test_a_schedule_is_defined_seen_and_deleted(client: Client) -> None:
    """What was passed is what is shown; defining it again changes nothing, defining it otherwise does."""
    reports = client.queue("reports")
    options: dict[str, Any] = {
        **NINE, "start": "2026-01-01T00:00:00+01:00", "end": datetime(2150, 1, 1, tzinfo=UTC), "limit": 7,
        "concurrency": "Forbid", "catch_up": "none", "starting_deadline": "1h", "max_attempts": 3, "delay": "5s",
    }  # fmt: skip
    info = reports.schedule("daily", "annual", {"year": 2026}, **options).info()
    assert (info.queue, info.task, info.data) == ("reports", "annual", {"year": 2026})
    assert (info.cron, info.every, info.timezone, info.limit) == ("0 9 * * *", "", "Europe/Paris", 7)
    assert (info.concurrency, info.catch_up, info.starting_deadline) == ("Forbid", "none", "1h")
    assert (info.start, info.end) == (datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2150, 1, 1, tzinfo=UTC))
    assert (info.state, info.last, info.fired, info.options) == ("active", None, 0, {"maxAttempts": 3})
    assert info.next is not None
    assert info.next.astimezone(tz=None) > datetime.now(UTC)
    reports.schedule("daily", "annual", {"year": 2026}, **options)
    assert [event.name for event in reports.events(follow=False)] == ["schedule-changed"]
    reports.schedule("daily", "annual", {"year": 2027}, every=timedelta(hours=6))
    assert [(each.id, each.every, each.data) for each in reports.schedules()] == [("daily", "6h", {"year": 2027})]
    assert (reports.unschedule("daily"), reports.unschedule("daily"), client.schedules()) == (True, False, [])
    assert list(client._store.redis.scan_iter("heavylift:schedule*")) == []


@pytest.mark.usefixtures("served")
async def test_the_asynchronous_client_does_the_same(redis_server: StoreServer) -> None:
    """Define, list, suspend, resume, trigger, delete: awaited."""
    async with AsyncClient(redis_server.url) as client:
        reports = client.queue("reports")
        schedule = await reports.schedule("daily", "annual", {"year": 2026}, **NINE)
        assert [each.id for each in await reports.schedules()] == ["daily"]
        assert [each.id for each in await client.schedules()] == ["daily"]
        await schedule.suspend()
        assert (await client.schedule("daily").info()).state == "suspended"
        await schedule.resume()
        job = await schedule.trigger()
        assert (await job.info()).state is JobState.WAITING
        assert (await schedule.info()).jobs == (job.id,)
        assert await schedule.delete()
        assert not await reports.unschedule("daily")


def test_a_trigger_enqueues_the_job_now(served: Player, client: Client) -> None:
    """Also while it is suspended and while another is unfinished; ticks, limit and next stay as they are."""
    schedule = client.queue("reports").schedule("daily", "annual", {"year": 1}, **NINE, limit=1, concurrency="Forbid")
    before = schedule.info()
    schedule.suspend()
    jobs = [schedule.trigger(), schedule.trigger()]
    assert len({job.id for job in jobs}) == 2
    claim = served.claim()
    assert claim is not None
    assert (claim.job, claim.task) == (jobs[0].id, "annual")
    schedule.resume()
    after = schedule.info()
    assert (after.next, after.fired, after.last, after.last_job) == (before.next, 0, None, jobs[1].id)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, InvalidInputError, "either cron"),
        ({"cron": "0 9 * *"}, InvalidInputError, "five fields"),
        ({"cron": 9}, InvalidInputError, "cron is 9"),
        ({"every": "0.5s"}, InvalidInputError, "every"),
        ({"every": "1h", "timezone": "UTC"}, InvalidInputError, "timezone goes with cron"),
        ({**NINE, "timezone": "Mars"}, InvalidInputError, "no time zone 'Mars'"),
        ({**NINE, "start": "2026-01-01"}, InvalidInputError, "time zone"),
        ({**NINE, "end": "tomorrow"}, InvalidInputError, "end is 'tomorrow'"),
        ({**NINE, "end": "2020-01-01T00:00:00Z", "start": "2021-01-01T00:00:00Z"}, InvalidInputError, "never tick"),
        ({**NINE, "limit": 0}, InvalidInputError, "limit is 0"),
        ({**NINE, "limit": "3"}, InvalidInputError, "limit is '3'"),
        ({**NINE, "concurrency": "Perhaps"}, InvalidInputError, "Allow, Forbid, Replace"),
        ({**NINE, "catch_up": "some"}, InvalidInputError, "None, Last, All"),
        ({**NINE, "starting_deadline": "10ms"}, InvalidInputError, "at least 1s"),
        ({**NINE, "id": "x"}, InvalidInputError, "id does not go with a schedule"),
        ({**NINE, "if_exists": "return"}, InvalidInputError, "if_exists does not go"),
        ({**NINE, "dedupe": "x"}, InvalidInputError, "concurrency='Forbid'"),
        ({**NINE, "depends_on": ["x"]}, InvalidInputError, "depends_on does not go"),
        ({**NINE, "max_attempts": 50}, InvalidInputError, "more than the 10"),
        ({**NINE, "colour": "red"}, InvalidInputError, "no option 'colour'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    client: Client, given: dict[str, Any], error: type[HeavyliftError], message: str
) -> None:
    """By name and with the remedy."""
    with pytest.raises(error, match=message):
        client.queue("reports").schedule("daily", "annual", {}, **given)
    assert client.schedules() == []


@pytest.mark.usefixtures("served")
def test_ids_and_queues_are_checked(client: Client, redis_server: StoreServer) -> None:
    """An id belongs to one queue; a queue that nobody serves is refused unless the client is not strict."""
    client.queue("reports").schedule("daily", "annual", {}, **NINE)
    for bad in ("", "a b", "a/b", "x" * 151):
        with pytest.raises(InvalidInputError, match="schedule id"):
            client.queue("reports").schedule(bad, "annual", {}, **NINE)
    with pytest.raises(UnknownQueueError, match="no HeavyQueue serves"):
        client.queue("other").schedule("nightly", "annual", {}, **NINE)
    with Client(redis_server.url, strict=False) as lenient:
        with pytest.raises(ScheduleOwnedError, match="belongs to the queue reports"):
            lenient.queue("other").schedule("daily", "annual", {}, **NINE)
        lenient.queue("other").schedule("nightly", "annual", {}, **NINE)
        with pytest.raises(ScheduleOwnedError, match="no HeavyQueue serves the queue other"):
            lenient.schedule("nightly").trigger()
    for act in ("info", "suspend", "resume", "trigger"):
        with pytest.raises(ScheduleNotFoundError, match="no schedule weekly"):
            getattr(client.schedule("weekly"), act)()


def test_one_of_a_heavyschedule_is_changed_there_only(served: Player, client: Client) -> None:
    """It is seen and may be triggered; who wants it otherwise is told which object to change."""
    of_a_resource(served)
    schedule = client.schedule("analytics/daily")
    assert (schedule.info().owner, schedule.trigger().id.startswith("daily-x-manual-")) == ("analytics/daily", True)
    for act in (schedule.suspend, schedule.resume, schedule.delete):
        with pytest.raises(ScheduleOwnedError, match="HeavySchedule analytics/daily"):
            act()
    assert schedule.info().state == "active"


def test_a_queue_deletes_its_own_schedules_only(served: Player, client: Client) -> None:
    """An id of another queue's schedule is refused, with that queue's name; an id that is no text is told so."""
    served.serve("mails")
    reports, mails = client.queue("reports"), client.queue("mails")
    reports.schedule("daily", "annual", {}, **NINE)
    with pytest.raises(ScheduleOwnedError, match="of the queue reports: delete it there"):
        mails.unschedule("daily")
    assert [each.id for each in client.schedules()] == ["daily"]
    assert reports.unschedule("daily")
    number: Any = 5
    with pytest.raises(InvalidInputError, match="the schedule id is '5': give text"):
        reports.schedule(number, "annual", {}, **NINE)


@pytest.mark.usefixtures("served")
def test_more_schedules_than_a_page_are_all_seen(client: Client) -> None:
    """Listing goes on until the end."""
    for number in range(45):
        client.queue("reports").schedule(f"s{number:02}", "annual", {}, every="1h")
    assert [each.id for each in client.schedules()] == [f"s{number:02}" for number in range(45)]


# -- command line -----------------------------------------------------------------------------------------------------
def test_list_fits_a_terminal(run: Run, client: Client) -> None:
    """One line each, within 80 columns; ``-o`` gives all of it, or the ids alone."""
    client.queue("reports").schedule("daily", "annual", {"year": 2026}, **NINE)
    client.queue("reports").schedule("often", "annual", {}, every="15m").suspend()
    code, out, _ = run("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "WHEN", "TIMEZONE", "STATE", "LAST", "NEXT"]
    assert max(map(len, lines)) <= 80
    assert "0 9 * * *  Europe/Paris  active" in lines[1]
    assert "every 15m" in lines[2]
    assert lines[2].rstrip().endswith("suspended")
    assert run("list", "-o", "name")[1].split() == ["daily", "often"]
    rows = json.loads(run("list", "-o", "json", "--queue", "reports")[1])
    assert [row["suspendedBy"] for row in rows] == ["", "client"]
    assert run("list", "--queue", "other", "-o", "name")[1] == ""


def test_verbs_do_what_they_say(run: Run, client: Client) -> None:
    """Suspend, resume, trigger, show and delete, and the exit codes of what is not there or not allowed."""
    client.queue("reports").schedule("daily", "annual", {"year": 2026}, **NINE)
    assert run("suspend", "daily")[1] == "schedule daily is suspended\n"
    assert "its next tick is" in run("resume", "daily")[1]
    job = run("trigger", "daily", "-o", "name")[1].strip()
    assert client.job(job).info().task == "annual"
    shown = yaml.safe_load(run("show", "daily", "-o", "yaml")[1])
    assert (shown["cron"], shown["lastJob"], shown["data"]) == ("0 9 * * *", job, {"year": 2026})
    assert "cron              0 9 * * *" in run("show", "daily")[1]
    assert run("delete", "daily")[:2] == (0, "schedule daily is deleted\n")
    for verb in ("show", "suspend", "resume", "trigger", "delete"):
        code, _, err = run(verb, "daily")
        assert (code, "there is no schedule daily" in err) == (3, True)


def test_changing_a_heavyschedules_is_refused(run: Run, served: Player) -> None:
    """With the exit code for what is refused, and the object to change."""
    of_a_resource(served)
    for verb in ("suspend", "resume", "delete"):
        code, _, err = run(verb, "analytics/daily")
        assert (code, "HeavySchedule analytics/daily" in err) == (4, True)
    assert run("trigger", "analytics/daily")[0] == 0


def test_hostile_fields_never_reach_the_terminal(run: Run, served: Player, client: Client) -> None:
    """Control characters in a schedule's fields are replaced, whatever wrote them."""
    client.queue("reports").schedule("daily", "annual", {}, **NINE)
    served.store.redis.hset("heavylift:schedule:daily", "problem", "\x1b[31mred\x07")
    served.store.redis.hset("heavylift:schedule:daily", "next", "x" * 20)
    for arguments in (("list",), ("show", "daily"), ("show", "daily", "-o", "json")):
        code, out, _ = run(*arguments)
        assert (code, "\x1b" in out) == (0, False)
    info: ScheduleInfo = client.schedule("daily").info()
    assert (info.next, info.state) == (None, "ended")
