"""The external metrics API as one part of the operator: its loops, its checks, its metrics."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from heavylift.runtime import logs
from heavylift.runtime.health import Beat, Check, HealthServer
from heavylift.runtime.kube import KubeApi
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.metrics_api.access import Access
from heavylift_operator.metrics_api.certificates import Policy
from heavylift_operator.metrics_api.identity import NOBODY
from heavylift_operator.metrics_api.keeper import Keeper, Place
from heavylift_operator.metrics_api.sampler import Sampler
from heavylift_operator.metrics_api.samples import Scope
from heavylift_operator.metrics_api.server import MetricsServer
from heavylift_operator.metrics_api.trust import Trust
from heavylift_operator.settings import OperatorSettings

SAMPLE_LIMIT_S = 120.0
"""The sampling loop comes round within this, Redis' time-outs inside."""
_DOOR_S = 0.2


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the operator has already."""

    settings: OperatorSettings
    service: Service
    api: KubeApi
    link: RedisLink
    metrics: Metrics
    served: Callable[[], Mapping[str, str] | None]
    """Queue -> namespace of the HeavyQueue that owns its name; None = not listed yet."""
    ready: Mapping[str, Check]
    """What else must once have come true before this replica takes requests."""
    beats: dict[str, Beat]


@dataclass(slots=True, kw_only=True)
class MetricsApi:
    """Serves the API from the first certificate on."""

    service: Service
    server: MetricsServer
    sampler: Sampler
    keeper: Keeper
    trust: Trust

    @classmethod
    def build(cls, parts: Parts) -> Self:
        """Put the parts together; nothing is connected yet."""
        settings, service, log = parts.settings, parts.service, logs.get("metrics api")
        namespace, _, name = settings.metrics_api_service.partition("/")
        place = Place(namespace, name, settings.metrics_api_secret, given=settings.metrics_api_secret_given)
        beat = parts.beats.setdefault("metrics samples", Beat("metrics samples", SAMPLE_LIMIT_S))
        sampler = Sampler(
            link=parts.link,
            service=service,
            install=settings.install_id,
            served=parts.served,
            interval_s=settings.metrics_api_sample,
            stale_s=settings.metrics_api_stale,
            beat=beat,
        )
        ready = dict(parts.ready)  # our own come below
        server = MetricsServer(
            host=settings.metrics_api_host,
            asked_port=settings.metrics_api_port,
            scope=Scope(namespace, frozenset(settings.namespaces)),
            probes=HealthServer("", 0, ready, parts.metrics.registry, beats=parts.beats.values()),
            access=Access(parts.api, service.clock.monotonic),
            newest=sampler.newest,
            requests=parts.metrics.external_requests,
        )
        keeper = _keeper(parts, place, server, log)
        why = "the API server's front proxy is not known yet"
        trust = Trust(
            api=parts.api, service=service, line=StateLine(log, "front proxy", ok=False, why=why), believe=server.trust
        )
        made = cls(service=service, server=server, sampler=sampler, keeper=keeper, trust=trust)
        ready |= made.checks()
        return made

    def add_loops(self) -> None:
        """Register what runs until the process ends."""
        self.service.add("metrics api samples", self.sampler.run, drain=False)
        self.service.add("metrics api certificates", self.keeper.run, drain=False)
        self.service.add("metrics api front proxy", self.trust.run, drain=False)
        self.service.add("metrics api", self._listen, drain=False)

    async def _listen(self) -> None:
        """Bind once there is a certificate to show."""
        while not self.server.door.open:
            if not await self.service.pause(_DOOR_S):
                return
        await self.server.start()
        await self.service.stop.wait()

    def checks(self) -> Mapping[str, Check]:
        """Return the readiness checks; each comes true once and stays so, a later fault is answered per request."""
        return {
            "metrics api": self._serves,
            "front proxy": lambda: (self.server.proxy != NOBODY, self.trust.line.why),
            "metrics sample": self.sampler.check,
        }

    def _serves(self) -> tuple[bool, str]:
        if self.server.port == 0:
            return False, self.keeper.certificate.why or "the port is not open yet"
        return True, "; ".join(line.why for line in (self.keeper.certificate, self.keeper.registration) if not line.ok)

    async def aclose(self) -> None:
        """Stop serving."""
        await self.server.aclose()


def _keeper(parts: Parts, place: Place, server: MetricsServer, log: Any) -> Keeper:
    settings = parts.settings
    return Keeper(
        api=parts.api,
        service=parts.service,
        place=place,
        policy=Policy(names=place.names, settle=dt.timedelta(seconds=settings.metrics_api_settle)),
        door=server.door,
        clock=ClusterClock(parts.service.clock),
        interval_s=settings.reconcile_interval,
        certificate=StateLine(log, "serving certificate", ok=False, why="it was not read yet"),
        registration=StateLine(log, "APIService", ok=False, why="it was not read yet"),
        owned=parts.metrics.external_owned,
        expires=parts.metrics.external_expiry,
    )
