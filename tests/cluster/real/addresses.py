"""A range of addresses for a node that nothing on this machine uses."""

from __future__ import annotations

import ipaddress
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.cluster.errors import ClusterError

CANDIDATES = tuple(f"10.{second}.0.0/16" for second in range(200, 250))


@dataclass(frozen=True)
class Addresses:
    """How a cluster's range is used.

    Attributes:
        network: all of it, a /16.
        pods: addresses of pods.
        services: ClusterIPs.
        gateway: this machine, as the node and its pods see it.
        node: the node, its API server and its DNS server.
    """

    network: str
    pods: str
    services: str
    gateway: str
    node: str

    @property
    def dns(self) -> str:
        """ClusterIP of the DNS Service."""
        return str(ipaddress.ip_network(self.services)[10])


def plan(network: str) -> Addresses:
    """Divide a /16 network."""
    whole = ipaddress.IPv4Network(network)
    lower, upper = whole.subnets(prefixlen_diff=1)
    link = list(upper.subnets(new_prefix=24))[-1]
    return Addresses(network, str(lower), str(next(upper.subnets(new_prefix=18))), str(link[1]), str(link[2]))


def used_networks(routes: str) -> list[str]:
    """Return the networks in the output of ``ip -json -4 route show table all``, default routes apart."""
    listed: list[dict[str, Any]] = json.loads(routes or "[]")
    return [route["dst"] for route in listed if route.get("dst", "default") != "default"]


def choose(used: Iterable[str], seed: str) -> Addresses:
    """Return addresses that overlap none of the used networks; different seeds begin at different candidates.

    Raises:
        ClusterError: every candidate is used.
    """
    taken = [ipaddress.ip_network(network, strict=False) for network in used]
    start = zlib.crc32(seed.encode()) % len(CANDIDATES)
    for candidate in (*CANDIDATES[start:], *CANDIDATES[:start]):
        whole = ipaddress.ip_network(candidate)
        if not any(whole.overlaps(network) for network in taken):
            return plan(candidate)
    raise ClusterError("no free network between 10.200.0.0/16 and 10.249.0.0/16 on this machine")
