"""Where the demo keeps what, and what it calls it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "demo"
RELEASE = NAMESPACE = "heavylift"
JOBS_NAMESPACE = "analytics"
QUEUE = "reports"
EXAMPLE = ROOT / "examples" / "reports"
IMAGES = ("heavylift", "redis", "reports", "job-shell")
"""Of images/images.toml: what the demo runs; the last is for examples/any-language, which is for trying."""
