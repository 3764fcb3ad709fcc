"""All that can be seen of the queues, from the model and from Redis in one shape, and what must always hold."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import redis

from heavylift.contract.keys import Keys
from heavylift.contract.states import RQ_STATUS, JobState
from heavylift.testing.engine import Engine
from heavylift.testing.lanes import ring
from heavylift.testing.state import ENDED, QueueState
from heavylift.testing.work import INSTALL

View = dict[str, Any]
QUEUES = ("alpha", "beta")
LEVELS = (-5, 0, 7)
SCHEDULES = ("s1", "s2", "analytics/h1")
"""Two of clients, one of a HeavySchedule."""
_JSON = {"hl:outcome", "hl:history", "hl:frozen", "hl:cancel", "hl:budgets", "hl:options"}
_OWN = {"hl:op", "hl:src"}
"""Tokens that differ from run to run, and a hash over what is compared."""
_REGISTRY = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in found.items():
        if name in {"data", "exc_info"} and isinstance(value, bytes):
            out[name] = hashlib.sha1(value, usedforsecurity=False).hexdigest()
        elif name not in _OWN:
            out[name] = _parsed(value) if name in _JSON and value else str(value)
    return out


@functools.lru_cache(4096)
def _parsed(text: str) -> Any:
    return json.loads(text)


def _counters(found: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in found.items() if not name.startswith("wait:") and n}


def of_model(engine: Engine, jobs: Sequence[str], events: Sequence[int]) -> View:
    """Return what the model shows; of each queue's events the newest so many."""
    state, view = engine.state, View()
    for name, newest in zip(QUEUES, events, strict=True):
        q = state.queue(name)
        view[name] = {
            "levels": {level: list(q.levels.get(level, [])) for level in LEVELS},
            "known": sorted(level for level in q.levels if level),
            "delayed": dict(q.delayed),
            "scheduled": dict(q.scheduled),
            "deferred": dict(q.deferred),
            "started": sorted(q.started),
            "ended": {each.value: dict(q.ended[each]) for each in ENDED},
            "registries": {each.value: dict(q.kept[each]) for each in ENDED},
            "dedup": {key: (held.job, held.until, held.follower) for key, held in q.dedup.items()},
            "counters": _counters(q.counters),
            "paused": q.pause is not None,
            **_keys(q),
            "breaker": {name: str(value) for name, value in q.breaker.items()},
            "trouble": dict(q.trouble),
            "quarantined": [note["id"] for note in q.quarantine],
            "happened": len(q.events),
            "events": [dict(event) for event in reversed(q.events[-newest:])],
        }
    view["inflight"] = dict(state.inflight.get(INSTALL, {}))
    view["unfinalized"] = sorted(state.unfinalized.get(INSTALL, {}))
    view["todo"] = sorted(state.todo)
    view["schedules"] = {schedule: dict(state.schedules.get(schedule, {})) for schedule in SCHEDULES}
    view["due"] = {schedule: str(at) for schedule, at in state.due.items()}
    view["failing"] = dict(state.failing)
    for name, links in (("dependents", state.dependents), ("dependencies", state.dependencies)):
        view[name] = {job: sorted(links[job]) for job in jobs if links.get(job)}
    view["jobs"] = {job: _fields(state.jobs[job]) for job in jobs if job in state.jobs}
    return view


def _keys(q: QueueState) -> View:
    """Return what the model keeps of concurrency keys, as Redis has it."""
    lanes = [f"{key}\0{level + 1000:04d}{rank:016d}{job}" for key, lane in q.lanes.items() for level, rank, job in lane]
    return {
        "lanes": sorted(lanes),
        "heads": dict(q.heads),
        "ring": [f"{place}\0{key}" for place, key in ring(q)],
        "slots": dict(q.slots),
        "full": dict(q.full),
        "keyed": sorted(f"{key}\0{member}" for member, key in q.keyed.items()),
        "keyof": dict(q.keyed),
        "fillers": len(lanes),
    }


_SCRIPT = """
local out, streams = {}, 1
for i, asked in ipairs(cjson.decode(ARGV[1])) do
  if asked[1] == 'XREVRANGE' then
    streams = streams + 1
    asked[6] = ARGV[streams]
  end
  local got = redis.call(unpack(asked))
  if asked[1] == 'HGETALL' then
    for k = 1, #got, 2 do
      if got[k] == 'data' or got[k] == 'exc_info' then got[k + 1] = redis.sha1hex(got[k + 1]) end
    end
  end
  out[i] = got
end
return cjson.encode(out)
"""
"""All commands of a view in one step; a job's bytes as their hash, so that the answer is JSON."""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


