"""One operator per module, on a Redis and in namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heavylift.spec import HeavyQueue
from tests.integration.operator.bench import Bench
from tests.proofs.kube import Kube
from tests.servers import redis_binary, running


@pytest.fixture(scope="module")
def empty_bench(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give an installation whose operator the test starts itself."""
    folder = tmp_path_factory.mktemp("operator")
    with running(redis_binary(), folder) as server:
        bench = Bench(kube, server, folder)
        try:
            yield bench
        finally:
            bench.close()


@pytest.fixture(scope="module")
def bench(empty_bench: Bench) -> Bench:
    """Give an installation with one operator."""
    empty_bench.operator()
    return empty_bench


@pytest.fixture(scope="module")
def reports(bench: Bench) -> HeavyQueue:
    """Give a plain queue."""
    return bench.queue("reports")
