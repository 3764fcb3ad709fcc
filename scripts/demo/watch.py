"""Enqueues the run's jobs and shows them until all have ended."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from rich.console import Console
from rich.live import Live

from heavylift import Client, Job, JobInfo
from reports import produce
from scripts.demo import board
from scripts.demo.place import JOBS_NAMESPACE, QUEUE
from scripts.demo.shell import DemoError, say
from tests.cluster import Cluster, ClusterError

REFRESH = 1.0
"""Seconds between two looks at the jobs."""
PLAIN_EVERY = 5
"""Looks between two lines when the output is piped."""
PODS_EVERY = 3
"""Looks at the jobs between two at the pods, which cost a call of kubectl."""
STUCK = 300.0
"""Seconds without any change after which something must be wrong."""


def enqueue(client: Client, years: range, resamples: int) -> list[Job[Any]]:
    """Enqueue the run: an annual report for each year, spans of ten years, and what cannot be had."""
    run = time.strftime("%H%M%S")
    requests = produce.good(years, resamples, run)
    for place, request in enumerate(reversed(produce.bad(run))):  # the hungry one first: it has two attempts
        requests.insert(place * 8, request)
    return list(client.queue(QUEUE).enqueue_many(requests))


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


def until_done(jobs: Sequence[Job[Any]], cluster: Cluster) -> tuple[list[JobInfo], float]:
    """Show the board until all jobs have ended; return them and the seconds it took.

    Raises:
        DemoError: nothing has moved for five minutes.
    """
    console = Console()
    progress, started, looks = Progress(), time.monotonic(), 0
    seen: list[dict[str, Any]] = []
    with Live(console=console, auto_refresh=False, transient=False) if sys.stdout.isatty() else _Plain() as live:
        while True:
            infos = [job.info() for job in jobs]
            seen = pods(cluster) if looks % PODS_EVERY == 0 else seen
            made, seconds = board.make(infos, seen), time.monotonic() - started
            live.update(board.render(made, seconds, datetime.now(UTC)), refresh=True)
            if isinstance(live, _Plain) and (made.finished or looks % PLAIN_EVERY == 0):
                say(board.line(made, seconds))
            if made.finished:
                return infos, seconds
            if progress.stuck(made):
                raise DemoError(
                    f"nothing has moved for {STUCK:.0f} s: {board.line(made, seconds)}\n"
                    "look at `kubectl get pods -A` and `kubectl logs -n heavylift deploy/heavylift-dispatcher` after\n"
                    '  eval "$(.venv/bin/python -m scripts.demo env)"'
                )
            looks += 1
            time.sleep(REFRESH)


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
        text = cluster.kubectl("get", "pods", "-n", JOBS_NAMESPACE, "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
    except (ClusterError, ValueError, KeyError):
        return []
    return items