@functools.lru_cache(256)
def _commands(jobs: tuple[str, ...]) -> str:
    """Return the commands of a view as JSON; how many events of each queue is put in by the script."""
    keys, out = Keys(), list[list[Any]]()
    for name in QUEUES:
        scored = [keys.delayed(name), keys.registry("scheduled", name), keys.registry("deferred", name)]
        scored += [keys.finished_index(name, each.value) for each in ENDED]
        scored += [keys.registry(_REGISTRY[each], name) for each in ENDED]
        out += [["LRANGE", keys.level(name, level), 0, -1] for level in LEVELS]
        out += [["ZRANGE", keys.levels(name), 0, -1], ["ZRANGE", keys.started(name), 0, -1]]
        out += [["ZRANGE", key, 0, -1, "WITHSCORES"] for key in scored]
        out += [["HGETALL", keys.dedup(name)], ["HGETALL", keys.counters(name)], ["EXISTS", keys.pause(name)]]
        out += [["ZRANGE", keys.lanes(name), 0, -1], ["ZRANGE", keys.heads(name), 0, -1, "WITHSCORES"]]
        out += [["ZRANGE", keys.ring(name), 0, -1], ["HGETALL", keys.slots(name)]]
        out += [["ZRANGE", keys.full(name), 0, -1, "WITHSCORES"], ["ZRANGE", keys.keyed(name), 0, -1]]
        out += [["HGETALL", keys.keyof(name)], ["LLEN", keys.lane_list(name)], ["HGETALL", keys.breaker(name)]]
        out += [["HGETALL", keys.trouble(name)], ["LRANGE", keys.quarantine(name), 0, -1], ["XLEN", keys.events(name)]]
        out += [["XREVRANGE", keys.events(name), "+", "-", "COUNT", 0]]
    out += [["ZRANGE", keys.inflight(INSTALL), 0, -1, "WITHSCORES"], ["ZRANGE", keys.unfinalized(INSTALL), 0, -1]]
    out += [["SMEMBERS", keys.dependents_todo()]]
    out += [["HGETALL", keys.schedule(schedule)] for schedule in SCHEDULES]
    out += [["ZRANGE", key, 0, -1, "WITHSCORES"] for key in (keys.schedules(), keys.failing_schedules())]
    out += [["SMEMBERS", links(job)] for links in (keys.dependents, keys.dependencies) for job in jobs]
    return json.dumps(out + [["HGETALL", keys.job(job)] for job in jobs])


def _pairs(flat: Any) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def _scores(flat: Any) -> dict[str, int]:
    return {member: int(float(score)) for member, score in _pairs(flat).items()}


def _holder(text: str) -> tuple[str, int | None, str]:
    job, until, follower = (*text.split("|"), "", "")[:3]
    return job, int(until) if until else None, follower


def of_redis(client: redis.Redis, jobs: tuple[str, ...], events: Sequence[int]) -> View:
    """Return what stands in Redis; of each queue's events the newest so many."""
    given = (0, _commands(jobs), *events)
    try:
        found = client.execute_command("EVALSHA", _SHA, *given)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoScriptError:
        found = client.execute_command("EVAL", _SCRIPT, *given)  # type: ignore[no-untyped-call]
    answers = iter(json.loads(found))
    view = View()
    for name in QUEUES:
        view[name] = _queue(answers)
    view["inflight"] = _scores(next(answers))
    view["unfinalized"] = sorted(next(answers))
    view["todo"] = sorted(next(answers))
    view["schedules"] = {schedule: _pairs(next(answers)) for schedule in SCHEDULES}
    view["due"], view["failing"] = _pairs(next(answers)), _scores(next(answers))
    for links in ("dependents", "dependencies"):
        view[links] = {job: sorted(found) for job in jobs if (found := next(answers))}
    view["jobs"] = {job: _fields(_pairs(found)) for job in jobs if (found := next(answers))}
    return view


def _queue(answers: Iterator[Any]) -> View:
    """Read one queue's share of what Redis answered, in the order it was asked."""
    levels = {level: list(next(answers)) for level in LEVELS}
    known, started = sorted(int(level) for level in next(answers)), sorted(next(answers))
    delayed, scheduled, deferred, *ended = (_scores(next(answers)) for _ in range(9))
    states = [each.value for each in ENDED]
    return {
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
        "lanes": list(next(answers)),
        "heads": _scores(next(answers)),
        "ring": list(next(answers)),
        "slots": _pairs(next(answers)),
        "full": _scores(next(answers)),
        "keyed": list(next(answers)),
        "keyof": _pairs(next(answers)),
        "fillers": next(answers),
        "breaker": _pairs(next(answers)),
        "trouble": {kind: json.loads(note)["message"] for kind, note in _pairs(next(answers)).items()},
        "quarantined": [json.loads(note)["id"] for note in next(answers)],
        "happened": next(answers),
        "events": [_pairs(entry) for _, entry in next(answers)],
    }


def difference(model: Any, real: Any, path: str = "") -> str:
    """Return where the two differ first, or nothing."""
    if model == real:
        return ""
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
    return f"{path}: model {model!r:.400}, Redis {real!r:.400}"


def broken(view: View, now: int, *, strangers: bool = False) -> str:
    """Return the invariant that does not hold, or nothing.

    Args:
        view: what stands in Redis.
        now: ms.
        strangers: RQ's own commands were among the steps. They leave ids behind in places of ours, which claims drop;
            what must hold then is that no job is lost.
    """
    places: dict[str, list[str]] = {}
    for name in QUEUES:
        for place, ids in _places(view[name]).items():
            for job in ids:
                places.setdefault(job, []).append(f"{name}/{place}")
    found = _lost(view, places) if strangers else _not_once(view, places)
    if found:
        return found
    for name in QUEUES:
        found = _leaked(view, name, now, strangers=strangers) or _miscounted(view, name, strangers=strangers)
        if found:
            return found
    return ""


