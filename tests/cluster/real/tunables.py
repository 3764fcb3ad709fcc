"""Kernel settings of the whole machine that a kubelet changes: remembered before, put back after."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

NAMES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What kubelet sets at its start (pkg/kubelet/cm, setupKernelTunables)."""

FILE = "tunables.json"
ROOT = Path("/proc/sys")


def remember(folder: Path, root: Path = ROOT) -> None:
    """Write the settings' values into the state folder, unless they stand there already."""
    values = {name: (root / name).read_text().strip() for name in NAMES if (root / name).is_file()}
    with contextlib.suppress(FileExistsError), (folder / FILE).open("x") as file:
        json.dump(values, file)


def put_back(folder: Path, root: Path = ROOT) -> None:
    """Set what differs from the remembered values back to them."""
    try:
        values: dict[str, str] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return
    for name in NAMES:
        path = root / name
        if name in values and path.is_file() and path.read_text().strip() != values[name]:
            path.write_text(values[name])
