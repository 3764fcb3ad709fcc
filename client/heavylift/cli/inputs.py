"""What people type: JSON from an argument, a file or standard input; name=value pairs; lines of jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from heavylift.contract import limits
from heavylift.dedupe import Dedupe, DedupeMode
from heavylift.errors import HeavyliftError, InvalidInputError
from heavylift.options import Backoff, EnqueueOptions, Timeouts

READ_MAX = limits.PAYLOAD_MAX * 2
"""Bytes read of one job's data; more is refused before it is parsed."""
_LINE_FIELDS = {
    "queue",
    "task",
    "data",
    "id",
    "if_exists",
    "delay",
    "expires",
    "max_attempts",
    "backoff",
    "timeouts",
    "resources",
    "env",
    "labels",
    "depends_on",
    "priority",
    "lifo",
    "key",
    "dedupe",
}


def read_data(argument: str | None) -> Any:
    """Return the JSON of ``--data``: text, ``@file``, or ``-`` for standard input.

    Raises:
        InvalidInputError: not readable, or not JSON; the message says where.
    """
    if argument is None:
        return {}
    if argument == "-":
        return parse_json(_bounded(sys.stdin.buffer.read(READ_MAX + 1), "standard input"), "standard input")
    if argument.startswith("@"):
        return parse_json(_bounded(read_file(argument[1:], READ_MAX + 1), argument[1:]), argument[1:])
    return parse_json(argument, "--data")


def read_file(name: str, most: int = -1) -> bytes:
    """Return a file's bytes.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        with Path(name).open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise InvalidInputError(f"cannot read {name}: {error.strerror or error}") from None


def _bounded(raw: bytes, where: str) -> str:
    if len(raw) > READ_MAX:
        raise InvalidInputError(f"{where} is larger than {READ_MAX:,} bytes: pass a reference to the data instead")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{where} is not UTF-8 text") from None


def parse_json(source: str, where: str) -> Any:
    """Return the value of JSON text.

    Raises:
        InvalidInputError: it is not JSON; the message shows the place.
    """
    try:
        return json.loads(source, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        raise InvalidInputError(f"{where} is nested too deep") from None
    except json.JSONDecodeError as error:
        near = source[max(0, error.pos - 20) : error.pos + 20]
        raise InvalidInputError(f"{where} is not JSON: {error.msg} near {near!r} (character {error.pos + 1})") from None


def _no_constant(name: str) -> NoReturn:
    raise InvalidInputError(f"{name} is not JSON: pass null or text")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidInputError("a JSON object has the same key twice")
    return made


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """Return ``NAME=VALUE`` arguments as a mapping.

    Raises:
        InvalidInputError: one is not of that form, or a name comes twice.
    """
    made: dict[str, str] = {}
    for entry in given or ():
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise InvalidInputError(f"{option} {entry!r} is not NAME=VALUE")
        if name in made:
            raise InvalidInputError(f"{option} names {name} twice")
        made[name] = value
    return made


def read_dedupe(key: str | None, mode: str | None, ttl: str | None) -> Dedupe | None:
    """Return what ``--dedupe``, ``--dedupe-mode`` and ``--dedupe-ttl`` say.

    Raises:
        InvalidInputError: a mode or a time without a key, or one of them is not usable.
    """
    if key is not None:
        return Dedupe(key, mode=cast("DedupeMode", mode or "first"), ttl=ttl)
    if mode is not None or ttl is not None:
        raise InvalidInputError("--dedupe-mode and --dedupe-ttl go with --dedupe KEY")
    return None


def read_timeouts(run: str | None, total: str | None) -> Timeouts | None:
    """Return what ``--timeout`` and ``--total-timeout`` say; None when neither was given.

    Raises:
        InvalidInputError: one is no positive duration.
    """
    return None if run is None and total is None else Timeouts(run=run, total=total)


def read_backoff(argument: str | None) -> Backoff | None:
    """Return the backoff of ``--backoff``: ``2s``, ``2s..10m`` or ``fixed:2s``.

    Raises:
        InvalidInputError: it is not of that form.
    """
    if argument is None:
        return None
    kind, colon, rest = argument.partition(":")
    if colon and kind == "fixed":
        return Backoff.fixed(rest)
    if colon:
        raise InvalidInputError(f"--backoff {argument!r} is not 2s, 2s..10m or fixed:2s")
    delay, _, most = argument.partition("..")
    return Backoff.exponential(delay, max=most or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One job of a ``--from-file`` file."""

    number: int
    queue: str
    task: str
    data: Any
    options: EnqueueOptions


def read_lines(name: str, queue: str | None, task: str | None) -> list[Line | HeavyliftError]:
    """Return each line's job, or the error that says what is wrong with that line.

    Args:
        name: the file, ``-`` for standard input.
        queue: of lines that name none.
        task: of lines that name none.
    """
    raw = sys.stdin.buffer.read() if name == "-" else read_file(name)
    found: list[Line | HeavyliftError] = []
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_line(number, _bounded(line, "the line"), queue, task))
        except HeavyliftError as error:
            found.append(InvalidInputError(f"line {number}: {error}"))
    return found


def _line(number: int, source: str, queue: str | None, task: str | None) -> Line:
    entry = parse_json(source, "the line")
    if not isinstance(entry, dict):
        raise InvalidInputError('not a JSON object: write {"queue": ..., "task": ..., "data": {...}}')
    unknown = sorted(entry.keys() - _LINE_FIELDS)
    if unknown:
        raise InvalidInputError(f"unknown field {unknown[0]!r}; fields are {', '.join(sorted(_LINE_FIELDS))}")
    queue, task = entry.pop("queue", queue), entry.pop("task", task)
    for field, value in (("queue", queue), ("task", task)):
        if not isinstance(value, str):
            raise InvalidInputError(f"no {field}: give it in the line, or as argument for all lines")
    data = entry.pop("data", {})
    return Line(number=number, queue=str(queue), task=str(task), data=data, options=_options(entry))


def _options(entry: dict[str, Any]) -> EnqueueOptions:
    if isinstance(timeouts := entry.get("timeouts"), dict):
        if not timeouts.keys() <= {"pending", "run", "total"}:
            raise InvalidInputError("timeouts has pending, run and total only")
        entry["timeouts"] = Timeouts(**timeouts)
    if isinstance(backoff := entry.get("backoff"), dict):
        entry["backoff"] = _backoff(dict(backoff))
    if isinstance(dedupe := entry.get("dedupe"), dict):
        if "key" not in dedupe or not dedupe.keys() <= {"key", "mode", "ttl"}:
            raise InvalidInputError('dedupe: write a text, or {"key": "annual", "mode": "first", "ttl": "1h"}')
        entry["dedupe"] = Dedupe(**dedupe)
    options: EnqueueOptions = entry  # type: ignore[assignment]  # each value is checked by the client
    return options


def _backoff(entry: dict[str, Any]) -> Backoff:
    kind, delay = entry.pop("type", "Exponential"), entry.pop("delay", None)
    if delay is None or kind not in {"Exponential", "Fixed"} or not entry.keys() <= {"max", "jitter"}:
        raise InvalidInputError('backoff: write {"type": "Exponential" or "Fixed", "delay": "2s", "max", "jitter"}')
    if kind == "Fixed":
        return Backoff.fixed(delay, jitter=entry.get("jitter", 0.0))
    return Backoff.exponential(delay, max=entry.get("max"), jitter=entry.get("jitter", 0.5))
