"""Queues whose settings, notes and indexes hold evil values: each goes on or says what is wrong; others go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from heavylift import JobRequest, batches, operations
from heavylift.allowed import Admission
from heavylift.contract.states import JobState
from heavylift.errors import HeavyliftError
from heavylift.requests import draft
from heavylift.spec import rules_from_settings
from heavylift.store import Op, ops
from heavylift.store.steps import in_steps
from tests.integration.hostile.corpus import LONG_TEXTS, SETTINGS, TEXTS, Evil, wrapped
from tests.integration.store.hostilekit import (
    all_claims,
    ask,
    carried,
    ids_of,
    planned,
    producing,
    reads,
    shown,
    side_by_side,
    tidying,
    told,
)
from tests.integration.store.keykit import keyed, left
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, World, request, world
from tests.integration.store.kit import SETTINGS as SOUND
from tests.servers import StoreServer

STEP = 20


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on one store."""
    with world(redis_server) as made:
        yield made


def _evil_settings() -> dict[str, Evil]:
    texts = (Evil("json", name, text) for name, text in {**TEXTS, **LONG_TEXTS}.items())
    own = ("install", "namespace", "uid", "generation", "at")
    fields = (Evil(field, name, text) for field in own for name, text in TEXTS.items())
    return {f"q{at}": evil for at, evil in enumerate((*texts, *fields, *wrapped(SETTINGS, "json")))}


def test_evil_settings(w: World) -> None:
    """A queue with whatever for settings is served by what is sound of them or says that they cannot be read."""
    queues = _evil_settings()
    put = {
        name: ops.put_settings(
            name, {**SOUND, "queue": name}, generation=1, install=INSTALL, namespace=NAMESPACE, uid=f"uid-{name}"
        )
        for name in queues
    }
    side_by_side(w, put)
    w.run(ops.enqueue_many([request(queue=name, id=f"job-{name}") for name in queues]))
    for name, evil in queues.items():
        w.redis.hset(f"heavylift:settings:{name}", evil.field, evil.value)
    good: set[str] = set()
    claimed: dict[str, str] = {}
    blocked: dict[str, str] = {}
    names = list(queues)
    for at in range(0, len(names), STEP):
        good.add(w.enqueue().id)
        part = names[at : at + STEP]
        w.run(told(f"gauges of {part}", ops.gauges(INSTALL, part)))
        for _ in range(3):
            reply = w.run(ops.claim(ask(QUEUE, *part)))
            blocked |= reply.blocked
            for claim in reply.claims:
                claimed[claim.queue] = claim.job
                carried(str(queues.get(claim.queue)), claim)
                shown(str(queues.get(claim.queue)), w.job(claim.job))
    served = claimed.keys() | {name for name, why in blocked.items() if why != "empty"}
    assert served >= queues.keys(), [str(queues[name]) for name in queues.keys() - served]
    troubles = side_by_side(w, {name: ops.troubles(name) for name, why in blocked.items() if why == "corrupt"})
    for name, notes in troubles.items():
        assert f"heavylift:settings:{name}" in notes["corrupt"]["message"], f"{queues[name]}: {notes}"
    _use(w, queues)


def _use(w: World, queues: dict[str, Evil]) -> None:
    """Use the settings as clients, the operator and its janitor do."""
    read = side_by_side(w, {name: ops.get_settings(name) for name in queues})
    jobs = side_by_side(w, {name: ops.get_job(f"job-{name}") for name in queues})
    for name, evil in queues.items():
        rules_from_settings(read[name] or {})
        with contextlib.suppress(HeavyliftError):  # it may refuse
            Admission.of(read[name]).check(
                {"timeouts": {"run": 1}, "resources": {"memory": "1Gi"}, "env": {"A": "b"}}, 5
            )
        planned(str(evil), jobs[name], read[name])
    for act, use in USES.items():
        side_by_side(w, {f"{act}: {evil}": use(name) for name, evil in queues.items()})


