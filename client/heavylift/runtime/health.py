"""Probes and metrics over HTTP: liveness knows the loops, readiness says why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from heavylift.errors import ConfigurationError
from heavylift.runtime.logs import clean

Check = Callable[[], tuple[bool, str]]
"""A readiness check: (ok, why not or a remark); answers from memory at once, no I/O."""


@dataclass(slots=True)
class Beat:
    """One loop's sign of life: the loop ticks it, liveness fails when it did not for ``limit_s`` seconds."""

    name: str
    limit_s: float
    monotonic: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        """Count the start as the first tick."""
        self._last = self.monotonic()

    def tick(self) -> None:
        """Say that the loop came round."""
        self._last = self.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the last tick."""
        return self.monotonic() - self._last

    @property
    def alive(self) -> bool:
        """Whether the loop ticked within its limit."""
        return self.age_s <= self.limit_s


class HealthServer:
    """Serves ``/livez``, ``/healthz`` (the same), ``/readyz`` and ``/metrics``; port 0 takes a free one.

    ``refresh`` is awaited before a scrape; then ``metrics`` is asked in a thread and answers from memory.
    """

    def __init__(
        self,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        metrics: CollectorRegistry,
        *,
        beats: Iterable[Beat] = (),
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._host, self._asked_port = host, port
        self._checks, self._metrics, self._beats = checks, metrics, tuple(beats)
        self._refresh = refresh
        self._runner: web.AppRunner | None = None
        self.port = port
        """The port really bound, once started."""

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._live),
                web.get("/healthz", self._live),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._scrape),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._asked_port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError(
                f"cannot serve probes on {self._host}:{self._asked_port} ({error.strerror or error}): "
                "set HEAVYLIFT_HTTP_HOST and HEAVYLIFT_HTTP_PORT to a free address"
            ) from error
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def aclose(self) -> None:
        """Stop serving; harmless when never started."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def live(self) -> tuple[bool, str]:
        """Return whether every loop came round in time, and a report a line each."""
        lines = [
            f"[{'+' if beat.alive else '-'}] loop {beat.name}: {beat.age_s:.1f} s ago, limit {beat.limit_s:g} s"
            for beat in self._beats
        ]
        return all(beat.alive for beat in self._beats), _body(lines)

    def ready(self) -> tuple[bool, str]:
        """Return whether the process can do its work, and the reasons a line each."""
        alive, report = self.live()
        lines, fine = [report.rstrip("\n")] if report != _body([]) else [], alive
        for name, check in self._checks.items():
            ok, why = check()
            fine &= ok
            lines.append(f"[{'+' if ok else '-'}] {name}: {clean(why, 500) or ('ok' if ok else 'failed')}")
        return fine, _body(lines)

    async def _live(self, _request: web.Request) -> web.Response:
        return _answer(*self.live())

    async def _ready(self, _request: web.Request) -> web.Response:
        return _answer(*self.ready())

    async def _scrape(self, request: web.Request) -> web.Response:
        if self._refresh is not None:
            await self._refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        text = await asyncio.to_thread(encode, self._metrics)  # with a hundred queues, a tenth of a second
        return web.Response(body=text, headers={"Content-Type": content_type})


def _body(lines: list[str]) -> str:
    return "\n".join(lines or ["ok"]) + "\n"


def _answer(fine: bool, report: str) -> web.Response:  # noqa: FBT001 - the pair that live() and ready() return
    return web.Response(status=200 if fine else 503, text=report)
