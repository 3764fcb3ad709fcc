"""The Lua scripts, one file each: the header documents arguments and returns.

``_lib.lua`` and ``_moves.lua`` go in front of all; other helpers in front of the scripts (and helpers) whose header
names them in a line ``-- With: _accept.lua, _other.lua``. Redis runs the whole text at each call, so that each function
in it is made anew each time, the slower the more names are in scope: of the helpers only what a script reaches is sent,
each file a block with local names of its own (but those of ``_lib.lua``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_WITH = re.compile(r"^-- With: (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^(?=[A-Za-z](?!nd\b|lse|ntil\b))", re.MULTILINE)
"""Where a statement of the file begins: at the margin, and not with the end, else or until of one before."""
_COMMENT = re.compile(r"^\s*--.*\n|\s+-- .*$", re.MULTILINE)
_DEFINED = re.compile(
    r"(?:local )?function ([\w.]+)|(?!(?:for|if|while|do|return)\b)(?:local )?([\w., ]+?)(?: =|$)", re.MULTILINE
)
_NAMES = re.compile(r"(?:\b[LK]\.)?\w+")
_ROOTS = ("NOW",)
"""Every script asks for the time, whether it uses it or not: tests put another clock in its place."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script as sent to Redis."""

    name: str
    text: str
    sha: str


@cache
def load(name: str) -> Script:
    """Return the script of that name with what it needs of the helpers in front."""
    parts: dict[str, str] = {}
    for part in ("_lib.lua", "_moves.lua", f"{name}.lua"):
        _collect(part, parts)
    own = parts.pop(f"{name}.lua")
    text = _reached(_COMMENT.sub("", own), parts) + own
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


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement at the margin of a helper: what it defines (nothing = it is always needed), and names in it."""

    part: str
    text: str
    defines: frozenset[str]
    names: frozenset[str]


def _names(text: str) -> frozenset[str]:
    found = set(_NAMES.findall(text))
    return frozenset(found | {name[0] for name in found if "." in name})


def _statements(part: str, helper: str) -> Iterator[_Statement]:
    for text in filter(str.strip, _BLOCK.split(_COMMENT.sub("", helper))):
        found = _DEFINED.match(text)
        defines = (found and (found[1] or found[2])) or ""
        yield _Statement(part, text, frozenset(name.strip() for name in defines.split(",") if name), _names(text))


def _reached(own: str, helpers: dict[str, str]) -> str:
    """Return what a text reaches of the helpers, by name and over others, in their order."""
    statements = [one for part, text in helpers.items() for one in _statements(part, text)]
    wanted, needed = _names(own).union(_ROOTS), set[int]()
    while True:
        new = [i for i, one in enumerate(statements) if i not in needed and (one.defines & wanted or not one.defines)]
        if not new:
            break
        needed.update(new)
        wanted = wanted.union(*(statements[i].names for i in new))
    kept = [one for i, one in enumerate(statements) if i in needed]
    texts = {part: "".join(one.text for one in kept if one.part == part) for part in helpers}
    return "".join(text if part == "_lib.lua" else f"do\n{text}end\n" for part, text in texts.items() if text)


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(
        entry.name.removesuffix(".lua")
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".lua") and not entry.name.startswith("_")
    )
