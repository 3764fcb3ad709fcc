"""All that can be seen of the queues, from the model and from Redis in one shape, and what must always hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import redis

from heavylift.contract.keys import Keys
from heavylift.contract.states import RQ_STATUS, JobState
from heavylift.testing.engine import Engine
from heavylift.testing.state import ENDED

View = dict[str, Any]
QUEUES = ("alpha", "beta")
LEVELS = (-5, 0, 7)
INSTALL = "prod/heavylift"
_JSON = {"hl:outcome", "hl:history", "hl:frozen", "hl:cancel", "hl:budgets", "hl:options"}
_OWN = {"hl:op", "hl:src"}
"""Tokens that differ from run to run, and a hash over what is compared."""
_REGISTRY = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}


def _fields(found: dict[Any, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in found.items():
        key = name.decode() if isinstance(name, bytes) else name
        if key in _OWN:
            continue
        if key == "data":
            out[key] = value
            continue
        text = value.decode() if isinstance(value, bytes) else str(value)
        out[key] = json.loads(text) if key in _JSON and text else text
    return out


def _counters(found: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in found.items() if not name.startswith("wait:") and n}


def of_model(engine: Engine, jobs: Sequence[str]) -> View:
    """Return what the model shows."""
    state, view = engine.state, View()
    for name in QUEUES:
        q = state.queue(name)
        view[name] = {
            "levels": {level: list(q.levels.get(level, [])) for level in LEVELS},
            "known": sorted(level for level in q.levels if level),
            "delayed": dict(q.delayed),
            "scheduled": {job: -(-due // 1000) for job, due in q.delayed.items()},
            "deferred": dict(q.deferred),
            "started": sorted(q.started),
            "ended": {each.value: dict(q.ended[each]) for each in ENDED},
            "registries": {each.value: {job: q.kept[job] for job in q.ended[each]} for each in ENDED},
            "dedup": {key: (held.job, held.until, held.follower) for key, held in q.dedup.items()},
            "counters": _counters(q.counters),
            "paused": q.pause is not None,
            "events": [dict(event) for event in q.events],
        }
    view["inflight"] = dict(state.inflight.get(INSTALL, {}))
    view["unfinalized"] = sorted(state.unfinalized.get(INSTALL, {}))
    view["jobs"] = {job: _fields(state.jobs[job]) for job in jobs if job in state.jobs}
    return view


def _scores(found: list[tuple[bytes, float]]) -> dict[str, int]:
    return {member.decode(): int(score) for member, score in found}


def _holder(text: bytes) -> tuple[str, int | None, str]:
    job, until, follower = (*text.decode().split("|"), "", "")[:3]
    return job, int(until) if until else None, follower


def of_redis(client: redis.Redis, jobs: Sequence[str]) -> View:
    """Return what stands in Redis."""
    keys, view = Keys(), View()
    with client.pipeline(transaction=False) as pipe:
        for name in QUEUES:
            for level in LEVELS:
                pipe.lrange(keys.level(name, level), 0, -1)
            pipe.zrange(keys.levels(name), 0, -1)
            pipe.zrange(keys.delayed(name), 0, -1, withscores=True)
            pipe.zrange(keys.registry("scheduled", name), 0, -1, withscores=True)
            pipe.zrange(keys.registry("deferred", name), 0, -1, withscores=True)
            pipe.zrange(keys.started(name), 0, -1)
            for each in ENDED:
                pipe.zrange(keys.finished_index(name, each.value), 0, -1, withscores=True)
            for each in ENDED:
                pipe.zrange(keys.registry(_REGISTRY[each], name), 0, -1, withscores=True)
            pipe.hgetall(keys.dedup(name))
            pipe.hgetall(keys.counters(name))
            pipe.exists(keys.pause(name))
            pipe.xrange(keys.events(name))
        pipe.zrange(keys.inflight(INSTALL), 0, -1, withscores=True)
        pipe.zrange(keys.unfinalized(INSTALL), 0, -1)
        for job in jobs:
            pipe.hgetall(keys.job(job))
        answers = iter(pipe.execute())
    for name in QUEUES:
        view[name] = {
            "levels": {level: [job.decode() for job in next(answers)] for level in LEVELS},
            "known": sorted(int(level) for level in next(answers)),
            "delayed": _scores(next(answers)),
            "scheduled": _scores(next(answers)),
            "deferred": _scores(next(answers)),
            "started": sorted(member.decode() for member in next(answers)),
            "ended": {each.value: _scores(next(answers)) for each in ENDED},
            "registries": {each.value: _scores(next(answers)) for each in ENDED},
            "dedup": {key.decode(): _holder(text) for key, text in next(answers).items()},
            "counters": _counters({key.decode(): int(n) for key, n in next(answers).items()}),
            "paused": next(answers) == 1,
            "events": [{k.decode(): v.decode() for k, v in entry.items()} for _, entry in next(answers)],
        }
    view["inflight"] = _scores(next(answers))
    view["unfinalized"] = sorted(member.decode() for member in next(answers))
    view["jobs"] = {job: _fields(found) for job in jobs if (found := next(answers))}
    return view


def difference(model: Any, real: Any, path: str = "") -> str:
    """Return where the two differ first, or nothing."""
    if isinstance(model, dict) and isinstance(real, dict):
        for key in sorted({*model, *real}, key=str):
            where = f"{path}/{key}"
            if key not in model or key not in real:
                side = "Redis" if key in real else "the model"
                return f"{where}: only {side} has it: {real.get(key, model.get(key))!r:.300}"
            found = difference(model[key], real[key], where)
            if found:
                return found
        return ""
    if isinstance(model, list) and isinstance(real, list):
        for index, (one, other) in enumerate(zip(model, real, strict=False)):
            found = difference(one, other, f"{path}/{index}")
            if found:
                return found
    return "" if model == real else f"{path}: model {model!r:.400}, Redis {real!r:.400}"


def broken(view: View, now: int) -> str:
    """Return the invariant that does not hold, or nothing."""
    places: dict[str, list[str]] = {}
    for name in QUEUES:
        for place, ids in _places(view[name]).items():
            for job in ids:
                places.setdefault(job, []).append(f"{name}/{place}")
    for job in sorted({*places, *view["jobs"]}):
        fields = view["jobs"].get(job)
        if fields is None:
            return f"job {job} stands in {places[job]}, and is gone"
        wanted = [f"{fields['origin']}/{RQ_STATUS[fields['status']].value}"]
        if places.get(job, []) != wanted:
            return f"job {job} is {fields['status']} and stands in {places.get(job, [])}"
        if fields["status"] == "started" and f"{job}:{fields['hl:exec']}" not in view["inflight"]:
            return f"job {job} is started and takes no part in the width"
    running = sorted(member for name in QUEUES for member in view[name]["started"])
    if running != sorted(view["inflight"]):
        return f"in flight are {sorted(view['inflight'])}, started are {running}"
    return next((found for name in QUEUES if (found := _leaked(view, name, now))), "")


def _places(queue: View) -> dict[str, list[str]]:
    return {
        "waiting": [job for ids in queue["levels"].values() for job in ids],
        "delayed": list(queue["delayed"]),
        "waiting-children": list(queue["deferred"]),
        "active": [member.partition(":")[0] for member in queue["started"]],
        **{state: list(ids) for state, ids in queue["ended"].items()},
    }


def _leaked(view: View, name: str, now: int) -> str:
    """Return what is wrong with a queue's deduplication keys, or nothing."""
    for key, (job, until, _) in view[name]["dedup"].items():
        fields = view["jobs"].get(job)
        if fields is None or fields.get("hl:dedup") != key:
            return f"the key {key} of {name} is held by {job}, which does not stand or does not carry it"
        over = RQ_STATUS[fields["status"]] in ENDED
        if over and until is None:
            return f"the key {key} of {name} is held by {job}, which is {fields['status']}"
        if over and until is not None and until > now and fields["status"] == "canceled":
            return f"the key {key} of {name} is held by {job}, which was cancelled"
    return ""
