"""JSON to and from the Kubernetes API; what comes is hostile until it was read."""

from __future__ import annotations

import json
from typing import Any


def encode(body: Any) -> bytes:
    """Return a body as it is sent."""
    return json.dumps(body, separators=(",", ":")).encode()


def decode(raw: bytes) -> Any:
    """Return what was sent.

    Raises:
        ValueError: it is no JSON.
    """
    return json.loads(raw)
