"""The Lua scripts, one file each: the header documents arguments and returns; the ``_*.lua`` go in front of all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One script as sent to Redis."""

    name: str
    text: str
    sha: str


@cache
def load(name: str) -> Script:
    """Return the script of that name with the helpers in front."""
    folder = files(__package__)
    text = "\n".join((folder / part).read_text("utf-8") for part in ("_lib.lua", "_moves.lua", f"{name}.lua"))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(
        entry.name.removesuffix(".lua")
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".lua") and not entry.name.startswith("_")
    )
