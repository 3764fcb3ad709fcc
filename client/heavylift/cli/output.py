"""How answers are printed: tables for people, JSON, YAML and names for programs; plain when piped."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from heavylift.cli.exits import safe, safe_json
from heavylift.cli.table import layout
from heavylift.contract.durations import format_ms
from heavylift.jobs import Attempt, JobInfo, Outcome
from heavylift.spec import quantities


class Format(StrEnum):
    """The ways to print an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Output = Annotated[
    Format, typer.Option("--output", "-o", help="table for people, json or yaml for programs, name for ids alone.")
]

Row = Mapping[str, Any]


def console() -> Console:
    """Return a console on standard output: colours on a terminal, unbounded plain lines elsewhere."""
    tty = sys.stdout.isatty()
    return Console(file=sys.stdout, soft_wrap=not tty, highlight=False, no_color=not tty, markup=False, emoji=False)


def emit(rows: Sequence[Row], form: Format, columns: Sequence[str], key: str = "id") -> None:
    """Print rows.

    Args:
        rows: one mapping per line; JSON and YAML print all of it.
        form: how.
        columns: keys shown in a table, in this order.
        key: the key that ``name`` prints.
    """
    if form is Format.JSON:
        print_json(list(rows))
    elif form is Format.YAML:
        print(yaml.safe_dump(list(rows), allow_unicode=True, sort_keys=False), end="")
    elif form is Format.NAME:
        for row in rows:
            print(safe(str(row[key])))
    else:
        _table(rows, columns)


def emit_one(row: Row, form: Format, key: str = "id") -> None:
    """Print one thing: in a table each key has a line, what is empty is left out."""
    if form is Format.JSON:
        print_json(row)
    elif form is Format.YAML:
        print(yaml.safe_dump(dict(row), allow_unicode=True, sort_keys=False), end="")
    elif form is Format.NAME:
        print(safe(str(row[key])))
    else:
        width = max(len(name) for name in row)
        for name, value in row.items():
            if value not in (None, "", [], {}):
                print(_fact(f"{name:<{width}}  ", text(value)))


