"""Ranks at the back of lanes: in order whatever the clock does, and whatever became of the rank that spares looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heavylift.store import Store, ops
from tests.integration.store.keykit import ids
from tests.integration.store.kit import QUEUE, World, request
from tests.model.clocked import ClockedStore

NOW = 1_800_000_000_000_000
BACK = f"heavylift:back:{QUEUE}"
KEYS = ("a", "b", "c")


@pytest.fixture
def clocked(w: World) -> Iterator[Callable[[int], None]]:
    """Give what sets the clock of the scripts (microseconds)."""
    given, made = w.store, ClockedStore.connect(w.server.url)
    with made:
        w.store = made
        made.set_time(NOW)
        w.serve(concurrencyPerKey=1000)
        yield made.set_time
    w.store = given


def put(store: Store, *numbers: int, **options: Any) -> None:
    """Enqueue a batch of jobs ``j<number>``, by turns with each key."""
    batch = [request(id=f"j{n:03}", options={"key": KEYS[n % 3], **options}) for n in numbers]
    assert all(made.created for made in store.run(ops.enqueue_many(batch)))


def taken(w: World) -> list[str]:
    """Claim all that waits, in its order."""
    found: list[str] = []
    while claims := w.ask().claims:
        found += ids(claims)
    return found


def lose(w: World) -> None:
    """Take the highest rank away."""
    assert w.redis.delete(BACK) == 1


HARM: dict[str, Callable[[World], Any]] = {
    "nothing": lambda _: None,
    "gone": lose,
    "no number": lambda w: w.redis.set(BACK, b"\xff1e999"),
    "too long": lambda w: w.redis.set(BACK, "9" * 400),
    "far ahead": lambda w: w.redis.set(BACK, "9" * 16),
    "another type": lambda w: (w.redis.delete(BACK), w.redis.lpush(BACK, "x")),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("step", [-3_600_000_000, 5, 1_000_000])
def test_a_batch_goes_behind_what_waits(w: World, clocked: Callable[[int], None], step: int, harm: str) -> None:
    """The clock may go back between two batches, the highest rank may be lost or anything: each key keeps its order."""
    put(w.store, *range(12))
    HARM[harm](w)
    clocked(NOW + step)
    put(w.store, *range(12, 24))
    clocked(NOW + step + 100)
    put(w.store, 24)
    clocked(NOW + 2_000_000)
    found = taken(w)
    for n in range(3):
        assert [job for job in found if int(job[1:]) % 3 == n] == [f"j{m:03}" for m in range(n, 25, 3)]
    if harm == "nothing" and step > 12:
        assert found == [f"j{n:03}" for n in range(25)]


def test_a_job_put_back_where_it_stood_counts_too(w: World, clocked: Callable[[int], None]) -> None:
    """Whatever comes into a lane raises the highest rank: later jobs go behind jobs that were moved there."""
    hour = 3_600_000_000
    clocked(NOW - 2 * hour)
    put(w.store, *range(3))
    w.serve()  # keys are not kept apart
    clocked(NOW)
    put(w.store, *range(3, 9))
    w.serve(concurrencyPerKey=1)
    claims = w.ask().claims  # one of each key; what else it meets it moves into lanes
    clocked(NOW - hour)
    put(w.store, *range(9, 15))
    w.serve(concurrencyPerKey=1000)
    clocked(NOW + hour)
    found = [*ids(claims), *taken(w)]
    for n in range(3):
        assert [job for job in found if int(job[1:]) % 3 == n] == [f"j{m:03}" for m in range(n, 15, 3)]


def test_the_highest_rank_ends_by_itself(w: World, clocked: Callable[[int], None]) -> None:
    """It is there while jobs come, and gone a day after the last."""
    clocked(NOW)
    put(w.store, *range(3))
    assert 86_000 < w.redis.ttl(BACK) <= 86_400
    assert w.redis.get(BACK) == str(4 * 10**15 + NOW + 2).encode()
    put(w.store, 3, lifo=True)
    assert w.redis.get(BACK) == str(4 * 10**15 + NOW + 2).encode()


def test_a_ring_that_was_deleted_is_made_again(w: World, clocked: Callable[[int], None]) -> None:
    """Slots without their ring are not believed: the next batch brings the keys' places back."""
    clocked(NOW)
    put(w.store, *range(6))
    w.redis.delete(f"heavylift:ring:{QUEUE}")
    clocked(NOW + 1_000)
    put(w.store, *range(6, 12))
    assert w.redis.zcard(f"heavylift:ring:{QUEUE}") == 3
    assert taken(w) == [f"j{n:03}" for n in range(12)]
