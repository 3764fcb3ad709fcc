"""pydantic's findings as one line a person can act on."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

_SHOWN_MAX = 5
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no field here: check its spelling and its place",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be a string",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
}
"""pydantic's error type -> our words; other types keep pydantic's message."""


def describe(error: ValidationError, root: str = "spec") -> str:
    """Return ``spec.path what is wrong`` for the first few findings, joined by ``; ``."""
    found = error.errors(include_url=False)
    lines = [_line(entry, root) for entry in found[:_SHOWN_MAX]]
    if len(found) > _SHOWN_MAX:
        lines.append(f"and {len(found) - _SHOWN_MAX} more")
    return "; ".join(lines)


def _line(entry: Any, root: str) -> str:
    path = root
    for part in entry["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    cause = entry.get("ctx", {}).get("error")
    if entry["type"] == "value_error" and cause is not None:
        return f"{path}: {cause}"
    words = _WORDS.get(entry["type"])
    if words is None:
        return f"{path}: {entry['msg'][:1].lower()}{entry['msg'][1:]} (found {str(entry['input'])[:40]!r})"
    return f"{path} {words}"
