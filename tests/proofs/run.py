"""One proof's run: a queue in a namespace of its own, processes under a supervisor, a recorder, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from heavylift.client import Client
from heavylift.contract.keys import Keys
from tests.proofs import history, install
from tests.proofs.kube import Kube
from tests.proofs.processes import Daemon
from tests.proofs.recorder import JobRecorder
from tests.proofs.waiting import until
from tests.proofs.width import Width
from tests.servers import StoreServer

Json = dict[str, Any]
QUICK_DISPATCHER = {"SLOTS": "20", "CLAIM_DEADLINE": "3s", "CREATE_PATIENCE": "1500ms", "POLL": "200ms"}
QUICK_OPERATOR = {"RECONCILE_INTERVAL": "1s"}


@dataclass
class Run:
    """Where a proof takes place; build it with ``Run(kube, server, folder, name)`` and call ``prepare``."""

    kube: Kube
    server: StoreServer
    folder: Path
    name: str
    """Of the namespace, the queue and the install."""
    accepted: set[str] = field(default_factory=set)

    @property
    def install(self) -> str:
        """The install id of this run's processes."""
        return f"{self.name}/proof"

    def prepare(self, *, ends: Mapping[str, str] | None = None, **spec: Any) -> Json:
        """Make the namespace and apply this run's HeavyQueue; its pods end as ``ends`` says."""
        install.ensure_namespace(self.kube, self.name)
        return self.apply(install.heavyqueue(self.name, self.name, ends=ends, **spec))

    def apply(self, queue: Json) -> Json:
        """Apply one more HeavyQueue."""
        return install.apply_queue(self.kube, queue)

    def daemon(self, kind: str, name: str, **settings: str) -> Daemon:
        """Return a process of this run, with quick settings; ``settings`` without their prefix."""
        quick = QUICK_DISPATCHER if kind == "dispatcher" else QUICK_OPERATOR
        values = {
            "REDIS_URL": self.server.url,
            "INSTALL_ID": self.install,
            "NAMESPACES": self.name,
            "KUBECONFIG": str(self.kube.kubeconfig),
            **quick,
            **settings,
        }
        return Daemon(kind, {f"HEAVYLIFT_{key}": value for key, value in values.items()}, self.folder, name)

    def pair(self, replicas: int = 1) -> list[Daemon]:
        """Return so many dispatchers and as many operators."""
        return [self.daemon(kind, f"{kind}-{n}") for kind in ("operator", "dispatcher") for n in range(replicas)]

    def recorder(self) -> JobRecorder:
        """Return a recorder of this run's namespace, not started."""
        return JobRecorder(self.kube, self.name)

    def wait_settings(self, queue: str = "", limit: float = 30.0) -> None:
        """Wait until the operator has written the queue's settings to Redis."""
        key = Keys().settings(queue or self.name)
        with self.server.client() as client:
            until(lambda: client.exists(key), f"settings of {queue or self.name} in Redis", limit=limit)

    def enqueue(self, job: str, data: Json | None = None, *, queue: str = "", **options: Any) -> str:
        """Enqueue one job by our client and note it as accepted once that was acknowledged."""
        with Client(self.server.url, strict=False) as client:
            client.queue(queue or self.name).enqueue("proof", data or {}, id=job, if_exists="return", **options)
        self.accepted.add(job)
        return job

    def enqueue_all(self, jobs: Mapping[str, Json], **options: Any) -> None:
        """Enqueue jobs (id -> data) one by one over one connection, noting each that was acknowledged."""
        with Client(self.server.url, strict=False) as client:
            queue = client.queue(self.name)
            for job, data in jobs.items():
                queue.enqueue("proof", data, id=job, if_exists="return", **options)
                self.accepted.add(job)

    def statuses(self, jobs: Iterable[str] | None = None) -> dict[str, str]:
        """Return RQ's status of each accepted job; empty text for a vanished hash."""
        wanted = sorted(self.accepted if jobs is None else jobs)
        with self.server.client() as client:
            pipe = client.pipeline(transaction=False)
            for job in wanted:
                pipe.hget(Keys().job(job), "status")
            raw: list[Any] = pipe.execute()
        return {job: (value or b"").decode() for job, value in zip(wanted, raw, strict=True)}

    def wait_ended(self, jobs: Iterable[str] | None = None, *, limit: float = 120.0) -> dict[str, str]:
        """Wait until all these jobs are terminal; return their statuses."""

        def ended() -> dict[str, str]:
            found = self.statuses(jobs)
            return found if set(found.values()) <= history.TERMINAL else {}

        try:
            return until(ended, f"all jobs of {self.name} to end", limit=limit, every=0.2)
        except TimeoutError:
            stuck = {job: status for job, status in self.statuses(jobs).items() if status not in history.TERMINAL}
            details = {job: self.fields(job) for job in list(stuck)[:3]}
            raise TimeoutError(
                f"{len(stuck)} jobs did not end within {limit:g} s: {json.dumps(details)[:4000]}"
            ) from None

    def fields(self, job: str) -> dict[str, str]:
        """Return the text fields of a job's hash."""
        with self.server.client() as client:
            return history.job_fields(client, job)

    def outcome(self, job: str) -> Json:
        """Return a job's stored outcome; empty when it has none."""
        found: Json = json.loads(self.fields(job).get("hl:outcome") or "{}")
        return found

    def events(self, job: str = "", queue: str = "") -> list[history.Line]:
        """Return the queue's events, or one job's."""
        with self.server.client() as client:
            lines = history.events(client, queue or self.name)
        return [line for line in lines if not job or line.job == job]

    def wait_quiet(self, queues: Iterable[str] = (), limit: float = 60.0) -> None:
        """Wait until nothing is in flight and every Job is finalized; what is left shows in the verdict."""

        def quiet() -> bool:
            with self.server.client() as client:
                if any(history.left_in_redis(client, [self.name, *queues], self.install).values()):
                    return False
            stand = history.standing(self.kube, self.name, self.install)
            return all(job.finalized and not job.held for job in stand)

        try:
            until(quiet, "quiet", limit=limit, every=0.3)
        except TimeoutError:
            return

    def history(
        self,
        recorder: JobRecorder,
        *,
        queues: Iterable[str] = (),
        lost: Iterable[str] = (),
        width: Width | None = None,
    ) -> history.History:
        """Collect what this run left behind."""
        recorder.catch_up()
        names = [self.name, *queues]
        with self.server.client() as client:
            jobs = {job: history.job_fields(client, job) for job in self.accepted}
            return history.History(
                accepted=frozenset(self.accepted),
                events=[line for queue in names for line in history.events(client, queue)],
                uids=recorder.uids(),
                jobs={job: fields for job, fields in jobs.items() if fields},
                left=history.left_in_redis(client, names, self.install),
                standing=history.standing(self.kube, self.name, self.install),
                lost=frozenset(lost),
                width=width,
            )

    def client(self) -> redis.Redis:
        """Return a raw client of this run's Redis; close it."""
        return self.server.client()
