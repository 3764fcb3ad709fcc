"""A control plane of its own, since what is missing from it is the point."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, ClusterSpec, down, up
from tests.proofs.kube import Kube


@pytest.fixture(scope="module")
def bare_cluster() -> Iterator[Cluster]:
    """Give a control plane on which nothing of ours was installed."""
    name = f"bare-{os.getpid()}"
    cluster = up(ClusterSpec(nodes="kwok", name=name, node_count=1))
    try:
        yield cluster
    finally:
        down(name)


@pytest.fixture
def bare_kube(bare_cluster: Cluster) -> Kube:
    """Give a raw client of it."""
    return Kube(bare_cluster.kubeconfig)
