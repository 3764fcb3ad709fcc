"""The control plane: identities, command lines, and the order in which it starts."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from http import HTTPStatus

from tests.cluster import kubeconfig
from tests.cluster.api import Api, wait_for
from tests.cluster.layout import Layout
from tests.cluster.pki import Identity, create_authority, create_signing_key
from tests.cluster.process import Command, Processes
from tests.cluster.spec import ClusterSpec

MARK = "HEAVYLIFT_CLUSTER_STATE"
"""Environment variable of every program of a cluster: its state folder. Left-overs are found by it."""

NOWHERE = "192.0.2.1"
"""An address of the range reserved for documentation: what a loopback API server advertises, as loopback is refused."""

READY_LIMIT = 90.0
"""Seconds the API server may take; it takes 3 on an idle machine."""

ETCD, APISERVER = "etcd", "kube-apiserver"
MANAGER, SCHEDULER, KWOK = "kube-controller-manager", "kube-scheduler", "kwok"
MASTERS = "system:masters"


def identities(layout: Layout) -> list[Identity]:
    """Return whom the cluster's authority vouches for, apart from nodes."""
    service_ip = str(next(ipaddress.ip_network(layout.services).hosts()))
    in_cluster = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    local = ("localhost", "127.0.0.1", layout.host)
    return [
        Identity("etcd", "etcd", names=("localhost", "127.0.0.1")),
        Identity("apiserver", "kube-apiserver", names=tuple(dict.fromkeys((*in_cluster, *local, service_ip)))),
        Identity("apiserver-kubelet", "kube-apiserver-kubelet-client", (MASTERS,)),
        Identity("admin", "kubernetes-admin", (MASTERS,)),
        Identity("controller-manager", "system:kube-controller-manager", names=("localhost", "127.0.0.1")),
        Identity("scheduler", "system:kube-scheduler", names=("localhost", "127.0.0.1")),
        Identity("kwok", "kwok", (MASTERS,)),
    ]


def write_identities(layout: Layout, more: Sequence[Identity] = ()) -> None:
    """Create the authorities, all certificates and the kubeconfigs of a new cluster."""
    every = [*identities(layout), *more]
    create_authority(layout.pki, "ca").issue(every)
    create_authority(layout.pki, "front-proxy-ca").issue([Identity("front-proxy", "front-proxy-client")])
    create_signing_key(layout.pki, "service-accounts")
    cluster = layout.folder.name
    for identity in every:
        content = kubeconfig.document(layout.server, layout.pki, identity.file, cluster=cluster)
        kubeconfig.write(layout.kubeconfig_of(identity.file), content)
    kubeconfig.write(layout.kubeconfig, kubeconfig.document(layout.server, layout.pki, "admin", cluster=cluster))


def environment(layout: Layout) -> dict[str, str]:
    """Return the environment of the cluster's programs: little, so that the caller's settings cannot change them."""
    return {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "HOME": str(layout.folder),
        MARK: str(layout.folder),
    }


def etcd_flags(layout: Layout) -> list[str]:
    """Return etcd's flags: one member, both ports on loopback and for holders of our certificates only."""
    client, peer = (f"https://127.0.0.1:{port}" for port in (layout.etcd, layout.etcd_peer))
    crt, key, ca = (layout.pki / name for name in ("etcd.crt", "etcd.key", "ca.crt"))
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        *(f"--{prefix}cert-file={crt}" for prefix in ("", "peer-")),
        *(f"--{prefix}key-file={key}" for prefix in ("", "peer-")),
        *(f"--{prefix}trusted-ca-file={ca}" for prefix in ("", "peer-")),
        *(f"--{prefix}client-cert-auth=true" for prefix in ("", "peer-")),
        "--log-level=warn",
        "--unsafe-no-fsync",  # survives the death of the process, which is all a test cluster is asked for
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=10m",
        "--quota-backend-bytes=4294967296",
    ]


