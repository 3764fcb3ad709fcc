"""Objects that a new cluster with a real node has: DNS, what kube-proxy and CoreDNS may read, and volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.layout import Layout
from tests.cluster.real.config import NODE

VOLUMES = 20
STORAGE_CLASS = "local"

Object = tuple[str, dict[str, Any]]
"""The path to create an object at, and the object."""

RBAC = "/apis/rbac.authorization.k8s.io/v1"


def objects(layout: Layout, dns: str) -> Iterator[Object]:
    """Yield everything, in the order in which it is created."""
    yield from _rbac()
    yield from _dns(layout, dns)
    yield from _storage(volumes_folder(layout.folder))


def volumes_folder(folder: Path) -> Path:
    """Return where the persistent volumes' folders lie."""
    return folder / "volumes"


def make_volume_folders(folder: Path) -> None:
    """Create the persistent volumes' folders, open to every user a pod may run as."""
    for index in range(VOLUMES):
        path = volumes_folder(folder) / f"volume-{index}"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)


def _rbac() -> Iterator[Object]:
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"}}
    yield f"{RBAC}/clusterroles", {**role, "rules": rules}
    for name, user in (("system:coredns", "system:coredns"), ("system:node-proxier", "system:kube-proxy")):
        yield (
            f"{RBAC}/clusterrolebindings",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{name}-test-cluster"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            },
        )


def _dns(layout: Layout, dns: str) -> Iterator[Object]:
    """Yield a Service without selector: CoreDNS is a program on the node, not a pod."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    yield (
        "/api/v1/namespaces/kube-system/services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "labels": labels},
            "spec": {"clusterIP": dns, "ports": ports},
        },
    )
    yield (
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kube-dns-node", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [layout.host], "conditions": {"ready": True}}],
        },
    )


def _storage(folder: Path) -> Iterator[Object]:
    """Yield a default StorageClass and its volumes: local ones, as those honour a pod's fsGroup."""
    yield (
        "/apis/storage.k8s.io/v1/storageclasses",
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    )
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}
    for index in range(VOLUMES):
        yield (
            "/api/v1/persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{index}"},
                "spec": {
                    "capacity": {"storage": "20Gi"},
                    "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": STORAGE_CLASS,
                    "local": {"path": str(folder / f"volume-{index}")},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
                },
            },
        )
