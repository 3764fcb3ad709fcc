"""HeavySchedules as people write them, and the decision about due ticks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.errors import InvalidInputError
from heavylift.spec.heavyschedule import HeavySchedule
from heavylift.spec.schedule import MISSED_MAX, CatchUp, Decision, ScheduleDefinition, decide, tick_id
from heavylift.spec.timing import check_timing
from heavylift_operator.services.schedules import definition_of

ROOT = Path(__file__).resolve().parents[3]
HOUR = 3_600_000


def schedule(**spec: Any) -> dict[str, Any]:
    """Return an object with this spec."""
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavySchedule",
        "metadata": {"name": "daily", "namespace": "analytics", "uid": "u", "generation": 3},
        "spec": {"schedule": "0 9 * * *", "job": {"queue": "reports", "task": "annual"}, **spec},
    }


def test_the_documented_schedule_is_one() -> None:
    """The page's example parses, and its job carries every option it names."""
    page = (ROOT / "docs" / "how-to" / "schedule.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    made = definition_of(HeavySchedule.parse(yaml.safe_load(example))).to_json()
    assert (made["cron"], made["timezone"], made["concurrency"]) == ("0 9 * * *", "Europe/Paris", "Forbid")
    assert (made["startingDeadline"], made["catchUp"]) == (3_600_000, "Last")
    assert made["job"]["options"] == {"maxAttempts": 3, "timeouts": {"run": 1_800_000}}


def test_each_option_of_a_job_arrives() -> None:
    """As if a producer had passed it."""
    job = {
        "queue": "reports", "task": "annual", "data": {"year": 2026, "deep": [{"x": None}]}, "priority": 5,
        "maxAttempts": 4, "backoff": {"type": "Fixed", "delay": "5s", "max": "5s", "jitterPercent": 0},
        "timeouts": {"pending": "1m", "run": "2m", "total": "1h"}, "delay": "10s", "expires": "2h",
        "resources": {"memory": "4Gi", "cpu": 2}, "env": {"LOG_LEVEL": "debug"}, "labels": {"team": "bi"},
        "key": "tenant", "lifo": True,
    }  # fmt: skip
    made = definition_of(HeavySchedule.parse(schedule(job=job, limit=3, start="2026-01-01T00:00:00Z")))
    assert dict(made.job) == {
        "task": "annual",
        "data": {"year": 2026, "deep": [{"x": None}]},
        "delay": 10_000,
        "expires": 7_200_000,
        "options": {
            "priority": 5,
            "maxAttempts": 4,
            "backoff": {"type": "Fixed", "delay": 5000, "max": 5000, "jitterPercent": 0},
            "timeouts": {"pending": 60_000, "run": 120_000, "total": 3_600_000},
            "resources": {"memory": "4Gi", "cpu": "2"},
            "env": {"LOG_LEVEL": "debug"},
            "labels": {"team": "bi"},
            "key": "tenant",
            "lifo": True,
        },
    }
    assert (made.limit, made.timing.start_ms) == (3, 1_767_225_600_000)
    assert ScheduleDefinition.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"schedule": None}, "give either schedule"),
        ({"every": "1h"}, "give either schedule"),
        ({"schedule": None, "every": "1h", "timeZone": "UTC"}, "timeZone goes with schedule only"),
        ({"schedule": "0 9 * *"}, "spec.schedule: the cron expression '0 9 [*] [*]' has not five fields"),
        ({"timeZone": "Mars"}, "spec.timeZone: there is no time zone 'Mars'"),
        ({"schedule": None, "every": "1ms"}, "spec.every"),
        ({"concurrencyPolicy": "Perhaps"}, "spec.concurrencyPolicy"),
        ({"catchUp": "last"}, "spec.catchUp"),
        ({"limit": 0}, "spec.limit"),
        ({"startingDeadlineSeconds": "1h"}, "spec.startingDeadlineSeconds"),
        ({"colour": "red"}, "spec.colour is no field here"),
        ({"job": {"queue": "reports"}}, "spec.job.task is missing"),
        ({"job": {"queue": "a@b", "task": "t"}}, "spec.job.queue"),
        ({"job": {"queue": "q", "task": "t", "data": [1]}}, "spec.job.data"),
        ({"job": {"queue": "q", "task": "../t"}}, "spec.job.task"),
    ],
)
def test_what_cannot_be_says_where_and_why(spec: dict[str, Any], message: str) -> None:
    """The object, the path and the remedy."""
    with pytest.raises(InvalidInputError, match=f"HeavySchedule analytics/daily: .*{message}"):
        HeavySchedule.parse(schedule(**spec))


