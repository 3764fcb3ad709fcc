"""A sample lasts a while without Redis, and is never replaced by nought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from heavylift.errors import RedisUnavailableError, StoreCorruptError
from heavylift.runtime.health import Beat
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift_operator.metrics_api.sampler import Sampler
from heavylift_operator.metrics_api.status import StatusError


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def now_ms(self) -> int:
        """Return ms since the epoch."""
        return round(self.now * 1000)

    def monotonic(self) -> float:
        """Return seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Link:
    """Redis' answers, or its silence."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.demand = 4

    async def run(self, op: Any) -> Any:
        """Answer a snapshot."""
        op.close()
        if self.trouble is not None:
            raise self.trouble
        return {"at": 5_000, "queues": {"q": {"demand": self.demand, "install": "ns/rel"}}}


def made(served: Mapping[str, str] | None) -> tuple[Sampler, Link, Time]:
    """Return a sampler with what a test moves."""
    link, time = Link(), Time()
    sampler = Sampler(
        link=cast("RedisLink", link),
        service=Service("test", clock=time),
        install="ns/rel",
        served=lambda: served,
        interval_s=2.0,
        stale_s=30.0,
        beat=Beat("samples", 60.0),
    )
    return sampler, link, time


async def test_the_last_sample_counts_up_to_the_limit_and_then_an_error_says_how_old_it_is() -> None:
    """Thirty seconds without Redis are the last number; later it is 503, and good again with Redis."""
    sampler, link, time = made({"q": "ns"})
    await sampler.once()
    link.trouble, link.demand = RedisUnavailableError("gone"), 9
    time.now += 30.0
    await sampler.once()
    assert sampler.newest().queues[0].demand == 4
    assert sampler.newest().at_ms == 5_000
    time.now += 1.4
    with pytest.raises(StatusError) as caught:
        sampler.newest()
    assert (caught.value.code, str(caught.value)) == (503, "redis unreachable, last sample 31 s old")
    assert sampler.check()[0], "an old sample unreadies nobody: each request is told"
    link.trouble = None
    await sampler.once()
    assert sampler.newest().queues[0].demand == 9


async def test_without_any_sample_there_is_an_error_and_no_readiness() -> None:
    """Before the HeavyQueues are listed, or Redis was reached, nothing is answered but why."""
    sampler, link, _ = made(None)
    await sampler.once()
    with pytest.raises(StatusError, match="no sample yet: the HeavyQueues are not listed yet") as caught:
        sampler.newest()
    assert caught.value.code == 503
    sampler, link, _ = made({})
    link.trouble = RedisUnavailableError("gone")
    await sampler.once()
    with pytest.raises(StatusError, match="no sample yet: redis unreachable"):
        sampler.newest()
    assert sampler.check() == (False, "redis unreachable")


async def test_other_trouble_is_told_in_its_own_words() -> None:
    """A key of the wrong type is not called a lost Redis."""
    sampler, link, time = made({"q": "ns"})
    await sampler.once()
    link.trouble = StoreCorruptError("the key rq:queue:q is a string")
    time.now += 60
    await sampler.once()
    with pytest.raises(StatusError, match="the key rq:queue:q is a string, last sample 60 s old"):
        sampler.newest()


async def test_the_loop_samples_until_the_process_ends() -> None:
    """Each round ticks the beat that liveness looks at."""
    sampler, _, time = made({"q": "ns"})
    rounds = iter(range(3))

    async def sleep(seconds: float) -> None:
        time.now += seconds
        if next(rounds, None) is None:
            sampler.service.end("enough")

    time.sleep = sleep  # type: ignore[method-assign]
    await sampler.run()
    assert time.now == 108.0
    assert sampler.newest().taken == 106.0
