"""Finds and removes what a killed run left behind, by its own marks and never by a broad name."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
from pathlib import Path

from tests.cluster.controlplane import MARK
from tests.cluster.errors import ClusterError
from tests.cluster.process import start_time


def carries_mark(environ: bytes, folder: Path) -> bool:
    """Tell whether a process with this ``/proc/PID/environ`` belongs to the cluster in ``folder``."""
    return f"{MARK}={folder}".encode() in environ.split(b"\0")


def processes_of(folder: Path) -> list[int]:
    """Return the ids of all live processes that carry the mark of the cluster in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if carries_mark((entry / "environ").read_bytes(), folder) and start_time(int(entry.name)) is not None:
                found.append(int(entry.name))
    return found


def end_processes(folder: Path, limit: float = 10.0) -> None:
    """Kill what still carries the mark, programs whose record was never written, and wait until it is gone.

    All are held before the first is killed: one that dies with another loses its mark at once, but is gone only later,
    and the first process of a node's namespace only when all others in it are, those without a mark included.
    """
    held = [(pid, handle) for pid in processes_of(folder) if (handle := _hold(pid, folder)) is not None]
    try:
        for _, handle in held:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for pid, handle in held:
            select.select([handle], [], [], limit)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    finally:
        for _, handle in held:
            os.close(handle)


def _hold(pid: int, folder: Path) -> int | None:
    """Return a handle of a process that carries the mark, or None if it is gone or its id is another's by now."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    with contextlib.suppress(OSError):
        if carries_mark(Path(f"/proc/{pid}/environ").read_bytes(), folder):
            return handle
    os.close(handle)
    return None


def mounts_under(folder: Path, table: str) -> list[str]:
    """Return the mount points under ``folder`` in the text of a ``mountinfo``, the innermost first."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in table.splitlines() if len(line.split()) > 4]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), key=len, reverse=True)


def remove_tree(folder: Path) -> None:
    """Remove a state folder.

    Raises:
        ClusterError: something is still mounted in it, or it cannot be removed.
    """
    mounted = mounts_under(folder, Path("/proc/self/mountinfo").read_text())
    if mounted:
        raise ClusterError(f"still mounted under {folder}: {', '.join(mounted)}")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ClusterError(f"{folder} cannot be removed: {error}") from error
