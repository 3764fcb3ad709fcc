"""What the end-to-end jobs run in their pods; mounted as a ConfigMap, started by ``heavylift run proof_tasks``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import heavylift

GO = Path("/tmp/go")  # noqa: S108 - the pod's own scratch volume


@heavylift.task
def add(numbers: list[int]) -> dict[str, int]:
    """Return a sum."""
    return {"sum": sum(numbers)}


@heavylift.task
def leave(code: int) -> None:
    """End the program with an exit code."""
    sys.stdout.write(f"leaving with {code}\n")
    sys.stdout.flush()
    os._exit(code)


@heavylift.task
def hungry() -> None:
    """Take memory until the limit."""
    sys.stdout.write("reading the third of 3 files\n")
    sys.stdout.flush()
    hoard = []
    while True:
        hoard.append(b"x" * 1_000_000)


@heavylift.task
def hold(ctx: heavylift.Context) -> dict[str, Any]:
    """Work until a file appears."""
    while not GO.exists():
        time.sleep(0.1)  # what it works on; the test makes the file
    return {"execution": ctx.execution, "attempt": ctx.attempt}


@heavylift.task
def second_time(ctx: heavylift.Context) -> dict[str, Any]:
    """Work on the second of three pages until SIGTERM; the next execution goes on with the third."""
    pages = []
    for page in ctx.resume(range(3)):
        ctx.checkpoint({"last": page})
        while page == 1 and not ctx.stopping:
            time.sleep(0.1)  # its page's work
        pages.append(page)
    return {"execution": ctx.execution, "attempt": ctx.attempt, "restored": ctx.restored, "pages": pages}


@heavylift.task
def grow(ctx: heavylift.Context) -> dict[str, Any]:
    """Take more memory than the first attempt has, and less than the second."""
    ctx.checkpoint({"tried": (ctx.restored or {}).get("tried", 0) + 1})
    return {"hoard": len(b"x" * 90_000_000), "restored": ctx.restored}


@heavylift.task
def echo(text: str) -> dict[str, str]:
    """Return what arrived, and whether the template's secret is where it belongs."""
    return {"text": text, "payload": os.environ["HEAVYLIFT_JOB_PAYLOAD"], "secret": os.environ["DB_PASSWORD"][:2]}
