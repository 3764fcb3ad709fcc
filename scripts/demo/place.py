"""Where the demo keeps what, and what it calls it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "demo"
RELEASE = NAMESPACE = "heavylift"
JOBS_NAMESPACE = "analytics"
QUEUE = "reports"
EXAMPLE = ROOT / "examples" / "reports"
FOLDER = ROOT / "build" / "demo"
"""All the demo writes besides the cluster's own state; ignored by git, removed by ``down``."""
REPORTS = FOLDER / "reports"
"""The folder behind the volume that the reports are written to."""
POD_USER = 65532
"""User and group of the pods, as in queue.yaml."""
IMAGES = ("heavylift", "job-python", "job-shell", "redis", "reports")
