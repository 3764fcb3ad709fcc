"""All that can be seen of the queues, from the model and from Redis in one shape, and what must always hold."""

from __future__ import annotations

import functools
import hashlib
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
_EVENTS = 30
"""The newest so many events are compared after each step, and how many there were."""
_REGISTRY = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in found.items():
        if name == "data" and isinstance(value, bytes):
            out[name] = hashlib.sha1(value, usedforsecurity=False).hexdigest()
        elif name not in _OWN:
            out[name] = _parsed(value) if name in _JSON and value else str(value)
    return out


@functools.lru_cache(4096)
def _parsed(text: str) -> Any:
    return json.loads(text)


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
            "happened": len(q.events),
            "events": [dict(event) for event in reversed(q.events[-_EVENTS:])],
        }
    view["inflight"] = dict(state.inflight.get(INSTALL, {}))
    view["unfinalized"] = sorted(state.unfinalized.get(INSTALL, {}))
    view["jobs"] = {job: _fields(state.jobs[job]) for job in jobs if job in state.jobs}
    return view


_SCRIPT = """
local out = {}
for i, asked in ipairs(cjson.decode(ARGV[1])) do
  local got = redis.call(unpack(asked))
  if asked[1] == 'HGETALL' then
    for k = 1, #got, 2 do
      if got[k] == 'data' then got[k + 1] = redis.sha1hex(got[k + 1]) end
    end
  end
  out[i] = got
end
return cjson.encode(out)
"""
"""All commands of a view in one step; a job's data (bytes) as its hash, so that the answer is JSON."""


def _commands(jobs: Sequence[str]) -> list[list[Any]]:
    keys, out = Keys(), list[list[Any]]()
    for name in QUEUES:
        scored = [keys.delayed(name), keys.registry("scheduled", name), keys.registry("deferred", name)]
        scored += [keys.finished_index(name, each.value) for each in ENDED]
        scored += [keys.registry(_REGISTRY[each], name) for each in ENDED]
        out += [["LRANGE", keys.level(name, level), 0, -1] for level in LEVELS]
        out += [["ZRANGE", keys.levels(name), 0, -1], ["ZRANGE", keys.started(name), 0, -1]]
        out += [["ZRANGE", key, 0, -1, "WITHSCORES"] for key in scored]
        out += [["HGETALL", keys.dedup(name)], ["HGETALL", keys.counters(name)], ["EXISTS", keys.pause(name)]]
        out += [["XLEN", keys.events(name)]]
        out += [["XREVRANGE", keys.events(name), "+", "-", "COUNT", _EVENTS]]
    out += [["ZRANGE", keys.inflight(INSTALL), 0, -1, "WITHSCORES"], ["ZRANGE", keys.unfinalized(INSTALL), 0, -1]]
    return out + [["HGETALL", keys.job(job)] for job in jobs]


def _pairs(flat: Any) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def _scores(flat: Any) -> dict[str, int]:
    return {member: int(float(score)) for member, score in _pairs(flat).items()}


def _holder(text: str) -> tuple[str, int | None, str]:
    job, until, follower = (*text.split("|"), "", "")[:3]
    return job, int(until) if until else None, follower


def of_redis(client: redis.Redis, jobs: Sequence[str]) -> View:
    """Return what stands in Redis."""
    commands = json.dumps(_commands(jobs))
    answers = iter(json.loads(client.eval(_SCRIPT, 0, commands)))
    view = View()
    for name in QUEUES:
        levels = {level: list(next(answers)) for level in LEVELS}
        known, started = sorted(int(level) for level in next(answers)), sorted(next(answers))
        delayed, scheduled, deferred, *ended = (_scores(next(answers)) for _ in range(9))
        states = [each.value for each in ENDED]
        view[name] = {
            "levels": levels,
            "known": known,
            "delayed": delayed,
            "scheduled": scheduled,
            "deferred": deferred,
            "started": started,
            "ended": dict(zip(states, ended[:3], strict=True)),
            "registries": dict(zip(states, ended[3:], strict=True)),
            "dedup": {key: _holder(text) for key, text in _pairs(next(answers)).items()},
            "counters": _counters({key: int(n) for key, n in _pairs(next(answers)).items()}),
            "paused": next(answers) == 1,
            "happened": next(answers),
            "events": [_pairs(entry) for _, entry in next(answers)],
        }
    view["inflight"] = _scores(next(answers))
    view["unfinalized"] = sorted(next(answers))
    view["jobs"] = {job: _fields(_pairs(found)) for job in jobs if (found := next(answers))}
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
