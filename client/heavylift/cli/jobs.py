"""``heavylift jobs``: list, show, wait, cancel, retry, logs, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from heavylift import operations
from heavylift.cli.enqueue import waiting
from heavylift.cli.exits import Exit, report, safe, say
from heavylift.cli.inputs import pairs
from heavylift.cli.output import Format, Output, emit, emit_one, job_detail, job_row, print_job, print_json
from heavylift.cli.session import session
from heavylift.cli.why import Surroundings, why
from heavylift.client import Client
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import HeavyliftError, InvalidInputError
from heavylift.jobs import JobInfo
from heavylift.options import RetryOptions, duration_ms
from heavylift.store import ops

app = typer.Typer(no_args_is_help=True, help="Look at jobs and act on them.")

Ids = Annotated[list[str], typer.Argument(help="Job ids.", metavar="ID...")]
Id = Annotated[str, typer.Argument(help="Job id.", metavar="ID")]
COLUMNS = ("id", "queue", "task", "state", "attempt", "outcome", "age", "reason")
_STATES = (
    JobState.ACTIVE,
    JobState.WAITING,
    JobState.DELAYED,
    JobState.WAITING_CHILDREN,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.COMPLETED,
)


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    queue: Annotated[list[str] | None, typer.Option("--queue", "-q", help="Only of this queue; repeatable.")] = None,
    state: Annotated[list[str] | None, typer.Option("--state", "-s", help="Only in this state; repeatable.")] = None,
    class_: Annotated[list[str] | None, typer.Option("--class", help="Only of this outcome class, as oom.")] = None,
    since: Annotated[str | None, typer.Option(help="Only younger than this, for example 24h.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List jobs: active ones first, then waiting, delayed and ended ones.

    Example: heavylift jobs list --state failed --class oom --since 24h
    """
    states = [operations.parse_state(name) for name in state or ()] or list(_STATES)
    wanted = _filter(class_, since)
    with session(context).client() as client:
        found = _collect(client, queue or client.queues(), states, wanted, limit)
    now = datetime.now(UTC)
    rows = [job_row(info, now) if output is Format.TABLE else job_detail(info) for info in found]
    emit(rows, output, COLUMNS)


def _filter(classes: list[str] | None, since: str | None) -> Callable[[JobInfo], bool]:
    for name in classes or ():
        if name not in set(OutcomeClass):
            raise InvalidInputError(f"there is no outcome class {name[:40]!r}: classes are {', '.join(OutcomeClass)}")
    oldest = None if since is None else datetime.now(UTC) - timedelta(milliseconds=duration_ms("--since", since))

    def wanted(info: JobInfo) -> bool:
        if classes and (info.outcome is None or info.outcome.cls not in classes):
            return False
        moment = info.ended_at or info.started_at or info.enqueued_at
        return oldest is None or (moment is not None and moment >= oldest)

    return wanted


def _collect(
    client: Client, queues: Iterable[str], states: list[JobState], wanted: Callable[[JobInfo], bool], limit: int
) -> list[JobInfo]:
    names = [client.queue(name) for name in queues]
    found: list[JobInfo] = []
    for state in states:
        for queue in names:
            found += [info for info in queue.jobs(state, limit=limit * 10) if wanted(info)]
            if len(found) >= limit:
                return found[:limit]
    return found


