"""Schedules: what a producer passes, and the operations both clients and the operator share."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

from heavylift.contract import ids, payload
from heavylift.contract.durations import Duration
from heavylift.dedupe import check_key
from heavylift.elsewhere import unknown
from heavylift.errors import (
    InvalidInputError,
    ScheduleNotFoundError,
    ScheduleOwnedError,
    StoreCorruptError,
    UnknownQueueError,
)
from heavylift.options import EnqueueOptions, check_priority, duration_ms
from heavylift.requests import Draft, draft, request
from heavylift.scheduleinfo import ScheduleInfo
from heavylift.spec.schedule import (
    CatchUp,
    ConcurrencyPolicy,
    ScheduleDefinition,
    check_schedule_id,
    parse_catch_up,
    parse_concurrency,
)
from heavylift.spec.timing import Timing, check_timing
from heavylift.store import ops
from heavylift.store.model import EnqueueRequest, Reply, Verdict
from heavylift.store.schedules import ScheduleOwner, SchedulePut, ScheduleRecord
from heavylift.store.steps import Op

_ATTEMPTS: Final = 5
"""Tries of an operation that others change the schedule under."""
_TICK: Final = re.compile(r"(.+)-(?:\d{9,11}|manual-.+)")
"""Ids of a schedule's jobs: its prefix, then the tick's second, or who knows when."""
_SET_APART: Final = re.compile(r".+-[a-z2-7]{8}")
"""Prefixes as of ``Source.prefix``."""
_REFUSED: Final = {
    "id": "each tick has an id of its own",
    "if_exists": "each tick has an id of its own",
    "depends_on": "let the task enqueue what follows",
    "dedupe": "use concurrency='Forbid' or 'Replace'",
}


class ScheduleOptions(EnqueueOptions, total=False):
    """Options of ``queue.schedule``: when it ticks, and those of its jobs.

    Of a job's options ``id``, ``if_exists``, ``dedupe`` and ``depends_on`` do not go with a schedule.
    """

    cron: str
    """Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly."""
    timezone: str
    """IANA name for ``cron``; UTC when left out."""
    every: Duration
    """A period instead of ``cron``: whole seconds, aligned to ``start``, else to midnight UTC of 1970-01-01."""
    start: datetime | str
    """No tick before."""
    end: datetime | str
    """No tick after."""
    limit: int
    """Jobs it enqueues at most."""
    concurrency: Literal["Allow", "Forbid", "Replace"]
    """While a job of it has not ended: start another (default), skip the tick, or cancel the old job."""
    catch_up: Literal["none", "last", "all"]
    """Ticks that were missed by over a minute: skip them, make up for the newest (default), or for each."""
    starting_deadline: Duration
    """A tick that could not start within this never does."""


class _When(TypedDict):
    cron: str | None
    timezone: str | None
    every_ms: int | None
    start_ms: int | None
    end_ms: int | None


_OWN: Final = {"cron", "timezone", "every", "start", "end", "limit", "concurrency", "catch_up", "starting_deadline"}


def define(queue: str, task: str, data: Any, options: Mapping[str, Any]) -> ScheduleDefinition:
    """Return a checked definition; see ``ScheduleOptions``.

    Raises:
        InvalidInputError: something cannot be used; the message names it.
    """
    for name, remedy in _REFUSED.items():
        if options.get(name) is not None:
            raise InvalidInputError(f"{name} does not go with a schedule: {remedy}")
    if strange := options.keys() - ScheduleOptions.__annotations__.keys():
        raise unknown(min(strange), ScheduleOptions.__annotations__.keys() - _REFUSED.keys())
    own = {name: value for name, value in options.items() if name in _OWN and value is not None}
    checked = draft(task, data, {name: value for name, value in options.items() if name not in _OWN})
    limit, deadline = own.get("limit"), own.get("starting_deadline")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise InvalidInputError(f"limit is {limit!r}: use a whole number above 0, or leave it out")
    return ScheduleDefinition(
        queue=ids.check_queue_name(queue),
        timing=_timing(own),
        job=_template(checked),
        limit=limit,
        concurrency=parse_concurrency(own.get("concurrency", ConcurrencyPolicy.ALLOW)),
        catch_up=parse_catch_up(own.get("catch_up", CatchUp.LAST)),
        starting_deadline_ms=None if deadline is None else duration_ms("starting_deadline", deadline),
    )


def _timing(own: Mapping[str, Any]) -> Timing:
    for name in ("cron", "timezone"):
        if name in own and not isinstance(own[name], str):
            raise InvalidInputError(f"{name} is {own[name]!r}: give text")
    when: _When = {
        "cron": own.get("cron"),
        "timezone": own.get("timezone"),
        "every_ms": None if "every" not in own else duration_ms("every", own["every"]),
        "start_ms": time_ms("start", own.get("start")),
        "end_ms": time_ms("end", own.get("end")),
    }
    return check_timing(**when)


def time_ms(option: str, value: object) -> int | None:
    """Return a moment as ms since the epoch, None for None.

    Raises:
        InvalidInputError: not a time with its zone.
    """
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise InvalidInputError(
            f"{option} is {str(value)[:60]!r}: give a datetime with a time zone, or text like 2026-11-22T09:00:00+01:00"
        )
    return round(found.timestamp() * 1000)


def _template(checked: Draft) -> dict[str, Any]:
    return {
        "task": checked.task,
        "data": json.loads(checked.data_json),
        "delay": checked.delay_ms,
        "expires": checked.expires_ms,
        "options": checked.options,
    }


def job_request(definition: ScheduleDefinition, job: str, settings: Mapping[str, Any] | None) -> EnqueueRequest:
    """Return the request for a job of a schedule, held against its queue's settings.

    Raises:
        InvalidInputError: the job is not usable, or its queue does not allow it (any more).
    """
    template = definition.job
    data, options = template.get("data"), template.get("options")
    delay, expires = template.get("delay"), template.get("expires")
    if not isinstance(data, dict) or not isinstance(options, dict) or not isinstance(template.get("task"), str):
        raise InvalidInputError("the schedule's job cannot be read: define the schedule anew")
    _check_place(options)
    checked = Draft(
        task=payload.check_task(template["task"]),
        data_json=payload.dumps(data),
        id=job,
        named=True,
        if_exists="return",
        delay_ms=delay if isinstance(delay, int) and delay > 0 else 0,
        expires_ms=expires if isinstance(expires, int) and expires > 0 else None,
        depends_on=(),
        options=options,
    )
    return request(checked, definition.queue, settings, strict=True)


def _check_place(options: Mapping[str, Any]) -> None:
    """Check the options that scripts act on: a kept definition may be a stranger's. The dispatcher judges the rest."""
    if options.get("priority") is not None:
        check_priority(options["priority"])
    if options.get("key") is not None:
        check_key("key", options["key"])
    if options.get("dedupe") is not None:
        raise InvalidInputError(f"dedupe does not go with a schedule: {_REFUSED['dedupe']}")