@pytest.mark.parametrize("spec", [{"start": "2026-01-01"}, {"end": "soon"}, {"schedule": None, "every": "1500ms"}])
def test_what_only_the_definition_can_tell_is_refused_there(spec: dict[str, Any]) -> None:
    """Times without a zone, and periods of broken seconds."""
    with pytest.raises(InvalidInputError):
        definition_of(HeavySchedule.parse(schedule(**spec)))


def hourly(catch_up: CatchUp, deadline: int | None = None, every: int = HOUR) -> ScheduleDefinition:
    """Return a schedule that ticks at whole hours of 1970."""
    timing = check_timing(cron=None, timezone=None, every_ms=every, start_ms=None, end_ms=None)
    return ScheduleDefinition(queue="q", timing=timing, catch_up=catch_up, starting_deadline_ms=deadline)


@pytest.mark.parametrize(
    ("catch_up", "deadline", "mark", "now", "expected"),
    [
        (CatchUp.LAST, None, 0, HOUR - 1, (None, HOUR - 1, 0)),  # nothing is due
        (CatchUp.NONE, None, 0, HOUR, (HOUR, HOUR, 0)),  # on the dot
        (CatchUp.NONE, None, 0, HOUR + 60_000, (HOUR, HOUR, 0)),  # the last moment that is on time
        (CatchUp.NONE, None, 0, HOUR + 60_001, (None, HOUR + 60_001, 1)),  # a moment later it is missed
        (CatchUp.LAST, None, 0, HOUR + 60_001, (HOUR, HOUR, 0)),
        (CatchUp.LAST, None, 0, 5 * HOUR - 1, (4 * HOUR, 4 * HOUR, 3)),
        (CatchUp.LAST, None, 0, 5 * HOUR, (5 * HOUR, 5 * HOUR, 4)),
        (CatchUp.ALL, None, 0, 5 * HOUR, (HOUR, HOUR, 0)),
        (CatchUp.ALL, None, HOUR, 5 * HOUR, (2 * HOUR, 2 * HOUR, 0)),
        (CatchUp.ALL, 2 * HOUR, 0, 5 * HOUR, (3 * HOUR, 3 * HOUR, 2)),  # the oldest that may start is the deadline old
        (CatchUp.LAST, 1000, 0, HOUR + 1001, (None, HOUR + 1001, 1)),  # a deadline is stronger than being on time
        (CatchUp.ALL, None, 9 * HOUR, 5 * HOUR, (None, 9 * HOUR, 0)),  # a clock that went back decides nothing again
    ],
)
def test_what_is_decided(
    catch_up: CatchUp, deadline: int | None, mark: int, now: int, expected: tuple[int | None, int, int]
) -> None:
    """At most one tick at a time (fired, the new mark, missed); what is skipped is counted; no mark goes back."""
    fire, to, missed = expected
    following = (to // HOUR + 1) * HOUR
    assert decide(hourly(catch_up, deadline), mark, now) == Decision(fire=fire, mark=to, missed=missed, next=following)


def test_an_eternity_of_missed_ticks_costs_little() -> None:
    """A period of a second and half a century: counted up to a bound, the newest found at once."""
    decision = decide(hourly(CatchUp.LAST, every=1000), 0, 50 * 365 * 24 * HOUR + 500)
    assert (decision.fire, decision.missed) == (50 * 365 * 24 * HOUR - 60_000 + 1000, MISSED_MAX)


def test_a_ticks_id_is_the_same_for_everybody() -> None:
    """It names the schedule and the second."""
    assert tick_id("daily", 1_767_225_600_000) == "daily-1767225600"
