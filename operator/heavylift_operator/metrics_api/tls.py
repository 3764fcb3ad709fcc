"""Server-side TLS whose certificate and trusted clients change while the port stays open."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Door:
    """What the listener shows and whom it asks for a certificate; a change counts from the next connection on.

    ``listening`` is the context to listen with. Each connection is handed on to the newest one by the callback that
    OpenSSL makes for the client's server name, also when the client sends none.
    """

    listening: ssl.SSLContext = field(init=False)
    _current: ssl.SSLContext | None = None
    _chain: str = ""
    _key: str = ""
    _clients: str = ""

    def __post_init__(self) -> None:
        """Make the context to listen with."""
        self.listening = _context()
        self.listening.sni_callback = self._hand_on

    @property
    def open(self) -> bool:
        """Whether there is a certificate to show."""
        return self._current is not None

    def show(self, chain: str, key: str) -> None:
        """Serve this certificate chain and key, both PEM.

        Raises:
            ValueError: they cannot be used; what was shown before still is.
        """
        if (chain, key) != (self._chain, self._key):
            self._renew(chain, key, self._clients)

    def trust(self, clients: str) -> None:
        """Believe client certificates that these authorities signed (PEM; empty = none).

        Raises:
            ValueError: they cannot be read; who was believed before still is.
        """
        if clients != self._clients:
            self._renew(self._chain, self._key, clients)

    def _renew(self, chain: str, key: str, clients: str) -> None:
        context = _context()
        try:
            if clients:
                context.load_verify_locations(cadata=clients)
            if chain:
                _load(context, f"{key}\n{chain}")
        except ssl.SSLError as error:
            raise ValueError(f"{error.reason or error}") from error
        self._chain, self._key, self._clients = chain, key, clients
        self._current = context if chain else None

    def _hand_on(self, connection: Any, _name: str | None, _listening: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the authority given may be an intermediate one
    # A resumed session would skip the check of the client's certificate against the authorities of today; TLS 1.2 could
    # resume without tickets, too.
    context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, pem: str) -> None:
    """Load a key and its chain; ``ssl`` reads them from files only, so they lie in memory for that moment."""
    descriptor = os.memfd_create("serving", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
