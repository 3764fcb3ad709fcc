"""One installation's metrics API with two operators for all these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.integration.metrics_api.followed import deploy, follow, remove
from tests.integration.metrics_api.stand import DEMAND, Stand
from tests.proofs.kube import Kube
from tests.servers import StoreServer, redis_binary, running


@pytest.fixture(scope="package")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """Give a Redis that keeps what it has over a restart."""
    with running(redis_binary(), tmp_path_factory.mktemp("redis"), appendonly="yes") as server:
        yield server


@pytest.fixture(scope="package")
def stand(kwok: Cluster, kube: Kube, redis: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Give an installation whose two operators started at once on an empty Secret, with queues a (3) and b (idle)."""
    with Stand(kwok, kube, redis, tmp_path_factory.mktemp("operators")) as made:
        for one in [made.replica(wait=False) for _ in range(2)]:
            made.join(one)
        made.available()
        made.queue("a", jobs=3)
        made.queue("b")
        made.told({"a": "3", "b": "0"})
        yield made


@pytest.fixture(scope="package")
def followed(stand: Stand) -> Iterator[Stand]:
    """Give the stand with a Deployment of one replica whose HPA wants one for every two jobs."""
    deploy(stand)
    follow(stand, DEMAND)
    yield stand
    remove(stand)
