"""Schedules as they go into and come out of the store; times are integer ms since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heavylift.store import decode
from heavylift.store.model import EnqueueRequest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOwner:
    """The HeavySchedule a schedule comes from."""

    install: str
    namespace: str
    name: str
    uid: str
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePut:
    """A schedule to define, or to define anew."""

    id: str
    queue: str
    definition: Json
    timing: Json
    """The part of the definition that says when it ticks."""
    prefix: str
    """What its jobs' ids begin with."""
    since: int
    """Ticks count from here, where it is new, or ticks otherwise than before."""
    next: int | None
    """The first tick after ``since``."""
    suspended: bool | None = None
    """None = as it is."""
    by: str = ""
    owner: ScheduleOwner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule as it stands in Redis."""

    id: str
    queue: str
    definition: Json
    revision: str
    timing: str
    """The timing as JSON text, to compare."""
    prefix: str
    mark: int
    """Ticks up to here are decided."""
    next: int | None
    last: int | None
    """The tick fired last."""
    last_at: int | None
    last_job: str
    fired: int
    missed: int
    skipped: int
    jobs: tuple[str, ...]
    """Its unfinished jobs, newest last; at most 50."""
    suspended: str | None
    """Who suspended it."""
    suspended_at: int | None
    problem: str
    """Why its last tick could not be fired."""
    created: int | None
    updated: int | None
    by: str
    owner: ScheduleOwner | None

    @property
    def upcoming(self) -> int | None:
        """The next tick that fires a job; None once the limit is reached, be it by a definition of just now."""
        limit = self.definition.get("limit")
        over = isinstance(limit, int) and not isinstance(limit, bool) and self.fired >= limit
        return None if over else self.next


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFire:
    """A decision about a schedule's next ticks, valid while its revision and mark are those it was made from."""

    id: str
    revision: str
    from_mark: int
    mark: int
    missed: int
    next: int | None
    concurrency: str
    limit: int | None
    tick: int | None = None
    """The tick to fire, None = none."""
    entry: EnqueueRequest | None = None
    """Its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Schedules that somebody should look at."""

    now: int
    next_ms: int | None
    """Until the next one, None = none is waiting."""
    schedules: tuple[ScheduleRecord, ...]
    corrupt: tuple[tuple[str, str], ...] = ()
    """(id, what is wrong) of those that something else wrote: they are looked at again in half a minute."""


def record(row: Any) -> ScheduleRecord:
    """Return a schedule from a script's row ``{id, {field, value, ...}}``; what is odd becomes empty."""
    name, flat = row
    found = decode.pairs(flat)

    def text(key: str) -> str:
        return decode.text(found.get(key))

    def number(key: str) -> int | None:
        return decode.number(found.get(key))

    return ScheduleRecord(
        id=decode.text(name),
        queue=text("queue"),
        definition=decode.obj(found.get("definition")),
        revision=text("revision"),
        timing=text("timing"),
        prefix=text("prefix"),
        mark=number("mark") or 0,
        next=number("next"),
        last=number("last"),
        last_at=number("lastAt"),
        last_job=text("lastJob"),
        fired=number("fired") or 0,
        missed=number("missed") or 0,
        skipped=number("skipped") or 0,
        jobs=tuple(text("jobs").split()),
        suspended=text("suspended") if "suspended" in found else None,
        suspended_at=number("suspendedAt"),
        problem=text("problem"),
        created=number("created"),
        updated=number("updated"),
        by=text("by"),
        owner=_owner(text, number("generation") or 0),
    )


def _owner(text: Any, generation: int) -> ScheduleOwner | None:
    if not text("uid"):
        return None
    return ScheduleOwner(
        install=text("install"),
        namespace=text("namespace"),
        name=text("name"),
        uid=text("uid"),
        generation=generation,
    )
