"""What an operator hears of the cluster: Jobs and pods by its own informers, custom resources through kopf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec

from heavylift.errors import ClusterUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import KubeStatusError
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.cluster import Cluster, Kind
from heavylift_operator.handlers.sink import Sink
from heavylift_operator.handlers.source import EventSource
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.informer import INFORMER_LIMIT_S, Informer
from heavylift_operator.services.workqueue import Item

P = ParamSpec("P")
KOPF_LIMIT_S: Final = 60.0
"""kopf's loop comes round every two seconds."""
_DISCOVERY_S: Final = 2.0
_DIED: Final = 1


@dataclass(slots=True, kw_only=True)
class Hearing:
    """Starts who listens, says whether they do, and tells what changed."""

    service: Service
    cluster: Cluster
    metrics: Metrics
    namespaces: tuple[str, ...]
    put: Callable[[Item], None]
    turn: asyncio.Event
    """Set while Jobs are ours to hear; pods are heard by every replica."""
    beat: Callable[[str, float], Beat]
    """Makes a loop's sign of life."""
    crds: StateLine
    queues_changed: asyncio.Event
    schedules_changed: asyncio.Event
    _kopf: EventSource | None = None
    _informers: list[Informer] = field(default_factory=list)
    _log: Any = field(default_factory=lambda: logs.get("operator"))

    def add_loops(self) -> None:
        """Register the loops."""
        sink = Sink(
            put=self.put,
            queues_changed=self._from_thread(self.queues_changed.set),
            schedules_changed=self._from_thread(self.schedules_changed.set),
            metrics=self.metrics,
        )
        for namespace in self.namespaces:
            for kind, hear in ((Kind.JOB, sink.job), (Kind.POD, sink.pod)):
                name = f"{kind.value}s in {namespace}"
                informer = Informer(
                    kind=kind,
                    namespace=namespace,
                    cluster=self.cluster,
                    hear=hear,
                    service=self.service,
                    line=StateLine(self._log, name),
                    beat=self.beat(name, INFORMER_LIMIT_S),
                    turn=self.turn if kind is Kind.JOB else None,
                )
                self._informers.append(informer)
                self.service.add(f"informer of {name}", informer.run, drain=False)
        beat = self.beat("kopf", KOPF_LIMIT_S)
        self.service.add("events", lambda: self._start_kopf(sink, beat), drain=False)

    def check(self) -> tuple[bool, str]:
        """Return as a readiness check whether all of it is heard."""
        if self._kopf is None or not self._kopf.alive:
            return False, "the watches have not started: the custom resources are waited for"
        answers = (informer.check() for informer in self._informers)
        return next((answer for answer in answers if not answer[0]), (True, ""))

    @property
    def reached(self) -> bool:
        """Whether the API server answers all informers, if only to refuse."""
        return all(informer.reached for informer in self._informers)

    async def aclose(self) -> None:
        """End kopf's thread."""
        if self._kopf is not None:
            await asyncio.to_thread(self._kopf.stop)

    async def _start_kopf(self, sink: Sink, beat: Beat) -> None:
        """Wait until the cluster serves our kinds (kopf would never see them later), then start kopf."""
        while not await self._discovered():
            beat.tick()  # it is we who are late, not kopf
            if not await self.service.pause(_DISCOVERY_S):
                return
        self._kopf = EventSource(
            sink=sink, namespaces=self.namespaces, ticked=beat.tick, died=self._from_thread(self._died)
        )
        self._kopf.start()
        await self.service.stop.wait()

    def _died(self, why: str) -> None:
        self._log.error("no events any more: the process ends, to be started anew", why=why)
        self.service.end("kopf ended", exit_code=_DIED)

    async def _discovered(self) -> bool:
        try:
            served = await self.cluster.serves_heavyqueues()
        except (ClusterUnavailableError, KubeStatusError) as error:
            self.crds.bad(str(error))
            return False
        if served:
            self.crds.good("served")
            self.queues_changed.set()
        else:
            self.crds.bad("HeavyQueues are not served: install the CRDs (manifests/crds, or crds.install=true)")
        return served

    def _from_thread(self, what: Callable[P, object]) -> Callable[P, None]:
        """Return a function that has something called in the running loop, from whichever thread."""
        loop = asyncio.get_running_loop()

        def call(*arguments: P.args, **_: P.kwargs) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(what, *arguments)

        return call
