"""The demo: a local Kubernetes, Heavylift installed by helm, real jobs, shown to a person."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "reports"))  # whose producer enqueues the jobs
