"""Probes and metrics over a real socket."""

from __future__ import annotations

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from heavylift.errors import ConfigurationError
from heavylift.runtime.health import Beat, HealthServer


class _Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def _get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as reply:
        return reply.status, await reply.text()


async def test_liveness_knows_the_loops() -> None:
    """A loop that stops ticking fails liveness and readiness; a tick mends both."""
    now = _Time()
    beat = Beat("claim", 10.0, monotonic=now)
    server = HealthServer("127.0.0.1", 0, {}, CollectorRegistry(), beats=[beat])
    await server.start()
    try:
        assert (await _get(server.port, "/livez"))[0] == 200
        now.now += 11
        status, body = await _get(server.port, "/healthz")
        assert status == 503
        assert "[-] loop claim: 11.0 s ago, limit 10 s" in body
        assert (await _get(server.port, "/readyz"))[0] == 503
        beat.tick()
        assert (await _get(server.port, "/readyz"))[0] == 200
    finally:
        await server.aclose()


async def test_readiness_says_why_not() -> None:
    """The body of a failing readiness probe names each check and its reason, escaped."""
    checks = {"redis": lambda: (False, "wrong password\x1b"), "kubernetes": lambda: (True, "")}
    server = HealthServer("127.0.0.1", 0, checks, CollectorRegistry())
    await server.start()
    try:
        status, body = await _get(server.port, "/readyz")
        assert status == 503
        assert body == "[-] redis: wrong password\\x1b\n[+] kubernetes: ok\n"
        assert (await _get(server.port, "/livez"))[0] == 200
    finally:
        await server.aclose()


async def test_metrics_are_served() -> None:
    """The registry's metrics come out in Prometheus' text form."""
    registry = CollectorRegistry()
    Counter("heavylift_things", "Things.", registry=registry).inc(2)
    server = HealthServer("127.0.0.1", 0, {}, registry)
    await server.start()
    try:
        status, body = await _get(server.port, "/metrics")
        assert status == 200
        assert "heavylift_things_total 2.0" in body
    finally:
        await server.aclose()


async def test_taken_port_is_a_clear_error() -> None:
    """A port in use ends in an error that names the settings."""
    first = HealthServer("127.0.0.1", 0, {}, CollectorRegistry())
    await first.start()
    try:
        with pytest.raises(ConfigurationError, match="HEAVYLIFT_HTTP_PORT"):
            await HealthServer("127.0.0.1", first.port, {}, CollectorRegistry()).start()
    finally:
        await first.aclose()
