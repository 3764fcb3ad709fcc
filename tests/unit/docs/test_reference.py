"""The reference pages are what the code says, and commands shown anywhere are commands there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from heavylift.cli.app import app
from scripts.demo import closing
from scripts.reference import reference_files

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
_COMMAND = re.compile(r"(?:^\$ |`|&& )(heavylift (?:[^`\n|;])+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "content"), list(reference_files()), ids=lambda value: value if len(value) < 60 else ""
)
def test_the_page_is_what_the_code_says(name: str, content: str) -> None:
    """`scripts/generate.py` writes these pages; this one has not drifted."""
    assert (ROOT / name).read_text() == content


def commands() -> list[tuple[str, str]]:
    """Return where a command stands, and the command."""
    shown = [(str(page.relative_to(ROOT)), text) for page in PAGES for text in _COMMAND.findall(page.read_text())]
    tried = closing.lines_to_try([], ROOT, "analytics", "heavylift")
    return shown + [("the demo", text) for text, _ in tried if text.startswith("heavylift ")]


@pytest.mark.parametrize(("place", "text"), commands())
def test_each_command_shown_exists_with_its_options(place: str, text: str) -> None:
    """Verbs and options are those of the command line."""
    words = [word for word in shlex.split(text.partition("  #")[0]) if word != "..."]
    command: Any = typer.main.get_command(app)
    options = set[str]()
    for word in words[1:]:
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        if word.startswith("--"):
            assert word.partition("=")[0] in known | options, f"{place}: {text}"
        elif hasattr(command, "commands") and word in command.commands:
            options, command = known, command.commands[word]

    assert not hasattr(command, "commands") or len(words) <= 2, f"{place}: no verb in {text}"
