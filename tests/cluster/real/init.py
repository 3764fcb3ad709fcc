"""First process of a node's namespaces: lays private folders over the machine's own, then reaps orphans until SIGTERM.

Run as ``unshare --mount --net --pid --cgroup --fork python3 -I -S init.py STATE KEPT...`` with the standard library
alone. All that the node mounts lives in this mount namespace and all that it runs in this process namespace, so both
vanish with this process. KEPT are folders that stay visible where private ones are laid over them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

COVERED = ("/var/lib", "/var/log")
"""Folders that containerd, kubelet and CNI plugins write to by fixed paths; the node gets its own."""


TUNABLES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""Settings of the whole machine that kubelet changes at its start (pkg/kubelet/cm, setupKernelTunables)."""


def run(*argv: str) -> None:
    """Run a program; its failure ends this one, with its words in the log."""
    subprocess.run(argv, check=True)


def cover(state: Path, kept: list[Path]) -> None:
    """Give the node its own /proc, /run, /var/lib and /var/log."""
    run("mount", "-t", "proc", "proc", "/proc")
    held = {path: os.open(path, os.O_RDONLY) for path in kept}
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for private in COVERED:
        own = state / "node" / private.removeprefix("/")
        own.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(own), private)
    for path, descriptor in held.items():
        if any(path.is_relative_to(covered) for covered in ("/run", *COVERED)):
            path.mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{descriptor}"
            subprocess.run(["mount", "--bind", source, str(path)], check=True, pass_fds=[descriptor])
        os.close(descriptor)
    run("mount", "--make-rshared", "/")


def shield(state: Path) -> None:
    """Let kubelet set files of the node where it would set the machine's kernel."""
    for name in TUNABLES:
        setting = Path("/proc/sys", name)
        if setting.is_file():
            own = state / "node" / "sys" / name
            own.parent.mkdir(parents=True, exist_ok=True)
            own.write_text(setting.read_text())
            run("mount", "--bind", str(own), str(setting))


def confine(name: str) -> None:
    """Show the node its own cgroups as if they were the machine's, so that all it makes lies below them."""
    root = Path("/sys/fs/cgroup")
    for group in sorted({root / name, *(path.resolve() / name for path in root.iterdir() if path.is_dir())}):
        if (group / "cgroup.procs").exists():
            run("mount", "--bind", str(group), str(group.parent))


def reap() -> None:
    """Collect every child that has ended, adopted ones included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def main() -> None:
    """Set up, say so by a file, then wait."""
    state = Path(sys.argv[1]).resolve()
    waited = [signal.SIGCHLD, signal.SIGTERM]
    cover(state, [state, *(Path(path).resolve() for path in sys.argv[2:])])
    shield(state)
    confine(state.name)
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the kernel keeps from a first process what it would not handle
    (state / "node" / "ready").touch()
    while signal.sigwait(waited) != signal.SIGTERM:
        reap()


if __name__ == "__main__":
    main()
