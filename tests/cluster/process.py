"""Programs that outlive the command that started them: started, recognised again, stopped, each by its own record."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.errors import ComponentError

GRACE = 20.0
"""Seconds a program has to end after SIGTERM before it is killed."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Command:
    """A program of the cluster and how it is started.

    Attributes:
        name: the component, such as ``kube-apiserver``.
        argv: program and arguments; the program by its full path.
        env: the whole environment.
        enter: words before ``argv`` that enter another namespace.
        forks: whether ``enter`` leaves a waiting parent, so that the component is its only child.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    enter: Sequence[str] = ()
    forks: bool = False


@dataclass(frozen=True)
class Record:
    """A running program, recognised by more than its id, which the kernel gives out again.

    Attributes:
        pid: process id.
        start: its start time, in the kernel's ticks since boot.
        boot: the boot it belongs to.
        parent: id of a parent that only waits for it, or 0.
        parent_start: the parent's start time.
    """

    pid: int
    start: int
    boot: str
    parent: int = 0
    parent_start: int = 0

    @classmethod
    def of(cls, pid: int, parent: int = 0) -> Record | None:
        """Return the record of the live process ``pid``, or None if there is none."""
        start = start_time(pid)
        return None if start is None else cls(pid, start, boot_id(), parent, start_time(parent) or 0)

    def alive(self) -> bool:
        """Tell whether this very process still runs; a zombie does not."""
        return self.boot == boot_id() and start_time(self.pid) == self.start


def boot_id() -> str:
    """Return the id of the running boot."""
    return BOOT_ID.read_text().strip()


def parse_stat(text: str) -> tuple[str, int] | None:
    """Return (state, start time) from the text of ``/proc/PID/stat``; the name in it may hold anything."""
    _, closed, rest = text.rpartition(")")
    fields = rest.split()
    if not closed or len(fields) < 20:
        return None
    return fields[0], int(fields[19])


def start_time(pid: int, *, zombies: bool = False) -> int | None:
    """Return the start time of the live process ``pid`` in ticks, or None if it is gone or (mostly) a zombie."""
    try:
        parsed = parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except OSError:
        return None
    return None if parsed is None or (parsed[0] in "ZX" and not zombies) else parsed[1]


class Processes:
    """The programs of one cluster, by the records in its state folder."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.log = folder / "log"

    def start(self, command: Command) -> None:
        """Start a component in a session of its own, its output in a log file; do nothing if it runs.

        Raises:
            ComponentError: it ended at once.
        """
        if self.pid(command.name) is not None:
            return
        for folder in (self.run, self.log):
            folder.mkdir(parents=True, exist_ok=True)
        argv = [*command.enter, *command.argv]
        out = os.open(self.log_file(command.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            streams = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
            pid = os.posix_spawn(argv[0], argv, dict(command.env), file_actions=streams, setsid=True)
        except OSError as error:
            raise ComponentError(f"{command.name} cannot be started: {error}") from error
        finally:
            os.close(out)
            os.close(null)
        if command.forks:
            self._record(command.name, self._child(command.name, pid), pid)
        else:
            self._record(command.name, pid)

    def _child(self, name: str, parent: int, limit: float = 5.0) -> int:
        """Return the one child of ``parent``, once it is there."""
        deadline = time.monotonic() + limit
        children = Path(f"/proc/{parent}/task/{parent}/children")
        while time.monotonic() < deadline and start_time(parent) is not None:
            with contextlib.suppress(OSError):
                found = children.read_text().split()
                if found:
                    return int(found[0])
            time.sleep(0.005)
        raise ComponentError(f"{name} did not start:\n{self.tail(name)}")

    def _record(self, name: str, pid: int, parent: int = 0) -> None:
        record = Record.of(pid, parent)
        if record is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(parent or pid, os.WNOHANG)
            raise ComponentError(f"{name} ended at once:\n{self.tail(name)}")
        part = self.run / f".{name}.part"
        part.write_text(json.dumps(asdict(record)))
        part.replace(self.run / f"{name}.json")

    def record(self, name: str) -> Record | None:
        """Return the record of a component, whether or not it still runs."""
        try:
            return Record(**json.loads((self.run / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def pid(self, name: str) -> int | None:
        """Return the process id of a component, or None if it does not run."""
        record = self.record(name)
        return record.pid if record is not None and record.alive() else None

    def recorded(self) -> list[str]:
        """Return the names of all components that were started and not yet stopped by us."""
        return sorted(path.stem for path in self.run.glob("*.json"))

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to a component; return whether it was there to get it."""
        record = self.record(name)
        if record is None:
            return False
        with contextlib.suppress(ProcessLookupError), _pidfd(record.pid) as handle:
            if record.alive():  # asked after the handle was opened, so the handle is this very process
                signal.pidfd_send_signal(handle, number)
                return True
        return False

    def stop(self, name: str, grace: float = GRACE) -> None:
        """End a component and wait until it is gone: SIGTERM, after ``grace`` seconds SIGKILL.

        Raises:
            ComponentError: it does not even end by SIGKILL.
        """
        record = self.record(name)
        if record is not None:
            with contextlib.suppress(ProcessLookupError), _pidfd(record.pid) as handle:
                if record.alive():
                    _end(name, handle, grace)
            _reap(record.pid, record.start)
            _reap(record.parent, record.parent_start)
        (self.run / f"{name}.json").unlink(missing_ok=True)

    def log_file(self, name: str) -> Path:
        """Return the file a component's output goes to."""
        return self.log / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a component's output."""
        try:
            text = self.log_file(name).read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def _end(name: str, handle: int, grace: float) -> None:
    for number, limit in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        if select.select([handle], [], [], limit)[0]:
            return
    raise ComponentError(f"{name} does not end, not even by SIGKILL; look for it with ps")


def _reap(pid: int, start: int, limit: float = 5.0) -> None:
    """Collect the exit status of a child of ours that has ended or is about to; another process of that id is left."""
    if start_time(pid, zombies=True) != start:
        return
    with contextlib.suppress(ProcessLookupError, ChildProcessError), _pidfd(pid) as handle:
        select.select([handle], [], [], limit)
        os.waitpid(pid, os.WNOHANG)
