"""Enqueues the run's jobs and shows them until all have ended and the dispatchers are back at one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

from rich.console import Console
from rich.live import Live

from heavylift import Client, Job, JobInfo, JobRequest
from reports import produce
from scripts.demo import board
from scripts.demo.place import DISPATCHER, JOBS_NAMESPACE, NAMESPACE, QUEUE, WORDS
from scripts.demo.scaling import Path, Scaling, read
from scripts.demo.shell import DemoError, say
from tests.cluster import Cluster, ClusterError
from tests.cluster.controlplane import api_of

REFRESH = 1.0
"""Seconds between two looks at the jobs."""
PLAIN_EVERY = 5
"""Looks between two lines when the output is piped."""
PODS_EVERY = 2
"""Looks at the jobs between two at the cluster."""
STUCK = 300.0
"""Seconds without any change after which something must be wrong."""
CALM = 120.0
"""Seconds that the dispatchers may take to come back to one once all jobs have ended."""
WAITS = range(25, 46)
"""Seconds that the jobs of the queue ``words`` take."""


def enqueue(client: Client, years: range, resamples: int) -> list[Job[Any]]:
    """Enqueue the run: an annual report for each year, spans of ten years, and what cannot be had."""
    run = time.strftime("%H%M%S")
    requests = produce.good(years, resamples, run)
    for place, request in enumerate(reversed(produce.bad(run))):  # the hungry one first: it has two attempts
        requests.insert(place * 8, request)
    return list(client.queue(QUEUE).enqueue_many(requests))


def enqueue_words(client: Client, count: int) -> list[Job[Any]]:
    """Enqueue light jobs that mostly wait, as those that ask a slow service: they take slots, not processors."""
    run = time.strftime("%H%M%S")
    requests = [
        JobRequest(
            "count",
            {"text": "heavy jobs lifted with ease", "seconds": WAITS[place % len(WAITS)]},
            id=f"words-{place:02}-{run}",
        )
        for place in range(count)
    ]
    return list(client.queue(WORDS).enqueue_many(requests)) if requests else []


@dataclass
class Progress:
    """When the board last changed."""

    now: Callable[[], float] = time.monotonic
    seen: object = None
    at: float = 0.0

    def stuck(self, made: board.Board) -> bool:
        """Tell whether nothing has changed for too long."""
        state = (made.states, made.phases, made.attempts, dict(made.pods))
        if state != self.seen:
            self.seen, self.at = state, self.now()
        return self.now() - self.at > STUCK


@dataclass
class Watch:
    """A run under way, and what was last seen of it."""

    jobs: Sequence[Job[Any]]
    cluster: Cluster
    started: float = field(default_factory=time.monotonic)
    pods: Sequence[Mapping[str, Any]] = ()
    scaling: Scaling | None = None
    path: Path = field(default_factory=Path)
    looks: int = 0
    ended: float | None = None
    """When all jobs had ended, seconds since the start."""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def look(self) -> tuple[list[JobInfo], board.Board]:
        """Look once more."""
        infos = [job.info() for job in self.jobs]
        if self.looks % PODS_EVERY == 0:
            self.pods = pods(self.cluster)
            self.scaling = autoscaler(self.cluster) or self.scaling
            if self.scaling is not None:
                self.path = self.path.then(self.seconds, self.scaling.wanted)
        self.looks += 1
        made = board.make(infos, self.pods, self.scaling, self.path)
        if made.finished and self.ended is None:
            self.ended = self.seconds
        return infos, made

    def over(self) -> bool:
        """Whether all jobs have ended and the dispatchers are back at one, or have had their time for it."""
        return self.ended is not None and (self.path.back or self.seconds - self.ended > CALM)


def until_done(jobs: Sequence[Job[Any]], cluster: Cluster) -> tuple[list[JobInfo], Watch]:
    """Show the board until all jobs have ended and the dispatchers are back at one; return both.

    Raises:
        DemoError: nothing has moved for five minutes.
    """
    progress, watch = Progress(), Watch(jobs, cluster)
    with Live(console=Console(), auto_refresh=False, transient=False) if sys.stdout.isatty() else _Plain() as live:
        while True:
            infos, made = watch.look()
            live.update(board.render(made, watch.seconds, datetime.now(UTC)), refresh=True)
            if isinstance(live, _Plain) and (watch.over() or watch.looks % PLAIN_EVERY == 1):
                say(board.line(made, watch.seconds))
            if watch.over():
                return infos, watch
            if progress.stuck(made):
                raise DemoError(
                    f"nothing has moved for {STUCK:.0f} s: {board.line(made, watch.seconds)}\n"
                    "look at `kubectl get pods -A` and `kubectl logs -n heavylift deploy/heavylift-dispatcher` after\n"
                    '  eval "$(.venv/bin/python -m scripts.demo env)"'
                )
            time.sleep(REFRESH)  # as often as people can read it


class _Plain:
    """Stands for the live display where the output is piped: shows nothing itself."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def update(self, renderable: object, *, refresh: bool = False) -> None:
        """Show nothing."""
        del renderable, refresh


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the pods of the jobs' namespace; none while the API server does not answer."""
    try:
        items: list[dict[str, Any]] = api_of(cluster.layout).get(f"/api/v1/namespaces/{JOBS_NAMESPACE}/pods")["items"]
    except (ClusterError, OSError, ValueError, KeyError):
        return []
    return items


def autoscaler(cluster: Cluster) -> Scaling | None:
    """Return the dispatchers and their autoscaler; None while the API server does not answer."""
    api, hpas = api_of(cluster.layout), "autoscaling/v2/namespaces"
    selector = f"involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={DISPATCHER}"
    try:
        return read(
            api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{DISPATCHER}"),
            api.get(f"/apis/{hpas}/{NAMESPACE}/horizontalpodautoscalers/{DISPATCHER}"),
            api.get(f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector={quote(selector)}")["items"],
        )
    except (ClusterError, OSError, ValueError, KeyError):
        return None
