"""Clients whose queues are in memory: for unit tests of code that enqueues, and of the tasks it enqueues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from typing_extensions import override

from heavylift import aio, client, operations
from heavylift.contract.durations import Duration, to_ms
from heavylift.contract.outcomes import CONFIGURABLE, OutcomeClass
from heavylift.errors import ConfigurationError, InvalidInputError, WaitTimeoutError
from heavylift.spec.models import HeavyQueue
from heavylift.spec.settings import settings
from heavylift.store import ops
from heavylift.testing.engine import Engine
from heavylift.testing.store import AsyncMemoryStore, MemoryStore
from heavylift.testing.work import INSTALL, NAMESPACE, Worker

ATTEMPTS_MAX = 10_000
"""Attempts of one ``run_all`` at most: more means that something enqueues itself for ever."""
_TEMPLATE = {
    "spec": {
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/testing:1"}]}
        }
    }
}


class Queues:
    """The queues of one test, who works on them, and their clock. Clients of the same queues see the same jobs."""

    def __init__(self, specs: Mapping[str, Mapping[str, Any]] | None, allow: Sequence[str]) -> None:
        self.engine = Engine()
        self.open = specs is None
        self.store = MemoryStore(self.engine, self.nothing_comes)
        self.worker = Worker(self.store, allow)
        for name, spec in (specs or {}).items():
            self.serve(name, spec)

    def serve(self, name: str, spec: Mapping[str, Any] | None = None) -> None:
        """Give a queue the settings of a HeavyQueue with this spec; its jobTemplate may be left out."""
        if spec is None and self.engine.state.queue(name).settings is not None:
            return
        generation = int(self.engine.state.queue(name).owner.get("generation", 0)) + 1
        found = HeavyQueue.parse({
            "apiVersion": "heavylift.dev/v1alpha1",
            "kind": "HeavyQueue",
            "metadata": {"name": name.lower(), "namespace": NAMESPACE, "generation": generation},
            "spec": {"queue": name, "jobTemplate": _TEMPLATE, **(spec or {})},
        })  # fmt: skip
        found_settings = settings(found)
        put = ops.put_settings(
            name, found_settings, generation=generation, install=INSTALL, namespace=NAMESPACE, uid=f"uid-{name}"
        )
        self.store.run(put)

    @property
    def now(self) -> datetime:
        """What time it is."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.engine.state.clock.micros)

    def advance(self, duration: Duration) -> None:
        """Let time pass: schedules tick as it does, nothing else happens by that alone."""
        self._pass(to_ms(duration))

    def _pass(self, ms: int) -> None:
        clock = self.engine.state.clock
        until = clock.micros + ms * 1000
        while (following := self.worker.tick()) is not None and clock.micros + following * 1000 <= until:
            clock.advance(max(following, 1))
        clock.micros = until

    def fail_next(self, cls: str | OutcomeClass, *, task: str | None, times: int, message: str) -> None:
        """Let the next attempts end like this instead of running."""
        known = [each.value for each in CONFIGURABLE]
        if str(cls) not in known:
            raise InvalidInputError(f"no attempt ends as {str(cls)[:40]!r}: classes are {', '.join(known)}")
        if times < 1:
            raise InvalidInputError(f"times is {times}: it is 1 or more")
        self.worker.plan(OutcomeClass(cls), task=task, times=times, message=message)

    def run_all(self, *, wait: bool = True) -> int:
        """Run what may start until nothing is left to start; returns how many attempts ran."""
        done = 0
        while True:
            self.worker.tick()
            reply = self.worker.ask(1)
            for claim in reply.claims:
                self.worker.work(claim)
                done += 1
            if done >= ATTEMPTS_MAX:
                raise ConfigurationError(f"{done} attempts ran and still there is more: does a task enqueue itself?")
            if not reply.claims and (reply.next_due_ms is None or not wait):
                return done
            if not reply.claims and reply.next_due_ms is not None:
                self._pass(max(reply.next_due_ms, 1))

    def nothing_comes(self) -> None:
        """Work for somebody who waits.

        Raises:
            WaitTimeoutError: there is nothing to do, so nothing will ever change.
        """
        if not self.run_all():
            raise WaitTimeoutError(
                "nothing can run any more, so this will never end: is its queue paused, or nobody's (serve it)?"
            )


