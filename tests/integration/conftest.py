"""One control plane with simulated nodes for the whole session; every test uses namespaces of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, ClusterSpec, down, up
from tests.proofs.install import install_crds
from tests.proofs.kube import Kube

QUICK = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
    "--concurrent-job-syncs=20",
    "--horizontal-pod-autoscaler-sync-period=2s",
)
"""The controller-manager's defaults let 3.4 Jobs through in a second, these 45; an HPA looks every 2 s, not 15."""


@pytest.fixture(scope="session")
def kwok() -> Iterator[Cluster]:
    """Give a real control plane whose nodes kwok simulates; how pods end: tests/cluster/README.md.

    With HEAVYLIFT_KWOK_NAME set, the cluster of that name is used, brought up if need be, and left running.
    """
    kept = os.environ.get("HEAVYLIFT_KWOK_NAME", "")
    name = kept or f"it-{os.getpid()}"
    cluster = up(ClusterSpec(nodes="kwok", name=name, kcm_flags=QUICK))
    try:
        yield cluster
    finally:
        if not kept:
            down(name)


@pytest.fixture(scope="session")
def kube(kwok: Cluster) -> Kube:
    """Give a raw client of that control plane, with our CRDs installed."""
    client = Kube(kwok.kubeconfig)
    install_crds(client)
    return client
