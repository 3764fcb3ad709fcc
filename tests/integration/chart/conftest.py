"""The real helm, built for the test cluster."""

from __future__ import annotations

import pytest

from tests.cluster import Cluster
from tests.integration.chart.helm import Helm


@pytest.fixture(scope="session")
def helm(kwok: Cluster) -> Helm:
    """Give helm before the simulated cluster."""
    return Helm(kwok.bin("helm"), kwok.kubeconfig)
