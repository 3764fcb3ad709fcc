"""``heavylift queues``: list, show, pause, resume, purge."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from heavylift.cli.completing import PURGED, queue_names
from heavylift.cli.exits import say
from heavylift.cli.known import known
from heavylift.cli.output import Format, Output, age, emit, emit_one, iso
from heavylift.cli.plainly import plain_row
from heavylift.cli.session import session
from heavylift.cli.told import progress, telling
from heavylift.cli.waiting import waiting
from heavylift.client import Client
from heavylift.contract import ids
from heavylift.contract.states import JobState
from heavylift.jobs import moment
from heavylift.store import ops

app = typer.Typer(no_args_is_help=True, help="Look at queues; pause, resume and purge them.")

Name = Annotated[str, typer.Argument(help="Queue.", metavar="QUEUE", autocompletion=queue_names)]
COLUMNS = ("name", "waiting", "delayed", "active", "completed", "failed", "cancelled", "oldest", "held")
"""The last one goes below its row where the terminal is narrow, so it says what it means."""
_FOREVER = "87600h"


@app.command("list")
def list_(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List the queues in this Redis with their jobs by state.

    Example: heavylift queues list
    """
    with session(context).client() as client:
        rows = [_row(client, name) for name in client.queues()]
    if output is Format.TABLE:
        rows = [{**row, "held": _held(row)} for row in rows]
    emit(rows, output, COLUMNS, key="name")


def _held(row: Mapping[str, Any]) -> str:
    """Return what keeps all jobs of a queue from starting, in words."""
    unserved = [] if row["served"] else ["no HeavyQueue serves it"]
    return "; ".join([*unserved, *([f"paused by {row['paused']}"] if row["paused"] else [])])


def _row(client: Client, name: str) -> dict[str, Any]:
    counts = client.queue(name).counts()
    settings, pause = client.run(ops.get_settings(name)), client.run(ops.paused(name))
    holders = ["HeavyQueue"] if (settings or {}).get("paused") is True else []
    holders += [str(pause.get("by") or "client")] if pause else []
    oldest = moment(counts.oldest_waiting)
    return {
        "name": name,
        "served": settings is not None,
        "paused": ", ".join(holders),
        "waiting": counts.waiting,
        "delayed": counts.delayed,
        "active": counts.active,
        "waitingChildren": counts.waiting_children,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "quarantined": counts.quarantined,
        "oldest": age(oldest, datetime.now(UTC)),
    }


@app.command()
def show(context: typer.Context, name: Name, output: Output = Format.TABLE) -> None:
    """Show a queue: jobs by state, who serves it, its limits, what troubles it.

    Example: heavylift queues show reports -o yaml
    """
    ids.check_queue_name(name)
    with session(context).client() as client:
        known(client, name)
        row = _row(client, name)
        settings, owner = client.run(ops.get_settings(name)), client.run(ops.settings_owner(name))
        pause, quarantine = client.run(ops.paused(name)), client.run(ops.quarantine(name, 5))
        row["oldest"] = iso(moment(client.queue(name).counts().oldest_waiting))
        row["pause"] = pause or {}
        row["heavyQueue"] = f"{owner.namespace}/{(settings or {}).get('name') or name}" if owner else ""
        row["install"] = owner.install if owner else ""
        for limit in ("concurrencyMax", "concurrencyPerKey", "concurrencyOrder"):
            row[limit] = (settings or {}).get(limit)
        row["rateLimit"] = _rate(client, name, settings or {}, owner.install if owner else "")
        row["defaults"] = (settings or {}).get("defaults")
        row["timeoutsMs"] = (settings or {}).get("timeouts")
        row["allow"] = (settings or {}).get("allow")
        row["troubles"] = client.run(ops.troubles(name))
        row["lastQuarantined"] = quarantine
    emit_one(plain_row(row) if output is Format.TABLE else row, output, key="name")


def _rate(client: Client, name: str, settings: Mapping[str, Any], install: str) -> dict[str, Any]:
    """Return the rate limit, the starts it leaves now and the ms until one more; empty without one."""
    found = client.run(ops.gauges(install, [name])).queues.get(name)
    if found is None or found.rate_left is None:
        return {}
    limit = settings.get("rateLimit")
    given = limit if isinstance(limit, Mapping) else {}
    return {
        "limit": given.get("limit"),
        "periodMs": given.get("period"),
        "left": found.rate_left,
        "nextMs": found.rate_next or 0,
    }


@app.command()
def pause(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for people who ask.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when no job of it runs any more.")] = False,
    wait_timeout: Annotated[str | None, typer.Option(help="Wait, and at most this long, for example 10m.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Start no more jobs of a queue until it is resumed; what runs goes on.

    Example: heavylift queues pause reports --reason "database upgrade" --wait
    """
    with session(context).client() as client, telling(output, "name") as told:
        queue = known(client, name)
        queue.pause(reason=reason)
        told.did(f"queue {name} is paused", name=name, did="paused")
        if wait or wait_timeout:
            with waiting(f"waiting for the active jobs of queue {name}"):
                queue.pause(reason=reason, wait=wait_timeout or _FOREVER)


@app.command()
def resume(context: typer.Context, name: Name, output: Output = Format.TABLE) -> None:
    """Undo a pause.

    Example: heavylift queues resume reports
    """
    with session(context).client() as client, telling(output, "name") as told:
        known(client, name).resume()
        told.did(f"queue {name} is resumed", name=name, did="resumed")
        settings = client.run(ops.get_settings(name))
    if (settings or {}).get("paused") is True:
        say("its HeavyQueue still pauses it (spec.paused: true)")


@app.command()
def purge(
    context: typer.Context,
    name: Name,
    state: Annotated[
        str, typer.Option("--state", "-s", help="Jobs in this state; any but active.", autocompletion=PURGED)
    ] = JobState.WAITING.value,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove the jobs of one state that are in a queue now; nothing is kept of them.

    Example: heavylift queues purge reports --dry-run

    Example: heavylift queues purge reports --state failed --yes
    """
    with session(context).client() as client, telling(output, "name") as told:
        queue = known(client, name)
        there = queue.purge(state, dry_run=True)
        if dry_run:
            told.did(f"{there} {state} jobs of queue {name} would be removed", name=name, did="none", jobs=there)
            return
        if there and not yes:
            typer.confirm(f"Remove {there} {state} jobs of queue {name}?", abort=True, err=True)
        with progress(f"queue {name}") as step:
            gone = queue.purge(state, progress=step)
        told.did(f"{gone} {state} jobs of queue {name} are removed", name=name, did="purged", jobs=gone)
