"""The asynchronous client runs the same operations: each of its methods once, against a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from heavylift import (
    AsyncClient,
    BatchError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobRequest,
    JobState,
    WaitTimeoutError,
    operations,
)

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer

YEAR = {"year": 2026}


@pytest.fixture
async def aclient(redis_server: StoreServer) -> AsyncIterator[AsyncClient]:
    """An asynchronous client of the test's Redis."""
    async with AsyncClient(redis_server.url) as made:
        yield made


async def test_enqueue_wait_and_info(served: Player, aclient: AsyncClient) -> None:
    """A job goes from enqueue to its result, awaited."""
    job = await aclient.queue("reports").enqueue("annual", YEAR)
    claim = await asyncio.to_thread(served.run_one, '{"rows": 3}')

    assert claim.job == job.id
    assert await job.wait(timeout=5) == {"rows": 3}
    assert (await job.info()).state is JobState.COMPLETED


async def test_wait_wakes_up_at_the_end(
    served: Player, aclient: AsyncClient, monkeypatch: pytest.MonkeyPatch, redis_server: StoreServer
) -> None:
    """A waiting coroutine hears of the end; others go on meanwhile."""
    monkeypatch.setattr(operations, "POLL_S", 3600.0)
    job = await aclient.queue("reports").enqueue("annual", YEAR)
    waiter = asyncio.create_task(job.wait())
    channel = f"heavylift:done:{job.id}"
    with redis_server.client() as redis:
        async with asyncio.timeout(30):
            while not dict(redis.pubsub_numsub(channel))[channel.encode()]:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.005)

    await asyncio.to_thread(served.run_one, "1")

    async with asyncio.timeout(30):
        assert await waiter == 1


async def test_wait_says_how_it_ended_otherwise(served: Player, aclient: AsyncClient) -> None:
    """Failed, cancelled, missing and slow jobs raise what the synchronous client raises."""
    queue = aclient.queue("reports")
    failed = await queue.enqueue("annual", YEAR)
    claim = served.claim()
    assert claim is not None
    served.fail(claim)
    waiting = await queue.enqueue("annual", YEAR)

    with pytest.raises(JobFailedError, match="no such year"):
        await failed.wait(timeout=5)
    with pytest.raises(WaitTimeoutError):
        await waiting.wait(timeout="20ms")
    assert await waiting.cancel(reason="obsolete")
    with pytest.raises(JobCancelledError, match="obsolete"):
        await waiting.wait(timeout=5)
    with pytest.raises(JobNotFoundError):
        await aclient.job("nope").wait(timeout=5)


async def test_retry_and_events(served: Player, aclient: AsyncClient) -> None:
    """A retry makes a failed job wait again; its events tell the whole story."""
    job = await aclient.queue("reports").enqueue("annual", YEAR)
    claim = served.claim()
    assert claim is not None
    served.fail(claim)
    await job.retry()
    await asyncio.to_thread(served.run_one)

    names = [event.name async for event in job.events()]

    assert names.index("failed") < names.index("completed")
    assert names[-1] == "completed"


async def test_batch_queues_and_pause(served: Player, aclient: AsyncClient) -> None:
    """Batches, lists, counts, pause and the queue's events, awaited."""
    queue = aclient.queue("reports")
    await queue.pause(reason="upgrade")
    jobs = await queue.enqueue_many([JobRequest("annual", {"year": year}) for year in range(3)])
    with pytest.raises(BatchError) as refused:
        await queue.enqueue_many([JobRequest("annual", {"x": {1}}), JobRequest("annual", YEAR, id="fine")])

    assert [job.id for job in refused.value.jobs] == ["fine"]
    assert served.claim() is None
    await queue.resume()
    assert (await queue.counts()).waiting == 4
    assert [info.id for info in await queue.jobs(limit=2)] == [job.id for job in jobs[:2]]
    assert await aclient.queues() == ["reports"]
    assert "added" in {event.name async for event in queue.events(follow=False)}
