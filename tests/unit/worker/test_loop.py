"""The claim loop on scripted claims: turns, probes, lost answers, resumes, and the hand-back at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from typing_extensions import override

from heavylift.errors import RedisUnavailableError, StoreCorruptError
from heavylift.runtime.health import Beat
from heavylift.runtime.kube import KubeReply
from heavylift.runtime.service import Service
from heavylift.store.model import Claim, ClaimReply
from heavylift.store.steps import Call
from heavylift_worker.loop import ClaimLoop
from heavylift_worker.settings import DispatcherSettings
from tests.unit.worker.fakes import QuickClock, ScriptedStore, created, status
from tests.unit.worker.rendering import make_claim, make_queue
from tests.unit.worker.test_dispatch import Bench

NONE = ClaimReply(claims=(), blocked={})


@dataclass
class Stand:
    """A loop over a scripted store and cluster."""

    bench: Bench
    loop: ClaimLoop
    service: Service
    replies: list[Any] = field(default_factory=list)
    """What claims answer, one after the other; then the process is told to end."""
    asked: list[tuple[str, ...]] = field(default_factory=list)
    """Queues of each claim."""
    wanted: list[int] = field(default_factory=list)
    """How many each claim asked for."""
    requests: list[str] = field(default_factory=list)
    own: list[tuple[Claim, ...]] = field(default_factory=list)

    async def run(self) -> None:
        """Run the loop until its script is over."""
        async with asyncio.timeout(10):
            await self.loop.run()

    def claim(self, **values: Any) -> Claim:
        """Return a claim."""
        return self.bench.claim(**values)


class _Store(ScriptedStore):
    """Answers claims and own_claims from the stand's script."""

    stand: Stand

    @override
    async def run(self, op: Any) -> Any:
        """Run one operation."""
        if op.__name__ == "claim":
            return self._claim(next(op))
        if op.__name__ == "own_claims":
            return self.stand.own.pop(0) if self.stand.own else ()
        return await super().run(op)

    def _claim(self, step: Call) -> ClaimReply:
        self.stand.requests.append(str(step.args[1]))
        self.stand.wanted.append(int(step.args[3]))
        self.stand.asked.append(tuple(str(arg) for arg in step.args[8:]))
        if not self.stand.replies:
            if self.stand.loop.active == 0:
                self.stand.service.end("script over")
            return NONE
        answer = self.stand.replies.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, ClaimReply)
        return answer


@pytest.fixture
def make() -> Callable[..., Stand]:
    """Give a function that makes a stand for answers of the cluster."""

    def made(*answers: Any, **settings: Any) -> Stand:
        bench = Bench(*(answers or (created(),)))
        store = _Store(bench.store.answers)
        bench.store = bench.dispatch.link = store
        service = Service("test", clock=QuickClock())
        bench.dispatch.stopping = service.stop.is_set
        bench.dispatch.cache.listed.add("analytics")
        bench.dispatch.creator.pause = service.pause
        values: dict[str, Any] = {
            "redis_url": "redis://r",
            "install_id": "i/1",
            "namespaces": ("analytics",),
            "worker_name": "w1",
            "poll": 0.001,
        }
        loop = ClaimLoop(
            dispatch=bench.dispatch,
            settings=DispatcherSettings(**{**values, **settings}),
            service=service,
            beat=Beat("claim", 60),
        )
        stand = Stand(bench, loop, service)
        store.stand = stand
        return stand

    return made


def _claims(*claims: Claim) -> ClaimReply:
    return ClaimReply(claims=claims, blocked={})


async def test_claims_are_carried_out(make: Callable[..., Stand]) -> None:
    """Each claim gets its Job and its record; the loop asks again at once while there is work."""
    stand = make()
    stand.replies = [_claims(stand.claim(job="j1"), stand.claim(job="j2")), _claims(stand.claim(job="j3"))]

    await stand.run()

    assert sorted(body["metadata"]["annotations"]["heavylift.dev/job-id"] for body in stand.bench.api.bodies) == [
        "j1",
        "j2",
        "j3",
    ]
    assert stand.bench.store.scripts.count("record") == 3
    assert stand.loop.active == 0


async def test_a_claim_goes_on_where_the_last_one_had_to_stop(make: Callable[..., Stand]) -> None:
    """Queues a bounded claim did not come to are asked for at once, and only then the loop waits."""
    stand = make()
    for name in ("a", "b", "c", "d"):
        stand.bench.dispatch.cache._found[("analytics", name)] = make_queue(name)
    del stand.bench.dispatch.cache._found[("analytics", "reports")]
    stand.replies = [ClaimReply(claims=(), blocked={"b": "cap", "c": "empty"}), NONE]

    await stand.run()

    assert [queues[0] for queues in stand.asked[:2]] == ["b", "d"]


