"""Configuration files of a node's programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.layout import Layout

NODE = "node-0"
SANDBOX_IMAGE = "localhost/heavylift-test/busybox:1"
CNI_PROGRAMS = "/usr/lib/cni"
UNUSED = [
    *(f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")),
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
]
"""Plugins of containerd that need what a machine may not have."""

CLUSTER_DOMAIN = "cluster.local"


def socket(folder: Path) -> Path:
    """Return containerd's socket."""
    return folder / "containerd.sock"


def containerd(folder: Path, *, snapshotter: str, restrict_oom: bool) -> str:
    """Return containerd's configuration.

    Args:
        folder: the state folder.
        snapshotter: ``overlayfs``, or ``native`` where overlays cannot be stacked.
        restrict_oom: whether nothing may lower its oom_score_adj (no CAP_SYS_RESOURCE); runc would die of trying.
    """
    return f"""\
version = 2
root = "{folder}/node/containerd/root"
state = "{folder}/node/containerd/state"
disabled_plugins = {json.dumps(UNUSED)}
[grpc]
  address = "{socket(folder)}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX_IMAGE}"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = {json.dumps(restrict_oom)}
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{folder}/node/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def cni(layout: Layout) -> dict[str, Any]:
    """Return the pods' network: each has a routed wire, so that no traffic between pods misses kube-proxy's rules."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": layout.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "heavylift-test",
        "plugins": [{"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam}],
    }


def kubelet(layout: Layout, dns: str) -> dict[str, Any]:
    """Return kubelet's configuration; the values about cgroups let it run on version 1 and hybrid machines too."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.host,
        "port": 10250,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
        "clusterDNS": [dns],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(layout.folder / "node" / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{socket(layout.folder)}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        # A full disk of the machine must neither evict pods nor delete the images that were loaded.
        "evictionHard": {"memory.available": "64Mi"},
        "imageGCHighThresholdPercent": 100,
    }


def kube_proxy(layout: Layout) -> dict[str, Any]:
    """Return kube-proxy's configuration; zeros leave the machine's connection tracking as it is."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": layout.pods,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(layout.kubeconfig_of("kube-proxy"))},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"{layout.host}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def corefile(layout: Layout) -> str:
    """Return CoreDNS' configuration: the cluster's names and no others."""
    return f"""\
{CLUSTER_DOMAIN} in-addr.arpa:53 {{
    bind {layout.host}
    errors
    health 127.0.0.1:8080
    ready {layout.host}:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfig_of("coredns")}
        pods insecure
    }}
    cache 5
}}
"""


def write(layout: Layout, dns: str, *, snapshotter: str, restrict_oom: bool) -> None:
    """Write all of them into the state folder."""
    node = layout.folder / "node"
    (node / "cni").mkdir(parents=True, exist_ok=True)
    text = containerd(layout.folder, snapshotter=snapshotter, restrict_oom=restrict_oom)
    (node / "containerd.toml").write_text(text)
    (node / "cni" / "10-heavylift-test.conflist").write_text(json.dumps(cni(layout), indent=2))
    (node / "kubelet.yaml").write_text(yaml.safe_dump(kubelet(layout, dns)))
    (node / "kube-proxy.yaml").write_text(yaml.safe_dump(kube_proxy(layout)))
    (node / "Corefile").write_text(corefile(layout))
    (node / "resolv.conf").write_text("# no name servers beyond the cluster's own\n")


def filesystem_type(mountinfo: str, path: Path) -> str:
    """Return the type of the file system that holds ``path``, from the text of a ``mountinfo``."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind
