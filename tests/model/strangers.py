"""RQ's own client among the steps: what it writes is not under test, what our scripts make of it is.

It acts on Redis, at the time of the sequence; the keys of RQ as they stand then are put into the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import redis
import rq.executions
import rq.job
import rq.queue
import rq.registry
import rq.utils
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.serializers import JSONSerializer

from heavylift.contract.keys import Keys
from heavylift.contract.states import JobState
from heavylift.testing.state import State

_MODULES = (rq.utils, rq.job, rq.queue, rq.registry, rq.executions)
_BYTES = {b"data", b"exc_info"}
_REGISTRIES = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}


@contextlib.contextmanager
def at(micros: int) -> Iterator[None]:
    """Let RQ take this for the time: microseconds since the epoch."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)

    def now() -> datetime:
        return moment

    with contextlib.ExitStack() as stack:
        for module in _MODULES:
            if hasattr(module, "now"):
                stack.enter_context(mock.patch.object(module, "now", new=now))
        yield


def act(client: redis.Redis, micros: int, how: str, job: str, queue: str, **more: Any) -> None:
    """Let RQ do something; what it refuses changes nothing."""
    with at(micros), contextlib.suppress(InvalidJobOperation, NoSuchJobError):
        if how == "enqueue":
            _enqueue(client, job, queue, **more)
        elif how == "empty":
            rq.queue.Queue(queue, connection=client, serializer=JSONSerializer).empty()  # type: ignore[no-untyped-call]
        else:
            getattr(rq.job.Job.fetch(job, connection=client, serializer=JSONSerializer), how)()


def _enqueue(client: redis.Redis, job: str, queue: str, **more: Any) -> None:
    there = rq.queue.Queue(queue, connection=client, serializer=JSONSerializer)
    parents = [f"j{parent}" for parent in more["depends"] if f"j{parent}" != job]
    there.enqueue_call(
        "app.work",
        args=(1,),
        job_id=job,
        at_front=more["front"],
        retry=rq.job.Retry(max=more["retries"], enqueue_at_front=more["front"]) if more["retries"] else None,
        depends_on=rq.job.Dependency(parents, allow_failure=more["forgiving"]) if parents else None,
    )


def take_over(client: redis.Redis, state: State, queues: Sequence[str], jobs: Sequence[str]) -> None:
    """Put RQ's keys as they stand in Redis into the model."""
    keys = Keys()
    for name in queues:
        there = state.queue(name)
        there.levels[0] = _texts(client.lrange(keys.queue(name), 0, -1))
        there.started = dict.fromkeys(_texts(client.zrange(keys.started(name), 0, -1)))
        there.scheduled, there.deferred = (
            _scores(client, keys.registry(kind, name)) for kind in ("scheduled", "deferred")
        )
        there.kept = {each: _scores(client, keys.registry(kind, name)) for each, kind in _REGISTRIES.items()}
    for job in jobs:
        found: Any = client.hgetall(keys.job(job))
        state.jobs.pop(job, None)
        if found:
            state.jobs[job] = {
                name.decode(): value if name in _BYTES else value.decode() for name, value in found.items()
            }
        for links, key in ((state.dependents, keys.dependents(job)), (state.dependencies, keys.dependencies(job))):
            links.pop(job, None)
            if members := client.smembers(key):
                links[job] = set(_texts(members))


def _texts(found: Any) -> list[str]:
    return [each.decode() for each in found]


def _scores(client: redis.Redis, key: str) -> dict[str, int]:
    found: Any = client.zrange(key, 0, -1, withscores=True)
    return {member.decode(): int(score) for member, score in found}
