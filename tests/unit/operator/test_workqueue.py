"""The work queue: de-duplicates, keeps evidence, retries with backoff, never hands a key to two workers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from heavylift_operator.core.evidence import read_job, read_pod
from heavylift_operator.services.workqueue import Item, WorkQueue
from tests.unit.operator.objects import RUNNING, job, pod, terminated


@dataclass
class Clock:
    """A clock that moves when told."""

    at: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        """Milliseconds."""
        return round(self.at * 1000)

    def monotonic(self) -> float:
        """Seconds."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Note it."""
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Clock:
    """Give a clock at 0."""
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    """Give an empty queue without jitter."""
    return WorkQueue(clock=clock, jitter=lambda: 0.0)


def item(name: str = "a", **more: object) -> Item:
    """Return an item."""
    return Item(namespace="ns", name=name, **more)  # type: ignore[arg-type]  # names are Item's own


async def nothing(queue: WorkQueue) -> bool:
    """Return whether the queue has nothing to hand out now."""
    getting = asyncio.ensure_future(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
    if getting.done():
        return False
    getting.cancel()
    return True


async def test_items_of_one_key_become_one_with_all_evidence(queue: WorkQueue) -> None:
    """A later, poorer pod event takes nothing away; Job and pod come together."""
    queue.put(item(pod=read_pod(pod("Failed", main=terminated(3)))))
    queue.put(item(pod=read_pod(pod("Running", main=RUNNING), gone=True)))
    queue.put(item(job=read_job(job()), listed=True))
    found = await queue.get()
    assert found.pod is not None
    assert (found.pod.exit_code, found.pod.gone, found.listed) == (3, True, True)
    assert found.job is not None
    assert await nothing(queue)


async def test_a_key_is_with_one_worker_at_a_time(queue: WorkQueue) -> None:
    """What comes in meanwhile is handed out afterwards."""
    queue.put(item())
    first = await queue.get()
    queue.put(item(listed=True))
    assert await nothing(queue)
    queue.done(first)
    assert (await queue.get()).listed


async def test_a_failed_item_comes_back_with_its_evidence_after_a_growing_pause(queue: WorkQueue, clock: Clock) -> None:
    """0.1 s, 0.2 s, ... 30 s; new events join it and do not jump the pause."""
    queue.put(item(pod=read_pod(pod("Failed", main=terminated(3)))))
    pauses = []
    for _ in range(12):
        found = await queue.get()
        pauses.append(queue.failed(found))
        queue.put(item(listed=True))
        assert await nothing(queue)
        clock.at += pauses[-1]
    last = await queue.get()
    assert last.listed
    assert last.pod is not None
    assert last.pod.exit_code == 3
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == 30.0


async def test_success_forgets_the_failures(queue: WorkQueue, clock: Clock) -> None:
    """The next trouble starts with a short pause again."""
    queue.put(item())
    clock.at += queue.failed(await queue.get())
    queue.done(await queue.get())
    queue.put(item())
    assert queue.failed(await queue.get()) == 0.1


async def test_later_is_later_unless_the_job_left(queue: WorkQueue, clock: Clock) -> None:
    """Several for one key merge; what was seen of a Job that left our watch is void."""
    queue.put_later(item("a", listed=True), 5)
    queue.put_later(item("a", waited=True), 3)
    queue.put_later(item("b", job=read_job(job())), 3)
    queue.put(item("b", job=read_job(job())))
    queue.put(item("b", left=True))
    left = await queue.get()
    assert (left.job, left.left) == (None, True)
    queue.done(left)
    clock.at = 2.9
    assert await nothing(queue)
    clock.at = 3.0
    found = await queue.get()
    assert (found.name, found.listed, found.waited) == ("a", True, True)
    queue.done(found)
    clock.at = 10
    assert await nothing(queue)


async def test_depth_and_age_tell_whether_we_keep_up(queue: WorkQueue, clock: Clock) -> None:
    """Items being attended to count too."""
    assert (queue.depth, queue.oldest_s) == (0, 0.0)
    queue.put(item("a"))
    clock.at = 7
    queue.put(item("b"))
    assert (queue.depth, queue.oldest_s) == (2, 7.0)
    first = await queue.get()
    assert queue.depth == 2
    queue.done(first)
    assert (queue.depth, queue.oldest_s) == (1, 0.0)


async def test_an_item_wakes_one_of_those_who_wait(queue: WorkQueue) -> None:
    """The others sleep on; whoever keeps the time is followed by another; all items find somebody."""
    waiting = [asyncio.ensure_future(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)
    queue.put(item("a"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(one.done() for one in waiting) == 1
    for name in ("b", "c", "d"):
        queue.put(item(name))
    found = await asyncio.gather(*waiting)
    assert sorted(one.name for one in found) == ["a", "b", "c", "d"]


async def test_those_who_give_up_pass_the_word_on(queue: WorkQueue, clock: Clock) -> None:
    """A worker that ends just when it was woken, or that kept the time, leaves nobody asleep over an item."""
    keeper, second, third = (asyncio.ensure_future(queue.get()) for _ in range(3))
    await asyncio.sleep(0)
    queue.put(item("a"))
    second.cancel()  # it had been woken for this one
    assert (await third).name == "a"
    leaving = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    leaving.cancel()
    queue.put(item("x"))  # before it could leave
    assert (await queue.get()).name == "x"
    fourth = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    keeper.cancel()
    await asyncio.sleep(0)
    queue.put_later(item("b"), 5.0)
    clock.at += 6
    queue.put(item("c"))
    assert {(await fourth).name, (await queue.get()).name} == {"b", "c"}
