"""``heavylift enqueue``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from heavylift.cli.completing import offer, queue_names
from heavylift.cli.exits import Exit, report, say
from heavylift.cli.inputs import Line, pairs, read_backoff, read_data, read_dedupe, read_lines
from heavylift.cli.output import Format, Output, emit, print_json
from heavylift.cli.session import Session, session
from heavylift.cli.told import progress
from heavylift.cli.waiting import wait_all, waiting
from heavylift.client import Client
from heavylift.errors import BatchError, HeavyliftError, InvalidInputError
from heavylift.jobs import Job
from heavylift.options import IF_EXISTS, JobRequest, Timeouts

_AT_ONCE = 500

Data = Annotated[
    str | None, typer.Option("--data", "-d", help="The task's data: JSON, @FILE, or - for standard input.")
]


Text = str | None
Words = list[str] | None


def enqueue(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    queue: Annotated[Text, typer.Argument(help="Queue.", metavar="QUEUE", autocompletion=queue_names)] = None,
    task: Annotated[Text, typer.Argument(help="The task's registered name.", metavar="TASK")] = None,
    data: Data = None,
    id: Annotated[Text, typer.Option("--id", help="Job id; random when left out.")] = None,  # noqa: A002
    if_exists: Annotated[
        Text,
        typer.Option(
            help="If the id is taken: raise, return, retry_failed or replace.", autocompletion=offer(*IF_EXISTS)
        ),
    ] = None,
    priority: Annotated[int | None, typer.Option(help="-1000 to 1000; lower is sooner.")] = None,
    lifo: Annotated[bool, typer.Option("--lifo", help="To the front of those of its priority.")] = False,
    key: Annotated[Text, typer.Option(help="Concurrency key: shares the queue's concurrency.perKey.")] = None,
    dedupe: Annotated[Text, typer.Option(help="Deduplication key: at most one unfinished job for each.")] = None,
    dedupe_mode: Annotated[
        Text, typer.Option(help="first, keep_last or debounce.", autocompletion=offer("first", "keep_last", "debounce"))
    ] = None,
    dedupe_ttl: Annotated[Text, typer.Option(help="Time of a throttle (first) or a debounce, for example 1h.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts before the job fails.")] = None,
    backoff: Annotated[
        Text, typer.Option(help="Wait between attempts, doubling: 2s or 2s..10m; fixed:2s = always the same.")
    ] = None,
    delay: Annotated[Text, typer.Option(help="Start not before this much later, for example 5m.")] = None,
    expires: Annotated[Text, typer.Option(help="Fail if not started within this time, for example 48h.")] = None,
    timeout: Annotated[Text, typer.Option(help="Longest run of one attempt, for example 30m.")] = None,
    total_timeout: Annotated[Text, typer.Option(help="Longest time for all attempts, for example 6h.")] = None,
    resources: Annotated[Words, typer.Option("--set", help="Resource, for example memory=4Gi.")] = None,
    env: Annotated[Words, typer.Option(help="Environment variable, NAME=VALUE.")] = None,
    label: Annotated[Words, typer.Option(help="Label, NAME=VALUE.")] = None,
    depends_on: Annotated[Words, typer.Option(help="Id of a job that must complete first.")] = None,
    from_file: Annotated[Text, typer.Option(help="Enqueue each line of a JSON Lines file (-: standard input).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job's end and print its result.")] = False,
    wait_timeout: Annotated[Text, typer.Option(help="Wait at most this long, for example 10m.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Enqueue a job, or each line of a file.

    Example: heavylift enqueue reports annual --data '{"year": 2026}' --wait

    Example: heavylift enqueue --from-file jobs.jsonl, lines like {"queue": "reports", "task": "annual", "data": {}}
    """
    options: dict[str, Any] = {
        "id": id,
        "if_exists": if_exists,
        "priority": priority,
        "lifo": lifo or None,
        "key": key,
        "dedupe": read_dedupe(dedupe, dedupe_mode, dedupe_ttl),
        "max_attempts": max_attempts,
        "backoff": read_backoff(backoff),
        "delay": delay,
        "expires": expires,
        "timeouts": None if timeout is total_timeout is None else Timeouts(run=timeout, total=total_timeout),
        "resources": pairs("--set", resources) or None,
        "env": pairs("--env", env) or None,
        "labels": pairs("--label", label) or None,
        "depends_on": depends_on or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    waits = Waits(wait=wait, timeout=wait_timeout, output=output)
    if from_file is None:
        _enqueue_one(session(context), (queue, task), read_data(data), given, waits)
    elif data is not None or given:
        raise InvalidInputError("--from-file takes data and options from the lines: leave --data and options out")
    else:
        with session(context).client() as client:
            raise typer.Exit(_file(client, read_lines(from_file, queue, task), waits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What follows an enqueue."""

    wait: bool
    timeout: str | None
    output: Format


def _enqueue_one(here: Session, target: tuple[Text, Text], data: Any, given: dict[str, Any], waits: Waits) -> None:
    queue, task = target
    if queue is None or task is None:
        raise InvalidInputError("give QUEUE and TASK, or --from-file FILE")
    with here.client() as client:
        job = client.queue(queue).enqueue(task, data, **given)
        _show([job], waits.output, quiet=waits.wait)
        if waits.wait:
            _wait(job, waits.timeout)


def _show(jobs: list[Job[Any]], output: Format, *, quiet: bool = False) -> None:
    if quiet:
        for job in jobs:
            say(f"job {job.id} {'enqueued' if job.created else 'exists already'}; waiting for its end")
        return
    rows = [{"id": job.id, "queue": job.queue_name, "created": job.created} for job in jobs]
    emit(rows, output, ("id", "queue", "created"))


def _wait(job: Job[Any], timeout: str | None) -> None:
    try:
        with waiting(f"waiting for job {job.id}"):
            value = job.wait(timeout=timeout)
    except KeyboardInterrupt:
        say(f"job {job.id} goes on; wait again with: heavylift jobs wait {job.id}")
        raise
    print_json(value)


def _file(client: Client, lines: Sequence[Line | HeavyliftError], waits: Waits) -> int:
    """Enqueue lines in batches, bad ones reported by number; return the exit code."""
    jobs, refused = list[Job[Any]](), 0
    with progress("enqueued") as step:
        for start in range(0, len(lines), _AT_ONCE):
            made, bad = _batch(client, lines[start : start + _AT_ONCE])
            jobs += made
            refused += bad
            step(min(start + _AT_ONCE, len(lines)), len(lines))
    if refused:
        say(f"{refused} lines refused, {len(jobs)} jobs enqueued")
    code: int = Exit.REFUSED if refused else Exit.DONE
    if not waits.wait:
        _show(jobs, waits.output)
        return code
    return code or wait_all(client, [job.id for job in jobs], waits.timeout, waits.output)


def _batch(client: Client, batch: Sequence[Line | HeavyliftError]) -> tuple[list[Job[Any]], int]:
    made: list[Job[Any]] = []
    bad = 0
    by_queue: dict[str, list[Line]] = {}
    for entry in batch:
        if isinstance(entry, Line):
            by_queue.setdefault(entry.queue, []).append(entry)
        else:
            report(entry)
            bad += 1
    for queue, lines in by_queue.items():
        requests = [JobRequest(line.task, line.data, **line.options) for line in lines]
        try:
            made += client.queue(queue).enqueue_many(requests)
        except BatchError as error:
            made += error.jobs
            bad += len(error.exceptions)
            for inner in error.exceptions:
                say(_numbered(str(inner), lines))
    return made, bad


def _numbered(message: str, lines: list[Line]) -> str:
    """Return the message with the line of the file instead of the index in the batch."""
    head, colon, rest = message.partition(": ")
    index = head.removeprefix("entry ")
    if colon and index.isdigit() and int(index) < len(lines):
        return f"line {lines[int(index)].number}: {rest}"
    return message
