"""What our processes send to Redis besides their work: RQ's worker does that between two jobs, ours now and then.

A benchmark that claims or ends for some milliseconds would hardly meet any of it. So it is really sent, once for each
measured run and timed by itself, and the share that falls to the run at the real rate is added to the run's time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from heavylift.store import Store, ops
from heavylift_operator.services.leading import LOCK, lock_s
from heavylift_operator.settings import OperatorSettings
from heavylift_worker.app import LIVE_FOR
from heavylift_worker.registration import Registration
from heavylift_worker.settings import DispatcherSettings
from tests.benchmarks.rounds import timed

BEAT_S: Final[float] = DispatcherSettings.model_fields["heartbeat"].default
"""A dispatcher's pause between two signs of life."""
LOCK_S: Final = lock_s(OperatorSettings.model_fields["reconcile_interval"].default)
RENEWAL_S: Final = LOCK_S / 4
"""An operator's pause between two renewals of its lock."""


@dataclass(frozen=True, slots=True)
class Signs:
    """One dispatcher's and one operator's signs of life."""

    store: Store
    registration: Registration
    install: str
    worker: str

    def with_dispatchers(self, seconds: float) -> float:
        """Return a time of claims with what a dispatcher's signs of life add to it."""
        return seconds * (1 + timed(self.dispatcher) / BEAT_S)

    def with_operators(self, seconds: float) -> float:
        """Return a time of ends with what an operator's signs of life add to it."""
        return seconds * (1 + timed(self.operator) / RENEWAL_S)

    def dispatcher(self) -> None:
        """Count as alive, look at the server, and show ourselves to RQ's tools."""
        self.store.run(ops.server_report())
        self.store.run(ops.register_dispatcher(self.install, self.worker, round(BEAT_S * LIVE_FOR * 1000)))
        self.store.run(ops.inflight_count(self.install))
        self.registration._round()

    def operator(self) -> None:
        """Keep the lock of the leading operator."""
        self.store.run(ops.take_lock(LOCK, self.worker, round(LOCK_S * 1000)))


@contextlib.contextmanager
def signs(url: str, store: Store, *, install: str, queue: str, worker: str) -> Iterator[Signs]:
    """Give a dispatcher's and an operator's signs of life; the first ones, which also connect, are sent at once."""
    settings = DispatcherSettings(redis_url=url, install_id=install, namespaces=("bench",), worker_name=worker)
    registration = Registration(settings)
    registration.serve([queue])
    made = Signs(store, registration, install, worker)
    made.dispatcher()
    made.operator()
    try:
        yield made
    finally:
        registration._die()
