"""The Lua scripts, one file each: the header documents arguments and returns.

``_lib.lua`` and ``_moves.lua`` go in front of all; other helpers in front of the scripts (and helpers) whose header
names them in a line ``-- With: _accept.lua, _other.lua``. Redis runs the whole text at each call, so that each function
in it is made anew each time, the slower the more names are in scope: of the helpers only what a script reaches is sent,
each file a block with local names of its own (but those of ``_lib.lua``), and all from the first function on inside one
function. What stands below a line ``-- Opened when first used.`` is one function, which runs when one of the names of
``L`` in it is first asked for; ``-- Always there.`` ends it.
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
_MARK = re.compile(r"^-- (Opened when first used|Always there)\.", re.MULTILINE)
_KEY = re.compile(r"function K\.(\w+)\((.*?)\) (.+) end")
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
    text = _nested(_reached(_COMMENT.sub("", own), parts) + own)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _nested(text: str) -> str:
    """Return a script with all from its first function on inside one function.

    Local names in front of it are then taken over from that function by each function in it; where they are of the same
    function, Lua searches through all that were taken so far, each time.
    """
    at = text.find("\nfunction L.") + 1
    return f"{text[:at]}local function main()\n{text[at:]}\nend\nreturn main()\n" if at else text


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

    text: str
    defines: frozenset[str]
    names: frozenset[str]


def _names(text: str) -> frozenset[str]:
    found = set(_NAMES.findall(text))
    return frozenset(found | {name[0] for name in found if "." in name})


def _statements(helper: str) -> Iterator[_Statement]:
    for text in filter(str.strip, _BLOCK.split(_COMMENT.sub("", helper))):
        found = _DEFINED.match(text)
        defines = (found and (found[1] or found[2])) or ""
        yield _Statement(text, frozenset(name.strip() for name in defines.split(",") if name), _names(text))


@dataclass(slots=True)
class _Section:
    """A part of a helper's file with local names of its own."""

    statements: list[_Statement]
    whole: bool = False
    """Its local names are everybody's."""
    opened: bool = False
    """Only when first used."""

    def reached(self, names: frozenset[str]) -> list[_Statement]:
        """Return those of its statements that are reached."""
        return [one for one in self.statements if not one.defines or one.defines & names]


def _sections(part: str, text: str) -> Iterator[_Section]:
    first, *marked = _MARK.split(text)
    yield _Section(list(_statements(first)), whole=part == "_lib.lua")
    for mark, more in zip(marked[::2], marked[1::2], strict=True):
        yield _Section(list(_statements(more)), opened=mark.startswith("Opened"))


def _reached(own: str, helpers: dict[str, str]) -> str:
    """Return what a text reaches of the helpers, by name and over others, in their order."""
    sections = [section for part, text in helpers.items() for section in _sections(part, text)]
    statements = [one for section in sections for one in section.statements]
    wanted, before = _names(own).union(_ROOTS), frozenset[str]()
    while wanted != before:
        before = wanted
        wanted = wanted.union(*(one.names for one in statements if not one.defines or one.defines & wanted))
    parts, rooms = [], []
    for number, section in enumerate(sections):
        kept = section.reached(wanted)
        text = _keys_at_once(kept) if section.whole else "".join(one.text for one in kept)
        if not section.opened:
            parts.append(text if section.whole or not kept else f"do\n{text}end\n")
        elif names := sorted(name[2:] for one in kept for name in one.defines if name.startswith("L.")):
            parts.append(f"local function open{number}()\n{text}end\n")
            rooms += [f"{name} = open{number}" for name in names]
    return "".join(parts) + (f"ROOMS = {{ {', '.join(rooms)} }}\n" if rooms else "")


def _keys_at_once(statements: list[_Statement]) -> str:
    """Return the text of statements, with the functions of one line that make keys as entries of one table.

    A table that is written down has its size from the start; one that grows is moved at each power of two.
    """
    made = [(one, _KEY.fullmatch(one.text.strip())) for one in statements]
    entries = [f"{found[1]} = function({found[2]}) {found[3]} end" for _, found in made if found]
    table = f"K = {{ {', '.join(entries)} }}\n"
    return "".join("" if found else one.text + (table if "K" in one.defines else "") for one, found in made)


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(
        entry.name.removesuffix(".lua")
        for entry in files(__package__).iterdir()
        if entry.name.endswith(".lua") and not entry.name.startswith("_")
    )
