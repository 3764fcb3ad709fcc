"""The audit of a Redis that rests: every index of the queues compared with the jobs themselves, and nothing mended.

``take`` reads all keys; ``unsound`` is pure and gives one sentence for each entry that nothing stands behind, and for
each job that stands where it should not. Sweeps and claims of the product mend some of that: audit before they run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import redis

from heavylift.contract.keys import Field, Keys
from heavylift.contract.states import RQ_STATUS, JobState
from heavylift.store import decode

ENDED = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}
KEYS = Keys()


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw)


@dataclass(frozen=True)
class Standing:
    """All keys of a Redis at one moment."""

    lists: dict[str, list[str]] = field(default_factory=dict)
    """Key -> entries in order."""
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    """Hashes, and zsets with their scores, and sets."""
    left_ms: dict[str, int] = field(default_factory=dict)
    """Key -> milliseconds it lives on, -1 = for ever."""

    @cached_property
    def jobs(self) -> dict[str, dict[str, str]]:
        """Every job's hash by id."""
        prefix = KEYS.job("")
        return {
            key.removeprefix(prefix): fields
            for key, fields in self.tables.items()
            if key.startswith(prefix) and ":" not in key.removeprefix(prefix)
        }

    def table(self, key: str) -> dict[str, str]:
        """Return a hash or zset; empty when there is none."""
        return self.tables.get(key, {})

    def state(self, job: str) -> JobState | None:
        """Return a job's state, None without a hash or a known status."""
        return RQ_STATUS.get(self.jobs.get(job, {}).get("status", ""))

    @cached_property
    def queues(self) -> list[str]:
        """Queues with settings."""
        prefix = KEYS.settings("")
        return sorted(key.removeprefix(prefix) for key in self.tables if key.startswith(prefix))

    @cached_property
    def lanes(self) -> dict[str, dict[str, tuple[str, int]]]:
        """Queue -> job -> (key, level) of those that wait by their keys."""
        found: dict[str, dict[str, tuple[str, int]]] = {}
        for queue in self.queues:
            parts = [entry.partition("\0") for entry in self.table(KEYS.lanes(queue))]
            found[queue] = {rest[20:]: (key, int(rest[:4] or 0) - 1000) for key, _, rest in parts}
        return found

    @cached_property
    def running(self) -> dict[str, str]:
        """``job:execution`` of each current execution of ours -> its queue."""
        return {
            f"{job}:{fields[Field.EXECUTION]}": fields.get("origin", "")
            for job, fields in self.jobs.items()
            if fields.get(Field.EXECUTION)
        }


def take(client: redis.Redis) -> Standing:
    """Read everything; nobody may write meanwhile."""
    names: Any = sorted(client.scan_iter(count=1000))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.type(name)
        pipe.pttl(name)
    told = pipe.execute()
    kinds = [_text(kind) for kind in told[::2]]
    for name, kind in zip(names, kinds, strict=True):
        _ask(pipe, name, kind)
    found = Standing()
    for name, kind, left, value in zip(map(_text, names), kinds, told[1::2], pipe.execute(), strict=True):
        if left < -1:  # it expired meanwhile
            continue
        found.left_ms[name] = left
        if kind == "list":
            found.lists[name] = [_text(entry) for entry in value]
        elif kind == "set":
            found.tables[name] = {_text(member): "" for member in value}
        elif kind in {"hash", "zset"}:
            found.tables[name] = {_text(member): _text(score) for member, score in dict(value).items()}
    return found


def _ask(pipe: Any, name: bytes, kind: str) -> None:
    if kind == "list":
        pipe.lrange(name, 0, -1)
    elif kind == "set":
        pipe.smembers(name)
    elif kind == "hash":
        pipe.hgetall(name)
    elif kind == "zset":
        pipe.zrange(name, 0, -1, withscores=True)
    else:
        pipe.type(name)


def unsound(found: Standing) -> list[str]:
    """Return one sentence for everything that does not fit together; empty = all is sound."""
    return [sentence for rule in RULES for sentence in rule(found)]


