"""Schedules: defined, read, fired, suspended, deleted."""

from __future__ import annotations

import hashlib
from typing import Any

from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import bodies, decode
from heavylift.store.model import EnqueueRequest, Outcome, Reply
from heavylift.store.ops.jobs import entry_arguments
from heavylift.store.ops.replies import reply
from heavylift.store.schedules import Due, ScheduleFire, SchedulePut, ScheduleRecord, record
from heavylift.store.steps import Arg, Call, Command, Op

_DUE_MAX = 10
_DUE_BYTES = 128 * 1024
_PAGE = 10


def now() -> Op[int]:
    """Return Redis's time, ms since the epoch: the clock that decides what is due."""
    seconds, micros = yield Command(lambda _: ("TIME",))
    return int(seconds) * 1000 + int(micros) // 1000


def put_schedule(put: SchedulePut) -> Op[Reply]:
    """Define a schedule or define it anew.

    ALREADY: it stands like this. REFUSED: it is somebody else's, the message says whose. CORRUPT.
    """
    definition = bodies.compact(put.definition)
    owner: tuple[Arg, ...] = ("", "", "", "", "")
    if put.owner is not None:
        own = put.owner
        owner = (own.install, own.namespace, own.name, own.uid, own.generation)
    answer = yield Call(
        "schedule_put",
        (
            put.id,
            definition,
            hashlib.sha1(definition.encode(), usedforsecurity=False).hexdigest(),
            timing_text(put.timing),
            put.queue,
            put.prefix,
            put.since,
            "" if put.next is None else put.next,
            "" if put.suspended is None else "1" if put.suspended else "0",
            bodies.clip(put.by, 200),
            *owner,
        ),
    )
    return reply(answer)


def timing_text(timing: dict[str, Any]) -> str:
    """Return a timing as the store keeps and compares it."""
    return bodies.compact(timing)


def get_schedule(schedule: str) -> Op[ScheduleRecord | None]:
    """Return a schedule, or None when there is none."""
    _, rows = yield Call("schedules", (schedule, 0, 1))
    return record(rows[0]) if rows else None


def page_schedules(start: int = 0) -> Op[tuple[list[ScheduleRecord], int | None]]:
    """Return a page of all schedules by their next tick, and where the next page starts (None = nowhere)."""
    looked, rows = yield Call("schedules", ("", start, _PAGE))
    return [record(row) for row in rows], start + _PAGE if int(looked) == _PAGE else None


def all_schedules() -> Op[list[ScheduleRecord]]:
    """Return all schedules, in bounded steps."""
    found: dict[str, ScheduleRecord] = {}
    start: int | None = 0
    while start is not None:
        page, start = yield from page_schedules(start)
        found |= {each.id: each for each in page}  # one that moved on meanwhile may come twice
    return list(found.values())


def due_schedules(not_after: int | None = None) -> Op[Due]:
    """Return some schedules that somebody should look at now.

    Args:
        not_after: what counts as now, when it is earlier than Redis's time.
    """
    moment, following, rows, corrupt = yield Call(
        "schedule_due", ("" if not_after is None else not_after, _DUE_MAX, _DUE_BYTES)
    )
    next_ms = int(following)
    return Due(
        now=int(moment),
        next_ms=None if next_ms < 0 else next_ms,
        schedules=tuple(record(row) for row in rows),
        corrupt=tuple((decode.text(schedule), decode.text(message)) for schedule, message in corrupt),
    )


def fire_schedule(fire: ScheduleFire) -> Op[Reply]:
    """Decide a schedule's next ticks: skip what was missed, fire at most one.

    APPLIED: the message says what became of the tick: fired | forbidden | over | taken | missed, or replacing: more
    jobs are to be cancelled first, ask again. ALREADY: decided before, or the schedule was changed or suspended.
    REFUSED: not now, the message says why. MISSING, CORRUPT.
    """
    replaced = f"cancelled by its schedule {fire.id}: the next tick replaces it"
    end = Outcome(cls=OutcomeClass.CANCELLED, message=replaced)
    entry = () if fire.entry is None else entry_arguments(fire.entry)
    answer = yield Call(
        "schedule_fire",
        (
            fire.id,
            fire.revision,
            fire.from_mark,
            fire.mark,
            "" if fire.tick is None else fire.tick,
            fire.missed,
            "" if fire.next is None else fire.next,
            fire.concurrency,
            "" if fire.limit is None else fire.limit,
            bodies.compact({"by": f"schedule {fire.id}", "reason": "replaced by the next tick"}),
            bodies.compact({"class": end.cls.value, "body": bodies.body(end), "exc": ""}),
            *entry,
        ),
    )
    return reply(answer)


def defer_schedule(schedule: str, revision: str, problem: str) -> Op[Reply]:
    """Note why a schedule cannot be fired as it stands; it is looked at again in half a minute."""
    answer = yield Call("schedule_defer", (schedule, revision, bodies.clip(problem, 1000)))
    return reply(answer)


def trigger_schedule(schedule: str, revision: str, entry: EnqueueRequest) -> Op[Reply]:
    """Enqueue a schedule's job now; repeated with the same entry it changes nothing.

    APPLIED: the message is the job's id. ALREADY: the schedule was changed since. REFUSED, MISSING, CORRUPT.
    """
    answer = yield Call("schedule_trigger", (schedule, revision, *entry_arguments(entry)))
    return reply(answer)


def suspend_schedule(schedule: str, *, by: str) -> Op[Reply]:
    """Let a client's schedule tick no more. ALREADY: it is suspended. REFUSED: it is a HeavySchedule's. MISSING."""
    answer = yield Call("schedule_set", (schedule, "suspend", bodies.clip(by, 200), 0, ""))
    return reply(answer)


def resume_schedule(schedule: str, *, by: str, mark: int, next_: int | None) -> Op[Reply]:
    """Let a suspended schedule tick again, from ``mark`` on. ALREADY: it is not suspended. REFUSED, MISSING."""
    answer = yield Call(
        "schedule_set", (schedule, "resume", bodies.clip(by, 200), mark, "" if next_ is None else next_)
    )
    return reply(answer)


def delete_schedule(schedule: str, *, by: str, uid: str = "", queue: str = "") -> Op[Reply]:
    """Delete a schedule of a client, or of the HeavySchedule with this UID; its jobs stay. REFUSED, MISSING.

    With ``queue`` only one of that queue.
    """
    answer = yield Call("schedule_delete", (schedule, uid, bodies.clip(by, 200), queue))
    return reply(answer)
