"""A plain HTTPS client of one API server: no cache and no library between, so that what it saw is what was said."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import yaml
from typing_extensions import override

Json = dict[str, Any]
OK = range(200, 300)
NOT_FOUND = 404
CONFLICT = 409
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
FIELD_MANAGER = "proofs"


class KubeError(Exception):
    """The API server answered with an error; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def batch(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's Jobs, or of one."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def core(namespace: str, kind: str, name: str = "") -> str:
    """Return the path of a namespace's objects of the core group, or of one."""
    return f"/api/v1/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def heavyqueues(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's HeavyQueues, or of one."""
    return f"/apis/heavylift.dev/v1alpha1/namespaces/{namespace}/heavyqueues" + (f"/{name}" if name else "")


class Kube:
    """Requests to the API server a kubeconfig names; one connection each, so that threads may share it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        url = urlsplit(cluster["server"])
        self._host, self._port = url.hostname or "", url.port or 443
        self._token: str = user.get("token", "")
        self._tls = tls_context(cluster, user, kubeconfig.parent)

    def request(
        self, method: str, path: str, body: Json | None = None, *, content_type: str = "application/json"
    ) -> tuple[int, Json]:
        """Return status and decoded body; errors of the connection are ``OSError``."""
        status, text = self._exchange(method, path, body, content_type)
        try:
            reply = json.loads(text)
        except ValueError:
            reply = {"message": text}
        return status, reply if isinstance(reply, dict) else {"message": text}

    def _exchange(self, method: str, path: str, body: Json | None, content_type: str) -> tuple[int, str]:
        connection = self._connection(timeout=30)
        try:
            raw = None if body is None else json.dumps(body)
            connection.request(method, path, body=raw, headers=self._headers(content_type))
            reply = connection.getresponse()
            return reply.status, reply.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def _must(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Json:
        status, reply = self.request(method, path, body, content_type=content_type)
        if status not in OK:
            raise KubeError(status, str(reply.get("message", reply))[:500])
        return reply

    def get(self, path: str) -> Json | None:
        """Return the object, or None when there is none."""
        status, reply = self.request("GET", path)
        if status == NOT_FOUND:
            return None
        if status not in OK:
            raise KubeError(status, str(reply.get("message", reply))[:500])
        return reply

    def text(self, path: str) -> str:
        """Return what stands at a path that is not JSON, such as a pod's log."""
        status, text = self._exchange("GET", path, None, "application/json")
        if status not in OK:
            raise KubeError(status, text[:500])
        return text

    def create(self, path: str, body: Json) -> Json:
        """Create an object."""
        return self._must("POST", path, body)

    def apply(self, path: str, body: Json) -> Json:
        """Apply an object on the server's side: created or changed to this."""
        query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        return self._must("PATCH", f"{path}?{query}", body, APPLY)

    def merge(self, path: str, body: Json) -> Json:
        """Patch an object by JSON merge."""
        return self._must("PATCH", path, body, MERGE)

    def delete(self, path: str, **options: Any) -> bool:
        """Delete an object; return whether it was there."""
        status, reply = self.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options})
        if status == NOT_FOUND:
            return False
        if status not in OK:
            raise KubeError(status, str(reply.get("message", reply))[:500])
        return True

    def items(self, path: str, **query: str) -> tuple[list[Json], str]:
        """Return all objects under a path, page by page, and the listing's resource version."""
        found: list[Json] = []
        more = ""
        while True:
            pages = {"limit": "500", **query} | ({"continue": more} if more else {})
            page = self._must("GET", f"{path}?{urlencode(pages)}")
            found += page.get("items") or []
            more = page["metadata"].get("continue", "")
            if not more:
                return found, page["metadata"]["resourceVersion"]

    def watch(self, path: str, resource_version: str, *, seconds: int = 240, silence: float = 300.0) -> Iterator[Json]:
        """Yield the watch's events as the server sends them, until it ends the stream; closing it is safe."""
        query = urlencode(
            {
                "watch": "1",
                "resourceVersion": resource_version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": str(seconds),
            }
        )
        connection = self._connection(timeout=silence)
        try:
            connection.request("GET", f"{path}?{query}", headers=self._headers("application/json"))
            reply = connection.getresponse()
            if reply.status not in OK:
                raise KubeError(reply.status, reply.read(500).decode("utf-8", "replace"))
            while line := reply.readline():
                yield json.loads(line)
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def _headers(self, content_type: str) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return {"Content-Type": content_type, "Accept": "application/json", **bearer}

    def _connection(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)

    def __enter__(self) -> Self:
        """Return itself: nothing is held open between requests."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hold nothing, release nothing."""


class _Socket(ssl.SSLSocket):
    """Closes itself where Python 3.11 leaves it open: when its peer was gone before the handshake began."""

    @override
    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read; without a handshake only ``SSLSocket._create`` does."""
        try:
            return super().recv(buflen, flags)
        except OSError:
            if self.version() is None:
                self.close()
            raise


def tls_context(cluster: Json, user: Json, folder: Path) -> ssl.SSLContext:
    """Return what a kubeconfig's cluster and user say of TLS; files are looked for in its folder."""
    context = ssl.create_default_context()
    context.sslsocket_class = _Socket
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    authority = _material(cluster, "certificate-authority", folder)
    if authority:
        context.load_verify_locations(cadata=authority)
    certificate, key = _material(user, "client-certificate", folder), _material(user, "client-key", folder)
    if certificate and key:
        with tempfile.TemporaryDirectory() as scratch:  # ssl reads certificate chains from files only
            chain = Path(scratch, "chain.pem")
            chain.touch(mode=0o600)
            chain.write_text(f"{key}\n{certificate}")
            context.load_cert_chain(chain)
    return context


def _material(holder: Json, key: str, folder: Path) -> str:
    if f"{key}-data" in holder:
        return base64.b64decode(holder[f"{key}-data"]).decode()
    if key in holder:
        return (folder / str(holder[key])).read_text()
    return ""
