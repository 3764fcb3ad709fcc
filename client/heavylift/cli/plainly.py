"""What a queue's settings say, as short lines for people; pure. Settings come from Redis: anything may be in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heavylift.cli.output import iso, text
from heavylift.contract.durations import format_ms
from heavylift.jobs import moment

_IN_MS = frozenset({"pending", "run", "heartbeat", "total", "delay", "max", "runTimeout"})
"""Settings that are durations: stored in milliseconds, written with their units."""


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a queue's row with words in place of what programs get as nested values and milliseconds."""
    words: dict[str, Any] = {}
    for name, value in row.items():
        if name == "pause":
            if value:
                words["paused"] = _pause(row)
        elif name == "rateLimit":
            words[name] = _rate(value)
        elif name == "timeoutsMs":
            words["timeouts"] = _settings(value)
        elif name in {"defaults", "allow"}:
            words[name] = _settings(value)
        elif name == "troubles":
            words |= {f"trouble {kind}": _message(note) for kind, note in value.items()}
        elif name == "lastQuarantined":
            words |= {f"bad entry {number}": _message(note) for number, note in enumerate(value, start=1)}
        else:
            words[name] = value
    return words


def _pause(row: Mapping[str, Any]) -> str:
    note = row["pause"]
    since = moment(note.get("at")) if isinstance(note.get("at"), int) else None
    reason = f": {note['reason']}" if note.get("reason") else ""
    return f"by {row.get('paused')}" + (f" since {iso(since)}" if since else "") + reason


def _rate(rate: Mapping[str, Any]) -> str:
    if not rate:
        return ""
    limit, period = rate.get("limit"), rate.get("periodMs")
    following = f", the next in {_value('delay', rate['nextMs'])}" if rate.get("nextMs") else ""
    if limit is None:
        return f"held back by a job that raised RateLimited{following}"
    return f"{limit} in {_value('delay', period)}; {rate.get('left')} left now{following}"


def _settings(value: Any, depth: int = 0) -> str:
    if not isinstance(value, Mapping) or depth > _DEPTH:
        return "" if value is None else text(value)
    return ", ".join(_entries(value, depth))


_DEPTH = 2
"""Settings are nested no deeper."""


def _entries(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, own in value.items():
        if own in (None, [], {}):
            continue
        if isinstance(own, Mapping):
            yield f"{name} ({_settings(own, depth + 1)})"
        else:
            yield f"{name} {_value(name, own)}"


def _value(name: str, value: Any) -> str:
    if name in _IN_MS and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return format_ms(value)
    return " ".join(map(text, value)) if isinstance(value, list) else text(value)


def _message(note: Any) -> str:
    if not isinstance(note, Mapping):
        return str(note)
    at = moment(note.get("at")) if isinstance(note.get("at"), int) else None
    about = f"{str(note['id'])[:60]!r}: " if note.get("id") else ""
    return f"{about}{note.get('message') or 'no details'}" + (f" ({iso(at)})" if at else "")
