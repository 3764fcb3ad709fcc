"""An id that is taken, under each way to deal with it and each option: one job, in one place, as asked last."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.states import JobState
from heavylift.store import Enqueued, Next, decode, ops
from tests.integration.store.kit import QUEUE, World, request

HOUR = 3_600_000
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "priority": {"options": {"priority": 7}},
    "lifo": {"options": {"lifo": True}},
    "key": {"options": {"key": "tenant"}},
    "first": {"options": {"dedupe": {"id": "annual", "mode": "first"}}},
    "throttle": {"options": {"dedupe": {"id": "annual", "mode": "first", "ttl": HOUR}}},
    "keep_last": {"options": {"dedupe": {"id": "annual", "mode": "keep_last"}}},
    "debounce": {"options": {"dedupe": {"id": "annual", "mode": "debounce", "ttl": HOUR}}},
    "delay": {"delay_ms": HOUR},
    "expires": {"expires_ms": HOUR},
    "depends_on": {"depends_on": ("parent",)},
    "all": {
        "options": {"priority": -7, "lifo": True, "key": "tenant", "dedupe": {"id": "annual", "mode": "first"}},
        "delay_ms": HOUR,
        "expires_ms": HOUR,
    },
}
WAITS = {"delay": JobState.DELAYED, "debounce": JobState.DELAYED, "all": JobState.DELAYED}
ANSWERS = {
    # if_exists: (of a job that has not ended, of one that failed) -> (created, error)
    "raise": ((False, "exists"), (False, "exists")),
    "return": ((False, ""), (False, "")),
    "retry_failed": ((False, ""), (False, "")),
    "replace": ((True, ""), (True, "")),
}


def enqueue(w: World, name: str, **more: Any) -> Enqueued:
    """Enqueue ``one`` with an option."""
    return w.run(ops.enqueue(request(id="one", **OPTIONS[name], **more)))


def waits(name: str) -> JobState:
    """Return where a fresh job with an option waits."""
    return JobState.WAITING_CHILDREN if name == "depends_on" else WAITS.get(name, JobState.WAITING)


def places(w: World) -> list[str]:
    """Return each key in which ``one`` stands, RQ's mirror of the delayed left out."""
    found = []
    for key in (decode.text(raw) for raw in w.redis.scan_iter("*")):
        kind = decode.text(w.redis.type(key))
        if kind == "list" and w.redis.lpos(key, "one") is not None:
            found.append(key)
        elif kind == "zset" and not key.startswith("rq:scheduled"):
            found += [key for member in w.redis.zrange(key, 0, -1) if decode.text(member).endswith("one")]
    return sorted(found)


def place(name: str) -> list[str]:
    """Return where a fresh job with an option must stand."""
    own = {
        "priority": f"rq:queue:{QUEUE}@7",
        "key": f"heavylift:lanes:{QUEUE}",
        "depends_on": f"rq:deferred:{QUEUE}",
    }
    return [own.get(name) or (f"heavylift:delayed:{QUEUE}" if name in WAITS else f"rq:queue:{QUEUE}")]


@pytest.fixture
def world_with_parent(w: World) -> World:
    """Give a world whose queue keeps keys apart, with a job to depend on."""
    w.serve(concurrencyPerKey=1)
    w.active(id="parent")
    return w


@pytest.mark.parametrize("if_exists", ANSWERS)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_waiting_job_has_the_id(world_with_parent: World, name: str, if_exists: str) -> None:
    """A job that waits is kept or replaced as a whole: place, key and data are those of one request."""
    w = world_with_parent
    enqueue(w, name)
    again = enqueue(w, "none" if if_exists == "replace" else name, if_exists=if_exists)
    assert (again.created, again.error) == ANSWERS[if_exists][0]
    now = "none" if if_exists == "replace" else name
    assert w.job("one").state is waits(now)
    assert places(w) == place(now)
    held = w.redis.hgetall(f"heavylift:dedup:{QUEUE}")
    assert bool(held) == ("dedupe" in OPTIONS[now].get("options", {}))


@pytest.mark.parametrize("if_exists", ANSWERS)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_failed_job_has_the_id(world_with_parent: World, name: str, if_exists: str) -> None:
    """A failed job is returned, run again at its own place, or replaced by one that waits as asked."""
    w = world_with_parent
    enqueue(w, name)
    if name == "depends_on":
        w.run(ops.enqueue(request(id="one", if_exists="replace")))
    if w.job("one").state is JobState.DELAYED:
        w.run(ops.promote("one"))
    claim = w.claim()
    w.finish(claim, Next.FAIL)
    again = enqueue(w, name, if_exists=if_exists)
    assert (again.created, again.error) == ANSWERS[if_exists][1]
    if if_exists in {"raise", "return"}:
        assert w.job("one").state is JobState.FAILED
        assert places(w) == [f"heavylift:ended:failed:{QUEUE}", f"rq:failed:{QUEUE}"]
        return
    if if_exists == "replace":
        assert (w.job("one").state, places(w)) == (waits(name), place(name))
        assert w.job("one").history == ()
    else:
        own = w.job("one")
        assert (own.state, own.attempts_made, len(own.history)) == (JobState.WAITING, 0, 1)
        assert len(places(w)) == 1
    held = w.redis.hget(f"heavylift:dedup:{QUEUE}", "annual")
    assert (held is not None and decode.text(held).startswith("one")) == ("dedupe" in OPTIONS[name].get("options", {}))


@pytest.mark.parametrize("if_exists", ANSWERS)
@pytest.mark.parametrize("name", ["none", "priority", "first", "keep_last"])
def test_a_repeat_is_answered_whatever_the_queue_became(w: World, name: str, if_exists: str) -> None:
    """An accepted entry whose reply was lost is asked for again: other settings or full levels do not refuse it now."""
    tag = w.run(ops.read_settings(QUEUE))[1]
    entry = request(id="one", settings_tag=tag, if_exists=if_exists, **OPTIONS[name])
    first = w.run(ops.enqueue(entry))
    w.serve(defaults={"priority": 0, "maxAttempts": 2})
    w.run(ops.enqueue_many([request(options={"priority": priority}) for priority in range(100, 132)]))
    assert w.run(ops.enqueue(entry)) == first
    assert first.created
    new = w.run(ops.enqueue(request(id="two", settings_tag=tag, if_exists=if_exists)))
    assert (new.error, w.run(ops.get_job("two"))) == ("stale", None)


def test_what_is_refused_replaces_nothing(w: World) -> None:
    """A replacement held against other settings, or of a priority too many, leaves the job as it was."""
    old = w.enqueue(id="one")
    tag = w.run(ops.read_settings(QUEUE))[1]
    w.serve(defaults={"priority": 0, "maxAttempts": 2})
    w.run(ops.enqueue_many([request(options={"priority": priority}) for priority in range(100, 132)]))
    for error, more in (("stale", {"settings_tag": tag}), ("levels", {"options": {"priority": 7}})):
        refused = w.run(ops.enqueue(request(id="one", if_exists="replace", **more)))
        assert (refused.error, refused.created) == (error, False)
    assert (w.job("one").id, w.job("one").options, places(w)) == (old.id, {}, [f"rq:queue:{QUEUE}"])
