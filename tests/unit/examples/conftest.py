"""Lets the tests import the example's package as its image does."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "reports"))
mpl.use("Agg")
