"""What people see of a schedule: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from heavylift.contract.durations import format_ms
from heavylift.jobs import moment
from heavylift.store.schedules import ScheduleRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """What a schedule is and does; times in UTC."""

    id: str
    queue: str
    task: str
    data: Any
    cron: str
    """Empty when it is ``every``."""
    every: str
    """Empty when it is ``cron``."""
    timezone: str
    start: datetime | None
    end: datetime | None
    limit: int | None
    concurrency: str
    catch_up: str
    starting_deadline: str
    state: str
    """``active`` | ``suspended`` | ``ended``: its end or its limit is reached."""
    last: datetime | None
    """The tick that was fired last."""
    next: datetime | None
    """The next tick; None unless it is active."""
    last_job: str
    jobs: tuple[str, ...]
    """Its unfinished jobs."""
    fired: int
    """Jobs its ticks enqueued."""
    missed: int
    """Ticks that never started because nobody could fire them in time."""
    skipped: int
    """Ticks that were skipped: a job was unfinished (``Forbid``), or the tick's id was taken."""
    suspended_by: str
    owner: str
    """``namespace/name`` of its HeavySchedule; empty = a client's."""
    problem: str
    """Why its last tick could not be fired."""
    options: Mapping[str, Any]
    """Options of its jobs, as stored."""

    @classmethod
    def read(cls, found: ScheduleRecord) -> ScheduleInfo:
        """Return the view of a record; what is missing or odd becomes empty."""
        state = "suspended" if found.suspended is not None else "active" if found.upcoming is not None else "ended"
        definition = found.definition
        job = definition.get("job")
        job = job if isinstance(job, Mapping) else {}
        options = job.get("options")
        return cls(
            id=found.id,
            queue=found.queue,
            task=str(job.get("task") or ""),
            data=job.get("data"),
            last=moment(found.last),
            next=moment(found.upcoming) if state == "active" else None,
            state=state,
            last_job=found.last_job,
            jobs=found.jobs,
            fired=found.fired,
            missed=found.missed,
            skipped=found.skipped,
            suspended_by=found.suspended or "",
            owner=f"{found.owner.namespace}/{found.owner.name}" if found.owner else "",
            problem=found.problem,
            options=options if isinstance(options, Mapping) else {},
            **_when(definition),
        )


def _when(stored: Mapping[str, Any]) -> dict[str, Any]:
    def whole(key: str) -> int | None:
        value = stored.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    every, deadline = whole("every"), whole("startingDeadline")
    return {
        "cron": str(stored.get("cron") or ""),
        "every": format_ms(every) if every and every > 0 else "",
        "timezone": str(stored.get("timezone") or "UTC"),
        "start": moment(whole("start")),
        "end": moment(whole("end")),
        "limit": whole("limit"),
        "concurrency": str(stored.get("concurrency") or ""),
        "catch_up": str(stored.get("catchUp") or "").lower(),
        "starting_deadline": format_ms(deadline) if deadline and deadline > 0 else "",
    }
