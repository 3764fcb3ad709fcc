"""``heavylift schedules``: list, show, suspend, resume, trigger, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from heavylift.cli.output import Format, Output, age, emit, emit_one, iso
from heavylift.cli.session import session
from heavylift.cli.told import telling
from heavylift.errors import ScheduleNotFoundError
from heavylift.scheduleinfo import ScheduleInfo

app = typer.Typer(no_args_is_help=True, help="Look at schedules; suspend, resume, trigger, delete them.")

Id = Annotated[str, typer.Argument(help="Schedule: its id, or namespace/name of a HeavySchedule.", metavar="SCHEDULE")]
COLUMNS = ("id", "queue", "when", "timezone", "state", "last", "next")


@app.command("list")
def list_(
    context: typer.Context,
    queue: Annotated[str | None, typer.Option(help="Only schedules of this queue.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the schedules in this Redis: those of clients by id, those of HeavySchedules as namespace/name.

    Example: heavylift schedules list --queue reports
    """
    with session(context).client() as client:
        found = client.schedules() if queue is None else client.queue(queue).schedules()
    now = datetime.now(UTC)
    emit([_row(info, now) if output is Format.TABLE else _detail(info) for info in found], output, COLUMNS)


def _row(info: ScheduleInfo, now: datetime) -> dict[str, Any]:
    return {
        "id": info.id,
        "queue": info.queue,
        "when": _when(info),
        "timezone": info.timezone if info.cron else "",
        "state": f"{info.state}, failing" if info.problem else info.state,
        "last": f"{age(info.last, now)} ago" if info.last else "",
        "next": f"in {age(now, info.next)}" if info.next else "",
    }


def _when(info: ScheduleInfo) -> str:
    return info.cron or f"every {info.every}"


def _detail(info: ScheduleInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "queue": info.queue,
        "heavySchedule": info.owner,
        "state": info.state,
        "suspendedBy": info.suspended_by,
        "problem": info.problem,
        "cron": info.cron,
        "every": info.every,
        "timezone": info.timezone,
        "start": iso(info.start),
        "end": iso(info.end),
        "limit": info.limit,
        "concurrency": info.concurrency,
        "catchUp": info.catch_up,
        "startingDeadline": info.starting_deadline,
        "last": iso(info.last),
        "next": iso(info.next),
        "fired": info.fired,
        "missed": info.missed,
        "skipped": info.skipped,
        "lastJob": info.last_job,
        "jobs": list(info.jobs),
        "task": info.task,
        "data": info.data,
        "options": dict(info.options),
    }


@app.command()
def show(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - as in ``schedule.id``
    """Show a schedule: when it ticks, what it enqueues, what became of its ticks, what keeps it from ticking.

    Example: heavylift schedules show daily -o yaml
    """
    with session(context).client() as client:
        emit_one(_detail(client.schedule(id).info()), output)


@app.command()
def suspend(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - as above
    """Let a schedule tick no more until it is resumed; jobs it enqueued go on.

    Example: heavylift schedules suspend daily
    """
    with session(context).client() as client, telling(output) as told:
        client.schedule(id).suspend()
        told.did(f"schedule {id} is suspended", id=id, did="suspended")


@app.command()
def resume(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - as above
    """Let a schedule tick again, from its next tick on.

    Example: heavylift schedules resume daily
    """
    with session(context).client() as client, telling(output) as told:
        schedule = client.schedule(id)
        schedule.resume()
        following = iso(schedule.info().next)
        sentence = f"schedule {id} is resumed" + (f", its next tick is {following}" if following else "")
        told.did(sentence, id=id, did="resumed", next=following)


@app.command()
def trigger(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - as above
    """Enqueue a schedule's job now, whatever its concurrency policy, also while it is suspended.

    Example: heavylift schedules trigger daily -o name
    """
    with session(context).client() as client:
        job = client.schedule(id).trigger()
        emit([{"id": job.id, "schedule": id}], output, ("id", "schedule"))


@app.command()
def delete(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - as above
    """Delete a client's schedule; jobs it enqueued stay.

    Example: heavylift schedules delete daily
    """
    with session(context).client() as client, telling(output) as told:
        if not client.schedule(id).delete():
            raise ScheduleNotFoundError(f"there is no schedule {id}")
        told.did(f"schedule {id} is deleted", id=id, did="deleted")
