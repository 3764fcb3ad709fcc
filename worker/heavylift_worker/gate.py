"""Which queues may be claimed from now: breakers per namespace and per queue, and creates that are being retried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from heavylift_worker.breaker import Breaker, Breakers, State

RBAC_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Room:
    """What a claim may ask for."""

    free: tuple[str, ...]
    """Queues any number of jobs may be claimed from."""
    probes: tuple[str, ...]
    """Queues with a half-open breaker: one job decides."""


@dataclass(slots=True)
class Gate:
    """Decides by the cluster's answers; holds no connection."""

    failures: int
    pause_s: float
    monotonic: Callable[[], float]
    namespaces: Breakers = field(init=False)
    queues: Breakers = field(init=False)
    retrying: Counter[str] = field(default_factory=Counter)
    """Namespace -> creates being retried there: while there are any, no more jobs are claimed for it."""
    changed: Callable[[], None] = lambda: None
    """Called after each change of ``retrying``: creates that are retried leave their room to others."""

    def __post_init__(self) -> None:
        """Make both sets of breakers."""
        self.namespaces = Breakers(lambda _: Breaker(self.failures, self.pause_s, self.monotonic))
        self.queues = Breakers(lambda _: Breaker(self.failures, self.pause_s, self.monotonic))

    def room(self, serving: Mapping[str, str]) -> Room:
        """Return what may be claimed of the queues (RQ queue -> namespace) that are served."""
        free, probes = [], []
        probed: set[str] = set()
        for queue, namespace in serving.items():
            rooms = {self.queues.of(queue).room, self.namespaces.of(namespace).room}
            if 0 in rooms or self.retrying[namespace] > 0:
                continue
            if rooms == {None}:
                free.append(queue)
            elif namespace not in probed:
                probed.add(namespace)  # one probe decides for the whole namespace
                probes.append(queue)
        return Room(tuple(free), tuple(probes))

    def retries(self, namespace: str, count: int) -> None:
        """Note that so many more creates of a namespace are being retried, or fewer."""
        self.retrying[namespace] += count
        self.changed()

    def probing(self, queue: str, namespace: str) -> None:
        """Note that a claim of a half-open queue is on its way to the cluster."""
        self.queues.of(queue).probe()
        self.namespaces.of(namespace).probe()

    def created(self, queue: str, namespace: str) -> bool:
        """Note a success; return whether a breaker was open before."""
        return self.queues.of(queue).succeeded() | self.namespaces.of(namespace).succeeded()

    def namespace_failed(self, namespace: str, why: str) -> bool:
        """Note that a namespace took no Job for a claim's whole patience; return whether its breaker opened."""
        return self.namespaces.of(namespace).failed(why)

    def queue_failed(self, queue: str, why: str, *, threshold: int) -> bool:
        """Note that a queue's Job was refused; return whether its breaker opened."""
        breaker = self.queues.of(queue)
        breaker.threshold = threshold
        return breaker.failed(why)

    def renewed(self, queue: str) -> None:
        """Forget what was wrong with a queue: its HeavyQueue is new or edited."""
        self.queues.of(queue).succeeded()

    def open_names(self) -> dict[str, dict[str, State]]:
        """Return the breakers' states by scope."""
        return {"namespace": self.namespaces.states(), "queue": self.queues.states()}
