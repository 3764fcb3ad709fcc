"""The Lua scripts, one file each: the header documents arguments and returns.

``_lib.lua`` and ``_moves.lua`` go in front of all; other helpers in front of the scripts (and helpers) whose header
names them in a line ``-- With: _accept.lua, _other.lua``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_WITH = re.compile(r"^-- With: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script as sent to Redis."""

    name: str
    text: str
    sha: str


@cache
def load(name: str) -> Script:
    """Return the script of that name with the helpers in front."""
    parts: dict[str, str] = {}
    for part in ("_lib.lua", "_moves.lua", f"{name}.lua"):
        _collect(part, parts)
    text = "\n".join(parts.values())
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _collect(part: str, parts: dict[str, str]) -> None:
    """Add a file, after the helpers its header names."""
    if part in parts:
        return
    text = (files(__package__) / part).read_text("utf-8")
    found = _WITH.search(text)
    for needed in found.group(1).split(",") if found else ():
        _collect(needed.strip(), parts)
    parts[part] = text


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(
        entry.name.removesuffix(".lua")
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".lua") and not entry.name.startswith("_")
    )
