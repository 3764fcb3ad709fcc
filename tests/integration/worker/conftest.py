"""A stand of its own for each test."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift.store import Store
from tests.integration.worker.stand import Stand
from tests.proofs.kube import Kube
from tests.proofs.processes import stop_all
from tests.servers import StoreServer


@pytest.fixture
def stand(kube: Kube, redis_server: StoreServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stand]:
    """Give a namespace, an empty Redis and a place for dispatchers; what was started is stopped at the end."""
    name = f"w-{zlib.crc32(request.node.nodeid.encode()):08x}-{secrets.token_hex(2)}"
    with Store.connect(redis_server.url) as store:
        made = Stand(kube, redis_server, tmp_path, name, store)
        made.prepare()
        try:
            yield made
        finally:
            stop_all(*made.daemons)
