"""Bad entries and wrong types: the queue goes on, nothing half-written, each is named."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from heavylift.contract import payload
from heavylift.contract.keys import Field
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import InvalidPayloadError, StoreCorruptError
from heavylift.store import Next, Verdict, ops
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, World

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


def test_errors_of_ours_only(w: World) -> None:
    """A wrong type met by a plain command is our own error, and names the key's trouble."""
    w.redis.set(f"heavylift:trouble:{QUEUE}", "x")
    with pytest.raises(StoreCorruptError, match=f"heavylift:trouble:{QUEUE} .* wrong type"):
        w.run(ops.troubles(QUEUE))
    assert w.run(ops.cancel("nobody", by="x")).verdict is Verdict.MISSING


@pytest.mark.parametrize("registry", ["heavylift:delayed:reports", "rq:scheduled:reports"])
def test_a_due_job_that_cannot_move_is_not_asked_for_at_once(w: World, registry: str) -> None:
    """Its level's key has a wrong type: the dispatcher comes back for the next one, and for it when that is mended."""
    stuck, later = (w.enqueue(delay_ms=60_000, options={"priority": 3}).id, w.enqueue(delay_ms=3_600_000).id)
    w.redis.set("rq:queue:reports@3", "poison")
    w.redis.zrem("heavylift:delayed:reports", stuck)
    w.redis.zadd(registry, {stuck: 1})
    reply = w.ask()
    assert reply.claims == ()
    assert reply.next_due_ms is not None
    assert reply.next_due_ms > 3_000_000
    w.redis.delete("rq:queue:reports@3")
    assert [claim.job for claim in w.ask().claims] == [stuck]
    assert w.job(later).state is JobState.DELAYED


def test_more_due_than_one_call_moves_are_asked_for_at_once(w: World) -> None:
    """What the bound of one call left behind is no stuck job."""
    for _ in range(150):
        w.redis.zadd("heavylift:delayed:reports", {w.enqueue(delay_ms=60_000).id: 1})
    assert w.ask(max=1).next_due_ms == 0