def _same(what: str, entries: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for entry in sorted(entries.keys() - wanted.keys()):
        yield f"{what} holds {entry!r}, and nothing stands behind it"
    for entry in sorted(wanted.keys() - entries.keys()):
        yield f"{what} lacks {entry!r}"


def _places(found: Standing) -> Iterator[str]:
    """Each job stands in the one place of its state, and nothing else stands anywhere."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for queue in found.queues:
        for place, ids in _stand(found, queue):
            for job in ids:
                places[job].append(f"{queue}/{place}")
    for job in sorted({*places, *found.jobs}):
        fields, state = found.jobs.get(job), found.state(job)
        if fields is None or state is None:
            yield f"job {job} stands in {places[job]}, and is {'gone' if fields is None else 'of no state'}"
        elif places[job] != [_place_of(found, job, fields, state)]:
            yield f"job {job} is {fields.get('status')} and stands in {places[job]}"


def _place_of(found: Standing, job: str, fields: Mapping[str, str], state: JobState) -> str:
    queue = fields.get("origin", "")
    if state is not JobState.WAITING:
        return f"{queue}/{state.value}"
    key, level = fields.get(Field.KEY, ""), fields.get(Field.PRIORITY, "0")
    lanes = found.lanes.get(queue, {})
    return f"{queue}/key {key}, level {level}" if job in lanes else f"{queue}/level {level}"


def _stand(found: Standing, queue: str) -> Iterator[tuple[str, list[str]]]:
    base = KEYS.queue(queue)
    for key, ids in found.lists.items():
        if key == base or (key.startswith(f"{base}@") and key != KEYS.lane_list(queue)):
            yield f"level {key[len(base) + 1 :] or 0}", ids
    for job, (key, level) in found.lanes[queue].items():
        yield f"key {key}, level {level}", [job]
    yield JobState.DELAYED.value, list(found.table(KEYS.delayed(queue)))
    yield JobState.WAITING_CHILDREN.value, list(found.table(KEYS.registry("deferred", queue)))
    yield JobState.ACTIVE.value, [member.partition(":")[0] for member in found.table(KEYS.started(queue))]
    for state in ENDED:
        yield state.value, list(found.table(KEYS.finished_index(queue, state.value)))


def _mirrors(found: Standing) -> Iterator[str]:
    """RQ's own registries show the same, levels in use are known, and jobs in lanes are counted."""
    for queue in found.queues:
        yield from _same(
            KEYS.registry("scheduled", queue),
            found.table(KEYS.registry("scheduled", queue)),
            found.table(KEYS.delayed(queue)),
        )
        for state, name in ENDED.items():
            index, registry = KEYS.finished_index(queue, state.value), KEYS.registry(name, queue)
            yield from _same(registry, found.table(registry), found.table(index))
        known = found.table(KEYS.levels(queue))
        for key in found.lists:
            level = key.removeprefix(f"{KEYS.queue(queue)}@")
            if level not in {key, "keys"} and level not in known:
                yield f"{KEYS.levels(queue)} lacks {level}, and jobs wait there"
        shown, waiting = found.lists.get(KEYS.lane_list(queue), []), found.table(KEYS.lanes(queue))
        if len(shown) != len(waiting):
            yield f"{KEYS.lane_list(queue)} counts {len(shown)} jobs, {len(waiting)} wait by their keys"


def _executions(found: Standing) -> Iterator[str]:
    """What runs is in the started registry, in the width and in RQ's keys of executions, and nothing else is."""
    running = found.running
    started = {member: "" for queue in found.queues for member in found.table(KEYS.started(queue))}
    yield from _same("the started registry", started, running)
    installs = found.table(KEYS.installs())
    inflight = {member: "" for install in installs for member in found.table(KEYS.inflight(install))}
    yield from _same("the width", inflight, running)
    prefix, suffix = KEYS.worker_executions("\n").split("\n")
    shown = {
        member: ""
        for key, members in found.tables.items()
        if key.startswith(prefix) and key.endswith(suffix)
        for member in members
    }
    yield from _same("the workers' executions", shown, running)
    hashes, listed = KEYS.execution("", "").removesuffix(":"), KEYS.executions("")
    own = {key.removeprefix(hashes): "" for key in found.tables if key.startswith(hashes)}
    yield from _same(hashes, own, running)
    each = {
        f"{key.removeprefix(listed)}:{execution}": ""
        for key, members in found.tables.items()
        if key.startswith(listed)
        for execution in members
    }
    yield from _same(listed, each, running)


def _counters(found: Standing) -> Iterator[str]:
    """What runs counts for its key, once each way round."""
    for queue in found.queues:
        wanted = {
            member: found.jobs[member.partition(":")[0]][Field.KEY]
            for member, own in found.running.items()
            if own == queue and found.jobs[member.partition(":")[0]].get(Field.KEY)
        }
        by_key = {f"{key}\0{member}": "" for member, key in wanted.items()}
        yield from _same(KEYS.keyed(queue), found.table(KEYS.keyed(queue)), by_key)
        yield from _same(KEYS.keyof(queue), found.table(KEYS.keyof(queue)), wanted)


def _keys(found: Standing) -> Iterator[str]:
    """Each key with a lane is among the heads, and in the ring if it has room, among the full ones if not."""
    for queue in found.queues:
        settings = decode.obj(found.table(KEYS.settings(queue)).get("json", "{}").encode())
        per = settings.get("concurrencyPerKey")
        waiting = {key: "" for key, _ in found.lanes[queue].values()}
        running: defaultdict[str, int] = defaultdict(int)
        for entry in found.table(KEYS.keyed(queue)):
            running[entry.partition("\0")[0]] += 1
        full = {key: "" for key in waiting if per is not None and running[key] >= per}
        free = {key: "" for key in waiting if key not in full}
        slots = {key: place for key, place in found.table(KEYS.slots(queue)).items() if key}
        ring = {entry for entry in found.table(KEYS.ring(queue)) if entry.partition("\0")[2]}
        yield from _same(KEYS.heads(queue), found.table(KEYS.heads(queue)), waiting)
        yield from _same(KEYS.full(queue), found.table(KEYS.full(queue)), full)
        yield from _same(KEYS.slots(queue), slots, free)
        if ring != {f"{place}\0{key}" for key, place in slots.items()}:
            yield f"{KEYS.ring(queue)} and {KEYS.slots(queue)} differ: {sorted(ring)}, {slots}"


def _dedupe(found: Standing) -> Iterator[str]:
    """A deduplication key is held by a live job that carries it, or is a throttle whose time is not over."""
    for queue in found.queues:
        for key, entry in found.table(KEYS.dedup(queue)).items():
            job, until, follower = (*entry.split("|"), "", "")[:3]
            what = f"the deduplication key {key} of {queue} is held by {job}"
            if found.jobs.get(job, {}).get(Field.DEDUP) != key:
                yield f"{what}, which is gone or does not carry it"
            elif _over(found, job) and (not until or found.state(job) is JobState.CANCELLED):
                yield f"{what}, which is {found.jobs[job]['status']}"
            if follower and (
                found.state(follower) is not JobState.WAITING_CHILDREN or found.jobs[follower].get(Field.DEDUP) != key
            ):
                yield f"{what}, and followed by {follower}, which does not wait for it"
        yield from _undivided(found, queue)


def _over(found: Standing, job: str) -> bool:
    return found.state(job) in ENDED and not found.jobs[job].get(Field.EXECUTION)


LATEST = "latest"
"""Keys that begin so are used with keep_last: one job may follow another."""
BURST = "burst"
"""Keys that begin so are used with debounce or as throttles, or freed by hand: several jobs may carry one."""


def _undivided(found: Standing, queue: str) -> Iterator[str]:
    """No two live jobs have one key, but for a follower."""
    carried: defaultdict[str, list[str]] = defaultdict(list)
    for job, fields in found.jobs.items():
        key = fields.get(Field.DEDUP, "")
        if key and not key.startswith(BURST) and fields.get("origin") == queue and not _over(found, job):
            carried[key].append(job)
    for key, jobs in sorted(carried.items()):
        entry = found.table(KEYS.dedup(queue)).get(key, "")
        known = {entry.split("|")[0], *entry.split("|")[2:]}
        if len(jobs) > (2 if key.startswith(LATEST) else 1):
            yield f"the deduplication key {key} of {queue} has {len(jobs)} live jobs: {jobs}"
        for job in sorted(set(jobs) - known):
            yield f"job {job} lives, carries the key {key} of {queue}, and does not hold it ({entry or 'free'})"


def _owned(found: Standing) -> Iterator[str]:
    """What belongs to a job goes with it."""
    for prefix, suffix in ((KEYS.results(""), ""), ("rq:job::", ":dependencies"), (KEYS.executions(""), "")):
        for key in found.left_ms:
            job = key.removeprefix(prefix).removesuffix(suffix)
            if key.startswith(prefix) and key.endswith(suffix) and job not in found.jobs:
                yield f"{key} is left of a job that is gone"


def _endings(found: Standing) -> Iterator[str]:
    """What is kept for a while says for how long, and no live job would expire."""
    passing = [key for queue in found.queues for key in (KEYS.rate(queue), KEYS.hold(queue))]
    passing += [key for key in found.left_ms if key.startswith(KEYS.replies(""))]
    for key in passing:
        if found.left_ms.get(key, 0) < 0:
            yield f"{key} has no end"
    for job, fields in found.jobs.items():
        if found.left_ms[KEYS.job(job)] >= 0 and found.state(job) not in ENDED:
            yield f"job {job} is {fields.get('status')} and would expire"


def _deferred(found: Standing) -> Iterator[str]:
    """A deferred job follows another, or depends on one that has not completed (or was removed without an end)."""
    followers = {
        entry.split("|")[2]
        for queue in found.queues
        for entry in found.table(KEYS.dedup(queue)).values()
        if entry.count("|") == 2
    }
    for job in found.jobs:
        if found.state(job) is not JobState.WAITING_CHILDREN or job in followers:
            continue
        parents = found.table(KEYS.dependencies(job))
        if all(found.state(parent) is JobState.COMPLETED for parent in parents):
            yield f"job {job} is deferred and waits for nothing: {sorted(parents)}"


def _notes(found: Standing) -> Iterator[str]:
    """Jobs whose PATCH is awaited are noted both ways; schedules stand in their index."""
    for install in found.table(KEYS.installs()):
        names = found.table(KEYS.unfinalized_jobs(install))
        yield from _same(KEYS.unfinalized(install), found.table(KEYS.unfinalized(install)), names)
    prefix = KEYS.schedule("")
    own = {key.removeprefix(prefix): "" for key in found.tables if key.startswith(prefix)}
    yield from _same(KEYS.schedules(), found.table(KEYS.schedules()), own)
    for schedule in sorted(found.table(KEYS.failing_schedules()).keys() - own.keys()):
        yield f"{KEYS.failing_schedules()} holds {schedule}, which is gone"


RULES: tuple[Callable[[Standing], Iterator[str]], ...] = (
    _places,
    _mirrors,
    _executions,
    _counters,
    _keys,
    _dedupe,
    _owned,
    _endings,
    _deferred,
    _notes,
)