def _wanted(fields: Any) -> str:
    return f"{fields['origin']}/{RQ_STATUS[fields['status']].value}"


def _not_once(view: View, places: dict[str, list[str]]) -> str:
    """Return which job stands in no place or in more than one."""
    for job in sorted({*places, *view["jobs"]}):
        fields = view["jobs"].get(job)
        if fields is None:
            return f"job {job} stands in {places[job]}, and is gone"
        if places.get(job, []) != [_wanted(fields)]:
            return f"job {job} is {fields['status']} and stands in {places.get(job, [])}"
        if fields["status"] == "started" and f"{job}:{fields['hl:exec']}" not in view["inflight"]:
            return f"job {job} is started and takes no part in the width"
    running = sorted(member for name in QUEUES for member in view[name]["started"])
    if running != sorted(view["inflight"]):
        return f"in flight are {sorted(view['inflight'])}, started are {running}"
    return ""


def _lost(view: View, places: dict[str, list[str]]) -> str:
    """Return which job that has not ended stands nowhere."""
    for job, fields in sorted(view["jobs"].items()):
        state = RQ_STATUS[fields["status"]]
        if state not in ENDED and _wanted(fields) not in places.get(job, []):
            return f"job {job} is {fields['status']} and stands in {places.get(job, [])}"
    return ""


def _places(queue: View) -> dict[str, list[str]]:
    listed = [job for ids in queue["levels"].values() for job in ids]
    return {
        "waiting": listed + [member[member.index("\0") + 21 :] for member in queue["lanes"]],
        "delayed": list(dict.fromkeys([*queue["delayed"], *queue["scheduled"]])),
        "waiting-children": list(queue["deferred"]),
        "active": [member.partition(":")[0] for member in queue["started"]],
        **{state: list(ids) for state, ids in queue["ended"].items()},
    }


def _miscounted(view: View, name: str, *, strangers: bool) -> str:
    """Return what is wrong with what a queue keeps of its concurrency keys, or nothing."""
    queue, jobs = view[name], view["jobs"]
    if sorted(f"{key}\0{member}" for member, key in queue["keyof"].items()) != sorted(queue["keyed"]):
        return f"what runs by key in {name} is {queue['keyed']}, the other way round {queue['keyof']}"
    if sorted(f"{place}\0{key}" for key, place in queue["slots"].items()) != sorted(queue["ring"]):
        return f"the ring of {name} is {queue['ring']}, its places are {queue['slots']}"
    lanes = {member.partition("\0")[0] for member in queue["lanes"]}
    if lanes != set(queue["heads"]) or lanes != ({*queue["slots"], *queue["full"]} - {""}):
        return f"the lanes of {name} are {sorted(lanes)}, heads {queue['heads']}, {queue['slots']}, {queue['full']}"
    if {*queue["slots"]} & {*queue["full"]}:
        return f"a key of {name} has room and has none: {queue['slots']}, {queue['full']}"
    if strangers:
        return ""
    keyed = {member: jobs[member.partition(":")[0]].get("hl:key") for member in queue["started"]}
    if {member: key for member, key in keyed.items() if key} != queue["keyof"]:
        return f"by key run {keyed} in {name}, counted are {queue['keyof']}"
    for member in queue["lanes"]:
        key, _, rest = member.partition("\0")
        if jobs[rest[20:]].get("hl:key") != key:
            return f"job {rest[20:]} waits by the key {key} in {name}, and carries {jobs[rest[20:]].get('hl:key')}"
    return ""


def _leaked(view: View, name: str, now: int, *, strangers: bool) -> str:
    """Return what is wrong with a queue's deduplication keys, or nothing."""
    dedup = view[name]["dedup"]
    for job, fields in view["jobs"].items():
        if fields["status"] == "deferred" and fields.get("hl:reason", "").startswith("follows"):
            held = dedup.get(fields["hl:dedup"], ("", None, ""))
            # RQ's client may have put a job with dependencies in the place of one of ours.
            theirs = strangers and fields.get("dependency_ids") not in {None, "", "[]"}
            if fields["origin"] == name and job not in {held[0], held[2]} and not theirs:
                return f"job {job} waits for the key {fields['hl:dedup']} of {name}, which is {held}"
    for key, (job, until, _) in () if strangers else dedup.items():
        fields = view["jobs"].get(job)
        if fields is None or fields.get("hl:dedup") != key:
            return f"the key {key} of {name} is held by {job}, which does not stand or does not carry it"
        over = RQ_STATUS[fields["status"]] in ENDED
        if over and until is None:
            return f"the key {key} of {name} is held by {job}, which is {fields['status']}"
        if over and until is not None and until > now and fields["status"] == "canceled":
            return f"the key {key} of {name} is held by {job}, which was cancelled"
    return ""