def _fact(name: str, said: str) -> str:
    """Return a line; on a terminal what it says is folded between words, beside its name."""
    if not sys.stdout.isatty():
        return name + said
    return textwrap.fill(
        said,
        max(console().width, 2 * len(name)),
        initial_indent=name,
        subsequent_indent=" " * len(name),
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON, without characters that could steer a terminal."""
    print(safe_json(json.dumps(value, ensure_ascii=False, indent=indent)))


def text(value: object, limit: int = 2000) -> str:
    """Return a value as one safe line: control characters from Redis or pods never reach the terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return safe(value)[:limit]
    if isinstance(value, int | float):
        return str(value)
    return safe(json.dumps(value, ensure_ascii=False))[:limit]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    header, cells = [column.upper() for column in columns], [_cells(row, columns) for row in rows]
    if not sys.stdout.isatty():
        print("\n".join(layout(header, cells)))
        return
    lines = layout(header, cells, console().width)
    print(f"\x1b[1m{lines[0]}\x1b[0m" if "NO_COLOR" not in os.environ else lines[0])
    print("\n".join(lines[1:]), end="\n" if rows else "")


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    """Return the texts of one line; only the last may be long."""
    return [*(text(row.get(column), 80) for column in columns[:-1]), text(row.get(columns[-1]))]


# -- jobs as rows -----------------------------------------------------------------------------------------------------
def job_row(info: JobInfo, now: datetime) -> dict[str, Any]:
    """Return one line of ``jobs list``."""
    since = info.ended_at or info.started_at or info.enqueued_at
    return {
        "id": info.id,
        "queue": info.queue,
        "task": info.task,
        "state": info.state.value if info.phase is None else f"{info.state.value}/{info.phase.value}",
        "attempt": f"{info.attempt}/{info.max_attempts}" if info.max_attempts else str(info.attempt),
        "outcome": info.outcome.cls if info.outcome else "",
        "age": age(since, now),
        "reason": _reason(info),
    }


def _reason(info: JobInfo) -> str:
    if info.outcome is not None and info.state.value == "failed":
        return info.outcome.message
    return info.reason


def job_detail(info: JobInfo) -> dict[str, Any]:
    """Return all of a job as plain values; times in ISO 8601, UTC."""
    return {
        "id": info.id,
        "queue": info.queue,
        "task": info.task,
        "state": info.state.value,
        "phase": info.phase.value if info.phase else None,
        "reason": info.reason,
        "attempt": info.attempt,
        "maxAttempts": info.max_attempts,
        "attemptsMade": info.attempts_made,
        "starts": info.starts,
        "priority": info.priority,
        "lifo": info.lifo or None,
        "key": info.key,
        "dedupe": info.dedupe,
        "position": info.position,
        "outcome": _outcome(info.outcome),
        "result": info.result,
        "labels": dict(info.labels),
        "dependsOn": list(info.depends_on),
        "job": f"{info.namespace}/{info.job_name}" if info.job_name else "",
        "execution": info.execution,
        "enqueuedAt": iso(info.enqueued_at),
        "notBefore": iso(info.not_before),
        "expiresAt": iso(info.expires_at),
        "totalDue": iso(info.total_due),
        "memory": quantities.memory(info.memory) if info.memory is not None else None,
        "checkpoint": info.checkpoint,
        "startedAt": iso(info.started_at),
        "endedAt": iso(info.ended_at),
        "cancel": dict(info.cancel),
        "history": [_attempt(attempt) for attempt in info.history],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    memory = attempt.next_memory
    return {
        "seq": attempt.seq,
        "attempt": attempt.attempt,
        "outcome": _outcome(attempt.outcome),
        "startedAt": iso(attempt.started_at),
        "endedAt": iso(attempt.ended_at),
        "next": attempt.next,
        "delay": format_ms(attempt.delay_ms) if attempt.delay_ms else "",
        "spent": attempt.spent,
        "nextMemory": None if memory is None else quantities.memory(memory),
    }


def print_job(info: JobInfo) -> None:
    """Print all of a job for people: a line per fact, then its evidence, log tail and ended attempts."""
    detail = job_detail(info)
    evidence = dict(info.outcome.evidence) if info.outcome else dict(info.evidence)
    log = evidence.pop("log", "")
    ended = detail.pop("history")
    detail["outcome"] = f"{info.outcome.cls}: {info.outcome.message}" if info.outcome else ""
    emit_one(detail, Format.TABLE)
    for title, body in (
        ("evidence", [f"{key}: {text(value)}" for key, value in evidence.items()]),
        ("log", _lines(log)),
    ):
        if body:
            print(f"\n{title}:")
            for line in body:
                print(f"  {line}")
    if ended:
        print("\nended attempts:")
        emit(
            [_ended(entry) for entry in ended], Format.TABLE, ("start", "attempt", "class", "ended", "next", "message")
        )


def _lines(log: object) -> list[str]:
    return [text(line) for line in log.splitlines()] if isinstance(log, str) else []


def _ended(entry: Row) -> dict[str, Any]:
    outcome = entry["outcome"] or {}
    following = f"{entry['next']} after {entry['delay']}" if entry["delay"] else entry["next"]
    return {
        "start": entry["seq"] or None,  # the job ended while no attempt was under way
        "attempt": entry["attempt"] or None,
        "class": outcome.get("class"),
        "ended": entry["endedAt"],
        "next": following,
        "message": outcome.get("message"),
    }


def _outcome(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    shown: dict[str, Any] = {"class": outcome.cls, "message": outcome.message}
    if outcome.exit_code is not None:
        shown["exitCode"] = outcome.exit_code
    if outcome.evidence:
        shown["evidence"] = dict(outcome.evidence)
    return shown


def iso(moment: datetime | None) -> str | None:
    """Return ISO 8601 in UTC with seconds, or None."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(moment: datetime | None, now: datetime) -> str:
    """Return how long ago as Kubernetes prints ages: 45s, 12m, 5h, 3d."""
    if moment is None:
        return ""
    seconds = max(0, round((now - moment).total_seconds()))
    for unit, size, until in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def until(moment: datetime, now: datetime) -> str:
    """Return how far away a moment is, in words: ``in 5m`` or ``now``."""
    ms = round((moment - now).total_seconds()) * 1000
    return "now" if ms <= 0 else f"in {format_ms(ms)}"
