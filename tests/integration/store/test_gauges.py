"""What may start now, and what an autoscaler should follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heavylift.store import QueueGauges, ops
from tests.integration.store.kit import INSTALL, QUEUE, World


def gauges(w: World, queue: str = QUEUE) -> QueueGauges:
    """Return one queue's gauges."""
    return w.run(ops.gauges(INSTALL, [queue])).queues[queue]


HOLDS: dict[str, Callable[[World], object]] = {
    "paused": lambda w: w.run(ops.pause(QUEUE, by="ann")),
    "paused by the HeavyQueue": lambda w: w.serve(paused=True),
    "suspended": lambda w: w.redis.set("rq:suspended", 1),
    "no-heavyqueue": lambda w: w.run(ops.delete_settings(QUEUE, f"uid-{QUEUE}")),
    "corrupt": lambda w: w.redis.hset(f"heavylift:settings:{QUEUE}", "json", "{"),
}


@pytest.mark.parametrize("hold", HOLDS)
def test_nothing_may_start_while_the_queue_is_held(w: World, hold: str) -> None:
    """Whatever holds the whole queue back leaves as demand what is in flight, and a claim takes nothing."""
    for _ in range(5):
        w.enqueue()
    assert len(w.ask(max=2).claims) == 2
    assert (gauges(w).held, gauges(w).demand, gauges(w).startable) == ("", 5, 3)
    HOLDS[hold](w)
    found = gauges(w)
    assert (found.held, found.waiting, found.startable, found.demand) == (hold.split(maxsplit=1)[0], 3, 0, 2)
    assert not w.ask().claims


def test_demand_stops_at_the_cap(w: World) -> None:
    """With a cap as many may start as it has room for; below what runs it is none; delayed ones only when due."""
    for _ in range(6):
        w.enqueue()
    w.enqueue(delay_ms=60_000)
    w.serve(concurrencyMax=4)
    assert (gauges(w).cap, gauges(w).startable, gauges(w).demand) == (4, 4, 4)
    assert len(w.ask(max=3).claims) == 3
    assert (gauges(w).startable, gauges(w).demand) == (1, 4)
    w.serve(concurrencyMax=1)
    assert (gauges(w).startable, gauges(w).demand) == (0, 3)
    w.serve(concurrencyMax=None)
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {w.enqueue(id="late", delay_ms=60_000).id: 1})
    w.redis.zadd(f"rq:scheduled:{QUEUE}", {"late": 1})
    found = gauges(w)
    assert (found.cap, found.waiting, found.delayed, found.startable, found.demand) == (None, 4, 1, 4, 7)


def test_gauges_of_an_unknown_queue_are_zero(w: World) -> None:
    """A queue nobody knows demands nothing."""
    found = gauges(w, "unknown")
    assert (found.demand, found.held, found.install, found.oldest_waiting) == (0, "no-heavyqueue", "", None)
    assert w.run(ops.gauges(INSTALL, [])).queues == {}