async def test_each_claim_starts_at_another_queue(make: Callable[..., Stand]) -> None:
    """The order of queues turns, so that none is last for ever."""
    stand = make()
    for name in ("a", "b", "c"):
        stand.bench.dispatch.cache._found[("analytics", name)] = make_queue(name)
    del stand.bench.dispatch.cache._found[("analytics", "reports")]
    stand.replies = [NONE, NONE]

    await stand.run()

    assert {queues[0] for queues in stand.asked[:3]} == {"a", "b", "c"}
    assert all(sorted(queues) == ["a", "b", "c"] for queues in stand.asked)


async def test_lost_answer_is_asked_for_under_the_same_request(make: Callable[..., Stand]) -> None:
    """A claim whose answer was lost is asked for again with its request id, before any other claim."""
    stand = make()
    stand.replies = [RedisUnavailableError("away"), _claims(stand.claim())]

    await stand.run()

    assert stand.requests[0] == stand.requests[1] != stand.requests[2]
    assert stand.bench.store.scripts.count("record") == 1


async def test_own_claims_without_a_job_are_resumed(make: Callable[..., Stand]) -> None:
    """At the start, and after Redis was away, claims of ours that nobody works on go on, without a look first."""
    stand = make()
    stand.own = [(stand.claim(),)]

    await stand.run()

    assert stand.bench.store.scripts[0] == "record"
    assert stand.loop.unsettled is False


async def test_nothing_is_resumed_before_its_heavyqueues_are_listed(make: Callable[..., Stand]) -> None:
    """At the start a claim of ours waits for the list of its namespace instead of going back to its queue."""
    stand = make()
    cache = stand.bench.dispatch.cache
    cache.listed.clear()
    stand.own = [(stand.claim(),), (stand.claim(),)]
    stand.replies = [NONE]
    asyncio.get_running_loop().call_soon(cache.listed.add, "analytics")

    await stand.run()

    assert stand.bench.store.scripts == ["record"]
    assert stand.loop.unsettled is False


async def test_record_lost_to_redis_is_resumed(make: Callable[..., Stand]) -> None:
    """A claim whose record did not get through is taken up again."""
    stand = make()
    losses = [RedisUnavailableError("away")]
    answers = dict(stand.bench.store.answers)
    stand.bench.store.answers = answers

    def before(script: str) -> None:
        answers.pop("record", None)
        if script == "record" and losses:
            answers["record"] = losses.pop()

    stand.bench.store.before = before
    stand.own = [(), (stand.claim(),)]
    stand.replies = [_claims(stand.claim()), NONE]

    await stand.run()

    assert stand.bench.store.scripts == ["check", "record", "record"]


async def test_released_and_claimed_again_runs_after_its_first_task(make: Callable[..., Stand]) -> None:
    """The same execution claimed twice by this process is worked on one after the other, never lost."""
    stand = make()
    stand.replies = [_claims(stand.claim()), _claims(stand.claim())]

    await stand.run()

    assert stand.bench.store.scripts.count("record") == 2


async def test_half_open_queue_gets_one_probe(make: Callable[..., Stand]) -> None:
    """After the pause one job of a paused queue is claimed, alone."""
    stand = make()
    stand.bench.gate.queues.of("reports").failed("denied", at_once=True)
    stand.bench.clock.seconds += 30
    stand.replies = [_claims(stand.claim())]

    await stand.run()

    assert stand.asked[0] == ("reports",)
    assert stand.bench.gate.queues.of("reports").room is None


async def test_open_breaker_claims_nothing(make: Callable[..., Stand]) -> None:
    """While a breaker is open nothing is asked of its queue."""
    stand = make()
    stand.bench.gate.queues.of("reports").failed("denied", at_once=True)
    asyncio.get_running_loop().call_later(0.05, stand.service.end, "enough")

    await stand.run()

    assert stand.asked == []


async def test_jobs_are_handed_back_in_order(make: Callable[..., Stand]) -> None:
    """What has no Job at the end goes to the front of its queue so that the first claimed is first again."""
    stand = make(status(503, "overloaded"))
    claims = [stand.claim(job=f"j{n}") for n in range(4)]
    stand.replies = [_claims(*claims)]
    stand.bench.store.before = lambda _: stand.service.end("now")

    await stand.run()

    released = [str(call.args[0]) for call in stand.bench.store.seen if call.script == "release"]
    assert released == ["j3", "j2", "j1", "j0"]


