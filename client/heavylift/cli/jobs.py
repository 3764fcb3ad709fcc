"""``heavylift jobs``: what looks at jobs (list, show, wait, logs, why); what changes them is in ``acting``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

import typer

from heavylift import operations, schedules
from heavylift.cli.acting import Id, Ids, cancel, change, promote, remove, retry
from heavylift.cli.completing import CLASSES, STATES, queue_names
from heavylift.cli.exits import safe, say
from heavylift.cli.inputs import pairs
from heavylift.cli.known import known_names
from heavylift.cli.output import Format, Output, emit, emit_one, job_detail, job_row, print_job
from heavylift.cli.session import session
from heavylift.cli.waiting import wait_all
from heavylift.cli.why import Surroundings, why
from heavylift.client import Client, Queue
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import InvalidInputError, JobNotFoundError
from heavylift.jobs import JobInfo, moment
from heavylift.options import duration_ms
from heavylift.store import ops

app = typer.Typer(no_args_is_help=True, help="Look at jobs and act on them.")

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
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", help="Only of this queue; repeatable.", autocompletion=queue_names),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", "-s", help="Only in this state; repeatable.", autocompletion=STATES),
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only of this outcome class, as oom; repeatable.", autocompletion=CLASSES),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only younger than this, for example 24h.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only with this label, NAME=VALUE; repeatable.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List jobs: active ones first, then waiting, delayed and ended ones.

    Example: heavylift jobs list --state failed --class oom --since 24h
    """
    states = [operations.parse_state(name) for name in state or ()] or list(_STATES)
    wanted = Wanted.of(tuple(class_ or ()), since, pairs("--label", label))
    with session(context).client() as client:
        found = _collect(client, known_names(client, queue or ()), states, wanted, limit + 1)
    now = datetime.now(UTC)
    rows = [job_row(info, now) if output is Format.TABLE else job_detail(info) for info in found[:limit]]
    emit(rows, output, COLUMNS)
    if len(found) > limit:
        say(f"these are the first {limit}: --limit lists more, --queue, --state, --class, --since and --label fewer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs are listed."""

    classes: tuple[str, ...]
    since: datetime | None
    labels: Mapping[str, str]

    @classmethod
    def of(cls, classes: tuple[str, ...], since: str | None, labels: Mapping[str, str]) -> Self:
        """Return a checked filter.

        Raises:
            InvalidInputError: no such class, or no duration.
        """
        for name in classes:
            if name not in set(OutcomeClass):
                known = ", ".join(OutcomeClass)
                raise InvalidInputError(f"there is no outcome class {name[:40]!r}: classes are {known}")
        oldest = None if since is None else datetime.now(UTC) - timedelta(milliseconds=duration_ms("--since", since))
        return cls(classes=classes, since=oldest, labels=labels)

    def find(self, queue: Queue, state: JobState, limit: int) -> list[JobInfo]:
        """Return jobs of one state; class and time of ended ones are filtered in Redis."""
        if not state.terminal:
            return [info for info in queue.jobs(state, labels=self.labels, limit=limit * 10) if self._admits(info)]
        found: list[JobInfo] = []
        for outcome in self.classes or (None,):
            found += queue.jobs(state, cls=outcome, since=self.since, labels=self.labels, limit=limit)
        return found

    def _admits(self, info: JobInfo) -> bool:
        if self.classes and (info.outcome is None or info.outcome.cls not in self.classes):
            return False
        began = info.started_at or info.enqueued_at
        return self.since is None or (began is not None and began >= self.since)


def _collect(
    client: Client, queues: Iterable[str], states: list[JobState], wanted: Wanted, limit: int
) -> list[JobInfo]:
    names = [client.queue(name) for name in queues]
    found: list[JobInfo] = []
    for state in states:
        for queue in names:
            found += wanted.find(queue, state, limit - len(found))
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
    timeout: Annotated[
        str | None, typer.Option(help="Wait at most this long for all of them, for example 10m.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Wait for jobs to end and print their results, one JSON text per line.

    Example: heavylift jobs wait annual-2026 --timeout 10m
    """
    with session(context).client() as client:
        code = wait_all(client, ids, timeout, output)
    if code:
        raise typer.Exit(code)


for verb in (cancel, retry, promote, change, remove):
    app.command()(verb)


@app.command()
def logs(
    context: typer.Context,
    id: Id,  # noqa: A002 - the argument's name
    attempt: Annotated[int | None, typer.Option(help="Of this attempt's last start.", min=1)] = None,
    start: Annotated[int | None, typer.Option(help="Of this start (its number in `jobs show`).", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the container ends.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", min=1)] = None,
) -> None:
    """Print the log of a job's container, by your own kubeconfig.

    Example: heavylift jobs logs annual-2026 --attempt 2
    """
    if attempt is not None and start is not None:
        raise InvalidInputError("give --attempt or --start, not both: an attempt can have several starts")
    with session(context).client() as client:
        record = client.run(operations.record(id))
    from heavylift.cli.kube import print_logs  # noqa: PLC0415 - needs the extra kube

    seq = start if attempt is None or not record.namespace else start_of(JobInfo.read(record), attempt)
    print_logs(record, seq=seq, follow=follow, tail=tail)


def start_of(info: JobInfo, attempt: int) -> int | None:
    """Return the number of an attempt's last start; None = the one that runs now.

    Raises:
        JobNotFoundError: there was no such attempt, or it is no longer kept.
    """
    if info.state is JobState.ACTIVE and info.attempt == attempt:
        return None
    found = [ended.seq for ended in info.history if ended.attempt == attempt]
    if not found:
        raise JobNotFoundError(f"job {info.id} has no attempt {attempt} (any more): heavylift jobs show {info.id}")
    return found[-1]


@app.command("why")
@app.command("explain", hidden=True)
def explain(context: typer.Context, id: Id, output: Output = Format.TABLE) -> None:  # noqa: A002 - the argument's name
    """Say why a job is where it is: one sentence per reason.

    Example: heavylift jobs why annual-2026
    """
    with session(context).client() as client:
        info = client.job(id).info()
        around = surroundings(client, info)
    sentences = why(info, around)
    if output is Format.TABLE:
        for sentence in sentences:
            print(safe(sentence))
    else:
        emit_one({"id": info.id, "state": info.state.value, "why": sentences}, output)


def surroundings(client: Client, info: JobInfo) -> Surroundings:
    """Return what else decides about a job."""
    owner = client.run(ops.settings_owner(info.queue))
    gauges = client.run(ops.gauges(owner.install if owner is not None else "", [info.queue]))
    dependencies: dict[str, JobState | None] = {}
    for job in info.depends_on:
        found = client.run(ops.get_job(job))
        dependencies[job] = None if found is None else found.state
    return Surroundings(
        now=moment(gauges.at) or datetime.now(UTC),
        settings=client.run(ops.get_settings(info.queue)),
        paused=client.run(ops.paused(info.queue)),
        troubles=client.run(ops.troubles(info.queue)),
        counts=gauges.queues.get(info.queue),
        key=client.run(ops.key_standing(info.queue, info.key)) if info.key else None,
        dispatchers=gauges.dispatchers if owner is not None else None,
        inflight=gauges.inflight if owner is not None else 0,
        breaker=moment(client.run(ops.breaker(info.queue))),
        schedule=client.run(schedules.firing(info.id)),
        dependencies=dependencies,
    )
