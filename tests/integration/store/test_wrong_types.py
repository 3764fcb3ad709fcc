"""Each key each script meets, made a wrong type: nothing is left half-done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heavylift.contract.keys import Field
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import StoreCorruptError
from heavylift.store import ClaimRequest, Fence, FinishRequest, Next, Observation, ops, scripts
from heavylift.store.model import Change
from tests.integration.store import schedule_cases
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, outcome, request

LIST = f"rq:queue:{QUEUE}"


ID, INC = "job", "a" * 16
EXECUTION = f"{INC}-1"
FENCE = Fence(job=ID, execution=EXECUTION, worker=WORKER)


def _nothing(w: World) -> None:
    assert w.waiting() == []


def _enqueued(w: World, **changes: Any) -> None:
    w.run(ops.enqueue(request(id=ID, incarnation=INC, **changes)))


def _due(w: World) -> None:
    _enqueued(w, delay_ms=60_000)
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {ID: 1})


def _claimed(w: World) -> None:
    _enqueued(w)
    w.run(ops.claim(_ask()))


def _ended(w: World) -> None:
    _claimed(w)
    w.run(ops.finish(FinishRequest(fence=FENCE, outcome=outcome(OutcomeClass.ERROR), next=Next.FAIL)))


def _with_dependents(w: World) -> None:
    _claimed(w)
    w.run(ops.enqueue(request(id="child", incarnation="b" * 16, depends_on=(ID,))))


def _orphaned(w: World) -> None:
    _enqueued(w)
    w.run(ops.enqueue(request(id="child", incarnation="b" * 16, depends_on=(ID,))))
    w.run(ops.remove(ID))


def _dedupe(mode: str) -> dict[str, Any]:
    return {"dedupe": {"id": "annual", "mode": mode}}


def _holds(w: World) -> None:
    w.enqueue(id=ID, incarnation=INC, options=_dedupe("keep_last"))


def _keyed(w: World) -> None:
    w.serve(concurrencyPerKey=1)
    w.enqueue(id=ID, incarnation=INC, options={"key": "tenant"})
    w.run(ops.claim(_ask()))
    w.enqueue(id="child", incarnation="b" * 16, options={"key": "tenant"})


def _follows(w: World) -> None:
    _holds(w)
    w.run(ops.claim(_ask()))
    w.enqueue(id="child", incarnation="b" * 16, options=_dedupe("keep_last"))


def _change(change: Change) -> Any:
    found = yield from ops.get_job(ID)
    return (yield from ops.change(found, change)) if found is not None else None


def _ask() -> ClaimRequest:
    return ClaimRequest(
        worker=WORKER, request="r", install=INSTALL, queues=(QUEUE,), max=5, slots=10, deadline_ms=60_000
    )


def _finish(next_: Next, **changes: Any) -> Any:
    return ops.finish(FinishRequest(fence=FENCE, outcome=outcome(), next=next_, **changes))


CASES: dict[str, tuple[Callable[[World], None], Callable[[], Any]]] = {
    "enqueue": (_nothing, lambda: ops.enqueue(request(id=ID, incarnation=INC))),
    "enqueue delayed": (_nothing, lambda: ops.enqueue(request(id=ID, incarnation=INC, delay_ms=60_000))),
    "enqueue level": (_nothing, lambda: ops.enqueue(request(id=ID, incarnation=INC, options={"priority": 3}))),
    "enqueue replace": (_ended, lambda: ops.enqueue(request(id=ID, incarnation="c" * 16, if_exists="replace"))),
    "enqueue deferred": (_claimed, lambda: ops.enqueue(request(id="child", incarnation=INC, depends_on=(ID,)))),
    "claim": (_enqueued, lambda: ops.claim(_ask())),
    "claim due": (_due, lambda: ops.claim(_ask())),
    "record": (_claimed, lambda: ops.record(FENCE, job_name="n", uid="u", namespace=NAMESPACE)),
    "attend": (_claimed, lambda: ops.attend(FENCE)),
    "check": (_claimed, lambda: ops.check(FENCE)),
    "release": (_claimed, lambda: ops.release(FENCE, reason="r")),
    "release delayed": (_claimed, lambda: ops.release(FENCE, reason="r", delay_ms=60_000)),
    "observe": (_claimed, lambda: ops.observe(FENCE, Observation(phase=Phase.RUNNING, evidence={"a": 1}))),
    "finish complete": (_with_dependents, lambda: _finish(Next.COMPLETE, result="1")),
    "finish fail": (_with_dependents, lambda: _finish(Next.FAIL)),
    "finish retry": (_claimed, lambda: _finish(Next.RETRY)),
    "finish delayed": (_claimed, lambda: _finish(Next.RETRY, delay_ms=60_000)),
    "cancel": (_enqueued, lambda: ops.cancel(ID, by="ann")),
    "cancel active": (_claimed, lambda: ops.cancel(ID, by="ann")),
    "retry": (_ended, lambda: ops.retry(ID)),
    "retry changed": (_ended, lambda: ops.retry(ID, Change(priority=3, data_json="{}"))),
    "enqueue dedupe": (_holds, lambda: ops.enqueue(request(incarnation="c" * 16, options=_dedupe("first")))),
    "enqueue renew": (_holds, lambda: ops.enqueue(request(incarnation="c" * 16, options=_dedupe("keep_last")))),
    "finish follower": (_follows, lambda: _finish(Next.COMPLETE)),
    "promote": (_due, lambda: ops.promote(ID)),
    "change": (_enqueued, lambda: _change(Change(delay_ms=60_000))),
    "change priority": (_enqueued, lambda: _change(Change(priority=3))),
    "change data": (_enqueued, lambda: _change(Change(data_json="{}"))),
    "remove": (_holds, lambda: ops.remove(ID)),
    "purge": (_holds, lambda: ops.purge(QUEUE, JobState.WAITING, 10)),
    "purge ended": (_ended, lambda: ops.purge(QUEUE, JobState.FAILED, 10)),
    "find_ended": (_ended, lambda: ops.find_ended(QUEUE, JobState.FAILED, cls="error")),
    "sweep_dedupe": (_holds, lambda: ops.sweep_dedupe(QUEUE)),
    "sweep_keys": (_keyed, lambda: ops.sweep_keys(QUEUE)),
    "sweep_dependents": (_orphaned, lambda: ops.sweep_dependents(QUEUE)),
    "sweep_ended": (_ended, lambda: ops.sweep_ended(QUEUE)),
    "key_standing": (_keyed, lambda: ops.key_standing(QUEUE, "tenant")),
    "claim keyed": (_keyed, lambda: ops.claim(_ask())),
    "finish keyed": (_keyed, lambda: _finish(Next.COMPLETE)),
    "cancel keyed": (_keyed, lambda: ops.cancel("child", by="ann")),
    "purge keyed": (_keyed, lambda: ops.purge(QUEUE, JobState.WAITING, 10)),
    "enqueue keyed": (_keyed, lambda: ops.enqueue(request(options={"key": "tenant"}))),
    "dedupe_holder": (_holds, lambda: ops.release_dedupe(QUEUE, "annual")),
    "own_claims": (_claimed, lambda: ops.own_claims(INSTALL, WORKER)),
    "get_job": (_enqueued, lambda: ops.get_job(ID, position=True)),
    "list_jobs": (_enqueued, lambda: ops.list_jobs(QUEUE, JobState.WAITING)),
    "counts": (_enqueued, lambda: ops.counts(QUEUE)),
    "snapshot": (_enqueued, lambda: ops.snapshot(INSTALL, [QUEUE])),
    "put_settings": (
        _nothing,
        lambda: ops.put_settings(QUEUE, {}, generation=50, install=INSTALL, namespace=NAMESPACE, uid="u"),
    ),
    "delete_settings": (_nothing, lambda: ops.delete_settings(QUEUE, f"uid-{QUEUE}")),
    "register": (_nothing, lambda: ops.register_dispatcher(INSTALL, WORKER, 1000)),
    "pause": (_nothing, lambda: ops.pause(QUEUE, by="ann")),
    "resume": (lambda w: w.run(ops.pause(QUEUE, by="ann")), lambda: ops.resume(QUEUE)),  # type: ignore[dict-item]
    "lock": (_nothing, lambda: ops.take_lock("l", "h", 1000)),
    "epoch": (_nothing, ops.ensure_epoch),
    "unfinalized": (_ended, lambda: ops.unfinalized(INSTALL)),
    "finalized": (_ended, lambda: ops.finalized(INSTALL, NAMESPACE, "n")),
    "trim": (_ended, lambda: ops.trim(QUEUE)),
    **schedule_cases.CASES,
}


def _poison(w: World, key: str) -> bytes:
    kind = w.redis.type(key)
    w.redis.delete(key)
    if kind == b"string":
        w.redis.rpush(key, "poison")
    else:
        w.redis.set(key, "poison")
    dumped = w.redis.dump(key)
    assert isinstance(dumped, bytes)
    return dumped


def _place(w: World, poisoned: str) -> tuple[Any, ...]:
    """Return where the job stands, as far as it can be seen; a poisoned key counts as unseen."""

    def seen(key: str, read: Callable[[], Any]) -> Any:
        return None if key == poisoned else read()

    hash_, member = f"rq:job:{ID}", f"{ID}:{EXECUTION}"
    return (
        seen(hash_, lambda: w.redis.hget(hash_, "status")),
        seen(LIST, lambda: w.redis.lpos(LIST, ID) is not None),
        seen(f"heavylift:delayed:{QUEUE}", lambda: w.redis.zscore(f"heavylift:delayed:{QUEUE}", ID) is not None),
        seen(f"rq:wip:{QUEUE}", lambda: w.redis.zscore(f"rq:wip:{QUEUE}", member)),
        seen(f"heavylift:inflight:{INSTALL}", lambda: bool(w.redis.zscore(f"heavylift:inflight:{INSTALL}", member))),
        seen(f"rq:execution:{ID}:{EXECUTION}", lambda: bool(w.redis.exists(f"rq:execution:{ID}:{EXECUTION}"))),
        seen(hash_, lambda: w.redis.hget(hash_, Field.EXECUTION)),
        seen(schedule_cases.KEY, lambda: w.redis.hget(schedule_cases.KEY, "mark")),
    )


def _agrees(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    return all(one is None or two is None or one == two for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_type_anywhere_leaves_nothing_half_done(w: World, case: str) -> None:
    """Each key a script meets, made a wrong type: the job is as before or as after, never between."""
    prepare, make = CASES[case]

    def fresh() -> None:
        w.redis.flushall()
        w.generation = 0
        w.serve()
        w.run(ops.register_dispatcher(INSTALL, WORKER, 60_000))
        prepare(w)

    fresh()
    keys = set(w.redis.scan_iter("*", count=1000))
    before = _place(w, "")
    w.run(make())
    keys |= set(w.redis.scan_iter("*", count=1000))
    after = _place(w, "")
    for raw in sorted(keys):
        key = raw.decode()
        fresh()
        poison = _poison(w, key)
        failed = ""
        try:
            w.run(make())
        except StoreCorruptError as error:
            failed = str(error)
        stands = _place(w, key)
        # Claim takes a broken job out of the way: failed, or its id alone into the quarantine.
        ended = (key.startswith("rq:execution") and stands[0] == b"failed") or (
            key == f"rq:job:{ID}" and case.startswith("claim") and len(w.run(ops.quarantine(QUEUE))) == 1
        )
        assert ended or _agrees(stands, before) or _agrees(stands, after), f"{case}: {key}: {stands} {failed}"
        if case not in {"resume", "lock"}:
            assert w.redis.dump(key) in {poison, None}, f"{case} overwrote {key}"


def test_every_script_is_walked() -> None:
    """The cases above name each script there is."""
    walked = {case.split(" ", maxsplit=1)[0] for case in CASES}
    assert set(scripts.names()) <= walked
