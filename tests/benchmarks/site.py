"""An installation on a control plane with simulated nodes: a namespace, a HeavyQueue, a Redis, our processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from heavylift import Client, JobRequest
from heavylift.contract import ids, payload
from heavylift.contract.keys import Keys
from heavylift.spec import HeavyQueue
from heavylift.spec import settings as settings_of
from heavylift.spec.render import render
from heavylift.store import Claim, Event, Store, ops
from tests.benchmarks.backing import Backing
from tests.benchmarks.load import DATA, TASK
from tests.benchmarks.raw import Order
from tests.cluster import Cluster, ClusterSpec, down, up
from tests.proofs.install import apply_queue, ensure_namespace, heavyqueue, install_crds
from tests.proofs.kube import Kube
from tests.proofs.processes import Daemon, stop_all
from tests.proofs.waiting import until
from tests.servers import StoreServer

Json = dict[str, Any]
RAISED: Final = ("--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-job-syncs=20")
"""Flags of kube-controller-manager; at its defaults it lets 3.4 Jobs a second through."""
HOLD: Final = {"heavylift-test/hold": "true"}
KEPT: Final[Json] = {"pods": {"count": 10_000}}
"""Finished Jobs stay for their time, as the bare loop's do: neither side deletes while it is measured."""
CONCURRENCY: Final = 16
"""Requests at once, ours and the bare loop's."""
NODES: Final = 12


@contextlib.contextmanager
def control_plane(kcm_flags: Sequence[str] = RAISED, apiserver_flags: Sequence[str] = ()) -> Iterator[Cluster]:
    """Give a fresh control plane; with HEAVYLIFT_KWOK_NAME set it goes by that name, and is left running at the end."""
    kept = os.environ.get("HEAVYLIFT_KWOK_NAME", "")
    name = kept or f"bench-{os.getpid()}"
    down(name)
    spec = ClusterSpec(
        nodes="kwok", name=name, node_count=NODES, kcm_flags=tuple(kcm_flags), apiserver_flags=tuple(apiserver_flags)
    )
    try:
        yield up(spec, say=lambda _: None)
    finally:
        if not kept:
            down(name)


