"""Our processes as real processes: started with settings, waited for by /readyz, killed by pid, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.proofs.waiting import until
from tests.servers import free_port

MODULES = {"dispatcher": "heavylift_worker", "operator": "heavylift_operator"}
FAILPOINT = "HEAVYLIFT_FAILPOINT"
RESTART_PAUSE = 0.1
"""Seconds a supervisor leaves between a death and the next start."""
PATIENCE = 180.0
"""Seconds a process may take to become ready on a loaded machine."""


@dataclass
class Daemon:
    """One of our processes: what to start it with, and the process while it runs."""

    kind: str
    """``dispatcher`` or ``operator``."""
    settings: Mapping[str, str]
    """Environment beside PATH and HOME; nothing else is passed on."""
    folder: Path
    """Where its log goes."""
    name: str = ""
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> Self:
        """Start it; does not wait for readiness."""
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            "PYTHONUNBUFFERED": "1",
            "HEAVYLIFT_HTTP_HOST": "127.0.0.1",
            "HEAVYLIFT_HTTP_PORT": str(self.port),
            **self.settings,
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULES[self.kind], *self.arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.starts += 1
        return self

    @property
    def log_path(self) -> Path:
        """The file both its streams go to, over all its starts."""
        return self.folder / f"{self.name or self.kind}.log"

    def log(self) -> str:
        """Return everything it has said."""
        return self.log_path.read_text("utf-8", "replace")

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended: the exit code, minus the signal, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def probe(self, path: str = "/readyz") -> tuple[int, str]:
        """Return status and body of one of its HTTP pages; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_ready(self, limit: float = PATIENCE) -> Self:
        """Wait until it says that it is ready; its log's end is in the error otherwise."""
        try:
            until(lambda: self.probe()[0] == 200, f"{self.name or self.kind} to be ready", limit=limit)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\nlast answer: {self.probe()}\nlog: {self.log()[-3000:]}") from None
        return self

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels; 0.0 when there is none."""
        total = 0.0
        for line in self.probe("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                total += float(value)
        return total

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; a supervisor may start it again meanwhile."""
        process = self.process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(20)

    def stop(self, limit: float = 20.0) -> int:
        """SIGTERM, wait for the end, and return how it ended; killed when it does not end in time."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.wait_exit(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait_exit(self, limit: float = 20.0) -> int:
        """Wait for the end and return how it ended."""
        return 0 if self.process is None else self.process.wait(limit)


class Supervisor:
    """Starts its processes again when they die, as Kubernetes would, and counts the deaths by signal.

    ``rearm(daemon)`` may return settings for the next start (a failpoint, say); None leaves them as they are.
    """

    def __init__(self, *daemons: Daemon, rearm: Callable[[Daemon], Mapping[str, str] | None] | None = None) -> None:
        self.daemons = list(daemons)
        self.killed = 0
        """Deaths by SIGKILL seen so far."""
        self.crashed: list[tuple[str, int]] = []
        """Ends by themselves: name and exit code."""
        self._rearm = rearm
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        """Start all that do not run yet."""
        for daemon in self.daemons:
            if not daemon.running:
                daemon.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching, then stop the processes."""
        self.release()
        stop_all(*self.daemons)

    def release(self) -> None:
        """Stop starting processes again; what runs goes on."""
        self._stop.set()
        self._thread.join(10)

    def wait_ready(self, limit: float = PATIENCE) -> Self:
        """Wait until all processes are ready."""
        for daemon in self.daemons:
            daemon.wait_ready(limit)
        return self

    def _run(self) -> None:
        while not self._stop.wait(RESTART_PAUSE):
            for daemon in self.daemons:
                if daemon.returncode is not None:
                    self._again(daemon)

    def _again(self, daemon: Daemon) -> None:
        code = daemon.returncode
        if code == -signal.SIGKILL:
            self.killed += 1
        elif code is not None:
            self.crashed.append((daemon.name or daemon.kind, code))
        if self._rearm is not None and (settings := self._rearm(daemon)) is not None:
            daemon.settings = settings
        daemon.start()


def stop_all(*daemons: Daemon, limit: float = 20.0) -> None:
    """SIGTERM to all at once, then wait; those that do not end in time are killed."""
    for daemon in daemons:
        daemon.signal(signal.SIGCONT)
        daemon.signal(signal.SIGTERM)
    end = time.monotonic() + limit
    for daemon in daemons:
        try:
            daemon.wait_exit(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            daemon.kill()


def log_lines(text: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a log; lines that are none (a traceback's, say) come as ``{"raw": line}``."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        found.append(entry if isinstance(entry, dict) else {"raw": line})
    return found
