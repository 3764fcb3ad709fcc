"""``heavylift queues``: list, show, pause, resume."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from heavylift.cli.enqueue import waiting
from heavylift.cli.output import Format, Output, age, emit, emit_one, iso
from heavylift.cli.session import session
from heavylift.client import Client
from heavylift.contract import ids
from heavylift.jobs import moment
from heavylift.store import ops

app = typer.Typer(no_args_is_help=True, help="Look at queues; pause and resume them.")

Name = Annotated[str, typer.Argument(help="Queue.", metavar="QUEUE")]
COLUMNS = ("name", "served", "paused", "waiting", "delayed", "active", "completed", "failed", "cancelled", "oldest")
_POLL_S = 1.0


@app.command("list")
def list_(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List the queues in this Redis with their jobs by state.

    Example: heavylift queues list
    """
    with session(context).client() as client:
        rows = [_row(client, name) for name in client.queues()]
    emit(rows, output, COLUMNS, key="name")


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
        row = _row(client, name)
        settings, owner = client.run(ops.get_settings(name)), client.run(ops.settings_owner(name))
        pause, quarantine = client.run(ops.paused(name)), client.run(ops.quarantine(name, 5))
        row["oldest"] = iso(moment(client.queue(name).counts().oldest_waiting))
        row["pause"] = pause or {}
        row["heavyQueue"] = f"{owner.namespace}/{name}" if owner else ""
        row["install"] = owner.install if owner else ""
        row["concurrencyMax"] = (settings or {}).get("concurrencyMax")
        row["defaults"] = (settings or {}).get("defaults")
        row["timeoutsMs"] = (settings or {}).get("timeouts")
        row["allow"] = (settings or {}).get("allow")
        row["troubles"] = client.run(ops.troubles(name))
        row["lastQuarantined"] = quarantine
    emit_one(row, output, key="name")


@app.command()
def pause(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for people who ask.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when no job of it runs any more.")] = False,
) -> None:
    """Start no more jobs of a queue until it is resumed; what runs goes on.

    Example: heavylift queues pause reports --reason "database upgrade" --wait
    """
    with session(context).client() as client:
        queue = client.queue(name)
        queue.pause(reason=reason)
        print(f"queue {name} is paused")
        if wait:
            with waiting(f"waiting for the active jobs of queue {name}"):
                while queue.counts().active:
                    time.sleep(_POLL_S)


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Undo a pause.

    Example: heavylift queues resume reports
    """
    with session(context).client() as client:
        client.queue(name).resume()
        settings = client.run(ops.get_settings(name))
    print(f"queue {name} is resumed")
    if (settings or {}).get("paused") is True:
        print("its HeavyQueue still pauses it (spec.paused: true)")
