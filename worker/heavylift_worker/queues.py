"""The HeavyQueues of our namespaces, kept current by list and watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from heavylift.errors import ClusterUnavailableError, InvalidInputError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import EXPIRED, KubeApi, KubeStatusError, heavyqueues_path
from heavylift.runtime.service import Service, StateLine
from heavylift.spec.models import HeavyQueue

Json = dict[str, Any]

WATCH_S = 240
WATCH_LIMIT_S = 3.0 * WATCH_S
"""A watch loop ticks at each event, bookmark and new watch; silent for longer it is stuck."""
_NOT_FOUND = 404
_WORKS = "lists and watches HeavyQueues again"


@dataclass(slots=True)
class QueueCache:
    """What stands in the cluster, by namespace and name; only sound HeavyQueues serve."""

    log: FilteringBoundLogger = field(default_factory=lambda: logs.get("queues"))
    changed: Callable[[], None] = lambda: None
    """Called after each change, to wake the claim loop."""
    renewed: Callable[[HeavyQueue], None] = lambda _: None
    """Called with each new or edited HeavyQueue: what was wrong with it may be mended."""
    listed: set[str] = field(default_factory=set)
    """Namespaces whose HeavyQueues were listed, or refused: what is not here then is not served."""
    _found: dict[tuple[str, str], HeavyQueue] = field(default_factory=dict)
    _broken: dict[tuple[str, str], str] = field(default_factory=dict)
    _versions: dict[tuple[str, str], str] = field(default_factory=dict)

    def replace(self, namespace: str, items: Iterable[Json]) -> None:
        """Take a namespace's whole list."""
        listed = {_name(item): item for item in items}
        for key in [key for key in (*self._found, *self._broken) if key[0] == namespace and key[1] not in listed]:
            self._drop(*key)
        for item in listed.values():
            self._put(namespace, item)
        self.listed.add(namespace)
        self.changed()

    def apply(self, namespace: str, event: Json) -> None:
        """Take one watch event."""
        if event["type"] == "DELETED":
            self._drop(namespace, _name(event["object"]))
        elif event["type"] in {"ADDED", "MODIFIED"}:
            self._put(namespace, event["object"])
        else:
            return
        self.changed()

    def queue(self, queue: str, namespace: str) -> HeavyQueue | None:
        """Return the HeavyQueue that serves a queue from a namespace: the oldest there."""
        serving = [found for found in self._found.values() if (found.queue, found.namespace) == (queue, namespace)]
        return min(serving, key=lambda found: found.seniority, default=None)

    def serving(self) -> dict[str, str]:
        """Return RQ queue -> namespace of the oldest HeavyQueue naming it; whose it is, Redis' settings decide."""
        oldest: dict[str, HeavyQueue] = {}
        for found in sorted(self._found.values(), key=lambda found: found.seniority):
            oldest.setdefault(found.queue, found)
        return {queue: oldest[queue].namespace for queue in sorted(oldest)}

    def _put(self, namespace: str, item: Json) -> None:
        key, metadata = (namespace, _name(item)), item.get("metadata") or {}
        version = f"{metadata.get('uid')}/{metadata.get('generation')}"
        if metadata.get("deletionTimestamp"):
            self._drop(*key)
            return
        if self._versions.get(key) == version:
            return  # only its status changed
        self._versions[key] = version
        before = self._broken.pop(key, "")
        try:
            self._found[key] = found = HeavyQueue.parse(item)
            why = ""
            self.renewed(found)
        except InvalidInputError as error:
            self._found.pop(key, None)
            self._broken[key] = why = str(error)
        if why and why != before:
            self.log.error("a HeavyQueue is not served until it is mended", why=why)
        elif before and not why:
            self.log.info("a HeavyQueue is served again", namespace=namespace, name=key[1])

    def _drop(self, namespace: str, name: str) -> None:
        key = (namespace, name)
        for known in (self._found, self._broken, self._versions):
            known.pop(key, None)


@dataclass(slots=True)
class QueueWatch:
    """Keeps one namespace's part of the cache current."""

    namespace: str
    api: KubeApi
    cache: QueueCache
    service: Service
    line: StateLine
    beat: Beat
    synced: bool = False
    """Whether the cache holds this namespace's list, which the last request for it was not refused."""
    version: str = ""
    """Where the next watch goes on; empty = list first."""

    def check(self) -> tuple[bool, str]:
        """Return the state as a readiness check."""
        return self.synced and self.line.ok, self.line.why or ("" if self.synced else "not listed yet")

    async def run(self) -> None:
        """List and watch until the process ends; trouble is said once and tried again."""
        pause_s = 0.5
        while not self.service.stop.is_set():
            self.beat.tick()
            try:
                await self._round()
                pause_s = 0.5
            except KubeStatusError as error:
                self.version = ""
                if error.status == EXPIRED:
                    continue
                if error.status < 500:  # noqa: PLR2004 - not the server's own trouble: we may not or cannot read them
                    self.synced = False
                    self.cache.replace(self.namespace, ())
                self.line.bad(self._words(error))
                await self.service.pause(pause_s)
                pause_s = min(pause_s * 2, 5.0)
            except ClusterUnavailableError as error:
                self.line.bad(str(error))
                await self.service.pause(pause_s)
                pause_s = min(pause_s * 2, 5.0)

    async def _round(self) -> None:
        path = heavyqueues_path(self.namespace)
        if not self.version:
            listing = await self.api.list(path)
            self.cache.replace(self.namespace, listing.items)
            self.version, self.synced = listing.resource_version, True
            self.line.good(_WORKS)
        async for event in self.api.watch(path, resource_version=self.version, timeout_seconds=WATCH_S):
            self.beat.tick()
            self.line.good(_WORKS)
            self.cache.apply(self.namespace, event)
            self.version = str((event["object"].get("metadata") or {}).get("resourceVersion") or self.version)
        self.line.good(_WORKS)

    def _words(self, error: KubeStatusError) -> str:
        if error.status == _NOT_FOUND:
            return (
                "the cluster does not serve HeavyQueues: install Heavylift's CRDs (manifests/crds, crds.install=true)"
            )
        return str(error)


def _name(item: Json) -> str:
    return str((item.get("metadata") or {}).get("name") or "")
