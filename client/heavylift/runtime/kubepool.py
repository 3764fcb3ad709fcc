"""The pool of connections to the Kubernetes API, with what the official client loaded: TLS, proxies."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

_BUFFER: Final = 2**21
"""Bytes: an object of etcd's size limit, with room."""


def session(rest: Any, connections: int) -> aiohttp.ClientSession:
    """Return a pool with what the official client loaded; its own does for each request what is the same for all."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=rest.ssl_context),
        # With it aiohttp asks the environment and ~/.netrc anew for each request, in another thread each time.
        trust_env=proxied(rest.configuration.host),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_BUFFER,
    )


def proxied(url: str) -> bool:
    """Return whether the environment (``HTTPS_PROXY``, ``NO_PROXY``, ...) has a proxy between us and this URL."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")
