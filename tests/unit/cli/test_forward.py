"""The local end of a port-forward: connections are carried whole, both ways, each on its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from heavylift.cli.forward import listening
from heavylift.errors import ClusterUnavailableError

LIMIT_S = 30


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, until its client has said all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        while chunk := connection.recv(4096):
            connection.sendall(chunk)


def _ask(port: int, message: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as near:
        sender = threading.Thread(target=near.sendall, args=(message,))
        sender.start()
        answer = b""
        while len(answer) < len(message):
            chunk = near.recv(65_536)
            if not chunk:
                break
            answer += chunk
        sender.join(timeout=LIMIT_S)
    return answer


def test_connections_are_carried_both_ways(echo: tuple[str, int]) -> None:
    """Several connections, one of them with more than one buffer, come back whole."""
    with listening(lambda: socket.create_connection(echo, timeout=LIMIT_S)) as port:
        large = bytes(range(256)) * 4096

        assert _ask(port, b"ping") == b"ping"
        assert _ask(port, large) == large
        assert _ask(port, b"again") == b"again"


def test_far_end_that_cannot_be_made_closes_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """When the cluster refuses, the local connection is closed and the reason is said."""

    def refuse() -> object:
        raise ClusterUnavailableError("the cluster does not answer")

    with (
        listening(refuse) as port,
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as near,
    ):
        assert near.recv(1) == b""

    assert "the cluster does not answer" in capsys.readouterr().err


def test_nothing_listens_after_the_block(echo: tuple[str, int]) -> None:
    """The port is closed with the block."""
    with listening(lambda: socket.create_connection(echo, timeout=LIMIT_S)) as port:
        pass

    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
