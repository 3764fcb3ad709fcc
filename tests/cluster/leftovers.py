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

    The first process of a node's namespace is gone only when all others in it are, those without a mark included.
    """
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if pid in processes_of(folder):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], limit)
            finally:
                os.close(handle)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


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
