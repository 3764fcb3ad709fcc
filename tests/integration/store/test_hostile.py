"""Bad entries and wrong types: the queue goes on, nothing half-written, each is named."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heavylift.contract import payload
from heavylift.contract.keys import Field
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import InvalidPayloadError, StoreCorruptError
from heavylift.store import ClaimRequest, Fence, FinishRequest, Next, Observation, Verdict, ops, scripts
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, outcome, request

LIST = f"rq:queue:{QUEUE}"


def _hash(w: World, job: str, **fields: Any) -> None:
    basis = {"status": "queued", "origin": QUEUE, "created_at": "2026-01-01T00:00:00.000000Z", "data": b"x"}
    found: Any = {name: value for name, value in {**basis, **fields}.items() if value is not None}
    w.redis.hset(f"rq:job:{job}", mapping=found)
    w.redis.rpush(LIST, job)


def _executions(w: World) -> None:
    _hash(w, "bad", data=payload.encode("t", 1))
    w.redis.set("rq:executions:bad", 1)


def _options(w: World, text: str) -> None:
    job = w.enqueue(id="bad").id
    w.redis.hset(f"rq:job:{job}", Field.OPTIONS, text)


QUARANTINED: dict[str, tuple[str, Callable[[World], Any]]] = {
    "job key a list": ("not a hash", lambda w: (w.redis.rpush("rq:job:bad", 1), w.redis.rpush(LIST, "bad"))),
    "job key a string": ("not a hash", lambda w: (w.redis.set("rq:job:bad", 1), w.redis.rpush(LIST, "bad"))),
    "no status": ("no status", lambda w: _hash(w, "bad", status=None)),
    "unknown status": ("unknown status", lambda w: _hash(w, "bad", status="exploded")),
    "huge id": ("not a usable job id", lambda w: w.redis.rpush(LIST, "x" * 5_000_000)),
    "empty id": ("not a usable job id", lambda w: w.redis.rpush(LIST, "")),
    "id of bytes": ("not a usable job id", lambda w: w.redis.rpush(LIST, b"\xff\x00\n")),
    "id with a colon": ("not a usable job id", lambda w: w.redis.rpush(LIST, "a:b")),
    "of another queue": ("belongs to queue", lambda w: _hash(w, "bad", origin="elsewhere")),
    "executions key a string": (
        "rq:executions:bad is a string",
        _executions,
    ),
}
FAILED: dict[str, tuple[str, Callable[[World], Any]]] = {
    "no data": ("no data", lambda w: _hash(w, "bad", data=None)),
    "empty data": ("no data", lambda w: _hash(w, "bad", data=b"")),
    "data too large": ("larger than", lambda w: _hash(w, "bad", data=b"x" * 1_000_000)),
    "options not JSON": ("options", lambda w: _options(w, "{nope")),
}
DROPPED: dict[str, Callable[[World], Any]] = {
    "ghost": lambda w: w.redis.rpush(LIST, "ghost"),
    "finished": lambda w: _hash(w, "bad", status="finished"),
    "started": lambda w: _hash(w, "bad", status="started"),
    "canceled": lambda w: _hash(w, "bad", status="canceled"),
    "deferred": lambda w: _hash(w, "bad", status="deferred"),
}
JUDGED_LATER: dict[str, bytes] = {
    "not zlib": b"\x00garbage",
    "bomb": zlib.compress(b"[" + b" " * 50_000_000),
    "not json": zlib.compress(b"{nope"),
    "wrong shape": zlib.compress(b'{"func": "f"}'),
    "func null": zlib.compress(b"[null, null, [], {}]"),
    "pickle": zlib.compress(b"\x80\x05cposix\nsystem\n."),
}


@pytest.mark.parametrize("kind", QUARANTINED)
def test_no_job_of_ours_goes_to_the_quarantine(w: World, kind: str) -> None:
    """Such an entry leaves the list, stands in quarantine with a message, and the next job is claimed at once."""
    words, place = QUARANTINED[kind]
    place(w)
    good = w.enqueue(id="good").id
    assert [claim.job for claim in w.ask().claims] == [good]
    (note,) = w.run(ops.quarantine(QUEUE))
    assert words in note["message"]
    assert len(note["id"]) <= 200
    assert w.waiting() == []
    assert w.run(ops.counters(QUEUE))["quarantined"] == 1
    assert "quarantined" in [event.name for event in w.events()]
    assert w.run(ops.counts(QUEUE)).quarantined == 1


@pytest.mark.parametrize("kind", FAILED)
def test_a_job_that_cannot_run_ends_as_invalid(w: World, kind: str) -> None:
    """A job without usable data or options ends as invalid, saying so; the next one is claimed at once."""
    words, place = FAILED[kind]
    place(w)
    good = w.enqueue(id="good").id
    assert [claim.job for claim in w.ask().claims] == [good]
    record = w.job("bad")
    assert (record.state, record.outcome["class"]) == (JobState.FAILED, "invalid")
    assert words in record.outcome["message"]
    assert w.finals("bad") == ["failed"]
    assert w.run(ops.counts(QUEUE)).failed == 1


@pytest.mark.parametrize("kind", DROPPED)
def test_ghosts_are_dropped_and_counted(w: World, kind: str) -> None:
    """An id whose job is gone or does not wait is taken off, counted, and its hash is left alone."""
    DROPPED[kind](w)
    before = w.redis.hgetall("rq:job:bad")
    good = w.enqueue(id="good").id
    assert [claim.job for claim in w.ask().claims] == [good]
    assert w.run(ops.counters(QUEUE))["dropped"] == 1
    assert w.redis.hgetall("rq:job:bad") == before
    assert w.waiting() == []


@pytest.mark.parametrize("kind", JUDGED_LATER)
def test_bad_payloads_are_handed_out_unread(w: World, kind: str) -> None:
    """What is inside the data is judged by the strict decoder, which refuses it; then the job ends as invalid."""
    _hash(w, "bad", data=JUDGED_LATER[kind])
    claim = w.claim()
    with pytest.raises(InvalidPayloadError) as refused:
        payload.decode(claim.data)
    w.finish(claim, Next.FAIL, cls=OutcomeClass.INVALID, message=str(refused.value), job_exists=False)
    assert w.job("bad").outcome["class"] == "invalid"
    assert w.idle()


def test_many_bad_entries_cost_bounded_calls(w: World) -> None:
    """One call looks at no more than 200 ids, and the calls after it go on."""
    w.redis.rpush(LIST, *[f"ghost-{i}" for i in range(500)])
    good = w.enqueue().id
    replies = [w.ask() for _ in range(3)]
    assert [len(reply.claims) for reply in replies] == [0, 0, 1]
    assert replies[0].blocked == {}
    assert replies[2].claims[0].job == good
    assert w.run(ops.counters(QUEUE))["dropped"] == 500


CORRUPT = {
    "list": LIST,
    "level": f"{LIST}@5",
    "levels": f"heavylift:levels:{QUEUE}",
    "settings": f"heavylift:settings:{QUEUE}",
    "delayed": f"heavylift:delayed:{QUEUE}",
    "scheduled": f"rq:scheduled:{QUEUE}",
    "started": f"rq:wip:{QUEUE}",
    "pause": f"heavylift:pause:{QUEUE}",
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_key_of_one_queue_disturbs_no_other(w: World, kind: str) -> None:
    """The other queue is served in the same call; this one says what is wrong until it is mended."""
    w.serve("second")
    w.enqueue(options={"priority": 5} if kind == "level" else {})
    other = w.enqueue(queue="second").id
    key = CORRUPT[kind]
    old = w.redis.dump(key)
    w.redis.delete(key)
    w.redis.set(key, "poison")
    reply = w.ask(QUEUE, "second")
    assert [claim.job for claim in reply.claims] == [other]
    assert reply.blocked[QUEUE] == "corrupt"
    note = w.run(ops.troubles(QUEUE))["corrupt"]
    assert key in note["message"]
    w.ask(QUEUE, "second")
    assert w.run(ops.troubles(QUEUE))["corrupt"] == note
    w.redis.delete(key)
    if old is not None:
        w.redis.restore(key, 0, old)
    w.ask(QUEUE)
    assert w.run(ops.troubles(QUEUE)) == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "3", '{"a":' * 2000, "\xff", '{"concurrencyMax": "many"}'])
def test_unreadable_settings_are_corrupt(w: World, text: str) -> None:
    """Settings that are not a JSON object block their queue, by name, and nothing else."""
    w.serve("second")
    w.redis.hset(f"heavylift:settings:{QUEUE}", "json", text.encode("latin-1"))
    w.enqueue()
    other = w.enqueue(queue="second").id
    reply = w.ask(QUEUE, "second")
    assert [claim.job for claim in reply.claims] == [other]
    assert reply.blocked[QUEUE] == "corrupt"


@pytest.mark.parametrize("settings", [{}, {"timeouts": 3, "payload": [], "defaults": "x", "concurrencyMax": None}])
def test_odd_settings_fall_back_to_built_in_values(w: World, settings: dict[str, Any]) -> None:
    """Settings with missing or odd parts count as the built-in values."""
    w.run(ops.put_settings(QUEUE, settings, generation=99, install=INSTALL, namespace=NAMESPACE, uid="u"))
    w.enqueue()
    claim = w.claim()
    assert claim.frozen["maxAttempts"] == 1
    assert claim.frozen["timeouts"] == {"pending": 3_600_000, "run": 86_400_000}
    w.finish(claim)


NASTY: list[bytes] = [
    b"", b"\xff\xfe\x00", b"nan", b"9" * 400, b"{", b"[]", b"-1", b"null", b"[" * 5000, b"x" * 300_000,
    b'{"$terminal":5}', b'{"execution":null}\n{\n',
]  # fmt: skip
OURS = (value for name, value in vars(Field).items() if not name.startswith("_") and isinstance(value, str))
FIELDS = [
    *sorted(OURS),
    *("origin", "created_at", "enqueued_at", "timeout", "retries_left", "result_ttl", "failure_ttl", "dependency_ids"),
]


def _everything(job: str, execution: str) -> Iterator[Any]:
    fence = Fence(job=job, execution=execution, uid="u")
    yield ops.get_job(job, position=True)
    yield ops.check(fence)
    yield ops.record(fence, job_name="n", uid="u", namespace="ns")
    yield ops.observe(fence, Observation(phase=Phase.RUNNING, evidence={"pod": {"x": 1}}, terminal=True))
    yield ops.cancel(job, by="ann")
    yield ops.own_claims(INSTALL, WORKER)
    yield ops.release(fence, reason="r", silent=True)
    yield ops.finish(FinishRequest(fence=fence, outcome=outcome(OutcomeClass.ERROR), next=Next.RETRY, delay_ms=1))
    yield ops.retry(job, options={"a": 1})
    yield ops.enqueue(request(id=job, if_exists="replace"))
    yield ops.finish(FinishRequest(fence=fence, outcome=outcome(), next=Next.COMPLETE, result="1"))
    yield ops.trim(QUEUE)
    yield ops.snapshot(INSTALL, [QUEUE])


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_value_breaks_an_operation(w: World, field: str) -> None:
    """Whatever stands in a field of an active or waiting job, each operation answers, and the next is claimed."""
    for turn, value in enumerate(NASTY):
        job = w.enqueue(id=f"bad-{turn}").id
        claim = w.claim()
        w.redis.hset(f"rq:job:{job}", field, value)
        for op in _everything(job, claim.execution):
            w.run(op)
        waiting = w.enqueue(id=f"waits-{turn}").id
        w.redis.hset(f"rq:job:{waiting}", field, value)
        good = w.enqueue(id=f"good-{turn}").id
        assert good in [claim.job for _ in range(2) for claim in w.ask(slots=10_000).claims]
    for state in JobState:
        w.run(ops.list_jobs(QUEUE, state))


# -- wrong types, script by script ------------------------------------------------------------------------------------
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


def test_errors_of_ours_only(w: World) -> None:
    """A wrong type met by a plain command is our own error, and names the key's trouble."""
    w.redis.set(f"heavylift:trouble:{QUEUE}", "x")
    with pytest.raises(StoreCorruptError, match=f"heavylift:trouble:{QUEUE} .* wrong type"):
        w.run(ops.troubles(QUEUE))
    assert w.run(ops.cancel("nobody", by="x")).verdict is Verdict.MISSING