@dataclass
class Site:
    """One installation; its processes run as in production but for the settings given."""

    cluster: Cluster
    server: StoreServer
    folder: Path
    store: Store
    client: Client
    name: str = field(default_factory=lambda: f"bench-{secrets.token_hex(3)}")
    daemons: list[Daemon] = field(default_factory=list)
    queue: HeavyQueue = field(init=False)

    def __post_init__(self) -> None:
        """Make the namespace."""
        self.kube = Kube(self.cluster.kubeconfig)
        ensure_namespace(self.kube, self.name)

    @property
    def install(self) -> str:
        """The install id."""
        return f"{self.name}/bench"

    def serve(self, ends: Mapping[str, str] | None = None, **spec: Any) -> HeavyQueue:
        """Apply the HeavyQueue and write its settings to Redis as an operator would."""
        self.queue = HeavyQueue.parse(apply_queue(self.kube, heavyqueue(self.name, self.name, ends=ends, **spec)))
        self.store.run(
            ops.put_settings(
                self.name,
                settings_of(self.queue),
                generation=self.queue.generation,
                install=self.install,
                namespace=self.name,
                uid=self.queue.uid,
            )
        )
        return self.queue

    def daemon(self, kind: str, **settings: str) -> Daemon:
        """Start one of our processes and wait until it is ready; ``settings`` without their prefix."""
        values = {
            "REDIS_URL": self.server.url,
            "INSTALL_ID": self.install,
            "NAMESPACES": self.name,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            **settings,
        }
        name = f"{kind}-{len(self.daemons)}"
        made = Daemon(kind, {f"HEAVYLIFT_{key}": value for key, value in values.items()}, self.folder, name)
        self.daemons.append(made)
        made.start()
        until(lambda: made.probe()[0] == HTTPStatus.OK or not made.running, f"{name} to be ready", limit=180)
        if not made.running:
            raise RuntimeError(f"{name} ended: {made.log()[-2000:]}")
        return made

    def dispatcher(self, slots: int, **settings: str) -> Daemon:
        """Start a dispatcher that creates as fast as it can."""
        more = {"SLOTS": str(slots), "CREATE_CONCURRENCY": str(CONCURRENCY), "CREATE_RATE": "10000"}
        return self.daemon("dispatcher", **more, **settings)

    def operators(self, count: int = 2, **settings: str) -> list[Daemon]:
        """Start operators, one after the other: the first has the lock."""
        return [self.daemon("operator", **settings) for _ in range(count)]

    def stop(self) -> None:
        """End our processes."""
        stop_all(*self.daemons)
        self.daemons.clear()

    # -- jobs ---------------------------------------------------------------------------------------------------------
    def enqueue(self, count: int) -> list[str]:
        """Enqueue jobs; returns their ids."""
        queue = self.client.queue(self.name)
        return [job.id for job in queue.enqueue_many([JobRequest(TASK, DATA) for _ in range(count)])]

    def events(self, after: str = "0") -> list[Event]:
        """Return the queue's events after an id."""
        found: list[Event] = []
        while page := self.store.run(ops.events(self.name, after, 5_000)):
            found += page
            after = page[-1].id
        return found

    def last_event(self) -> str:
        """Return the id of the queue's newest event."""
        with contextlib.closing(self.server.client()) as client:
            newest: Any = client.xrevrange(Keys().events(self.name), count=1)
        return str(newest[0][0].decode()) if newest else "0"

    def wait_events(self, name: str, count: int, after: str, limit: float = 300.0) -> dict[str, float]:
        """Wait until so many events of a name came after an id; returns job -> seconds since the epoch."""
        seen: dict[str, float] = {}
        position = after

        def enough() -> bool:
            nonlocal position
            position = self.note_events(name, position, seen)
            return len(seen) >= count

        until(enough, f"{count} events {name!r} of {self.name}", limit=limit, every=0.02)
        return seen

    def note_events(self, name: str, after: str, seen: dict[str, float]) -> str:
        """Put the times of events of a name after an id into ``seen``, by job; returns where to go on."""
        for event in self.store.run(ops.events(self.name, after, 5_000)):
            after = event.id
            if event.name == name:
                seen[event.job] = when(event)
        return after

    def wait_finalized(self, limit: float = 120.0) -> None:
        """Wait until no finishing PATCH is owed."""
        until(
            lambda: not self.store.run(ops.unfinalized(self.install, 10)) and self.in_flight() == 0,
            "the finishing PATCHes",
            limit=limit,
            every=0.02,
        )

    def in_flight(self) -> int:
        """Return how many executions Redis lists."""
        return self.store.run(ops.inflight_count(self.install))

    # -- the peer -----------------------------------------------------------------------------------------------------
    def manifest(self) -> Json:
        """Return the Job that our dispatcher would create for a job of this queue."""
        now = round(time.time() * 1000)
        incarnation = ids.new_incarnation()
        claim = Claim(
            job=ids.new_job_id(), queue=self.name, namespace=self.name, install=self.install, worker="bench",
            execution=f"{incarnation}-1", incarnation=incarnation, seq=1, attempt=1, task=TASK,
            data=payload.encode(TASK, DATA), claimed_at=now, deadline=now + 60_000, options={},
            frozen={"maxAttempts": 1, "timeouts": {"pending": 3_600_000, "run": 86_400_000}, "generation": 1,
                    "payload": {"format": "JSON", "maxSize": 65536}},
            rq={}, epoch=f"{now}-bench",
        )  # fmt: skip
        decoded = payload.decode(claim.data, max_size=65536, stored_max=131072)
        return render(claim, self.queue, decoded, self.install)

    def order(self, count: int, **more: Any) -> Order:
        """Return an order for the bare loop, with the same body in another install's name."""
        made = self.manifest()
        labels = made["metadata"]["labels"]
        made["metadata"]["labels"] = {**labels, "heavylift.dev/install": "bare-loop"}
        pod = made["spec"]["template"]["metadata"]
        pod["labels"] = {**pod["labels"], "heavylift.dev/install": "bare-loop"}
        return Order(
            kubeconfig=str(self.cluster.kubeconfig), namespace=self.name, manifest=made, count=count,
            concurrency=CONCURRENCY, **more,
        )  # fmt: skip


def when(event: Event) -> float:
    """Return an event's time in seconds since the epoch; Redis tells milliseconds, so the middle of one."""
    return (int(event.id.partition("-")[0]) + 0.5) / 1000


@contextlib.contextmanager
def site(cluster: Cluster, backing: Backing | None = None) -> Iterator[Site]:
    """Give an installation without processes, on Redis at its defaults unless told."""
    install_crds(Kube(cluster.kubeconfig))
    with (
        tempfile.TemporaryDirectory() as folder,
        (backing or Backing()).server() as server,
        Store.connect(server.url) as store,
        Client(server.url) as client,
    ):
        made = Site(cluster, server, Path(folder), store, client)
        try:
            yield made
        finally:
            made.stop()
