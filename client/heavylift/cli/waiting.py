"""Waiting for jobs: a spinner for one, a bar for many, results as they come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console

from heavylift.cli.exits import Exit, exit_code, report, say
from heavylift.cli.output import Format, emit, print_json
from heavylift.cli.told import progress
from heavylift.client import Client
from heavylift.errors import HeavyliftError, JobCancelledError, JobFailedError, RedisUnavailableError
from heavylift.options import duration_ms


def waiting(message: str) -> AbstractContextManager[object]:
    """Return a spinner on a terminal, nothing elsewhere."""
    err = Console(stderr=True, markup=False)
    return err.status(message) if err.is_terminal else nullcontext()


def wait_all(client: Client, jobs: Sequence[str], timeout: str | None, output: Format) -> int:
    """Wait for jobs, print what became of them, and return the first error's exit code.

    Args:
        client: where they are.
        jobs: their ids.
        timeout: the longest wait for all of them together; None = no limit.
        output: for people each result as one JSON text per line, failures on standard error; else a row for each.
    """
    deadline = None if timeout is None else time.monotonic() + duration_ms("timeout", timeout) / 1000
    rows: list[dict[str, Any]] = []
    code: int = Exit.DONE
    with progress("ended") if len(jobs) > 1 else nullcontext(_no_bar) as step:
        for number, job in enumerate(jobs, start=1):
            said = _one(client, job, deadline, rows, output)
            code = code or said
            step(number, len(jobs))
    if output is not Format.TABLE:
        emit(rows, output, ())
    return code


def _no_bar(_done: int, _of: int) -> None:
    """Show nothing: one job has a spinner."""


def _one(client: Client, job: str, deadline: float | None, rows: list[dict[str, Any]], output: Format) -> int:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        with waiting(f"waiting for job {job}"):
            value = client.job(job).wait(timeout=left)
    except KeyboardInterrupt:
        say(f"job {job} goes on; wait again with: heavylift jobs wait {job}")
        raise
    except RedisUnavailableError:
        raise
    except HeavyliftError as error:
        rows.append({"id": job, "state": _state(error), "error": str(error)})
        return report(error)
    rows.append({"id": job, "state": "completed", "result": value})
    if output is Format.TABLE:
        print_json(value, indent=None)
    return Exit.DONE


def _state(error: HeavyliftError) -> str:
    if isinstance(error, JobFailedError):
        return "failed"
    if isinstance(error, JobCancelledError):
        return "cancelled"
    return "unknown" if exit_code(error) is Exit.WAIT_TIMED_OUT else "missing"