@app.command()
def show(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - the argument's name
    """Show all that is known of a job.

    Example: heavylift jobs show annual-2026 -o json
    """
    with session(context).client() as client:
        info = client.job(id).info()
    if output is Format.TABLE:
        print_job(info)
    else:
        emit_one(job_detail(info), output)


@app.command()
def wait(
    context: typer.Context,
    ids: Ids,
    timeout: Annotated[str | None, typer.Option(help="Wait at most this long for each, for example 10m.")] = None,
) -> None:
    """Wait for jobs to end and print their results, one JSON text per line.

    Example: heavylift jobs wait annual-2026 --timeout 10m
    """

    def one(client: Client, job: str) -> None:
        with waiting(f"waiting for job {job}"):
            value = client.job(job).wait(timeout=timeout)
        print_json(value, indent=None)

    _each(context, ids, one)


@app.command()
def cancel(
    context: typer.Context, ids: Ids, reason: Annotated[str, typer.Option(help="Why, for people who ask.")] = ""
) -> None:
    """Cancel jobs; running ones are stopped within seconds.

    Example: heavylift jobs cancel annual-2026 --reason "wrong year"
    """
    late: list[str] = []

    def one(client: Client, job: str) -> None:
        if client.job(job).cancel(reason=reason):
            print(f"job {job} is cancelled")
        else:
            say(f"job {job} has ended already: too late to cancel")
            late.append(job)

    _each(context, ids, one)
    if late:
        raise typer.Exit(Exit.REFUSED)


@app.command()
def retry(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Job ids.", metavar="ID...")] = None,
    resources: Annotated[list[str] | None, typer.Option("--set", help="New resource, as memory=8Gi.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="New number of attempts.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Instead of ids: all jobs in this state, failed or cancelled.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="With --state: only of this queue.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --state: do not ask.")] = False,
) -> None:
    """Run failed or cancelled jobs again from their first attempt; their history stays.

    Example: heavylift jobs retry annual-2026 --set memory=8Gi
    """
    options: RetryOptions = {}
    if resources:
        options["resources"] = dict(pairs("--set", resources))
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    if bool(ids) == (state is not None):
        raise InvalidInputError("give job ids, or --state failed")
    chosen = list(ids or ()) or _of_state(context, str(state), queue, yes=yes)

    def one(client: Client, job: str) -> None:
        client.job(job).retry(**options)
        print(f"job {job} waits again")

    _each(context, chosen, one)


def _of_state(context: typer.Context, state: str, queue: str | None, *, yes: bool) -> list[str]:
    wanted = operations.parse_state(state)
    if wanted not in {JobState.FAILED, JobState.CANCELLED}:
        raise InvalidInputError(f"jobs that are {state} cannot be retried: use --state failed or cancelled")
    with session(context).client() as client:
        found = _collect(client, [queue] if queue else client.queues(), [wanted], lambda _: True, 100_000)
    if found and not yes:
        typer.confirm(f"Retry {len(found)} {state} jobs?", abort=True)
    return [info.id for info in found]


@app.command()
def logs(
    context: typer.Context,
    id: Id,  # noqa: A002 - the argument's name
    attempt: Annotated[int | None, typer.Option(help="Of this start (its number in `jobs show`).", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the container ends.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", min=1)] = None,
) -> None:
    """Print the log of a job's container, by your own kubeconfig.

    Example: heavylift jobs logs annual-2026 --attempt 2
    """
    with session(context).client() as client:
        record = client.run(operations.record(id))
    from heavylift.cli.kube import print_logs  # noqa: PLC0415 - needs the extra kube

    print_logs(record, seq=attempt, follow=follow, tail=tail)


@app.command("why")
@app.command("explain", hidden=True)
def explain(context: typer.Context, id: Id) -> None:  # noqa: A002 - the argument's name
    """Say why a job is where it is: one sentence per reason.

    Example: heavylift jobs why annual-2026
    """
    with session(context).client() as client:
        info = client.job(id).info()
        around = surroundings(client, info)
    for sentence in why(info, around):
        print(safe(sentence))


def surroundings(client: Client, info: JobInfo) -> Surroundings:
    """Return what else decides about a job."""
    owner = client.run(ops.settings_owner(info.queue))
    gauges = client.run(ops.gauges(owner.install if owner is not None else "", [info.queue]))
    dependencies: dict[str, JobState | None] = {}
    for job in info.depends_on:
        found = client.run(ops.get_job(job))
        dependencies[job] = None if found is None else found.state
    return Surroundings(
        now=datetime.now(UTC),
        settings=client.run(ops.get_settings(info.queue)),
        paused=client.run(ops.paused(info.queue)),
        troubles=client.run(ops.troubles(info.queue)),
        counts=gauges.queues.get(info.queue),
        key=client.run(ops.key_standing(info.queue, info.key)) if info.key else None,
        dispatchers=gauges.dispatchers if owner is not None else None,
        dependencies=dependencies,
    )


def _each(context: typer.Context, ids: Iterable[str], one: Callable[[Client, str], None]) -> None:
    """Do one thing for each job; go on after errors and end with the first one's exit code."""
    code: int = Exit.DONE
    with session(context).client() as client:
        for job in ids:
            try:
                one(client, job)
            except HeavyliftError as error:
                said = report(error)
                code = code or said
    if code:
        raise typer.Exit(code)
