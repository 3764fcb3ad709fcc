"""Who leads: one of several replicas, and one that reaches the cluster; the others know that they stand by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from heavylift.errors import RedisUnavailableError
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift.store.steps import Call, Op
from heavylift_operator.services.leading import ASKED_AGAIN_S, DEAF_S, LOCK_S, Answers, Leadership, lock_s
from tests.unit.worker.fakes import QuickClock


@dataclass
class Lock:
    """The lock in Redis, on a clock that all share."""

    clock: QuickClock
    holder: str = ""
    until: float = 0.0
    away: bool = False

    async def run(self, op: Op[Any]) -> Any:
        """Carry out what the script does."""
        step = next(op)
        assert isinstance(step, Call)
        ttl_ms, holder, *_ = step.args
        if self.away:
            op.close()
            raise RedisUnavailableError("away")
        free = not self.holder or self.clock.seconds >= self.until or self.holder == holder
        if free:
            self.holder, self.until = (str(holder), self.clock.seconds + int(ttl_ms) / 1000) if ttl_ms else ("", 0.0)
        with pytest.raises(StopIteration) as stopped:
            op.send(free)
        return stopped.value.value


@dataclass
class Replica:
    """One replica, and what it was told."""

    lead: Leadership
    told: list[str] = field(default_factory=list)
    hears: bool = True


@pytest.fixture
def lock() -> Lock:
    """Give a free lock."""
    return Lock(QuickClock())


@pytest.fixture
def make(lock: Lock) -> Callable[[str], Replica]:
    """Give a function that makes a replica."""

    def made(name: str) -> Replica:
        service = Service("test", clock=lock.clock)
        lead = Leadership(link=cast("RedisLink", lock), service=service, identity=name, ttl_s=LOCK_S)
        replica = Replica(lead)
        lead.hears = lambda: replica.hears
        lead.taken = lambda: replica.told.append("taken")
        lead.followed = lambda: replica.told.append("followed")
        return replica

    return made


async def test_the_first_leads_and_the_other_stands_by(lock: Lock, make: Callable[[str], Replica]) -> None:
    """The other takes over when the lock of one that died runs out, and knows that its turn has come."""
    one, two = make("one"), make("two")
    assert one.lead.stands_by  # until it knows
    for replica in (one, two, one):
        await replica.lead.once()
    assert (one.lead.leads, one.lead.stands_by, one.told) == (True, False, ["taken"])
    assert (two.lead.leads, two.lead.stands_by, two.told) == (False, True, ["followed"])
    lock.clock.seconds += LOCK_S
    await two.lead.once()
    await one.lead.once()
    assert (two.lead.leads, two.lead.stands_by) == (True, False)
    assert (one.lead.leads, one.lead.stands_by) == (False, True)


async def test_who_ends_gives_the_lock_back(lock: Lock, make: Callable[[str], Replica]) -> None:
    """The next may take it at once; one that never had it leaves it alone."""
    one, two = make("one"), make("two")
    await one.lead.once()
    await two.lead.leave()
    assert lock.holder == "one"
    await one.lead.leave()
    assert (lock.holder, one.lead.leads) == ("", False)


async def test_without_redis_nobody_leads_and_nobody_forgets_whose_turn_it_is(
    lock: Lock, make: Callable[[str], Replica]
) -> None:
    """What the last holder hears meanwhile is for it to attend to, until another one is known to lead."""
    one, two = make("one"), make("two")
    await one.lead.once()
    await two.lead.once()
    lock.away = True
    await one.lead.once()
    await two.lead.once()
    assert (one.lead.leads, one.lead.stands_by, two.lead.stands_by) == (False, False, True)
    lock.away = False
    await one.lead.once()
    assert (one.lead.leads, one.told) == (True, ["taken", "taken"])
    await one.lead.leave()
    lock.away = True
    await one.lead.leave()


async def _run(replica: Replica, lock: Lock, lasting_s: float, beside: Replica | None = None) -> None:
    """Let a replica's loop run for a while; whenever it waits, the other one asks."""
    end, sleep = lock.clock.seconds + lasting_s, lock.clock.sleep

    async def slept(seconds: float) -> None:
        await sleep(seconds)
        if beside is not None:
            await beside.lead.once()
        if lock.clock.seconds >= end:
            replica.lead.service.end("over")

    lock.clock.sleep = slept  # type: ignore[method-assign]
    await replica.lead.run()


async def test_a_holder_that_hears_nothing_leaves_the_lock_to_another(
    lock: Lock, make: Callable[[str], Replica]
) -> None:
    """It reaches Redis and not the cluster: after a while the other one leads."""
    one, two = make("one"), make("two")
    await one.lead.once()
    await two.lead.once()
    one.hears = False
    await _run(one, lock, 2 * DEAF_S, beside=two)
    assert (one.lead.leads, one.lead.stands_by, two.lead.leads) == (False, True, True)


async def test_where_nobody_hears_the_cluster_somebody_leads_all_the_same(
    lock: Lock, make: Callable[[str], Replica]
) -> None:
    """One that nobody takes the lock from has it again, and keeps it for a minute."""
    one = make("one")
    one.hears = False
    await one.lead.once()
    await _run(one, lock, 3 * DEAF_S)
    assert (one.lead.leads, one.told) == (True, ["taken", "taken"])


@pytest.mark.parametrize(("interval_s", "ttl_s"), [(0.2, 3.0), (1.5, 4.5), (20.0, LOCK_S)])
def test_the_lock_lasts_no_longer_than_needed(interval_s: float, ttl_s: float) -> None:
    """Three intervals of a comparison, within bounds."""
    assert lock_s(interval_s) == ttl_s


def test_one_lost_reply_is_no_reason_to_give_the_lock_away() -> None:
    """A comparison without an answer is made again soon; only the second one in a row says that nobody answers."""
    answers = Answers()
    assert (answers.come, answers.pause_s(20)) == (True, 20)
    answers.note(answered=False)
    assert (answers.come, answers.pause_s(20), answers.pause_s(1)) == (True, ASKED_AGAIN_S, 1)
    answers.note(answered=False)
    assert (answers.come, answers.pause_s(20)) == (False, 20)
    answers.note(answered=True)
    assert (answers.come, answers.pause_s(20)) == (True, 20)
