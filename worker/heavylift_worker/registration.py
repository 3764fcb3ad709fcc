"""The dispatcher as RQ's tools see it: an ``rq.worker.BaseWorker`` that only registers itself.

Of RQ's class only the constructor, ``register_birth``, ``set_state``, ``heartbeat`` and ``register_death`` are used,
through a Redis client of its own in one thread: its other methods raise in signal handlers, sleep or die on bad
messages (architecture: "Dispatcher"). Whatever fails here costs visibility in RQ's tools, never a job.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from rq import worker_registration
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended
from rq.worker import BaseWorker
from typing_extensions import override

from heavylift.errors import ConfigurationError
from heavylift.runtime import logs
from heavylift_worker.settings import DispatcherSettings

_SOCKET_S: Final = 5.0
_RETRY_S: Final = 0.5
_TOLD_AT: Final = 3
_TTL_S: Final = 60
"""RQ adds 60 s: a worker that died without a word is shown for two minutes."""


class DispatcherWorker(BaseWorker):
    """What stands in ``rq:workers``: many executions, no fork, no work loop of RQ's."""

    @override
    def register_birth(self) -> None:
        """Register under our name; an entry left by an earlier process of this name is replaced."""
        self.connection.delete(self.key)
        super().register_birth()  # type: ignore[no-untyped-call]  # RQ's


@dataclass(slots=True)
class Registration:
    """Keeps the worker's entry alive from its own thread; registers anew when the key was lost or queues changed."""

    settings: DispatcherSettings
    healthy: Callable[[], bool] = lambda: True
    """Whether the dispatcher itself reaches Redis; while it does not, it says why, and nothing is tried here."""
    _queues: tuple[str, ...] = ()
    _worker: DispatcherWorker | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _wake: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _log: Any = field(default_factory=lambda: logs.get("registration"))
    _failures: int = 0
    """In a row; only the third is told of: the first may just be ahead of the dispatcher's own word."""

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._keep, name="rq-registration", daemon=True)
        self._thread.start()

    def serve(self, queues: Iterable[str]) -> None:
        """Show these queues from now on."""
        found = tuple(queues)
        if found != self._queues:
            self._queues = found
            self._wake.set()

    def stop(self, limit_s: float = 3.0) -> None:
        """Register the death and end the thread; waits at most ``limit_s`` seconds."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(limit_s)

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            healthy = self.healthy()
            if healthy:
                self._try(self._round)
            self._wake.wait(self.settings.heartbeat if healthy and not self._failures else _RETRY_S)
        self._try(self._die)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - RQ's code on anybody's bytes; the thread tries again, whatever it was
            self._failures += 1
            if self._failures == _TOLD_AT and not self._stop.is_set():
                ours = isinstance(error, (redis.RedisError, OSError, ConfigurationError, ValueError))
                why = str(error) if ours else f"{type(error).__name__}: {error}"
                self._log.warning("not shown to RQ's tools for now", why=why, exc_info=not ours)
            self._worker = None
        else:
            self._failures = 0

    def _round(self) -> None:
        worker = self._worker
        if worker is not None and tuple(worker.queue_names()) != self._queues:
            worker_registration.unregister(worker)
            worker = None
        if worker is None:
            worker = self._worker = self._made()
            worker.register_birth()
        elif not worker.connection.exists(worker.key):
            worker.register_birth()
        worker.heartbeat()
        suspended = is_suspended(worker.connection)
        busy = bool(worker.connection.scard(worker.executions_key))
        worker.set_state("suspended" if suspended else "busy" if busy else "idle")

    def _made(self) -> DispatcherWorker:
        client = self._client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # servers that hide CLIENT INFO: RQ shows no address then
            worker = DispatcherWorker(
                list(self._queues),
                name=self.settings.worker_name,
                connection=client,
                serializer=JSONSerializer,
                worker_ttl=_TTL_S,
            )
        # RQ's constructor raised the timeout to 415 s for its blocking reads; ours never block.
        client.connection_pool.connection_kwargs["socket_timeout"] = _SOCKET_S
        client.connection_pool.disconnect()
        return worker

    def _client(self) -> redis.Redis:
        options: dict[str, Any] = {"socket_timeout": _SOCKET_S, "socket_connect_timeout": _SOCKET_S, "protocol": 2}
        if self.settings.redis_username:
            options["username"] = self.settings.redis_username
        password = self.settings.password()
        if password:
            options["password"] = password
        return redis.Redis.from_url(self.settings.redis_url, **options)

    def _die(self) -> None:
        if self._worker is not None:
            # Its executions run on: they are the installation's, not this process's.
            self._worker.register_death()  # type: ignore[no-untyped-call]  # RQ's
            with contextlib.suppress(redis.RedisError, OSError):
                self._worker.connection.close()
