"""Connections straight to an operator's TLS port, past the API server."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"


@dataclass(frozen=True)
class Caller:
    """Somebody who reaches the port: a certificate or none, and whom to trust."""

    name: str
    """The server's name, as its certificate has it."""
    trusted: str
    """PEM."""
    chain: Path | None = None
    key: Path | None = None

    def get(self, port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Ask once; return status and body, JSON decoded.

        Raises:
            OSError: TLS refused one of both sides.
        """
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        with self._context().wrap_socket(raw, server_hostname=self.name) as connection:
            client = http.client.HTTPConnection(self.name)
            client.sock = connection
            client.request("GET", path, headers=headers or {})
            reply = client.getresponse()
            text = reply.read().decode()
        return reply.status, json.loads(text) if text.startswith("{") else text

    def certificate(self, port: int) -> bytes:
        """Return the certificate that is shown, DER."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        with self._context().wrap_socket(raw, server_hostname=self.name) as connection:
            return connection.getpeercert(binary_form=True) or b""

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.trusted)
        if self.chain is not None:
            context.load_cert_chain(self.chain, self.key)
        return context