USES: Mapping[str, Callable[[str], Op[Any]]] = {
    "gauges": lambda queue: ops.gauges(INSTALL, [queue]),
    "key_standing": lambda queue: ops.key_standing(queue, "tenant"),
    "jobs": lambda queue: ops.list_jobs(queue, JobState.ACTIVE),
    "trim": ops.trim,
    "sweep_keys": ops.sweep_keys,
    "enqueue": lambda queue: operations.enqueue(
        queue, draft("annual", {"year": 1}, {"priority": 1}), operations.Admissions(), strict=True
    ),
    "enqueue keyed": lambda queue: ops.enqueue(request(queue=queue, options={"key": "tenant"})),
    "enqueue_many": lambda queue: in_steps(batches.enqueue_many(queue, [JobRequest("annual")], strict=True)),
    "claim": lambda queue: ops.claim(ask(queue)),
}
"""Operations that look at settings."""


NOTES = {
    "breaker": ("failures", "next", "pause", "probe"),
    "pause": ("by", "at", "reason"),
    "trouble": ("corrupt", "ImagePullFailing", "other"),
    "counters": ("enqueued", "dropped", "wait:10", "wait:sum", "outcome:oom:1", "wait:inf:task", "quarantined"),
    "dedup": ("annual", "other"),
    "slots": ("tenant", ""),
    "keyof": ("job:a-1",),
}
"""Hashes of a queue beside its settings -> fields of theirs."""


def test_evil_notes(w: World) -> None:
    """Whatever stands in a queue's small hashes, all operations answer, and once it is gone the queue goes on."""
    for case, text in {**TEXTS, **LONG_TEXTS}.items():
        for name, fields in NOTES.items():
            w.redis.hset(f"heavylift:{name}:{QUEUE}", mapping=dict.fromkeys(fields, text))
        w.enqueue(options={"key": "tenant"})
        for group in (producing(QUEUE), tidying(), reads()):
            side_by_side(w, {f"{case}: {act}": op for act, op in group})
        w.run(told(case, ops.claim(ask())))
    w.redis.delete(*(f"heavylift:{name}:{QUEUE}" for name in NOTES))
    good = w.enqueue().id
    assert good in ids_of(all_claims(w))


EVIL_LANES = (
    b"a\x00" + b"1000" + b"9" * 16 + b"evil",
    b"a\x00" + b"0000" + b"0" * 16 + b"evil",
    b"a\x00" + b"9999" + b"9" * 16 + b"evil",
    b"a\x00" + b"1000" + b"9" * 15 + b"x",
    b"a\x00",
    b"a",
    b"\x00",
    b"\xff\x00" + b"1000" + b"5" * 16 + b"\xff",
    b"a\x00" + b"1000" + b"8" * 16 + b"x" * 300,
)
ODD_SCORES: dict[bytes, str] = {b"a": "-inf", b"gone": "+inf", b"\xff": "1"}
EVIL_PLACES = (
    b"r" + b"9" * 400 + b"\x00a",
    b"r" + b"9" * 20 + b"\x00a",
    b"r" + b"0" * 20 + b"\x00gone",
    b"f" + b"9" * 20 + b"\x00a",
    b"f" + b"0" * 20 + b"\x00",
    b"zzz\x00a",
    b"",
    b"\xff",
)


@pytest.mark.parametrize("order", ["Fifo", "RoundRobin"])
def test_evil_entries_among_those_that_wait_by_their_key(w: World, order: str) -> None:
    """Entries that no script of ours wrote take no job's place and nobody's turn."""
    w.serve(concurrencyPerKey=2, concurrencyOrder=order)
    keyed(w, "a1", "b1")
    w.redis.zadd(f"heavylift:lanes:{QUEUE}", dict.fromkeys(EVIL_LANES, 0))
    w.redis.zadd(f"heavylift:ring:{QUEUE}", dict.fromkeys(EVIL_PLACES, 0))
    w.redis.hset(f"heavylift:slots:{QUEUE}", mapping={"a": "r junk", "c": "r" + "9" * 400, "b": b"\xff", "": "f"})
    w.redis.zadd(f"heavylift:heads:{QUEUE}", ODD_SCORES)
    w.redis.zadd(f"heavylift:full:{QUEUE}", ODD_SCORES)
    w.redis.zadd(f"heavylift:keyed:{QUEUE}", {"a\x00evil:x-1": 0, "a\x00evil:x-2": 0, "junk": 0})
    keyed(w, "a2", "b2", "c1", "a3", "_1")
    w.run(ops.gauges(INSTALL, [QUEUE]))
    wanted, claimed = {"a1", "a2", "a3", "b1", "b2", "c1", "_1"}, set()
    for _ in range(60):
        for claim in w.ask().claims:
            claimed.add(claim.job)
            w.finish(claim, job_exists=False)
        cursor = ops.KeyCursor()
        for _ in range(20):
            cursor, _ = w.run(ops.sweep_keys(QUEUE, cursor))
            if cursor == ops.KeyCursor():
                break
        if claimed >= wanted:
            break
    assert claimed >= wanted
    assert left(w).get("ring", []) == []
    counters = w.run(ops.counters(QUEUE))
    assert counters["quarantined"] + counters["dropped"] >= len(EVIL_LANES) - 2


