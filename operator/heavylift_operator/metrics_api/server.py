"""The TLS port: discovery, value lists and probes; whoever asks is known and allowed before anything is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import web
from prometheus_client import Counter

from heavylift.errors import ConfigurationError
from heavylift.runtime import logs
from heavylift_operator.metrics_api import documents, selector
from heavylift_operator.metrics_api.access import Access
from heavylift_operator.metrics_api.documents import Json
from heavylift_operator.metrics_api.identity import NOBODY, Asked, FrontProxy, User, identify
from heavylift_operator.metrics_api.samples import Sample, Scope, items
from heavylift_operator.metrics_api.status import REASONS, StatusError, status
from heavylift_operator.metrics_api.tls import Door

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PROBES: Final = frozenset({"/healthz", "/livez", "/readyz"})
_VERBS: Final = {"GET": "list", "HEAD": "list"}
_HEADERS_MAX: Final = 1_024
"""A user's groups are a header each."""
_LINE_MAX: Final = 16 * 1024
_IDLE_S: Final = 120.0
"""Longer than the API server leaves a connection unused."""
_SHUTDOWN_S: Final = 2.0


class Probes(Protocol):
    """What the probes answer: whether all is well, and a report a line each."""

    def live(self) -> tuple[bool, str]:
        """Return whether every loop came round in time."""

    def ready(self) -> tuple[bool, str]:
        """Return whether this replica can take requests."""


