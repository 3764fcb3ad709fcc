"""Processes for proofs, forked from a server that has imported what they need: each starts within milliseconds."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_NEEDED = ["tests.proofs.crowd.hands", "tests.proofs.killed.run"]
"""One server serves all: what it imports is settled when it starts."""


def context() -> ForkServerContext:
    """Return the context to make processes, queues and events with."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_NEEDED)
    return made
