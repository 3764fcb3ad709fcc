"""Bulk operations of the command line: jobs named by a filter instead of ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import typer

from heavylift import administration
from heavylift.cli.exits import Exit, report, say
from heavylift.cli.known import known_names
from heavylift.cli.output import Format
from heavylift.cli.session import Session
from heavylift.cli.told import Told, progress, telling
from heavylift.client import Client
from heavylift.contract import ids
from heavylift.contract.states import JobState
from heavylift.errors import InvalidInputError
from heavylift.options import RetryOptions

_COUNTED = 100_000
"""Jobs counted of a queue before a person is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The jobs a filter names."""

    wanted: administration.Filter
    queues: tuple[str, ...]
    """Empty = all."""
    limit: int | None
    """Of each queue; None = no limit."""

    @classmethod
    def of(
        cls,
        state: str,
        outcome: str | None,
        since: str | None,
        labels: Mapping[str, str],
        queues: tuple[str, ...],
        limit: int | None,
    ) -> Self:
        """Return a checked choice of ended jobs that can be retried.

        Raises:
            InvalidInputError: no such state, class or time, or jobs of the state cannot be retried.
        """
        wanted = administration.Filter.of(state, outcome, since, labels)
        if wanted.state not in {JobState.FAILED, JobState.CANCELLED}:
            raise InvalidInputError(f"jobs that are {state} cannot be retried: use --state failed or cancelled")
        return cls(wanted=wanted, queues=tuple(ids.check_queue_name(queue) for queue in queues), limit=limit)

    def count(self, client: Client) -> int:
        """Return how many jobs there are now."""
        found = 0
        for queue in self.of_client(client):
            if self.wanted.cls or self.wanted.since or self.wanted.labels:
                most = self.limit or _COUNTED
                found += len(client.run(administration.jobs(queue, self.wanted, most)))
            else:
                there = int(getattr(client.queue(queue).counts(), self.wanted.state.value))
                found += there if self.limit is None else min(there, self.limit)
        return found

    def of_client(self, client: Client) -> tuple[str, ...]:
        """Return the queues meant.

        Raises:
            UnknownQueueError: one is not there.
        """
        return known_names(client, self.queues)


def retry_chosen(here: Session, chosen: Chosen, changes: RetryOptions, *, yes: bool, output: Format) -> int:
    """Retry the jobs a filter names, in bounded steps with a bar; return the exit code."""
    with here.client() as client:
        if not yes:
            found = chosen.count(client)
            if not found:
                say(f"no {chosen.wanted.state.value} jobs match")
                return Exit.DONE
            typer.confirm(f"Retry {found} {chosen.wanted.state.value} jobs?", abort=True, err=True)
        with telling(output) as told:
            counted = [_retry_queue(client, queue, chosen, changes, told) for queue in chosen.of_client(client)]
    retried, refused = sum(done for done, _ in counted), sum(bad for _, bad in counted)
    say(f"{retried} jobs wait again" + (f", {refused} were refused" if refused else ""))
    return Exit.REFUSED if refused else Exit.DONE


def _retry_queue(client: Client, queue: str, chosen: Chosen, changes: RetryOptions, told: Told) -> tuple[int, int]:
    """Retry those of one queue; return how many wait again and how many were refused."""
    with progress(f"queue {queue}") as step:
        bulk = administration.BulkRetry(
            queue=queue, wanted=chosen.wanted, changes=changes, limit=chosen.limit, progress=step
        )
        done = client.run(bulk.run(client.actor))
    for job in done.jobs:
        told.did(f"job {job} waits again", id=job, did="retried")
    for error in done.errors:
        report(error)
    return len(done.jobs), len(done.errors)