@dataclass(slots=True, kw_only=True)
class MetricsServer:
    """Serves one port; what it shows, whom it believes and what it answers is changed from outside."""

    host: str
    asked_port: int
    scope: Scope
    probes: Probes
    access: Access
    newest: Callable[[], Sample]
    """The newest sample, or StatusError when there is none that may be given."""
    requests: Counter
    """Requests for values, by label ``code``."""
    door: Door = field(default_factory=Door)
    proxy: FrontProxy = NOBODY
    port: int = 0
    """The port really bound; 0 = none yet."""
    _runner: web.AppRunner | None = None
    _ending: set[asyncio.Future[None]] = field(default_factory=set)
    """Connections that answer what they were asked and end."""
    _log: Any = field(default_factory=lambda: logs.get("metrics api"))

    def __post_init__(self) -> None:
        """Begin the counts at 0: what begins at 1 is no increase to Prometheus."""
        for code in (HTTPStatus.OK, *REASONS):
            self.requests.labels(code=str(code.value))

    # -- the port -----------------------------------------------------------------------------------------------------
    def trust(self, proxy: FrontProxy) -> None:
        """Believe this front proxy from now on; connections made before end with the request they are in.

        Raises:
            ValueError: its authority cannot be read; who was believed before still is.
        """
        self.door.trust(proxy.ca)
        changed, self.proxy = proxy != self.proxy, proxy
        if changed and self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                connection.close()  # an idle one waits for its next request no more
                ending = asyncio.ensure_future(connection.shutdown(_SHUTDOWN_S))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def start(self) -> None:
        """Bind and serve; the door must be open.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        app = web.Application(middlewares=[self._counted, self._as_status, self._admitted])
        base = f"/apis/{documents.GROUP}"
        app.add_routes(
            [
                web.get("/livez", self._live),
                web.get("/healthz", self._live),
                web.get("/readyz", self._ready),
                web.get("/apis", self._groups),
                web.get(base, self._fixed(documents.group())),
                web.get(f"{base}/{documents.VERSION}", self._fixed(documents.resources())),
                web.get(f"{base}/{documents.VERSION}/namespaces/{{namespace}}/{{metric}}", self._values),
            ]
        )
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=_IDLE_S,
            max_headers=_HEADERS_MAX,
            max_line_size=_LINE_MAX,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.asked_port, ssl_context=self.door.listening).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError(
                f"cannot serve the metrics API on {self.host}:{self.asked_port} ({error.strerror or error}): "
                "set HEAVYLIFT_METRICS_API_PORT to a free port"
            ) from error
        self._runner, self.port = runner, int(runner.addresses[0][1])
        self._log.info("serves the external metrics API", port=self.port)

    async def aclose(self) -> None:
        """Answer what is being answered, then stop; harmless when never started."""
        if self._runner is not None:
            await asyncio.gather(*self._ending, return_exceptions=True)
            await self._runner.cleanup()
            self._runner, self.port = None, 0

    # -- around each request ------------------------------------------------------------------------------------------
    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if "metric" in request.match_info:
            self.requests.labels(code=str(response.status)).inc()
        return response

    @web.middleware
    async def _as_status(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except StatusError as error:
            return _failure(error.code, str(error))
        except selector.InvalidSelectorError as error:
            return _failure(HTTPStatus.BAD_REQUEST, f"labelSelector: {error}")
        except web.HTTPException as error:
            return _failure(error.status, f"{request.method} {request.path[:200]}: {error.reason}")
        except Exception as error:  # noqa: BLE001 - the HPA shows the words of a Status, and nothing of an HTML page
            self._log.error("a request failed", path=request.path, exc_info=True)
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: see the operator's log")

    @web.middleware
    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _PROBES:
            user = await self._who(request)
            await self.access.check(user, _asked(request))
        return await handler(request)

    async def _who(self, request: web.Request) -> User:
        user = identify(self.proxy, _common_name(request), request.headers)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if user is None and scheme.lower() == "bearer":
            user = await self.access.user_of(token.strip())
        if user is None:
            raise StatusError(
                HTTPStatus.UNAUTHORIZED,
                "who asks is not known: ask through the API server (/apis/external.metrics.k8s.io), or with a token",
            )
        return user

    # -- answers ------------------------------------------------------------------------------------------------------
    async def _live(self, _request: web.Request) -> web.Response:
        return _report(*self.probes.live())

    async def _ready(self, _request: web.Request) -> web.Response:
        return _report(*self.probes.ready())

    async def _groups(self, request: web.Request) -> web.Response:
        if not documents.wants_discovery(",".join(request.headers.getall("Accept", []))):
            return _answer(documents.groups(), vary="Accept")
        body = documents.encode(documents.discovery())
        tag = documents.etag(body)
        headers = {"Content-Type": documents.DISCOVERY_TYPE, "ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
        if documents.unchanged(",".join(request.headers.getall("If-None-Match", [])), tag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=body, headers=headers)

    def _fixed(self, document: Json) -> Handler:
        async def handler(_request: web.Request) -> web.StreamResponse:
            return _answer(document)

        return handler

    async def _values(self, request: web.Request) -> web.Response:
        wanted = selector.parse(request.query.get("labelSelector", ""))
        sample = self.newest()
        visible = self.scope.sees(request.match_info["namespace"], sample.queues)
        return _answer(documents.values(items(sample, request.match_info["metric"], visible, wanted)))


def _asked(request: web.Request) -> Asked:
    named = request.match_info
    if "metric" not in named:
        return Asked(request.method.lower(), request.path)
    verb = _VERBS.get(request.method, request.method.lower())
    return Asked(verb, request.path, named["namespace"], named["metric"])


def _common_name(request: web.Request) -> str:
    """Return the common name of the client's verified certificate, empty when it showed none."""
    certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
    subject: Sequence[Any] = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return str(names[-1]) if names else ""


def _report(fine: bool, text: str) -> web.Response:  # noqa: FBT001 - the pair that Probes returns
    return web.Response(status=HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, text=text)


def _answer(document: Json, *, vary: str = "") -> web.Response:
    headers = {"Content-Type": documents.JSON_TYPE, "Cache-Control": "no-cache, private"}
    return web.Response(body=documents.encode(document), headers=headers | ({"Vary": vary} if vary else {}))


def _failure(code: int, message: str) -> web.Response:
    response = _answer(status(code, message))
    response.set_status(code)
    return response