def test_junk_that_counts_as_running_leaves_its_cap(w: World) -> None:
    """What stands in the started registry and is no execution of ours is swept out, counted, and holds nobody back."""
    w.serve(concurrencyMax=3)
    running = w.active(id="runs")
    junk = (b"junk", b"\xff:\xfe", b"gone:abc-1", b"runs:other-1")
    w.redis.zadd(f"rq:wip:{QUEUE}", {**dict.fromkeys(junk, "+inf"), b"old:abc-1": 1})
    good = w.enqueue().id
    assert w.ask().blocked == {QUEUE: "cap"}
    cursor = ops.KeyCursor()
    for _ in range(5):
        cursor, _mended = w.run(ops.sweep_keys(QUEUE, cursor))
    assert [claim.job for claim in w.ask().claims] == [good]
    assert w.run(ops.counters(QUEUE))["repaired:started"] == 5
    assert w.redis.zscore(f"rq:wip:{QUEUE}", f"{running.job}:{running.execution}") is not None


def test_hashes_beyond_measure_are_not_read(w: World) -> None:
    """What something else filled up holds no script: counters are not told, a schedule or settings are corrupt."""
    w.enqueue()
    w.redis.hset(f"heavylift:counters:{QUEUE}", mapping={f"field-{number}": number for number in range(6000)})
    w.redis.hset("heavylift:schedule:s", mapping={f"field-{number}": number for number in range(101)})
    w.redis.hset(f"heavylift:settings:{QUEUE}", "json", b'{"a":"' + b"x" * 1_100_000 + b'"}')
    w.redis.zadd("heavylift:schedules", {"s": 1})
    assert w.run(ops.gauges(INSTALL, [QUEUE])).queues[QUEUE].counters == {}
    ((name, problem),) = w.run(ops.due_schedules()).corrupt
    assert (name, "heavylift:schedule:s is not a schedule of ours" in problem) == ("s", True)
    assert w.ask().blocked == {QUEUE: "corrupt"}


@pytest.mark.parametrize("through", ["the client", "the script"])
def test_a_default_priority_out_of_range_keeps_no_job_back(w: World, through: str) -> None:
    """Jobs go where claims look, whatever priority the settings give to those whose producer names none."""
    odd = (9_500, -5_000, 10**15, 10**16, -(10**30), 10**400)
    queues = {f"odd{at}": priority for at, priority in enumerate(odd)}
    for queue, priority in queues.items():
        bound = None if queue.endswith(("1", "3", "5")) else 100
        w.serve(queue, defaults={"priority": priority, "maxAttempts": 1}, concurrencyPerKey=bound)
        if through == "the client":
            asked = [JobRequest("annual", id=f"{queue}-{n}", key="a") for n in range(3)]
            assert w.store.run(batches.enqueue_many(queue, asked, strict=True)).errors == []
        else:
            options = {"key": "a", "priority": priority}
            made = [request(queue=queue, id=f"{queue}-{n}", options=options) for n in range(3)]
            assert all(one.created for one in w.run(ops.enqueue_many(made)))
        assert [claim.job for claim in w.ask(queue).claims] == [f"{queue}-{n}" for n in range(3)]
