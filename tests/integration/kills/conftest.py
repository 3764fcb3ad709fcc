"""A Redis that writes an append-only file, and a namespace, a queue and a recorder for each proof."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs.kube import Kube
from tests.proofs.run import Run
from tests.servers import StoreServer, redis_binary

STAGED = {"heavylift-test/from-env": "HEAVYLIFT_JOB_PAYLOAD"}
"""Each job's data says how its pod ends."""


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[StoreServer]:
    """Give a Redis of this test's own with ``appendfsync everysec``."""
    server = StoreServer(redis_binary(), tmp_path / "redis")
    server.start(appendonly="yes", appendfsync="everysec")
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def run(kube: Kube, durable_redis: StoreServer, tmp_path: Path) -> Run:
    """Give a run whose pods end as each job's data says, two attempts per job, a second apart."""
    name = f"k-{uuid.uuid4().hex[:8]}"
    made = Run(kube, durable_redis, tmp_path, name)
    made.prepare(
        ends=STAGED,
        defaults={"maxAttempts": 2, "backoff": {"type": "Fixed", "delay": "1s", "jitterPercent": 0}},
    )
    return made
