"""Where the demo keeps what, and what it calls it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "demo"
RELEASE = NAMESPACE = "heavylift"
JOBS_NAMESPACE = "analytics"
DISPATCHER = "heavylift-dispatcher"
QUEUE, WORDS = "reports", "words"
EXAMPLE = ROOT / "examples" / "reports"
SHELL_EXAMPLE = ROOT / "examples" / "any-language"
IMAGES = ("heavylift", "redis", "reports", "job-shell")
"""Of images/images.toml: what the demo runs."""
