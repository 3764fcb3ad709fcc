"""Free TCP ports below the range from which the kernel gives ports to outgoing connections."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from tests.cluster.errors import ClusterError

FIRST = 20000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def ceiling() -> int:
    """Return the first port that the kernel may take for an outgoing connection."""
    try:
        return max(FIRST + 2000, int(RANGE.read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return 32768


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port of 127.0.0.1."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return ``count`` different free ports of 127.0.0.1.

    Raises:
        ClusterError: there are not enough.
    """
    found: list[int] = []
    for port in random.sample(range(FIRST, ceiling()), 1000):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports between {FIRST} and {ceiling()} on 127.0.0.1")
