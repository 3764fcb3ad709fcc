"""Every key the contract can build with junk in it, of its own type and of another: what is said, and what goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heavylift.contract.keys import Keys
from heavylift.contract.states import JobState
from heavylift.store import Fence, FinishRequest, Next, Verdict, decode, ops, scripts
from tests.integration.hostile.corpus import WRITES, every_key
from tests.integration.store import schedule_cases
from tests.integration.store.hostilekit import (
    STEPS,
    all_claims,
    ask,
    producing,
    reads,
    scheduling,
    side_by_side,
    tidying,
    told,
)
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World, outcome, request, world
from tests.servers import StoreServer

KEYS = every_key(Keys())
ID, EXECUTION = "job", "a" * 16 + "-1"
TYPES = list(WRITES)
TYPES_THERE: dict[str, str] = {}
"""What stands at each key in a world with something in every state; ``none`` where nothing does."""
EVERYBODYS = {"queues", "inflight prod/heavylift", "replies w1", "suspended"}
"""Keys that all queues of a dispatcher need: while one is wrong, each of them says so."""


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on one store."""
    with world(redis_server, serve=False) as made:
        yield made


def _prepare(w: World) -> None:
    """Make a world with something in every state: what runs is ``job``."""
    w.redis.flushall()
    w.generation = 0
    w.serve(concurrencyPerKey=1, rateLimit={"limit": 1000, "period": 60_000})
    w.serve("second")
    w.run(ops.register_dispatcher(INSTALL, WORKER, 60_000))
    w.run(ops.enqueue(request(id=ID, incarnation="a" * 16, options={"key": "tenant", "dedupe": {"id": "annual"}})))
    w.run(ops.enqueue(request(id="failed")))
    for claim in all_claims(w):
        w.record(claim)
        if claim.job == "failed":
            w.finish(claim, Next.FAIL)
    entries = [
        request(id="keyed", options={"key": "tenant"}),
        request(id="level", options={"priority": 3}),
        request(id="waiting"),
        request(id="delayed", delay_ms=60_000),
        request(id="child", depends_on=(ID,)),
    ]
    w.run(ops.enqueue_many(entries))
    w.run(schedule_cases.CASES["schedule_put"][1]())


def _poisons(name: str, own: str) -> Iterator[str]:
    """Yield the types to try: its own, with junk in it, and another; all where its own is not known."""
    if own == "none":
        yield from TYPES
    else:
        yield own
        yield TYPES[(TYPES.index(own) + 1 + len(name) % (len(TYPES) - 1)) % len(TYPES)]


def _everything(w: World, what: str) -> None:
    """Run every operation there is; each gives a value or an error of ours."""
    for name, op in scheduling():  # one after another: the last deletes what the others are about
        w.run(told(f"{what}: {name}", op, corrupt=True))
    for group in (producing(QUEUE), tidying(), reads()):
        side_by_side(w, {f"{what}: {name}": op for name, op in group}, corrupt=True)
    side_by_side(w, {f"{what}: {name}": step(ID, EXECUTION) for name, step in STEPS.items()}, corrupt=True)


def _carry_on(w: World, what: str, queue: str) -> None:
    """Assert that a job of the queue has its whole life."""
    good = w.enqueue(queue=queue).id
    claims = {claim.job: claim for claim in all_claims(w, queue)}
    assert good in claims, f"{what}: a job of {queue} is not claimed"
    fence = Fence(job=good, execution=claims[good].execution, worker=WORKER)
    done = w.run(ops.finish(FinishRequest(fence=fence, outcome=outcome(), next=Next.COMPLETE, job_exists=False)))
    assert done.verdict is Verdict.APPLIED, what
    assert w.job(good).state is JobState.COMPLETED, what


def test_every_script_meets_junk(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run below names each script there is."""
    load, seen = scripts.load, set[str]()

    def noted(name: str) -> scripts.Script:
        seen.add(name)
        return load(name)

    _prepare(w)
    all_claims(w)
    with monkeypatch.context() as patch:
        patch.setattr(scripts, "load", noted)
        _everything(w, "nothing is wrong")
        w.run(ops.claim(ask()))
    assert set(scripts.names()) - seen == set()


@pytest.mark.parametrize("name", KEYS)
def test_junk_at_any_key(w: World, name: str) -> None:
    """Nothing breaks, another queue goes on, a queue that stops says which key it is; once that is gone, it goes on."""
    key = KEYS[name]
    if not TYPES_THERE:
        _prepare(w)
        TYPES_THERE.update({one: decode.text(w.redis.type(key)) for one, key in KEYS.items()})
    for kind in _poisons(name, TYPES_THERE[name]):
        what = f"{name} is a {kind}"
        _prepare(w)
        w.redis.delete(key)
        WRITES[kind](w.redis, key)
        waits = w.run(told(f"{what}: enqueue", ops.enqueue(request(id="waits")), corrupt=True))
        reply = w.run(ops.claim(ask(QUEUE, "second")))
        if reply.blocked.get(QUEUE) == "corrupt":
            note = w.run(told(what, ops.troubles(QUEUE), corrupt=True))
            assert note is None or key in note["corrupt"]["message"], f"{what}: {note}"
        if name not in EVERYBODYS:
            _carry_on(w, what, "second")
        _everything(w, what)
        w.redis.delete(key)
        w.serve(concurrencyPerKey=1)
        w.run(ops.resume(QUEUE))
        if waits is not None and not waits.error and name not in {"queue", "level 3", "lanes", "job"}:
            found = w.run(ops.get_job("waits"))
            assert found is not None, f"{what}: an accepted job is lost"
        _carry_on(w, what, QUEUE)
