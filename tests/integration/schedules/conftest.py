"""A served queue on a real store, a clock that stands in the past, and operators that look at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.schedules.stand import Stand
from tests.servers import StoreServer


@pytest.fixture
async def stand(redis_server: StoreServer) -> AsyncIterator[Stand]:
    """Give a stand on Debian's Redis."""
    made = Stand(redis_server)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def each_stand(store_server: StoreServer) -> AsyncIterator[Stand]:
    """Give a stand on each store."""
    made = Stand(store_server)
    try:
        yield made
    finally:
        await made.aclose()
