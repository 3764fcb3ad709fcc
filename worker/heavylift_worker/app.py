"""The dispatcher's composition root: everything is made here, and runs until SIGTERM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract.keys import Keys
from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat, Check, HealthServer
from heavylift.runtime.kube import KubeApi
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service, StateLine
from heavylift.spec.models import HeavyQueue
from heavylift.store import ops
from heavylift_worker.create import Creator, Pace
from heavylift_worker.dispatch import Dispatch
from heavylift_worker.gate import Gate
from heavylift_worker.loop import ClaimLoop
from heavylift_worker.metrics import Metrics
from heavylift_worker.queues import WATCH_LIMIT_S, QueueCache, QueueWatch
from heavylift_worker.registration import Registration
from heavylift_worker.settings import DispatcherSettings
from heavylift_worker.troubles import Troubles

CLAIM_LIMIT_S: Final = 60.0
"""The claim loop comes round each second, or fails within Redis' patience; the heartbeat in its own pause more."""
LIVE_FOR: Final = 3
"""Heartbeats a silent dispatcher still counts as live."""
_COUNTED_S: Final = 0.02


@dataclass(slots=True)
class Dispatcher:
    """One dispatcher process."""

    settings: DispatcherSettings
    service: Service = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    link: RedisLink = field(init=False)
    registration: Registration = field(init=False)
    watches: list[QueueWatch] = field(default_factory=list)
    _beats: list[Beat] = field(default_factory=list)
    _counted: bool = False
    """Whether the installation's width has our slots."""
    _log: Any = field(default_factory=lambda: logs.get("dispatcher"))

    def __post_init__(self) -> None:
        """Make what needs no connection."""
        self.service = Service("dispatcher", grace_s=8.0)
        self.link = RedisLink(self.settings, StateLine(self._log, "redis", ok=False, why="redis was not reached yet"))
        self.registration = Registration(self.settings, healthy=lambda: self.link.line.ok)

    async def run(self) -> int:
        """Run until told to end; return the exit code.

        Raises:
            ConfigurationError: the environment cannot work whatever happens outside: credentials, ports.
        """
        api = await KubeApi.connect(
            kubeconfig=self.settings.kubeconfig, connections=self.settings.create_concurrency + 8
        )
        health: HealthServer | None = None
        try:
            loop = self._compose(api)
            heartbeat = self._beat("heartbeat", CLAIM_LIMIT_S + self.settings.heartbeat)
            health = HealthServer(
                self.settings.http_host,
                self.settings.http_port,
                self._checks(),
                self.metrics.registry,
                beats=self._beats,
                refresh=lambda: self._scraped(loop),
            )
            await health.start()
            self._log.info(
                "dispatcher starts",
                worker=self.settings.worker_name,
                install=self.settings.install_id,
                namespaces=list(self.settings.namespaces),
                slots=self.settings.slots,
                port=health.port,
            )
            self.service.add("claim", lambda: self._claim(loop))
            self.service.add("heartbeat", lambda: self._heartbeat(heartbeat), drain=False)
            self.service.add("doorbell", lambda: self._listen(loop), drain=False)
            self.registration.start()
            code = await self.service.run()
            await self._leave()
            return code
        finally:
            if health is not None:
                await health.aclose()
            await api.aclose()
            await self.link.aclose()

    def _compose(self, api: KubeApi) -> ClaimLoop:
        settings, service = self.settings, self.service
        cache = QueueCache()
        gate = Gate(settings.breaker_failures, settings.breaker_pause, service.clock.monotonic)
        creator = Creator(
            api=api,
            clock=service.clock,
            pace=Pace(settings.create_rate, service.clock),
            pause=service.pause,
            request_timeout_s=settings.request_timeout,
        )
        dispatch = Dispatch(
            link=self.link,
            creator=creator,
            cache=cache,
            gate=gate,
            troubles=Troubles(self.link.run, settings.worker_name, service.clock),
            metrics=self.metrics,
            settings=settings,
            clock=service.clock,
            stopping=service.stop.is_set,
        )
        loop = ClaimLoop(dispatch=dispatch, settings=settings, service=service, beat=self._beat("claim", CLAIM_LIMIT_S))

        def changed() -> None:
            self.registration.serve(cache.serving())
            loop.wake.set()

        def renewed(found: HeavyQueue) -> None:
            gate.renewed(found.queue)
            self.metrics.serve(found.queue, found.spec.metrics.tasks)

        cache.changed, cache.renewed = changed, renewed
        for namespace in settings.namespaces:
            line = StateLine(self._log, f"kubernetes, namespace {namespace}")
            beat = self._beat(f"watch {namespace}", WATCH_LIMIT_S)
            watch = QueueWatch(namespace, api, cache, service, line, beat)
            self.watches.append(watch)
            service.add(f"watch {namespace}", watch.run, drain=False)
        return loop

    def _beat(self, name: str, limit_s: float) -> Beat:
        beat = Beat(name, limit_s)
        self._beats.append(beat)
        return beat

    def _checks(self) -> Mapping[str, Check]:
        checks: dict[str, Check] = {"redis": self.link.line.check}
        for watch in self.watches:
            checks[f"heavyqueues in {watch.namespace}"] = watch.check
        return checks

    async def _claim(self, loop: ClaimLoop) -> None:
        """Claim from the first registration on: what one claims before it counts would be beyond the width."""
        while not self._counted and await self.service.pause(_COUNTED_S):
            loop.beat.tick()
        await loop.run()

    async def _heartbeat(self, beat: Beat) -> None:
        """Say that we live, and show what we know."""
        settings, metrics = self.settings, self.metrics
        metrics.slots.labels("total").set(settings.slots)
        ttl_ms = round(settings.heartbeat * LIVE_FOR * 1000)
        keeps = StateLine(self._log, "redis settings")
        while not self.service.stop.is_set():
            beat.tick()
            try:
                judge_policy(keeps, await self.link.run(ops.server_report()))
                live = await self.link.run(ops.register_dispatcher(settings.install_id, settings.worker_name, ttl_ms))
                self._counted = True
                used = await self.link.run(ops.inflight_count(settings.install_id))
                metrics.slots.labels("in-use").set(used / max(1, live))
            except RedisUnavailableError:
                pause_s = 1.0
            else:
                pause_s = settings.heartbeat
            await self.service.pause(pause_s)

    async def _scraped(self, loop: ClaimLoop) -> None:
        """Bring the gauges up to date for a scrape."""
        self.metrics.redis_up.set(1 if self.link.line.ok else 0)
        self.metrics.slots.labels("creating").set(loop.active)
        for scope, states in loop.dispatch.gate.open_names().items():
            self.metrics.show_breakers(scope, states)

    async def _listen(self, loop: ClaimLoop) -> None:
        """Hear doorbells and, on the same connection, RQ's commands to this worker."""
        keys = Keys.from_env()
        commands = f"{keys.rq}:pubsub:{self.settings.worker_name}"
        while not self.service.stop.is_set():
            try:
                async with self.link.store().subscribe(keys.doorbell(), commands) as messages:
                    async for channel, message in messages:
                        if channel == commands:
                            await self._obey(message)
                        loop.wake.set()
            except HeavyliftError as error:
                self.link.failed(error)
                await self.service.pause(1.0)

    async def _obey(self, message: bytes) -> None:
        """Carry out what RQ's tools ask of a worker: ``shutdown``, ``stop-job``, ``stop-execution``."""
        try:
            command = json.loads(message)
        except ValueError:
            command = None
        match command:
            case {"command": "shutdown"}:
                self.service.end("RQ's shutdown command")
            case {"command": "stop-job" | "stop-execution", "job_id": str(job)}:
                reply = await self.link.run(ops.cancel(job, by="rq", reason="stopped by RQ's command"))
                self._log.info("stop asked for by RQ's command", job=job, verdict=reply.verdict.value)
            case _:
                self._log.warning("RQ's command is not for dispatchers", command=message[:200])

    async def _leave(self) -> None:
        """Take ourselves out of the count and of RQ's tools."""
        leaving = ops.unregister_dispatcher(self.settings.install_id, self.settings.worker_name)
        results = await asyncio.gather(
            asyncio.wait_for(self.link.run(leaving), 2.0),
            asyncio.to_thread(self.registration.stop),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, Exception):
                self._log.warning("could not take leave of Redis: it will notice", why=str(result))


def judge_policy(line: StateLine, report: Mapping[str, Any]) -> None:
    """Say once when this Redis may throw jobs away to make room."""
    policy = report.get("maxmemory_policy", "unknown")
    if policy in {"noeviction", "unknown"}:
        line.good("maxmemory-policy is noeviction")
    else:
        line.bad(f"maxmemory-policy is {policy}, so Redis may drop waiting jobs: set maxmemory-policy to noeviction")
