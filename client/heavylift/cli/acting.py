"""``heavylift jobs``: what changes jobs: cancel, retry, promote, change, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from heavylift.cli.bulk import Chosen, retry_chosen
from heavylift.cli.completing import CLASSES, ENDED
from heavylift.cli.exits import Exit, report, say
from heavylift.cli.inputs import pairs, read_data, read_timeouts
from heavylift.cli.joboptions import Data
from heavylift.cli.output import Format, Output
from heavylift.cli.session import session
from heavylift.cli.told import Told, telling
from heavylift.client import Client
from heavylift.errors import HeavyliftError, InvalidInputError
from heavylift.options import ChangeOptions, RetryOptions

Ids = Annotated[list[str], typer.Argument(help="Job ids.", metavar="ID...")]
Id = Annotated[str, typer.Argument(help="Job id.", metavar="ID")]
Words = list[str] | None
Text = str | None


def each(client: Client, ids: Iterable[str], one: Callable[[Client, str], None]) -> int:
    """Do one thing for each job, going on after errors; return the first one's exit code."""
    code: int = Exit.DONE
    for job in ids:
        try:
            one(client, job)
        except HeavyliftError as error:
            said = report(error)
            code = code or said
    return code


def act(context: typer.Context, ids: Iterable[str], output: Format, one: Callable[[Client, str, Told], None]) -> None:
    """Do one thing for each job and tell of it; end with the first error's exit code."""
    with session(context).client() as client, telling(output) as told:
        code = each(client, ids, lambda client, job: one(client, job, told))
    if code:
        raise typer.Exit(code)


def cancel(
    context: typer.Context,
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why, for people who ask.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Cancel jobs; running ones are stopped within seconds.

    Example: heavylift jobs cancel annual-2026 --reason "wrong year"
    """
    late: list[str] = []

    def one(client: Client, job: str, told: Told) -> None:
        if client.job(job).cancel(reason=reason):
            told.did(f"job {job} is cancelled", id=job, did="cancelled")
        else:
            say(f"job {job} has ended already: too late to cancel")
            late.append(job)

    act(context, ids, output, one)
    if late:
        raise typer.Exit(Exit.REFUSED)


def retry(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    ids: Annotated[Words, typer.Argument(help="Job ids.", metavar="ID...")] = None,
    resources: Annotated[Words, typer.Option("--set", help="New resource, as memory=8Gi; others stay.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="New number of attempts.")] = None,
    priority: Annotated[int | None, typer.Option(help="New priority, -1000 to 1000; lower is sooner.")] = None,
    timeout: Annotated[Text, typer.Option(help="New longest run of one attempt, for example 2h.")] = None,
    env: Annotated[Words, typer.Option(help="New environment variable, NAME=VALUE; others stay.")] = None,
    data: Data = None,
    state: Annotated[
        Text,
        typer.Option(help="Instead of ids: all jobs in this state, failed or cancelled.", autocompletion=ENDED),
    ] = None,
    class_: Annotated[
        Text, typer.Option("--class", help="With --state: only of this outcome class, as oom.", autocompletion=CLASSES)
    ] = None,
    since: Annotated[Text, typer.Option(help="With --state: ended so long ago at most, for example 24h.")] = None,
    label: Annotated[Words, typer.Option(help="With --state: only with this label, NAME=VALUE.")] = None,
    queue: Annotated[Words, typer.Option("--queue", "-q", help="With --state: only of this queue; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="With --state: at most this many of each queue.", min=1)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --state: do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Run failed or cancelled jobs again from their first attempt, with what is set anew; their history stays.

    Example: heavylift jobs retry annual-2026 --set memory=8Gi

    Example: heavylift jobs retry --state failed --class oom --since 24h --set memory=8Gi --yes
    """
    changes = _changes(resources, max_attempts, priority, timeout, env, data)
    filters = (class_, since, label, queue, limit)
    if bool(ids) == (state is not None) or (ids and any(filters)):
        raise InvalidInputError("give job ids, or --state failed with --class, --since, --label, --queue, --limit")
    if state is not None:
        chosen = Chosen.of(state, class_, since, pairs("--label", label), tuple(queue or ()), limit)
        raise typer.Exit(retry_chosen(session(context), chosen, changes, yes=yes, output=output))

    def one(client: Client, job: str, told: Told) -> None:
        client.job(job).retry(**changes)
        told.did(f"job {job} waits again", id=job, did="retried")

    act(context, ids or (), output, one)


def _changes(
    resources: Words, max_attempts: int | None, priority: int | None, timeout: Text, env: Words, data: Text
) -> RetryOptions:
    given: dict[str, Any] = {
        "resources": pairs("--set", resources) or None,
        "max_attempts": max_attempts,
        "priority": priority,
        "timeouts": read_timeouts(timeout, None),
        "env": pairs("--env", env) or None,
        "data": None if data is None else read_data(data),
    }
    changes: RetryOptions = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]  # each value is checked by the client
    return changes


def promote(context: typer.Context, ids: Ids, output: Output = Format.TABLE) -> None:
    """Let delayed jobs wait now, behind those that wait already.

    Example: heavylift jobs promote annual-2026
    """

    def one(client: Client, job: str, told: Told) -> None:
        moved = client.job(job).promote()
        sentence = f"job {job} waits now" if moved else f"job {job} waits already"
        told.did(sentence, id=job, did="promoted" if moved else "none")

    act(context, ids, output, one)


def change(
    context: typer.Context,
    ids: Ids,
    priority: Annotated[int | None, typer.Option(help="New priority, -1000 to 1000; lower is sooner.")] = None,
    delay: Annotated[Text, typer.Option(help="Start not before this much from now; 0s = wait now.")] = None,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Change jobs that have not ended: priority at any time, delay and data while they are not active.

    Example: heavylift jobs change annual-2026 --priority -10 --delay 0s
    """
    given = {"priority": priority, "delay": delay, "data": None if data is None else read_data(data)}
    changes: ChangeOptions = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]  # each value is checked by the client
    if not changes:
        raise InvalidInputError("nothing is to change: give --priority, --delay or --data")

    def one(client: Client, job: str, told: Told) -> None:
        client.job(job).change(**changes)
        told.did(f"job {job} is changed", id=job, did="changed")

    act(context, ids, output, one)


def remove(
    context: typer.Context,
    ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Remove jobs that are not active, with all that is kept of them; to stop a job, cancel it.

    Example: heavylift jobs remove annual-2026 --yes
    """
    if not yes:
        typer.confirm(f"Remove {len(ids)} jobs with their results and history?", abort=True)

    def one(client: Client, job: str, told: Told) -> None:
        client.job(job).remove()
        told.did(f"job {job} is removed", id=job, did="removed")

    act(context, ids, output, one)
