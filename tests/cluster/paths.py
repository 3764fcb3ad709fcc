"""Where things lie: the repository, the user's cache folder, and the state of a running cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent.parent
TOOLS = PACKAGE / "tools"
PREFIX = "heavylift-cluster-"
"""How the names of state folders begin."""


def cache_root() -> Path:
    """Return the folder that outlives clusters: binaries, base images, built images.

    It follows ``XDG_CACHE_HOME`` and falls back to ``~/.cache``.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "heavylift" / "cluster"


def state_root(nodes: str) -> Path:
    """Return the folder under which clusters of a shape keep their state by default.

    It is short on purpose: the path of a Unix socket may hold 107 bytes only. A real node keeps images there, too much
    for a folder that lives in memory.
    """
    if nodes == "real":
        return Path("/var/tmp")  # noqa: S108 - the state folder in it is made for us alone, and checked
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())


def default_state(nodes: str, name: str) -> Path:
    """Return the default state folder of the cluster called ``name``."""
    return state_root(nodes) / f"{PREFIX}{name}"
