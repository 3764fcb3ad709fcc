"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from tests.integration.store.kit import QUEUE, World, world
from tests.servers import StoreServer


@pytest.fixture
def w(store_server: StoreServer) -> Iterator[World]:
    """Give a world on each store, with the queue ``reports`` served."""
    with world(store_server) as made:
        yield made


@pytest.fixture
def bare(store_server: StoreServer) -> Iterator[World]:
    """Give a world on each store where no queue is served yet."""
    with world(store_server, serve=False) as made:
        yield made


@pytest.fixture
def q(w: World) -> Queue:
    """Give RQ's own queue of the same name, with JSON."""
    return Queue(QUEUE, connection=w.redis, serializer=JSONSerializer)
