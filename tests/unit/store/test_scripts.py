"""What is sent to Redis of the scripts' files."""

from __future__ import annotations

import re

import pytest

from heavylift.store import scripts

_DEFINED = re.compile(r"^(?:function )([LK]\.\w+)|^((?:[LK]\.\w+, )*[LK]\.\w+) =", re.MULTILINE)
_LOCAL = re.compile(r"^local function (\w+)", re.MULTILINE)


def _defined(text: str) -> set[str]:
    table = re.search(r"^K = \{.*\}$", text, re.MULTILINE)
    keys = {f"K.{name}" for name in re.findall(r"(\w+) = function\(", table[0] if table else "")}
    return keys | {name for pair in _DEFINED.findall(text) for part in pair for name in part.split(", ") if name}


@pytest.mark.parametrize("name", scripts.names())
def test_a_script_is_sent_with_all_it_reaches(name: str) -> None:
    """Whatever a script calls of the helpers, at once or through others, stands in its text."""
    text = scripts.load(name).text
    assert set(re.findall(r"\b[LK]\.\w+", text)) <= _defined(text)


@pytest.mark.parametrize("name", scripts.names())
def test_a_script_is_sent_without_what_it_does_not_reach(name: str) -> None:
    """Each function of the helpers that stands in a script's text is named once more in it."""
    text = scripts.load(name).text
    for function in [*_LOCAL.findall(text), *(one for one in _defined(text) if f"function {one}(" in text)]:
        assert len(re.findall(rf"(?<![\w.]){re.escape(function)}\b", text)) > 1, function


@pytest.mark.parametrize("name", scripts.names())
def test_a_scripts_functions_stand_in_one(name: str) -> None:
    """What is sent from the first function on is one function, which begins in no part that is opened later."""
    before, begins, inside = scripts.load(name).text.partition("\nlocal function main()\n")
    assert begins
    assert inside.endswith("\nend\nreturn main()\n")
    assert not re.search(r"^(?:do$|local function open\d+\(\)$)", before, re.MULTILINE)


def test_a_short_script_is_short() -> None:
    """A script that needs nothing but keys and the time is sent with little else."""
    assert "function L.over(" in scripts.load("finish").text
    assert len(scripts.load("lock").text) < len(scripts.load("finish").text) / 10
