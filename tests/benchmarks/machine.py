"""What the figures were taken on, without names or paths of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def describe() -> Json:
    """Return cores, memory, load and the versions of what takes part."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("redis", "rq", "kopf", "kubernetes", "aiohttp")
        },
        "load": load(),
    }


def load() -> float:
    """Return how many processes wanted to run over the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
