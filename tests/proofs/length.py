"""How long proofs play: some rounds with each run of the tests, all of them with ``HEAVYLIFT_PROOFS=long``."""

from __future__ import annotations

import os

LONG = os.environ.get("HEAVYLIFT_PROOFS", "") == "long"


def rounds(some: int, many: int) -> int:
    """Return how many rounds to play."""
    return many if LONG else some
