"""What happens while Prometheus watches, and what Redis, RQ and the events say about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rq import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from heavylift.client import Client
from tests import monitoring
from tests.prometheus import Prometheus
from tests.proofs import history, install
from tests.proofs.kills import staged
from tests.proofs.processes import Daemon, Supervisor
from tests.proofs.run import Json, Run
from tests.proofs.waiting import until

JOBS = 24
LIMIT_S = 90.0
ENDS = {"heavylift-test/from-env": "HEAVYLIFT_JOB_PAYLOAD"}
RETRIES: Json = {"maxAttempts": 2, "backoff": {"type": "Fixed", "delay": "1s", "jitterPercent": 0}}


@dataclass
class Story:
    """A busy queue with failures, a capped one whose jobs run on, a paused one, and one without a HeavyQueue."""

    run: Run
    prometheus: Prometheus = field(init=False)
    supervisor: Supervisor = field(init=False)

    @property
    def queues(self) -> dict[str, str]:
        """Short name -> name of each queue."""
        return {short: f"{self.run.name}-{short}" for short in ("busy", "capped", "paused", "orphan")}

    def rules(self) -> list[Json]:
        """Return the chart's alerts for this installation."""
        return monitoring.rules(namespace=self.run.name)

    @staticmethod
    def specs() -> dict[str, Json]:
        """Return what the HeavyQueues differ in."""
        return {
            "busy": {"defaults": RETRIES, "metrics": {"tasks": ["proof"]}},
            "capped": {"concurrency": {"max": 2}},
            "paused": {"paused": True},
        }

    def told(self, prometheus: Prometheus, supervisor: Supervisor) -> None:
        """Let it happen, and wait until Prometheus has seen its end."""
        self.prometheus, self.supervisor = prometheus, supervisor
        names = self.queues
        install.ensure_namespace(self.run.kube, self.run.name)
        for short, spec in self.specs().items():
            self.run.apply(install.heavyqueue(names[short], self.run.name, ends=ENDS, **spec))
        supervisor.wait_ready()
        for short in self.specs():
            self.run.wait_settings(names[short])
        self._begins_at_zero(names["busy"])
        self._enqueue()
        self.seen(f'sum(heavylift_job_outcomes_total{{queue="{names["busy"]}", final="true"}}) == {JOBS}')
        self.seen(f'max(heavylift_queue_in_flight{{queue="{names["capped"]}"}}) == 2')
        claims = sum(line.name == "active" for line in self.events("busy"))
        self.seen(f'sum(heavylift_jobs_claimed_total{{queue="{names["busy"]}"}}) == {claims}')
        self.seen(f"count(heavylift_queue_waiting) == {len(names)}")

    def _begins_at_zero(self, queue: str) -> None:
        """Wait until Prometheus has seen the zeros of both replicas: what comes then is an increase to it."""
        each = ("jobs_claimed_total", "job_creates_total", "job_dispatch_seconds_count", "job_run_seconds_count")
        for name in each:
            self.seen(f'count(group by (instance) (heavylift_{name}{{queue="{queue}"}} == 0)) == 2')
        self.seen(f'heavylift_queue_events_total{{queue="{queue}", event="retrying"}} == 0')

    def _enqueue(self) -> None:
        names = self.queues
        with Client(self.run.server.url, strict=False) as client:
            for job, data in staged(JOBS).items():
                client.queue(names["busy"]).enqueue("proof", data, id=f"{self.run.name}-{job}")
            for n in range(5):
                client.queue(names["capped"]).enqueue("other", {"hold": "true"}, id=f"{self.run.name}-c-{n}")
                client.queue(names["paused"]).enqueue("other", {}, id=f"{self.run.name}-p-{n}")
            client.queue(names["orphan"]).enqueue("other", {}, id=f"{self.run.name}-o-0")

    def seen(self, expression: str) -> None:
        """Wait until Prometheus finds an expression true."""
        until(lambda: bool(self.prometheus.query(expression)), f"Prometheus to see {expression}", limit=LIMIT_S)

    def events(self, short: str) -> list[history.Line]:
        """Return a queue's events."""
        return self.run.events(queue=self.queues[short])

    def states(self, short: str) -> dict[str, int]:
        """Return how many jobs are in which state, as RQ's own registries have it."""
        queue = Queue(self.queues[short], connection=self.run.client())
        return {
            "waiting": queue.count,
            "active": StartedJobRegistry(queue=queue).get_job_count(cleanup=False),
            "completed": FinishedJobRegistry(queue=queue).get_job_count(cleanup=False),
            "failed": FailedJobRegistry(queue=queue).get_job_count(cleanup=False),
        }

    def outcomes(self, short: str) -> Counter[tuple[str, str]]:
        """Return how many attempts ended as (class, whether the job ended with it), by the events."""
        ended = (line for line in self.events(short) if line.final or line.name == "retrying")
        return Counter((line.fields["class"], str(line.final).lower()) for line in ended)

    def leader(self, limit: float = 10.0) -> Daemon:
        """Return the operator that leads, once there is one."""
        operators = [one for one in self.supervisor.daemons if one.kind == "operator"]
        leads = lambda: [one for one in operators if one.metric("heavylift_operator_leads")]  # noqa: E731 - said once
        return until(leads, "an operator to lead", limit=limit)[0]

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Return an instant vector by one label."""
        found: dict[str, Any] = {}
        for labels, value in self.prometheus.query(expression).items():
            found[dict(labels)[label]] = value
        return found