def apiserver_flags(layout: Layout) -> list[str]:
    """Return the flags of kube-apiserver, the aggregation layer and RBAC included."""
    loopback = ipaddress.ip_address(layout.host).is_loopback
    pki = layout.pki
    return [
        f"--etcd-servers=https://127.0.0.1:{layout.etcd}",
        f"--etcd-cafile={pki / 'ca.crt'}",
        f"--etcd-certfile={pki / 'etcd.crt'}",
        f"--etcd-keyfile={pki / 'etcd.key'}",
        f"--bind-address={'127.0.0.1' if loopback else '0.0.0.0'}",  # noqa: S104 - the node's own network namespace
        f"--advertise-address={NOWHERE if loopback else layout.host}",
        *(["--endpoint-reconciler-type=none"] if loopback else []),
        f"--secure-port={layout.apiserver}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--anonymous-auth=true",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--service-cluster-ip-range={layout.services}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--profiling=false",
        "--shutdown-watch-termination-grace-period=1s",  # else open watches hold up its end for a minute
    ]


def _common_flags(layout: Layout, identity: str, port: int) -> list[str]:
    config = layout.kubeconfig_of(identity)
    return [
        *(f"--{prefix}kubeconfig={config}" for prefix in ("", "authentication-", "authorization-")),
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={layout.pki / f'{identity}.crt'}",
        f"--tls-private-key-file={layout.pki / f'{identity}.key'}",
        "--leader-elect=false",
        "--profiling=false",
    ]


def manager_flags(layout: Layout) -> list[str]:
    """Return the flags of kube-controller-manager, at Kubernetes' own rates."""
    pki = layout.pki
    return [
        *_common_flags(layout, "controller-manager", layout.controller_manager),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--client-ca-file={pki / 'ca.crt'}",
    ]


def commands(spec: ClusterSpec, layout: Layout, enter: Sequence[str] = ()) -> dict[str, Command]:
    """Return the control plane's components, in the order in which they start."""
    flags = {
        ETCD: etcd_flags(layout),
        APISERVER: [*apiserver_flags(layout), *spec.apiserver_flags],
        MANAGER: [*manager_flags(layout), *spec.kcm_flags],
        SCHEDULER: [*_common_flags(layout, "scheduler", layout.scheduler), *spec.scheduler_flags],
    }
    env = environment(layout)
    return {name: Command(name, [str(layout.bin / name), *args], env, enter) for name, args in flags.items()}


def api_of(layout: Layout) -> Api:
    """Return the API server as the administrator."""
    return Api(layout.host, layout.apiserver, layout.pki)


def wait_ready(processes: Processes, api: Api, limit: float = READY_LIMIT) -> None:
    """Wait until the API server is ready and reads from etcd (its readiness alone is of some time before).

    Raises:
        ComponentError: it or etcd ended, or it took too long.
    """

    def answers() -> bool:
        return api.ok("/readyz") and api.ok("/api/v1/namespaces/kube-system")

    wait_for("the API server", answers, limit, lambda: ended(processes, (ETCD, APISERVER)))


def ended(processes: Processes, names: Sequence[str]) -> str | None:
    """Return what is to be said if one of the components no longer runs, else None."""
    for name in names:
        if processes.pid(name) is None:
            return f"{name} ended; the end of its log:\n{processes.tail(name)}"
    return None


def start(parts: dict[str, Command], layout: Layout, processes: Processes) -> None:
    """Start the control plane and wait until its API server is ready.

    kube-controller-manager ends at once if it starts before the API server has its own RBAC rules, hence the order.
    """
    processes.start(parts[ETCD])
    processes.start(parts[APISERVER])
    wait_ready(processes, api_of(layout))
    processes.start(parts[MANAGER])
    processes.start(parts[SCHEDULER])


def wait_service_account(api: Api, processes: Processes, limit: float = 60.0) -> None:
    """Wait until namespace default can hold pods, which kube-controller-manager's first pass makes true.

    Raises:
        ComponentError: the controller manager ended, or it took too long.
    """
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_for(
        "the default service account",
        lambda: api.call("GET", path)[0] == HTTPStatus.OK,
        limit,
        lambda: ended(processes, (MANAGER, SCHEDULER)),
    )


def ready_nodes(api: Api) -> int:
    """Return how many nodes are Ready and take pods."""
    count = 0
    for node in api.get("/api/v1/nodes")["items"]:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
        count += ready and not node["spec"].get("taints")
    return count
