"""A local port whose connections are carried elsewhere, each over a connection of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from heavylift.cli.exits import say
from heavylift.errors import HeavyliftError

_CHUNK = 64 * 1024


@contextlib.contextmanager
def listening(connect: Callable[[], Any]) -> Iterator[int]:
    """Listen on a free port of 127.0.0.1 for the block and give its number.

    Args:
        connect: makes the far end of one connection: an object with recv, sendall, shutdown and close.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, connect), daemon=True, name="port-forward").start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, connect: Callable[[], Any]) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:  # closed: the command is over
            return
        try:
            far = connect()
        except HeavyliftError as error:
            say(str(error))
            near.close()
            continue
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, target), daemon=True, name="port-forward").start()


def _pump(source: Any, target: Any) -> None:
    """Carry bytes one way until either end closes."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            end.close()
