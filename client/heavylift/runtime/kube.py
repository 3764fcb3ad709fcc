"""The connection to the Kubernetes API: dict bodies over the official client's loading, TLS, tokens and pool.

The only importer of ``kubernetes`` among the processes. HTTP statuses are replies; only a request without one raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import yaml
from kubernetes.aio import client as _client
from kubernetes.aio import config as _config

from heavylift.contract import names
from heavylift.errors import ClusterUnavailableError, ConfigurationError, HeavyliftError
from heavylift.runtime import kubejson, kubepool

Json = dict[str, Any]
kubernetes_client: Any = _client  # ships no usable types
kubernetes_config: Any = _config

JSON_TYPE: Final = "application/json"
METADATA_ONLY: Final = f"{JSON_TYPE};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON_TYPE}"
"""Accepts an answer without spec and status, which were just sent; what went wrong comes whole."""
_JOBS: Final = re.compile(r"/apis/batch/v1/namespaces/[^/]+/jobs(/[^/]+)?")
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
EXPIRED: Final = 410
"""History the API server no longer has: list again."""
SKIPPED: Final[Json] = {"type": "SKIPPED", "object": {}}
"""Stands for an event of a watch that was not read."""
_OK: Final = 200
_SILENCE_S: Final = 30.0
"""A watch may be silent for its whole time; this long past its end the connection counts as dead."""


class KubeStatusError(HeavyliftError):
    """The API server refused a list or watch; ``status`` is the HTTP status, the message says what to check."""

    def __init__(self, status: int, path: str, message: str) -> None:
        super().__init__(f"Kubernetes answers {status} for {path}: {message}{_REMEDIES.get(status, '')}")
        self.status = status


_REMEDIES: Final = {
    401: " (the service account's token or the kubeconfig's credentials are not accepted: renew them)",
    403: " (check the Role and RoleBinding of this process's service account in that namespace)",
    404: " (are Heavylift's CRDs installed? apply manifests/crds or set crds.install=true)",
}


@dataclass(frozen=True, slots=True)
class KubeReply:
    """One HTTP reply."""

    status: int
    body: Any
    """The decoded JSON object, or the text when it is not JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Asked for by lower-case names."""

    @property
    def ok(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's success range

    @property
    def object(self) -> Json:
        """The body when it is a JSON object, else an empty one."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def message(self) -> str:
        """The server's own words, at most 2,000 characters."""
        text = self.object.get("message") if isinstance(self.body, dict) else self.body
        return str(text or f"HTTP {self.status}")[:2000]

    @property
    def reason(self) -> str:
        """The machine-readable reason of a ``Status`` body, or an empty string."""
        return str(self.object.get("reason") or "")

    @property
    def retry_after_s(self) -> float | None:
        """Seconds the server asks to wait (``Retry-After``), or None."""
        try:
            return max(0.0, float(self.headers["retry-after"]))
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole collection at one moment, or a page of it."""

    items: tuple[Json, ...]
    resource_version: str
    """Where a watch goes on from."""


class KubeApi:
    """A pooled connection to one cluster."""

    def __init__(self, client: Any, renewal: asyncio.Task[None] | None = None) -> None:
        self._client = client
        self._renewal = renewal
        rest, name = client.rest_client, client.configuration.tls_server_name
        given = {"proxy": rest.proxy, "proxy_headers": rest.proxy_headers, "server_hostname": name}
        self._more: Json = {key: value for key, value in given.items() if value}

    @classmethod
    async def connect(
        cls, *, kubeconfig: str | None = None, context: str | None = None, connections: int = 32
    ) -> KubeApi:
        """Load the credentials; no request is sent yet.

        Args:
            kubeconfig: a file; None = the pod's service account, else ``KUBECONFIG`` or ``~/.kube/config``.
            context: of the kubeconfig; None = its current one.
            connections: requests at once; further ones wait.

        Raises:
            ConfigurationError: no usable credentials; the message says what to set.
        """
        configuration = kubernetes_client.Configuration()
        configuration.connection_pool_maxsize = connections
        renewal: asyncio.Task[None] | None = None
        try:
            if kubeconfig is None and context is None and _in_cluster():
                kubernetes_config.load_incluster_config(client_configuration=configuration)
            else:
                loader = await kubernetes_config.load_kube_config(
                    config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
                )
                renewal = asyncio.create_task(kubernetes_config.refresh_token(loader, configuration), name="kube-token")
        except (kubernetes_config.ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"no usable Kubernetes credentials ({_brief(error)}): run in a pod with a service account, "
                "or set HEAVYLIFT_KUBECONFIG to a kubeconfig file"
            ) from error
        try:
            client = kubernetes_client.ApiClient(configuration)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the Kubernetes certificates cannot be used: {_brief(error)}") from error
        client.user_agent = "heavylift"
        client.rest_client.pool_manager = kubepool.session(client.rest_client, connections)
        return cls(client, renewal)

    async def aclose(self) -> None:
        """Close the pool."""
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._renewal
        await self._client.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        content_type: str = JSON_TYPE,
        timeout: float = 10.0,  # noqa: ASYNC109 - one limit for connecting, sending and reading, kept by the pool
    ) -> KubeReply:
        """Send one request and return its reply, whatever its status; never repeated here.

        Raises:
            ClusterUnavailableError: no reply within ``timeout`` seconds; the request may have been carried out.
        """
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            response = await self._send(method, path, body, query, content_type, limit)
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(response.release)
                raw = await response.read()
        except _NO_REPLY as error:
            raise _unavailable(method, path, error) from error
        return KubeReply(response.status, _decode(raw), response.headers)

    async def pages(
        self, path: str, *, query: Mapping[str, Any] | None = None, limit: int = 500
    ) -> AsyncIterator[Json]:
        """Yield the items of a collection page by page; a listing that expired starts anew, so items may come twice.

        Raises:
            KubeStatusError: the server refused.
            ClusterUnavailableError: no reply.
        """
        async for page in self.listings(path, query=query, limit=limit):
            for item in page.items:
                yield item

    async def listings(
        self, path: str, *, query: Mapping[str, Any] | None = None, limit: int = 500
    ) -> AsyncIterator[Listing]:
        """Yield a collection's pages as they come, each with the version of the whole; the same rules as ``pages``."""
        token = ""
        while True:
            reply = await self.request("GET", path, query=_page_query(query, limit, token), timeout=30.0)
            if reply.status == EXPIRED and token:
                token = ""
                continue
            metadata = reply.object.get("metadata") or {}
            yield Listing(tuple(_items(reply, path)), str(metadata.get("resourceVersion") or ""))
            token = str(metadata.get("continue") or "")
            if not token:
                return

    async def list(self, path: str, *, query: Mapping[str, Any] | None = None, limit: int = 500) -> Listing:
        """Return a whole collection of one moment, to be followed by ``watch``.

        Raises:
            KubeStatusError: the server refused.
            ClusterUnavailableError: no reply.
        """
        token, items = "", list[Json]()
        while True:
            reply = await self.request("GET", path, query=_page_query(query, limit, token), timeout=30.0)
            if reply.status == EXPIRED and token:
                token, items = "", []
                continue
            items.extend(_items(reply, path))
            metadata = reply.object.get("metadata") or {}
            token = str(metadata.get("continue") or "")
            if not token:
                return Listing(tuple(items), str(metadata.get("resourceVersion") or ""))

    async def watch(
        self,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        resource_version: str = "",
        timeout_seconds: int = 290,
        opened: Callable[[], None] = lambda: None,
        skips: Callable[[bytes], bool] | None = None,
    ) -> AsyncIterator[Json]:
        """Yield events ``{"type", "object"}`` (bookmarks too) until the server ends the watch, as it does in time.

        Args:
            path: of the collection.
            query: selectors.
            resource_version: where to go on from.
            timeout_seconds: how long the server keeps it open.
            opened: called once the server has taken the request: events may be long in coming.
            skips: tells of an event's line that nobody needs it read: it comes as ``SKIPPED``.

        Raises:
            KubeStatusError: refused; status 410 (also inside the stream) = list again.
            ClusterUnavailableError: the connection broke.
        """
        asked = {
            **(query or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": timeout_seconds,
        }
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=timeout_seconds + _SILENCE_S)
        try:
            response = await self._send("GET", path, None, asked, JSON_TYPE, limit)
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(response.close)
                if response.status != _OK:
                    reply = KubeReply(response.status, _decode(await response.read()))
                    raise KubeStatusError(reply.status, path, reply.message)
                opened()
                async for line in response.content:
                    yield SKIPPED if skips is not None and skips(line) else _event(line, path)
        except _NO_REPLY as error:
            raise _unavailable("WATCH", path, error) from error

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any] | None,
        content_type: str,
        limit: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _accept(method, path), "Content-Type": content_type, "User-Agent": self._client.user_agent}
        for setting in (await self._client.configuration.auth_settings()).values():
            if setting["value"]:
                headers[setting["key"]] = setting["value"]
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        session: aiohttp.ClientSession = self._client.rest_client.pool_manager
        data = None if body is None else kubejson.encode(body)
        return await session.request(method, url, data=data, headers=headers, timeout=limit, **self._more)