async def test_jobs_are_handed_back_by_a_loop_that_was_in_its_pause(
    make: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to end while the loop waits after a corrupt key, it still hands back what has no Job."""
    stand = make()
    service = stand.service

    async def unanswered(*_: Any, **__: Any) -> KubeReply:
        await asyncio.Event().wait()
        raise AssertionError

    class Ending(QuickClock):
        @override
        async def sleep(self, seconds: float) -> None:
            service.end("in the pause")

    monkeypatch.setattr(stand.bench.api, "request", unanswered)
    monkeypatch.setattr("heavylift_worker.loop.DRAIN_S", 0.0)
    service.clock = Ending()
    stand.replies = [_claims(stand.claim(job="j1")), StoreCorruptError("rq:queue:x is a string")]
    service.add("claim", stand.loop.run)

    async with asyncio.timeout(10):
        await service.run(signals=False)

    assert [str(call.args[0]) for call in stand.bench.store.seen if call.script == "release"] == ["j1"]


async def test_broken_claim_does_not_stop_the_loop(make: Callable[..., Stand]) -> None:
    """An unexpected error in one claim is logged; the next one is carried out."""
    stand = make()
    stand.replies = [_claims(make_claim(data=None)), _claims(stand.claim(job="j2"))]

    await stand.run()

    assert stand.bench.store.scripts.count("record") == 1


async def test_no_more_than_slots_wait_for_their_jobs(make: Callable[..., Stand]) -> None:
    """A claim asks for no more than the slots leave, so that a dispatcher that dies leaves only its share behind."""
    stand = make(slots=3)
    stand.replies = [_claims(stand.claim(job="j1"), stand.claim(job="j2")), NONE]

    await stand.run()

    assert stand.wanted[0] == 3
    assert max(stand.wanted) == 3
    assert min(stand.wanted) >= 1
    stand.bench.gate.retrying["analytics"] = 2
    assert stand.loop.spare == 3 + 2 - stand.loop.active


async def _settled(condition: Callable[[], bool]) -> None:
    """Let everybody run until a condition holds, and a little longer."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - several parts of a process, none of which tells
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_was_told_all_asks_no_more(make: Callable[..., Stand]) -> None:
    """When each queue said why there is no more, the end of a claim is no reason to ask again."""
    stand = make(poll=60)
    stand.replies = [ClaimReply(claims=(stand.claim(job="j1"),), blocked={"reports": "width"})]
    running = asyncio.create_task(stand.run())

    await _settled(lambda: "record" in stand.bench.store.scripts and not stand.loop.active)

    assert len(stand.asked) == 1
    stand.service.end("seen")
    await running


async def test_behind_busy_creates_claims_gather(make: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch) -> None:
    """With all create slots taken the loop waits until half of its claims went on, and then asks for them at once."""
    stand = make(poll=60, create_concurrency=2, slots=100)
    turns = asyncio.Semaphore(0)
    request = stand.bench.api.request

    async def in_turn(*arguments: Any, **more: Any) -> KubeReply:
        await turns.acquire()
        return await request(*arguments, **more)

    monkeypatch.setattr(stand.bench.api, "request", in_turn)
    stand.replies = [
        _claims(*(stand.claim(job=f"a{n}") for n in range(8))),
        ClaimReply(claims=tuple(stand.claim(job=f"b{n}") for n in range(4)), blocked={"reports": "empty"}),
    ]
    running = asyncio.create_task(stand.run())
    asked: dict[int, int] = {}

    for left in range(8, 3, -1):
        limit = left
        await _settled(lambda: bool(stand.asked) and stand.loop.active <= limit)  # noqa: B023 - called in this turn
        asked[left] = len(stand.asked)
        turns.release()

    assert asked == {8: 1, 7: 1, 6: 1, 5: 1, 4: 2}
    assert stand.wanted[:2] == [8, 4]
    for _ in range(20):
        turns.release()
    await _settled(lambda: not stand.loop.active)
    stand.service.end("seen")
    await running
    assert stand.bench.store.scripts.count("record") == 12


async def test_creates_that_are_retried_leave_their_room_at_once(
    make: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims that gathered behind busy creates are made as soon as those are retried, for other namespaces."""
    stand = make(poll=60, create_concurrency=2, slots=100)

    async def stuck(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(stand.bench.api, "request", stuck)
    stand.replies = [
        _claims(*(stand.claim(job=f"a{n}") for n in range(7))),
        ClaimReply(claims=(), blocked={"reports": "empty"}),
    ]
    running = asyncio.create_task(stand.run())
    await _settled(lambda: stand.loop.active == 7)
    assert len(stand.asked) == 1
    stand.bench.gate.retries("elsewhere", 6)
    await _settled(lambda: len(stand.asked) > 1)

    assert stand.wanted[1] == 1
    stand.service.end("seen")
    for _, task in list(stand.loop._active.values()):
        task.cancel()
    await running
