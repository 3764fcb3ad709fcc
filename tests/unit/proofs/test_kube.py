"""The tests' own client of the API server."""

from __future__ import annotations

import gc
import select
import socket
import struct
import warnings
from pathlib import Path

import pytest

from tests.proofs.kube import tls_context

_GONE_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket that resets its connection when it is closed."""


def test_a_peer_gone_before_the_handshake_leaves_no_socket_open(tmp_path: Path) -> None:
    """Python's own class forgets the socket it was about to make; whoever collects it later is told."""
    context = tls_context({"insecure-skip-tls-verify": True}, {}, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _GONE_AT_ONCE)
        theirs.close()
        assert select.select([ours], [], [], 10)[0]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(ConnectionResetError):
                context.wrap_socket(ours, server_hostname="localhost")
            ours.close()
            gc.collect()
    assert [str(one.message) for one in told] == []
