"""``heavylift enqueue``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from heavylift.cli import joboptions as option
from heavylift.cli.exits import Exit, report, say
from heavylift.cli.inputs import Line, pairs, read_backoff, read_data, read_dedupe, read_lines, read_timeouts
from heavylift.cli.output import Format, Output, emit, print_json
from heavylift.cli.session import Session, session
from heavylift.cli.told import progress
from heavylift.cli.waiting import wait_all, waiting
from heavylift.client import Client
from heavylift.errors import BatchError, HeavyliftError, InvalidInputError
from heavylift.jobs import Job
from heavylift.options import JobRequest

_AT_ONCE = 500


def enqueue(  # noqa: PLR0913, PLR0917 - one parameter per option of the command
    context: typer.Context,
    queue: option.QueueName = None,
    task: option.Task = None,
    data: option.Data = None,
    id: option.Id = None,  # noqa: A002 - as in ``job.id``
    if_exists: option.IfExists = None,
    priority: option.Priority = None,
    lifo: option.Lifo = False,
    key: option.Key = None,
    dedupe: option.Dedupe = None,
    dedupe_mode: option.DedupeMode = None,
    dedupe_ttl: option.DedupeTtl = None,
    max_attempts: option.MaxAttempts = None,
    backoff: option.Backoff = None,
    delay: option.Delay = None,
    expires: option.Expires = None,
    timeout: option.Timeout = None,
    total_timeout: option.TotalTimeout = None,
    resources: option.Resources = None,
    env: option.Env = None,
    label: option.Label = None,
    depends_on: option.DependsOn = None,
    from_file: option.FromFile = None,
    wait: option.Wait = False,
    wait_timeout: option.WaitTimeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Enqueue a job, or each line of a file.

    Example: heavylift enqueue reports annual --data '{"year": 2026}' --wait

    Example: heavylift enqueue --from-file jobs.jsonl, lines like {"queue": "reports", "task": "annual", "data": {}}
    """
    plain: dict[str, Any] = {"id": id, "if_exists": if_exists, "priority": priority, "lifo": lifo or None, "key": key}
    plain |= {"max_attempts": max_attempts, "delay": delay, "expires": expires, "depends_on": depends_on or None}
    read: dict[str, Any] = {"dedupe": read_dedupe(dedupe, dedupe_mode, dedupe_ttl), "backoff": read_backoff(backoff)}
    read |= {"timeouts": read_timeouts(timeout, total_timeout), "resources": pairs("--set", resources) or None}
    read |= {"env": pairs("--env", env) or None, "labels": pairs("--label", label) or None}
    given = {name: value for name, value in (plain | read).items() if value is not None}
    waits = Waits(wait=wait or wait_timeout is not None, timeout=wait_timeout, output=output)
    if from_file is None:
        return _enqueue_one(session(context), (queue, task), read_data(data), given, waits)
    if data is not None or given:
        raise InvalidInputError("--from-file takes data and options from the lines: leave --data and options out")
    return _enqueue_file(session(context), read_lines(from_file, queue, task), waits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What follows an enqueue."""

    wait: bool
    timeout: str | None
    output: Format


def _enqueue_file(here: Session, lines: Sequence[Line | HeavyliftError], waits: Waits) -> None:
    with here.client() as client:
        raise typer.Exit(_file(client, lines, waits))


def _enqueue_one(
    here: Session, target: tuple[str | None, str | None], data: Any, given: dict[str, Any], waits: Waits
) -> None:
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
        say(f"{refused} {'line' if refused == 1 else 'lines'} refused, {len(jobs)} jobs enqueued")
    code: int = Exit.REFUSED if refused else Exit.DONE
    if not waits.wait:
        _show(jobs, waits.output)
        return code
    ended = wait_all(client, [job.id for job in jobs], waits.timeout, waits.output)
    return code or ended


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
