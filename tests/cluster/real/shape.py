"""The shape with a real node: what is started, in which namespace, in which order."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.cluster import controlplane, doctor
from tests.cluster.api import wait_for
from tests.cluster.build import Say
from tests.cluster.images import import_archive, sandbox_archive
from tests.cluster.layout import Layout
from tests.cluster.pki import Identity
from tests.cluster.process import Command, Processes
from tests.cluster.real import cgroups, config, manifests, network
from tests.cluster.real.addresses import Addresses, plan
from tests.cluster.real.config import NODE
from tests.cluster.spec import ClusterSpec

INIT = "node"
CONTAINERD, KUBELET, PROXY, DNS = "containerd", "kubelet", "kube-proxy", "coredns"
CAP_SYS_RESOURCE = 24
APISERVER_PORT = 6443


class RealShape:
    """One node with kubelet and containerd, in mount, network and process namespaces of its own."""

    def prepare(self, spec: ClusterSpec, binaries: Path) -> Layout:
        """Choose a network that this machine does not use and write all files."""
        addresses = network.choose_addresses(spec.folder)
        layout = Layout(
            folder=spec.folder,
            bin=binaries,
            host=addresses.node,
            etcd=2379,
            etcd_peer=2380,
            apiserver=APISERVER_PORT,
            controller_manager=10257,
            scheduler=10259,
            services=addresses.services,
            pods=addresses.pods,
            gateway=addresses.gateway,
        )
        controlplane.write_identities(layout, node_identities(layout))
        mountinfo, status = (Path(f"/proc/self/{name}").read_text() for name in ("mountinfo", "status"))
        overlaid = config.filesystem_type(mountinfo, spec.folder) in {"overlay", "fuse-overlayfs"}
        restrict = not doctor.has_capability(status, CAP_SYS_RESOURCE)
        config.write(layout, addresses.dns, snapshotter="native" if overlaid else "overlayfs", restrict_oom=restrict)
        manifests.make_volume_folders(spec.folder)
        return layout

    def commands(self, spec: ClusterSpec, layout: Layout) -> dict[str, Command]:
        """Return the components; the control plane shares the node's network, kubelet and containerd all of it."""
        init = Processes(layout.folder).pid(INIT) or 0
        within = [network.NSENTER, f"--net=/proc/{init}/ns/net", "--"]
        inside = inside_node(layout.folder, init)
        env = controlplane.environment(layout)
        node = layout.folder / "node"
        parts = {
            CONTAINERD: Command(
                CONTAINERD, ["/usr/bin/containerd", f"--config={node / 'containerd.toml'}"], env, inside, True
            ),
            **controlplane.commands(spec, layout, within),
            KUBELET: Command(KUBELET, [str(layout.bin / KUBELET), *kubelet_flags(layout)], env, inside, forks=True),
        }
        for name, argument in ((PROXY, f"--config={node / 'kube-proxy.yaml'}"), (DNS, f"-conf={node / 'Corefile'}")):
            parts[name] = Command(name, [str(layout.bin / name), argument], env, within)
        return parts

    def start(self, spec: ClusterSpec, layout: Layout, processes: Processes, say: Say) -> None:
        """Start everything and return when the node is Ready and names resolve."""
        self._start_node(layout, processes)
        parts = self.commands(spec, layout)
        processes.start(parts[CONTAINERD])
        controlplane.start(parts, layout, processes)
        socket = config.socket(layout.folder)
        wait_for("containerd", socket.exists, 30, lambda: controlplane.ended(processes, [CONTAINERD]))
        import_archive(layout, sandbox_archive())
        api = controlplane.api_of(layout)
        for path, body in manifests.objects(layout, plan_of(layout).dns):
            api.create(path, body)
        for name in (KUBELET, PROXY, DNS):
            processes.start(parts[name])
        say("waiting for the node")
        self._wait(layout, processes, list(parts))

    def _start_node(self, layout: Layout, processes: Processes) -> None:
        cgroups.create(layout.folder.name)
        init = Path(__file__).with_name("init.py")
        namespaces = ("--mount", "--propagation=private", "--net", "--pid", "--cgroup")
        unshare = ["/usr/bin/unshare", *namespaces, "--fork", "--kill-child", "--"]
        enter = ["/bin/sh", "-c", cgroups.JOIN, layout.folder.name, *unshare]
        argv = [sys.executable, "-I", "-S", str(init), str(layout.folder), str(layout.bin)]
        processes.start(Command(INIT, argv, controlplane.environment(layout), enter, forks=True))
        ready = layout.folder / "node" / "ready"
        wait_for("the node's namespaces", ready.exists, 20, lambda: controlplane.ended(processes, [INIT]))
        cgroups.delegate(layout.folder.name)
        network.connect(layout, processes.pid(INIT) or 0)

    def _wait(self, layout: Layout, processes: Processes, names: list[str]) -> None:
        api = controlplane.api_of(layout)
        wait_for(
            "the node", lambda: controlplane.ready_nodes(api) == 1, 90, lambda: controlplane.ended(processes, names)
        )
        for what, url in (("kube-proxy", f"{layout.host}:10256/healthz"), ("CoreDNS", f"{layout.host}:8181/ready")):
            wait_for(what, partial(answers, f"http://{url}"), 60, lambda: controlplane.ended(processes, names))
        controlplane.wait_service_account(api, processes)

    def clean(self, spec: ClusterSpec, folder: Path) -> None:
        """Remove the wire and the cgroups; mounts, rules and containers went with the node's namespaces."""
        del spec
        network.disconnect(folder)
        wait_for("the node's interface to go", lambda: not network.connected(folder), 20)
        cgroups.remove(folder.name)


def plan_of(layout: Layout) -> Addresses:
    """Return the addresses a layout was made from."""
    return plan(f"{layout.host.rsplit('.', 2)[0]}.0.0/16")


def node_identities(layout: Layout) -> list[Identity]:
    """Return whom the node's programs are."""
    return [
        Identity("kubelet", f"system:node:{NODE}", ("system:nodes",), (NODE, layout.host)),
        Identity("kube-proxy", "system:kube-proxy"),
        Identity("coredns", "system:coredns"),
    ]


def kubelet_flags(layout: Layout) -> list[str]:
    """Return kubelet's flags."""
    return [
        f"--config={layout.folder / 'node' / 'kubelet.yaml'}",
        f"--kubeconfig={layout.kubeconfig_of('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={layout.host}",
    ]


def inside_node(folder: Path, init: int) -> Sequence[str]:
    """Return the words before a command that runs in the node's cgroups and in all its namespaces."""
    return [
        *("/bin/sh", "-c", cgroups.JOIN, cgroups.daemons(folder.name)),
        *(network.NSENTER, f"--target={init}", "--mount", "--net", "--pid", "--cgroup", "--"),
    ]


def answers(url: str) -> bool:
    """Tell whether a health address answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
