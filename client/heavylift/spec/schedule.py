"""What a schedule is, and what to do about its ticks; pure.

A tick is *on time* for a minute; later it counts as missed, because no operator could fire it then. Missed ticks are
made up for as the schedule's catch-up policy says; ticks older than its starting deadline never start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from heavylift.contract import ids
from heavylift.errors import InvalidInputError
from heavylift.spec.timing import Timing, check_timing

_W = TypeVar("_W", bound=StrEnum)

ON_TIME_MS: Final = 60_000
"""A tick fired within this is on time whatever the catch-up policy."""
MISSED_MAX: Final = 1000
"""Missed ticks are counted up to this for each decision."""
LIMIT_MAX: Final = 1_000_000_000
ID_MAX: Final = 150
"""Characters of a schedule's id: its jobs' ids have to fit RQ's tools."""


class ConcurrencyPolicy(StrEnum):
    """What a tick does while a job of the schedule has not ended; CronJob's own words."""

    ALLOW = "Allow"
    """Both run."""
    FORBID = "Forbid"
    """The tick is skipped, with an event."""
    REPLACE = "Replace"
    """The unfinished job is cancelled; the new one is enqueued."""


class CatchUp(StrEnum):
    """What happens to ticks that were missed: nobody could fire them in time."""

    NONE = "None"
    """They are skipped."""
    LAST = "Last"
    """The newest is made up for, unless the next one is due already."""
    ALL = "All"
    """Each is made up for, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """A schedule's definition: when it ticks, and the job each tick enqueues. Durations in ms."""

    queue: str
    timing: Timing
    job: Mapping[str, Any] = field(default_factory=dict)
    """The job as JSON: ``task``, ``data``, ``delay``, ``expires``, ``options``, ... (``heavylift.schedules``)."""
    limit: int | None = None
    """Jobs its ticks enqueue at most."""
    concurrency: ConcurrencyPolicy = ConcurrencyPolicy.ALLOW
    catch_up: CatchUp = CatchUp.LAST
    starting_deadline_ms: int | None = None
    """A tick that could not be fired within this never starts."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit <= LIMIT_MAX:
            raise InvalidInputError(f"limit is {self.limit}: use a whole number above 0, or leave it out")
        if self.starting_deadline_ms is not None and self.starting_deadline_ms < 1000:  # noqa: PLR2004 - a second
            raise InvalidInputError("the starting deadline is too short: use at least 1s, or leave it out")

    def timing_json(self) -> dict[str, Any]:
        """Return what decides when it ticks: when that changes, ticks of the past are forgotten."""
        timing = self.timing
        return {
            "cron": timing.cron or None,
            "timezone": timing.timezone,
            "every": timing.every_ms,
            "start": timing.start_ms,
            "end": timing.end_ms,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the definition as it is kept."""
        return {
            "v": 1,
            "queue": self.queue,
            **self.timing_json(),
            "limit": self.limit,
            "concurrency": self.concurrency.value,
            "catchUp": self.catch_up.value,
            "startingDeadline": self.starting_deadline_ms,
            "job": dict(self.job),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ScheduleDefinition:
        """Return the schedule of a kept definition, everything checked anew.

        Raises:
            InvalidInputError: it cannot be used.
        """
        if stored.get("v") != 1:
            raise InvalidInputError("the schedule's definition is not of this version: define it anew")
        job = stored.get("job")
        cron, zone = _text(stored, "cron"), _text(stored, "timezone")
        return cls(
            queue=ids.check_queue_name(_text(stored, "queue") or ""),
            timing=check_timing(
                cron=cron,
                timezone=zone if cron is not None else None,
                every_ms=_whole(stored, "every"),
                start_ms=_whole(stored, "start"),
                end_ms=_whole(stored, "end"),
            ),
            job=job if isinstance(job, Mapping) else {},
            limit=_whole(stored, "limit"),
            concurrency=parse_concurrency(stored.get("concurrency")),
            catch_up=parse_catch_up(stored.get("catchUp")),
            starting_deadline_ms=_whole(stored, "startingDeadline"),
        )


def parse_concurrency(value: object) -> ConcurrencyPolicy:
    """Return a policy by name, in any case.

    Raises:
        InvalidInputError: there is none of that name.
    """
    return _word(ConcurrencyPolicy, "concurrency", value)


def parse_catch_up(value: object) -> CatchUp:
    """Return a catch-up policy by name, in any case.

    Raises:
        InvalidInputError: there is none of that name.
    """
    return _word(CatchUp, "catch_up", value)


def _word(kind: type[_W], option: str, value: object) -> _W:
    for word in kind:
        if isinstance(value, str) and value.lower() == word.value.lower():
            return word
    raise InvalidInputError(f"{option} is {str(value)[:40]!r}: use one of {', '.join(kind)}")


def check_schedule_id(name: object) -> str:
    """Return a schedule's id if it is usable: as a job's id, at most 150 characters.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"the schedule id is {str(name)[:60]!r}: give text")
    if len(name) > ID_MAX:
        raise InvalidInputError(
            f"the schedule id {name[:60]!r} is longer than {ID_MAX} characters: choose a shorter one"
        )
    try:
        return ids.check_job_id(name)
    except InvalidInputError:
        raise InvalidInputError(
            f"the schedule id {name[:60]!r} is not usable: use 1 to {ID_MAX} letters, digits, '-' and '_'"
        ) from None


def _text(stored: Mapping[str, Any], key: str) -> str | None:
    value = stored.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidInputError(f"the schedule's {key} is {str(value)[:40]!r}, not text: define it anew")
    return value


def _whole(stored: Mapping[str, Any], key: str) -> int | None:
    value = stored.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidInputError(f"the schedule's {key} is {str(value)[:40]!r}, not a whole number: define it anew")
    return value


# -- ticks ------------------------------------------------------------------------------------------------------------
def tick_id(prefix: str, tick_ms: int) -> str:
    """Return the job id of a tick: the same for whoever fires it."""
    return f"{prefix}-{tick_ms // 1000}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do next about a schedule's due ticks; times in ms since the epoch."""

    fire: int | None
    """The tick to fire, None = none."""
    mark: int
    """All ticks up to here are decided then."""
    missed: int
    """Ticks up to there that will never start; counted up to MISSED_MAX."""
    next: int | None
    """The first tick after the mark, None = there is none."""


def decide(schedule: ScheduleDefinition, mark: int, now: int) -> Decision:
    """Return what to do next: at most one tick is fired at a time, the next decision goes on from its mark.

    Args:
        schedule: its definition.
        mark: ticks up to here are decided.
        now: this moment.
    """
    timing, deadline = schedule.timing, schedule.starting_deadline_ms
    floor = mark if deadline is None else max(mark, now - deadline - 1)
    first = timing.after(floor)
    if first is not None and first <= now:
        fire = first if schedule.catch_up is CatchUp.ALL else _on_time_or_last(schedule, floor, now)
    else:
        fire = None
    decided = fire if fire is not None else now
    return Decision(
        fire=fire,
        mark=max(decided, mark),
        missed=timing.count(mark, decided - 1, MISSED_MAX) if fire is not None else timing.count(mark, now, MISSED_MAX),
        next=timing.after(max(decided, mark)),
    )


def _on_time_or_last(schedule: ScheduleDefinition, floor: int, now: int) -> int | None:
    on_time = schedule.timing.after(max(floor, now - ON_TIME_MS - 1))
    if on_time is not None and on_time <= now:
        return on_time
    return schedule.timing.newest(floor, now) if schedule.catch_up is CatchUp.LAST else None
