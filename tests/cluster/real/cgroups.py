"""A node's own place in the machine's cgroups, version 1, hybrid or 2."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tests.cluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
PROCS = "cgroup.procs"

JOIN = """\
for file in /sys/fs/cgroup/*/"$0"/cgroup.procs /sys/fs/cgroup/"$0"/cgroup.procs; do
    if [ -e "$file" ]; then echo $$ > "$file" || exit 1; fi
done
exec "$@"
"""
"""Shell program that enters the cgroups called ``$0``, of every hierarchy, and becomes ``"$@"``."""


def is_version_2(root: Path = ROOT) -> bool:
    """Tell whether the machine has the unified hierarchy alone."""
    return (root / "cgroup.controllers").is_file()


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Return the root of every mounted hierarchy, each once, whatever links lead to it."""
    if is_version_2(root):
        return [root]
    found = [path for path in root.iterdir() if path.is_dir() and (path / PROCS).exists()] if root.is_dir() else []
    return sorted({path.resolve() for path in found})


def create(name: str, root: Path = ROOT) -> None:
    """Create the cgroups called ``name``; containers come to lie in them."""
    for hierarchy in hierarchies(root):
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1 admits no process before these are set
            if not is_version_2(root) and (group / setting).is_file() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())


def daemons(name: str, root: Path = ROOT) -> str:
    """Return where the node's own programs go: version 2 wants no process where cgroups with controllers lie below."""
    return f"{name}/node" if is_version_2(root) else name


def delegate(name: str, root: Path = ROOT) -> None:
    """On version 2 move the node's first processes aside and hand the controllers down; else do nothing."""
    if not is_version_2(root):
        return
    group = root / name
    aside = root / daemons(name, root)
    aside.mkdir(exist_ok=True)
    for pid in (group / PROCS).read_text().split():
        (aside / PROCS).write_text(pid)
    controllers = (root / "cgroup.controllers").read_text().split()
    wanted = " ".join(
        f"+{each}" for each in controllers if each in {"cpu", "memory", "pids", "cpuset", "io", "hugetlb"}
    )
    for parent in (root, group):
        (parent / "cgroup.subtree_control").write_text(wanted)


def remove(name: str, limit: float = 10.0, root: Path = ROOT) -> None:
    """Remove the cgroups called ``name`` with all below them, once the kernel has let go of their processes.

    Raises:
        ClusterError: processes are still in them.
    """
    deadline = time.monotonic() + limit
    while True:
        left = [group for hierarchy in hierarchies(root) if (group := hierarchy / name).is_dir() and not _rmdir(group)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroups cannot be removed: {', '.join(map(str, left))}")
        time.sleep(0.05)


def _rmdir(group: Path) -> bool:
    for child in sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            child.rmdir()
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.is_dir()
