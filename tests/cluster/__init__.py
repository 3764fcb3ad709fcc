"""A real Kubernetes on this machine for tests and the demo: ``python -m tests.cluster up``.

Everything else sees only its kubeconfig.
"""

from tests.cluster.access import Access, GivenCluster, given_cluster
from tests.cluster.cluster import Cluster, down, find, running, up
from tests.cluster.errors import ClusterError, ComponentError, MissingToolError
from tests.cluster.spec import ClusterSpec

__all__ = [
    "Access",
    "Cluster",
    "ClusterError",
    "ClusterSpec",
    "ComponentError",
    "GivenCluster",
    "MissingToolError",
    "down",
    "find",
    "given_cluster",
    "running",
    "up",
]