# -- operations -------------------------------------------------------------------------------------------------------
def put(
    schedule: str,
    definition: ScheduleDefinition,
    *,
    by: str,
    suspended: bool | None = None,
    source: Source | None = None,
) -> Op[Reply]:
    """Define a schedule or define it anew; what was fired stays fired.

    Args:
        schedule: its id.
        definition: what it should be.
        by: who, for people who ask.
        suspended: None = as it is.
        source: the HeavySchedule it comes from; None = a client's.
    """
    before = yield from ops.get_schedule(schedule)
    now = yield from ops.now()
    owner = None if source is None else source.owner
    anew = before is None or (before.owner is None) != (owner is None) or (owner and before.owner
        and before.owner.uid != owner.uid)  # fmt: skip
    since = min(source.since, now) if anew and source is not None else now
    return (
        yield from ops.put_schedule(
            SchedulePut(
                id=schedule,
                queue=definition.queue,
                definition=definition.to_json(),
                timing=definition.timing_json(),
                prefix=schedule if source is None else source.prefix,
                since=since,
                next=definition.timing.after(since),
                suspended=suspended,
                by=by,
                owner=owner,
            )
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The HeavySchedule a schedule comes from."""

    owner: ScheduleOwner
    since: int
    """Ticks before were decided before the schedule came to this Redis, ms since the epoch."""

    @property
    def id(self) -> str:
        """The schedule's id: no client's id has a slash."""
        return f"{self.owner.namespace}/{self.owner.name}"

    @property
    def prefix(self) -> str:
        """What its jobs' ids begin with: its name, and a hash that sets it apart from other namespaces'."""
        unique = ids.short_hash(self.owner.namespace, self.owner.name, length=8)
        return f"{ids.queue_slug(self.owner.name, 100)}-{unique}"


def schedule(schedule: str, definition: ScheduleDefinition, *, by: str, strict: bool) -> Op[None]:
    """Define a client's schedule.

    Raises:
        InvalidInputError: the queue does not allow such a job.
        UnknownQueueError: no HeavyQueue serves the queue, and ``strict``.
        ScheduleOwnedError: the id belongs to another queue.
    """
    check_schedule_id(schedule)
    settings = yield from ops.get_settings(definition.queue)
    if settings is None and strict:
        raise UnknownQueueError(
            f"no HeavyQueue serves queue {definition.queue!r}: apply one (kubectl apply -f queue.yaml), check the "
            "name, or define schedules beforehand with Client(strict=False)"
        )
    job_request(definition, "tick", settings)
    _judge(schedule, (yield from put(schedule, definition, by=by)))


def record(schedule: str) -> Op[ScheduleRecord]:
    """Return a schedule.

    Raises:
        ScheduleNotFoundError: there is none.
    """
    found = yield from ops.get_schedule(schedule)
    if found is None:
        raise _not_found(schedule)
    return found


def info(schedule: str) -> Op[ScheduleInfo]:
    """Return what a schedule is and does; raises as ``record``."""
    found = yield from record(schedule)
    return ScheduleInfo.read(found)


def schedules(queue: str | None) -> Op[list[ScheduleInfo]]:
    """Return all schedules, or those of one queue, by id."""
    found = yield from ops.all_schedules()
    return sorted(
        (ScheduleInfo.read(each) for each in found if queue is None or each.queue == queue), key=lambda each: each.id
    )


def firing(job: str) -> Op[str]:
    """Return the id of the schedule that enqueued a job, by the job's id; empty when there is none (any more)."""
    named = _TICK.fullmatch(job)
    if named is None:
        return ""
    found = yield from ops.get_schedule(named[1])
    if found is not None and found.prefix == named[1]:
        return found.id
    start: int | None = 0 if _SET_APART.fullmatch(named[1]) else None
    while start is not None:
        page, start = yield from ops.page_schedules(start)
        for each in page:
            if each.prefix == named[1]:
                return each.id
    return ""


def suspend(schedule: str, by: str) -> Op[None]:
    """Suspend a client's schedule; raises ScheduleNotFoundError, ScheduleOwnedError."""
    _judge(schedule, (yield from ops.suspend_schedule(schedule, by=by)))


def resume(schedule: str, by: str) -> Op[None]:
    """Resume a client's schedule: it goes on with the next tick; raises as ``suspend``."""
    found = yield from record(schedule)
    now = yield from ops.now()
    following = ScheduleDefinition.from_json(found.definition).timing.after(now)
    _judge(schedule, (yield from ops.resume_schedule(schedule, by=by, mark=now, next_=following)))


def delete(schedule: str, by: str, queue: str = "") -> Op[bool]:
    """Delete a client's schedule, of this queue if one is named; False = there was none. Raises ScheduleOwnedError."""
    reply = yield from ops.delete_schedule(schedule, by=by, queue=queue)
    if reply.verdict is not Verdict.MISSING:
        _judge(schedule, reply)
    return reply.verdict is Verdict.APPLIED


def trigger(schedule: str) -> Op[str]:
    """Enqueue a schedule's job now, also while it is suspended; return the job's id.

    Raises:
        ScheduleNotFoundError: there is none.
        InvalidInputError: its queue does not allow the job any more.
    """
    token = secrets.token_hex(4)
    made: EnqueueRequest | None = None
    for _ in range(_ATTEMPTS):
        found = yield from record(schedule)
        settings = yield from ops.get_settings(found.queue)
        definition = ScheduleDefinition.from_json(found.definition)
        once = job_request(definition, f"{found.prefix}-manual-{token}", settings)
        made = once if made is None else replace(once, incarnation=made.incarnation)
        reply = yield from ops.trigger_schedule(schedule, found.revision, made)
        if reply.verdict is not Verdict.ALREADY:
            _judge(schedule, reply)
            return reply.message
    raise ScheduleOwnedError(f"schedule {schedule} changes all the time: try again")


def _not_found(schedule: str) -> ScheduleNotFoundError:
    return ScheduleNotFoundError(f"there is no schedule {ids.printable(schedule)}: see `heavylift schedules list`")


def _judge(schedule: str, reply: Reply) -> None:
    if reply.verdict is Verdict.MISSING:
        raise _not_found(schedule)
    if reply.verdict is Verdict.CORRUPT:
        raise StoreCorruptError(reply.message)
    if reply.verdict is Verdict.REFUSED:
        raise ScheduleOwnedError(f"schedule {ids.printable(schedule)}: {reply.message}")
