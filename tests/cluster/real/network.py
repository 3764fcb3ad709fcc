"""The wire between this machine and a node's own network namespace."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout
from tests.cluster.real.addresses import Addresses, choose, used_networks

IP = "/usr/sbin/ip"
NSENTER = "/usr/bin/nsenter"


def interface(folder: Path) -> str:
    """Return the name of a cluster's interface on this machine, at most 15 characters."""
    return f"hl{zlib.crc32(str(folder).encode()):08x}"


def choose_addresses(folder: Path) -> Addresses:
    """Return addresses that no route of this machine covers."""
    routes = _run(IP, "-json", "-4", "route", "show", "table", "all")
    return choose(used_networks(routes), str(folder))


def connect(layout: Layout, init: int) -> None:
    """Lay the wire to the network namespace of process ``init``, and routes to the node's pods and Services.

    The node gets no default route: nothing in the cluster reaches beyond this machine. It gets one to its Services, as
    what a program of its own sends there is routed before kube-proxy's rules turn it to a pod: the API server asks
    aggregated APIs and webhooks so.
    """
    outer, inner = interface(layout.folder), "eth0"
    within = (NSENTER, f"--net=/proc/{init}/ns/net", "--")
    _run(IP, "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", str(init))
    _run(IP, "address", "add", f"{layout.gateway}/24", "dev", outer)
    _run(IP, "link", "set", outer, "up")
    _run(*within, IP, "link", "set", "lo", "up")
    _run(*within, IP, "address", "add", f"{layout.host}/24", "dev", inner)
    _run(*within, IP, "link", "set", inner, "up")
    _run(*within, IP, "route", "add", layout.services, "dev", inner)
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    _run(*within, "/bin/sh", "-c", forward)
    for network in (layout.pods, layout.services):
        _run(IP, "route", "add", network, "via", layout.host, "dev", outer)


def disconnect(folder: Path) -> None:
    """Remove the wire if it is still there; it goes with the node's namespace, though not at once."""
    if connected(folder):
        subprocess.run([IP, "link", "delete", interface(folder)], check=False, capture_output=True)


def connected(folder: Path) -> bool:
    """Tell whether the cluster's interface exists on this machine."""
    return Path("/sys/class/net", interface(folder)).exists()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
