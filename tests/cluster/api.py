"""A few calls to the API server, for starting the cluster and nothing else."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError, ComponentError

CONFLICT = 409


class Api:
    """The API server as seen with a client certificate.

    Args:
        host: its address.
        port: its port.
        pki: folder with ``ca.crt``, ``admin.crt`` and ``admin.key``.
    """

    def __init__(self, host: str, port: int, pki: Path) -> None:
        self._address = (host, port)
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Make one request and return (status, body).

        Raises:
            OSError: the server is not there.
        """
        connection = http.client.HTTPSConnection(*self._address, timeout=10, context=self._context)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", "Accept": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """Return one object or list."""
        status, body = self.call("GET", path)
        return self._checked(f"GET {path}", status, body)

    def create(self, path: str, body: Mapping[str, Any]) -> None:
        """Create an object; one that is there already is left as it is."""
        status, answer = self.call("POST", path, body)
        if status != CONFLICT:
            self._checked(f"POST {path}", status, answer)

    def ok(self, path: str) -> bool:
        """Tell whether a health path answers 200; a server that is not there does not."""
        try:
            return self.call("GET", path)[0] == http.HTTPStatus.OK
        except OSError:
            return False

    @staticmethod
    def _checked(what: str, status: int, body: bytes) -> dict[str, Any]:
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ClusterError(f"{what}: {status} {body[:500].decode(errors='replace')}")
        parsed: dict[str, Any] = json.loads(body)
        return parsed


def wait_for(
    what: str, ready: Callable[[], bool], limit: float, ended: Callable[[], str | None] = lambda: None
) -> None:
    """Wait until ``ready`` holds.

    Args:
        what: the condition, in words, for the message.
        ready: asked every few milliseconds.
        limit: seconds to wait at most.
        ended: returns a reason why waiting is of no more use, or None.

    Raises:
        ComponentError: it did not come true in time, or ``ended`` gave a reason.
    """
    deadline = time.monotonic() + limit
    while not ready():
        reason = ended()
        if reason is not None:
            raise ComponentError(f"waiting for {what}: {reason}")
        if time.monotonic() > deadline:
            raise ComponentError(f"{what}: not so after {limit:.0f} s")
        time.sleep(0.03)
