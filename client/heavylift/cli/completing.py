"""What the shell offers while a command is typed, and ``heavylift completion``, which prints the shell's part."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState

VARIABLE = "_HEAVYLIFT_COMPLETE"
_PATIENCE_S = 0.5
"""A person waits for the key TAB: without an answer by then there is nothing to offer."""

Offer = Callable[[str], list[str]]


def offer(*words: str) -> Offer:
    """Return what completes to one of these words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


STATES = offer(*(state.value for state in JobState))
ENDED = offer(JobState.FAILED.value, JobState.CANCELLED.value)
PURGED = offer(*(state.value for state in JobState if state is not JobState.ACTIVE))
CLASSES = offer(*(each.value for each in OutcomeClass))


def queue_names(incomplete: str) -> list[str]:
    """Return queues of HEAVYLIFT_REDIS_URL; nothing when it cannot be asked at once."""
    if not os.environ.get("HEAVYLIFT_REDIS_URL"):
        return []
    from heavylift.client import Client  # noqa: PLC0415 - only where names are asked for

    try:
        with Client(patience=0.0, timeout=_PATIENCE_S) as client:
            return [name for name in client.queues() if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - whatever it is, a traceback must not land in somebody's prompt
        return []


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", metavar="SHELL")]) -> None:
    """Print what makes a shell complete commands, options, states, classes and queues.

    Example: heavylift completion bash > ~/.local/share/bash-completion/completions/heavylift

    Example: heavylift completion zsh > ~/.zfunc/_heavylift

    Example: heavylift completion fish > ~/.config/fish/completions/heavylift.fish
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415 - typer has no public way

    print(get_completion_script(prog_name="heavylift", complete_var=VARIABLE, shell=shell.value))