class _Tests(ABC):
    """What both clients give tests."""

    queues_: Queues

    def __init__(
        self,
        queues: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        strict: bool = True,
        actor: str = "client",
        allow: Sequence[str] = (),
        same: _Tests | None = None,
    ) -> None:
        self.strict = strict
        self.actor = actor
        self.admissions = operations.Admissions()
        self.queues_ = same.queues_ if same else Queues(queues, allow)
        self._join()

    @abstractmethod
    def _join(self) -> None:
        """Give the client the store of its queues."""

    @property
    def now(self) -> datetime:
        """What time it is: midnight of 1 January 2026 at first; it moves by ``advance`` and ``run_all`` alone."""
        return self.queues_.now

    def serve(self, name: str, spec: Mapping[str, Any] | None = None) -> None:
        """Serve a queue as a HeavyQueue with this ``spec`` does (its jobTemplate may be left out); again = edit it.

        Raises:
            InvalidInputError: the spec is not one of a HeavyQueue; the message names the field.
        """
        self.queues_.serve(name, spec or {})

    def advance(self, duration: Duration) -> None:
        """Let time pass; schedules enqueue their jobs as it does, which run by ``run_all``."""
        self.queues_.advance(duration)

    def fail_next(
        self, cls: str | OutcomeClass = "error", *, task: str | None = None, times: int = 1, message: str = ""
    ) -> None:
        """Let the next attempt end as this outcome class, ``"oom"`` for example, without running its task.

        Args:
            cls: an outcome class; what follows is what the queue's rules say.
            task: only attempts of this task; None = of any.
            times: so many attempts.
            message: of the outcome.

        Raises:
            InvalidInputError: no such class.
        """
        self.queues_.fail_next(cls, task=task, times=times, message=message)

    def run_all(self, *, wait: bool = True) -> int:
        """Run jobs one after another, in the order their queues say, until none is left to start.

        Tasks run in this process by the runner their pods have; attempts are repeated, delayed and failed by the rules
        their queue has. Jobs that are active because their rule waits (``node-lost``) stay so. It does not wait for
        ticks of schedules: those come by ``advance``, and as it waits for something else.

        Args:
            wait: move the clock to whatever is due next (delays, backoff, rate limits); False = only what is due now.

        Returns:
            How many attempts ran.

        Raises:
            ConfigurationError: they go on for ever.
        """
        return self.queues_.run_all(wait=wait)


class Client(_Tests, client.Client):
    """As ``heavylift.Client``, without Redis and Kubernetes; nothing runs before ``run_all`` or somebody's ``wait``.

    Args:
        queues: name -> ``spec`` of a HeavyQueue, only these are served; None = any queue is, with what is built in.
        strict, actor: as of ``heavylift.Client``.
        allow: patterns of functions that may run undecorated, as of ``heavylift run --allow``.
        same: another client of this kind whose queues this one shall share.
    """

    @override
    def _join(self) -> None:
        self._store = self.queues_.store

    @override
    def queue(self, name: str) -> client.Queue:
        """As ``heavylift.Client.queue``; with no ``queues`` given, this serves it."""
        found = super().queue(name)
        if self.queues_.open:
            self.queues_.serve(name)
        return found


class AsyncClient(_Tests, aio.AsyncClient):
    """As ``heavylift.AsyncClient``, without Redis and Kubernetes; arguments as of ``heavylift.testing.Client``."""

    @override
    def _join(self) -> None:
        self._store = AsyncMemoryStore(self.queues_.engine, self.queues_.nothing_comes)

    @override
    def queue(self, name: str) -> aio.AsyncQueue:
        """As ``heavylift.AsyncClient.queue``; with no ``queues`` given, this serves it."""
        found = super().queue(name)
        if self.queues_.open:
            self.queues_.serve(name)
        return found
