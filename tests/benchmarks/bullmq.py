"""BullMQ as a peer: a Node process beside us on a Redis of its own; installed by npm into the user's cache folder."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.backing import Backing
from tests.servers import StoreServer

VERSION: Final = "6.7.0"
REDIS_CLIENT: Final = "ioredis@5"
SCRIPT: Final = Path(__file__).with_name("bullmq.mjs")
INSTALL_LIMIT_S: Final = 60


class AbsentError(Exception):
    """BullMQ cannot be had here; the message says why."""


def folder() -> Path:
    """Return where BullMQ is installed, by npm if it was not yet; what failed once is not tried again in this process.

    Raises:
        AbsentError: no Node, no npm, or npm could not install it.
    """
    found = _installed()
    if isinstance(found, str):
        raise AbsentError(found)
    return found


@functools.cache
def _installed() -> Path | str:
    """Return the folder, or why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "heavylift" / f"bullmq-{VERSION}"
    if not all((place / "node_modules" / name).is_dir() for name in ("bullmq", "ioredis")):
        place.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=0",
            "--fetch-timeout=20000",
            "--prefix",
            str(place),
            f"bullmq@{VERSION}",
            REDIS_CLIENT,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"npm did not install bullmq@{VERSION} within {INSTALL_LIMIT_S} s"
        if done.returncode:
            return f"npm cannot install bullmq@{VERSION}: {' '.join(done.stderr.split())[-200:]}"
    return place


@dataclass
class BullMq:
    """The process, and what it can be told."""

    server: StoreServer
    process: subprocess.Popen[str]

    def do(self, deed: str, count: int = 0) -> float:
        """Have something done; returns the seconds it took there.

        Raises:
            RuntimeError: it failed; with BullMQ's words.
        """
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the Node process has no pipes")
        self.process.stdin.write(json.dumps({"deed": deed, "count": count}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline() or '{"error": "the Node process ended"}')
        if "error" in reply:
            raise RuntimeError(f"BullMQ {deed}: {reply['error']}")
        return float(reply["seconds"])


@contextlib.contextmanager
def bullmq(backing: Backing) -> Iterator[BullMq]:
    """Give BullMQ on a fresh server.

    Raises:
        AbsentError: it cannot be had here.
    """
    place = folder()
    with backing.server() as server:
        process = subprocess.Popen(
            ["node", str(SCRIPT), str(place), str(server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                made = BullMq(server, process)
                made.do("ready")
                yield made
            finally:
                if process.stdin is not None:
                    process.stdin.close()