_NO_REPLY: Final = (aiohttp.ClientError, TimeoutError, OSError, kubernetes_config.ConfigException)


def jobs_path(namespace: str, name: str | None = None) -> str:
    """Return the path of a namespace's Jobs, or of one of them."""
    return _path(f"/apis/batch/v1/namespaces/{quote(namespace, safe='')}/jobs", name)


def pods_path(namespace: str, name: str | None = None) -> str:
    """Return the path of a namespace's pods, or of one of them."""
    return _path(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods", name)


def heavyqueues_path(namespace: str, name: str | None = None) -> str:
    """Return the path of a namespace's HeavyQueues, or of one of them (append ``/status`` for its status)."""
    return _path(f"/apis/{names.API_VERSION}/namespaces/{quote(namespace, safe='')}/heavyqueues", name)


def heavyschedules_path(namespace: str, name: str | None = None) -> str:
    """Return the path of a namespace's HeavySchedules, or of one of them (append ``/status`` for its status)."""
    return _path(f"/apis/{names.API_VERSION}/namespaces/{quote(namespace, safe='')}/heavyschedules", name)


def events_path(namespace: str) -> str:
    """Return the path of a namespace's events."""
    return _path(f"/api/v1/namespaces/{quote(namespace, safe='')}/events", None)


def _path(collection: str, name: str | None) -> str:
    return collection if name is None else f"{collection}/{quote(name, safe='')}"


def _in_cluster() -> bool:
    with contextlib.suppress(kubernetes_config.ConfigException, OSError):
        kubernetes_config.load_incluster_config(client_configuration=kubernetes_client.Configuration())
        return True
    return False


def _accept(method: str, path: str) -> str:
    """Return the media types that are wanted: of a Job just written nobody needs more than its metadata."""
    return METADATA_ONLY if method in {"POST", "PATCH"} and _JOBS.fullmatch(path) else JSON_TYPE


def _page_query(query: Mapping[str, Any] | None, limit: int, token: str) -> Json:
    asked: Json = {**(query or {}), "limit": limit}
    if token:
        asked["continue"] = token
    return asked


def _items(reply: KubeReply, path: str) -> list[Json]:
    if not reply.ok:
        raise KubeStatusError(reply.status, path, reply.message)
    kind, version = str(reply.object.get("kind") or "").removesuffix("List"), reply.object.get("apiVersion")
    # Items of a typed list carry no kind of their own; readers want whole objects.
    return [{"kind": kind, "apiVersion": version, **item} for item in reply.object.get("items") or []]


def _event(line: bytes, path: str) -> Json:
    try:
        event = kubejson.decode(line)
    except ValueError as error:
        raise ClusterUnavailableError(f"the watch on {path} broke off inside an event") from error
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ClusterUnavailableError(f"the watch on {path} sent something that is no event")
    if event.get("type") == "ERROR":
        status = event["object"]
        raise KubeStatusError(int(status.get("code") or 500), path, str(status.get("message") or "watch failed"))
    return event


def _decode(raw: bytes) -> Any:
    try:
        return kubejson.decode(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _unavailable(method: str, path: str, error: BaseException) -> ClusterUnavailableError:
    return ClusterUnavailableError(
        f"no answer from the Kubernetes API to {method} {path} ({_brief(error)}): "
        "check the API server, the network and the credentials"
    )


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
