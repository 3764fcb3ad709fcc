"""A job with its queue's settings: read in one trip, the settings once for many jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from heavylift.errors import HeavyliftError, StoreCorruptError
from heavylift.runtime.link import RedisLink
from heavylift.store.steps import Call, Op
from heavylift_operator.services.records import SETTINGS_S, Records
from tests.unit.operator.test_workqueue import Clock

JOB = [b"ok", b"", [b"status", b"started", b"origin", b"reports"], -1]


@dataclass
class Redis:
    """A link to a Redis with one kind of job, and settings."""

    settings: bytes | None = b'{"n":1}'
    verdict: bytes = b"ok"
    trips: list[int] = field(default_factory=list)

    def _one(self, op: Op[Any]) -> Any:
        answer = [self.verdict, *JOB[1:]] if isinstance(next(op), Call) else self.settings
        try:
            op.send(answer)
        except StopIteration as stopped:
            return stopped.value
        except HeavyliftError as error:
            return error
        raise AssertionError("one step was expected")

    async def run(self, op: Op[Any]) -> Any:
        """Answer one."""
        self.trips.append(1)
        return self._one(op)

    async def run_many(self, operations: list[Op[Any]]) -> list[Any]:
        """Answer some."""
        self.trips.append(len(operations))
        return [self._one(op) for op in operations]


def records(redis: Redis, clock: Clock) -> Records:
    """Return what reads there."""
    return Records(link=cast("RedisLink", redis), monotonic=clock.monotonic)


async def test_settings_are_read_once_in_a_while() -> None:
    """Beside the first job, and again when they are older than a second."""
    redis, clock = Redis(), Clock()
    reads = records(redis, clock)
    for _ in range(3):
        record, settings = await reads.read("a", "reports")
        assert (record is not None, settings) == (True, {"n": 1})
    redis.settings = b'{"n":2}'
    clock.at += SETTINGS_S
    assert (await reads.read("a", "reports"))[1] == {"n": 2}
    assert redis.trips == [2, 1, 1, 2]


async def test_what_is_not_known_is_asked_again() -> None:
    """A queue without settings may have some a moment later; settings of another queue are none of the job's."""
    redis, clock = Redis(settings=None), Clock()
    reads = records(redis, clock)
    assert (await reads.read("a", "reports"))[1] is None
    redis.settings = b"{}"
    assert (await reads.read("a", "reports"))[1] == {}
    assert (await reads.read("a", "another"))[1] is None
    assert redis.trips == [2, 2, 2]


async def test_a_key_that_is_no_job_is_said() -> None:
    """It is that item's trouble."""
    with pytest.raises(StoreCorruptError):
        await records(Redis(verdict=b"corrupt"), Clock()).read("a", "reports")
