"""What the shell offers while a command is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heavylift.cli.app import main
from heavylift.cli.completing import CLASSES, ENDED, PURGED, STATES, VARIABLE, Offer, queue_names


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what ``heavylift completion`` prints."""
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_part(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The part asks the command itself, by the variable the command listens to."""
    said = script(shell, capsys)

    assert f"{VARIABLE}=complete_{shell}" in said
    assert "heavylift" in said


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        ("heavylift jo", {"jobs"}),
        ("heavylift jobs list --state wai", {"waiting", "waiting-children"}),
        ("heavylift jobs retry --state ", {"failed", "cancelled"}),
        ("heavylift queues purge q --state a", set()),
    ],
)
def test_bash_completes(typed: str, want: set[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A real bash that read the part offers the words there are."""
    (tmp_path / "heavylift").write_text(f'#!/bin/sh\nexec {sys.executable} -m heavylift "$@"\n')
    (tmp_path / "heavylift").chmod(0o755)
    (tmp_path / "part").write_text(script("bash", capsys))
    words = typed.split(" ")
    program = (
        f". {tmp_path}/part; COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}; "
        '_heavylift_completion heavylift; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    said = subprocess.run(["bash", "-c", program], env=env, capture_output=True, text=True, check=True)

    assert set(said.stdout.split()) == want, said.stderr


@pytest.mark.parametrize(
    ("offered", "typed", "want"),
    [
        (CLASSES, "node", ["node-lost"]),
        (ENDED, "", ["failed", "cancelled"]),
        (PURGED, "act", []),
        (STATES, "act", ["active"]),
    ],
)
def test_words_that_begin_so_are_offered(offered: Offer, typed: str, want: list[str]) -> None:
    """Only what the option takes."""
    assert offered(typed) == want


def test_queues_are_not_offered_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is offered, and nothing is printed, when Redis is not named or does not answer."""
    monkeypatch.delenv("HEAVYLIFT_REDIS_URL", raising=False)
    assert queue_names("") == []
    monkeypatch.setenv("HEAVYLIFT_REDIS_URL", "redis://127.0.0.1:1/0")
    assert queue_names("") == []
