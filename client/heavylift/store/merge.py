"""How evidence grows: pure, so that observers in any order leave the end that was seen (architecture: "Operator")."""

from __future__ import annotations

from typing import Any

from heavylift.store.model import Json

_MARKER = "$terminal"


def merge(old: Json, new: Json, *, terminal: bool) -> Json:
    """Return what is kept of stored and newly seen evidence.

    By top-level key: what a terminal observation wrote is never overwritten by another kind, and only completed by a
    later terminal one; everything else is the newest. Keys that are not seen again stay.
    """
    ended = _ended(old)
    merged = {key: value for key, value in old.items() if key != _MARKER}
    for key, value in new.items():
        if key == _MARKER:
            continue
        if key not in ended:
            merged[key] = value
        elif terminal:
            merged[key] = _complete(merged.get(key), value)
    marked = ended | {key for key in new if key != _MARKER} if terminal else ended
    if marked:
        merged[_MARKER] = sorted(marked)
    return merged


def _ended(evidence: Json) -> set[str]:
    found = evidence.get(_MARKER)
    return {key for key in found if isinstance(key, str)} if isinstance(found, list) else set()


def _complete(old: Any, new: Any) -> Any:
    """Return the new value with what only the old one knows; empty values are poorer than any."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _complete(old.get(key), value) for key, value in new.items()}}
    return old if new in (None, "", [], {}) else new


def without_marker(evidence: Json) -> Json:
    """Return evidence as its readers know it."""
    return {key: value for key, value in evidence.items() if key != _MARKER}
