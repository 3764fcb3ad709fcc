"""The operator's composition root: everything is made here, and runs until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import ClusterUnavailableError, HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat, Check, HealthServer
from heavylift.runtime.kube import KubeApi
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service, StateLine
from heavylift.store import ops
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.adapters.cluster import Cluster, Kind
from heavylift_operator.core.queues import kept_jobs
from heavylift_operator.hearing import Hearing
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.metrics_api.service import MetricsApi, Parts
from heavylift_operator.services.finisher import Finisher
from heavylift_operator.services.janitor import Janitor
from heavylift_operator.services.leading import Answers, Leadership, lock_s
from heavylift_operator.services.queues import Queues
from heavylift_operator.services.reconciler import Reconciler
from heavylift_operator.services.schedules import Schedules
from heavylift_operator.services.scheduling import TICKS_LIMIT_S, Scheduling
from heavylift_operator.services.scrape import Scrape
from heavylift_operator.services.ticks import Ticks
from heavylift_operator.services.wake import Wake
from heavylift_operator.services.workqueue import WorkQueue
from heavylift_operator.settings import OperatorSettings

PASS_LIMIT_S: Final = 300.0
"""A pass, with Redis' and the API server's time-outs inside, comes round within this and some intervals."""
BACKLOG_LIMIT_S: Final = 300.0
"""An item of the work queue that waits longer than this means that we do not keep up, or cannot."""
FOLLOW_S: Final = 5.0
"""How long the replica without the lock leaves an end to the one that has it."""
_EVENT_PASS_PAUSE_S: Final = 0.2


@dataclass(slots=True)
class Operator:
    """One operator process."""

    settings: OperatorSettings
    service: Service = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    link: RedisLink = field(init=False)
    queue: WorkQueue = field(init=False)
    crds: StateLine = field(init=False)
    kubernetes: StateLine = field(init=False)
    policy: StateLine = field(init=False)
    settled: StateLine = field(init=False)
    lead: Leadership = field(init=False)
    hearing: Hearing | None = None
    external: MetricsApi | None = None
    """The external metrics API, where it is served."""
    _schedules_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: Answers = field(default_factory=Answers)
    _beats: dict[str, Beat] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _took_over: asyncio.Event = field(default_factory=asyncio.Event)
    _log: Any = field(default_factory=lambda: logs.get("operator"))

    def __post_init__(self) -> None:
        """Make what needs no connection."""
        self.service = Service("operator", grace_s=5.0)
        self.queue = WorkQueue(clock=self.service.clock)
        self.metrics.backlog.set_function(lambda: self.queue.depth)
        self.link = RedisLink(self.settings, StateLine(self._log, "redis", ok=False, why="redis was not reached yet"))
        self.crds = StateLine(self._log, "custom resources", ok=False, why="discovery was not asked yet")
        self.kubernetes = StateLine(self._log, "kubernetes")
        self.settled = StateLine(self._log, "settings", ok=False, why="the queues' settings are not in Redis yet")
        self.policy = StateLine(self._log, "redis settings")
        self.lead = Leadership(
            link=self.link,
            service=self.service,
            identity=self.settings.identity,
            ttl_s=lock_s(self.settings.reconcile_interval),
            hears=self._reaches_cluster,
        )

    @property
    def leads(self) -> bool:
        """Whether this replica holds the lock."""
        return self.lead.leads

    async def run(self) -> int:
        """Run until told to end; return the exit code.

        Raises:
            ConfigurationError: the environment cannot work whatever happens outside: credentials, ports.
        """
        settings = self.settings
        if settings.kubeconfig is not None:
            os.environ["KUBECONFIG"] = settings.kubeconfig  # where kopf looks
        watches = 2 * len(settings.namespaces)
        api = await KubeApi.connect(kubeconfig=settings.kubeconfig, connections=settings.workers + watches + 8)
        health: HealthServer | None = None
        try:
            scrape = self._compose(api)
            health = HealthServer(
                settings.http_host,
                settings.http_port,
                self._checks(),
                self.metrics.registry,
                beats=self._beats.values(),
                refresh=lambda: self._scraped(scrape),
            )
            await health.start()
            self._log.info(
                "operator starts",
                identity=settings.identity,
                install=settings.install_id,
                namespaces=list(settings.namespaces),
                port=health.port,
            )
            return await self.service.run()
        finally:
            if self.hearing is not None:
                await self.hearing.aclose()
            await self.lead.leave()
            if self.external is not None:
                await self.external.aclose()
            if health is not None:
                await health.aclose()
            await api.aclose()
            await self.link.aclose()

    def _compose(self, api: KubeApi) -> Scrape:
        settings, install = self.settings, self.settings.install_id
        clock = ClusterClock(self.service.clock)
        cluster = Cluster(api, install=install, namespaces=settings.namespaces, clock=clock)
        interval_ms = round(settings.reconcile_interval * 1000)
        queues = self._queues(cluster, interval_ms)
        janitor = Janitor(
            link=self.link, cluster=cluster, leads=lambda: self.leads, kept=lambda: kept_jobs(queues.found)
        )
        finisher = self._finisher(cluster, interval_ms, janitor)
        reconciler = Reconciler(
            link=self.link,
            cluster=cluster,
            queue=self.queue,
            metrics=self.metrics,
            install=install,
            passes=finisher.passes,
        )
        wake = Wake(link=self.link, queue=self.queue, service=self.service, install=install)
        self._beat("reconcile", PASS_LIMIT_S + 5 * settings.reconcile_interval)
        self._beat("heavyqueues", PASS_LIMIT_S + 5 * settings.reconcile_interval)
        for number in range(settings.workers):
            self.service.add(f"finisher {number}", finisher.work, drain=False)
        self.lead.taken = lambda: self._take_over(finisher, janitor)
        self.lead.followed = lambda: self._follow(finisher)
        self.service.add("lead", self.lead.run, drain=False)
        self.hearing = self._hear(cluster, finisher)
        self.hearing.add_loops()
        self.service.add("reconcile", lambda: self._reconcile(reconciler))
        tidying = StateLine(self._log, "tidying up")
        self.service.add("janitor", lambda: janitor.run(self.service, tidying), drain=False)
        self.service.add("heavyqueues", lambda: self._serve_queues(queues))
        self.service.add("wake", wake.run, drain=False)
        self._scheduling(cluster).add_loops()
        if settings.metrics_api_service:
            self._serve_metrics(api, queues)
        return self._scrape(queues)

    def _hear(self, cluster: Cluster, finisher: Finisher) -> Hearing:
        return Hearing(
            service=self.service,
            cluster=cluster,
            metrics=self.metrics,
            namespaces=self.settings.namespaces,
            put=finisher.hear,
            turn=self.lead.turn,
            beat=self._beat,
            crds=self.crds,
            queues_changed=self._changed,
            schedules_changed=self._schedules_changed,
        )

    def _scrape(self, queues: Queues) -> Scrape:
        return Scrape(
            link=self.link,
            metrics=self.metrics,
            clock=self.service.clock,
            install=self.settings.install_id,
            leads=lambda: self.leads,
            queues=queues.told_of,
        )

    def _serve_metrics(self, api: KubeApi, queues: Queues) -> None:
        self.external = MetricsApi.build(
            Parts(
                settings=self.settings,
                service=self.service,
                api=api,
                link=self.link,
                metrics=self.metrics,
                served=lambda: queues.served,
                ready={"custom resources": self.crds.check, "settings": self.settled.check, "events": self._hears},
                beats=self._beats,
            )
        )
        self.external.add_loops()
        queues.metrics_api = self.external.keeper.standing

    def _scheduling(self, cluster: Cluster) -> Scheduling:
        settings = self.settings
        interval_s = settings.reconcile_interval
        return Scheduling(
            service=self.service,
            ticks=Ticks(link=self.link),
            schedules=Schedules(
                link=self.link,
                cluster=cluster,
                install=settings.install_id,
                status_interval_ms=round(settings.status_interval * 1000),
            ),
            leads=lambda: self.leads,
            served=lambda: self.crds.ok,
            pause_or=self.service.pause_or,
            interval_s=interval_s,
            lines=(StateLine(self._log, "ticks"), StateLine(self._log, "heavyschedules")),
            beats=(self._beat("ticks", TICKS_LIMIT_S), self._beat("heavyschedules", PASS_LIMIT_S + 5 * interval_s)),
            changed=self._schedules_changed,
        )

    def _queues(self, cluster: Cluster, interval_ms: int) -> Queues:
        settings = self.settings
        return Queues(
            link=self.link,
            cluster=cluster,
            install=settings.install_id,
            identity=settings.identity,
            interval_ms=interval_ms,
            status_interval_ms=round(settings.status_interval * 1000),
        )

    def _finisher(self, cluster: Cluster, interval_ms: int, janitor: Janitor) -> Finisher:
        settings = self.settings
        return Finisher(
            link=self.link,
            cluster=cluster,
            queue=self.queue,
            metrics=self.metrics,
            install=settings.install_id,
            grace_ms=settings.grace_ms,
            horizon_ms=interval_ms,
            trouble=StateLine(self._log, "attending to jobs"),
            leads=lambda: self.leads,
            stands_by=lambda: self.lead.stands_by,
            follow_s=min(FOLLOW_S, 2 * settings.reconcile_interval),
            shelf=janitor.shelf,
        )

    # -- loops --------------------------------------------------------------------------------------------------------
    async def _reconcile(self, reconciler: Reconciler) -> None:
        """Compare Redis and the cluster every interval, in the replica that holds the lock."""
        interval = self.settings.reconcile_interval
        while not self.service.stop.is_set():
            self._took_over.clear()
            try:
                judge(self.policy, await self.link.run(ops.server_report()))
                if self.leads:
                    await reconciler.once()
                self.kubernetes.good()
                self._answers.note(answered=True)
            except RedisUnavailableError:
                pass  # the link has said so
            except HeavyliftError as error:
                self.kubernetes.bad(str(error))
                self._answers.note(answered=not isinstance(error, ClusterUnavailableError))
            self._beats["reconcile"].tick()
            await self.service.pause_or(self._took_over, self._answers.pause_s(interval * random.uniform(0.9, 1.1)))

    def _take_over(self, finisher: Finisher, janitor: Janitor) -> None:
        """Begin to lead: what another replica did is looked at anew, what was heard meanwhile is attended to."""
        janitor.shelf.forget()
        finisher.standby.take_over()
        self._took_over.set()

    def _follow(self, finisher: Finisher) -> None:
        """Take note that another replica leads: nothing is heard of Jobs here."""
        finisher.standby.prune()
        self.metrics.watched.labels(Kind.JOB.value).set(0)

    def _reaches_cluster(self) -> bool:
        return self._answers.come and self.hearing is not None and self.hearing.reached

    async def _serve_queues(self, queues: Queues) -> None:
        """Bring HeavyQueues and Redis together each interval and soon after any of them changed."""
        line = StateLine(self._log, "heavyqueues")
        while not self.service.stop.is_set():
            self._changed.clear()
            try:
                if self.crds.ok:
                    await queues.once(leads=self.leads)
                    for queue, tasks in queues.apart().items():
                        self.metrics.serve(queue, tasks)
                    self.settled.good()
                line.good()
            except RedisUnavailableError:
                pass  # the link has said so
            except HeavyliftError as error:
                line.bad(str(error))
            self._beats["heavyqueues"].tick()
            await self.service.pause_or(self._changed, self.settings.reconcile_interval)
            await self.service.pause(_EVENT_PASS_PAUSE_S)  # changes come in bursts

    # -- probes -------------------------------------------------------------------------------------------------------
    def _beat(self, name: str, limit_s: float) -> Beat:
        return self._beats.setdefault(name, Beat(name, limit_s))

    async def _scraped(self, scrape: Scrape) -> None:
        """Bring all gauges up to date for a scrape."""
        self.metrics.leads.set(1 if self.leads else 0)
        await scrape.refresh()

    def _checks(self) -> Mapping[str, Check]:
        return {
            **(self.external.checks() if self.external is not None else {}),
            "redis": self.link.line.check,
            "custom resources": self.crds.check,
            "kubernetes": self.kubernetes.check,
            "settings": self.settled.check,
            "events": self._hears,
            "work queue": self._keeps_up,
        }

    def _hears(self) -> tuple[bool, str]:
        return self.hearing.check() if self.hearing is not None else (False, "nothing is heard yet")

    def _keeps_up(self) -> tuple[bool, str]:
        late = self.queue.oldest_s
        words = f"{self.queue.depth} items, the oldest waits for {late:.0f} s"
        return late <= BACKLOG_LIMIT_S, words


def judge(line: StateLine, report: Mapping[str, Any]) -> None:
    """Say once when this Redis may throw jobs away to make room."""
    policy = report.get("maxmemory_policy", "unknown")
    if policy in {"noeviction", "unknown"}:
        line.good("maxmemory-policy is noeviction")
    else:
        line.bad(f"maxmemory-policy is {policy}, so Redis may drop waiting jobs: set maxmemory-policy to noeviction")
