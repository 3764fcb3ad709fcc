"""Steps as a person sees them: what is being done, how long it took, what to do when it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

BOLD, DIM, RED, PLAIN = ("\033[1m", "\033[2m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line where errors go."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, and say how long it took."""
    say(f"{BOLD}==> {title}{PLAIN}")
    started = time.monotonic()
    yield
    say(f"{DIM}    {time.monotonic() - started:.0f} s{PLAIN}")


def run(argv: Sequence[object], *, remedy: str, env: Mapping[str, str] | None = None, stdin: str | None = None) -> str:
    """Run a program and return what it prints.

    Args:
        argv: the program and its arguments.
        remedy: what a person can do when it fails; part of the error.
        env: added to this process's environment.
        stdin: what the program reads.

    Raises:
        DemoError: it failed; the message has its last words.
    """
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, env={**os.environ, **(env or {})}, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise DemoError(f"{' '.join(words)} failed:\n{last}\n{remedy}")
    return done.stdout
