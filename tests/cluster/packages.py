"""The Debian packages a shape needs: says which are missing, and installs them without starting any service."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.build import Say
from tests.cluster.errors import MissingToolError

KWOK: Mapping[str, str] = {
    "redis-server": "/usr/bin/redis-server",
    "ca-certificates": "/usr/sbin/update-ca-certificates",
}
REAL: Mapping[str, str] = {
    **KWOK,
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "/usr/sbin/nft",
    "conntrack": "/usr/sbin/conntrack",
    "iproute2": "/usr/sbin/ip",
    "mount": "/usr/bin/mount",
    "util-linux": "/usr/bin/unshare",
    "buildah": "/usr/bin/buildah",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "busybox-static": "/usr/bin/busybox",
}
"""Package name to one file of it that we use (what counts is the file: a program from elsewhere is as good)."""

SERVICES: Mapping[str, str] = {"redis-server": "redis-server", "containerd": "containerd"}
"""Packages that bring a service, which is neither started nor enabled if it was us who installed it."""

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = (
    "#!/bin/sh\n# Written by heavylift's test cluster while it installs packages: start no service.\nexit 101\n"
)


def required(nodes: str) -> Mapping[str, str]:
    """Return what the shape ``nodes`` (``kwok`` or ``real``) needs: package to the file looked for."""
    return REAL if nodes == "real" else KWOK


def missing(nodes: str) -> list[str]:
    """Return the packages of a shape that are not there, in the order of the table."""
    return [package for package, path in required(nodes).items() if not _there(path)]


def _there(path: str) -> bool:
    if Path(path).exists():
        return True
    name = Path(path).name
    return "/cni/" not in path and shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def ensure(nodes: str, say: Say) -> None:
    """Install the packages of a shape that are missing.

    Raises:
        MissingToolError: they are missing and cannot be installed; the message has the command for it.
    """
    names = missing(nodes)
    if not names:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(names)}"
    if shutil.which("apt-get") is None:
        raise MissingToolError(f"no apt-get here; install by other means what Debian calls: {' '.join(names)}")
    if os.geteuid() != 0:
        raise MissingToolError(f"Debian packages are missing and only root may install them: sudo {command}")
    say(f"installing Debian packages (no service is started): {' '.join(names)}")
    with _no_services():
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", *names)
    _disable([SERVICES[name] for name in names if name in SERVICES])
    left = missing(nodes)
    if left:
        raise MissingToolError(f"apt-get installed them, yet these are still not found: {' '.join(left)}")


def _apt(*args: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=600", *args]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise MissingToolError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep package scripts from starting services, by the file Debian asks; the owner's own file stays as it is."""
    if POLICY.exists() and POLICY.read_text(errors="replace") != POLICY_TEXT:
        yield
        return
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _disable(services: list[str]) -> None:
    """Keep services that came with our packages from starting at the next boot."""
    if services and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--quiet", *services], check=False, capture_output=True)
