"""The offline checker: reads what a run left behind and names every promise that it broke.

It believes nobody's word: the queue's event stream (written by the scripts), the Jobs a recorder saw, and the raw keys
of Redis are compared with each other. ``check`` is pure; ``collect`` reads.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from heavylift.contract.ids import short_hash
from heavylift.contract.keys import Field, Keys
from heavylift.contract.names import FINALIZER, Annotation, Label
from tests.proofs.kube import Kube, batch
from tests.proofs.width import Width

Json = dict[str, Any]
TERMINAL = frozenset({"finished", "failed", "canceled", "stopped"})
LEAVES_ACTIVE = frozenset({"released", "retrying", "delayed", "waiting", "stalled"})
"""Events one of which must stand between two claims of one job."""


@dataclass(frozen=True)
class Line:
    """One event of a queue's stream."""

    id: str
    queue: str
    name: str
    job: str
    at: int
    fields: Mapping[str, str]

    @property
    def final(self) -> bool:
        """Whether it is the one terminal event of an enqueue."""
        return self.fields.get("final") == "1"

    @property
    def execution(self) -> str:
        """The execution it speaks of, if any."""
        return self.fields.get("execution", "")


@dataclass(frozen=True)
class Standing:
    """A Job that stands in the cluster at the end."""

    name: str
    uid: str
    job: str
    execution: str
    finalized: bool
    held: bool
    """Our finalizer is on it."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything a run left behind."""

    accepted: frozenset[str]
    """Ids whose enqueue was acknowledged, each once."""
    events: Sequence[Line]
    """In the order of their stream."""
    uids: Mapping[tuple[str, str], set[str]]
    """(job, execution) -> UIDs of all Jobs ever seen for it."""
    jobs: Mapping[str, Mapping[str, str]]
    """id -> status and side fields of its hash; absent = no hash."""
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Key -> members, of keys that are empty when nothing is waiting or in flight."""
    standing: Sequence[Standing] = ()
    lost: frozenset[str] = frozenset()
    """Accepted ids whose loss by Redis itself is declared."""
    width: Width | None = None
    """What bounded the installation over time, where that was watched; the events are then of all its queues."""

    @property
    def kept(self) -> frozenset[str]:
        """Accepted ids that must have an end."""
        return self.accepted - self.lost

    def of(self, job: str) -> list[Line]:
        """Return one job's events."""
        return [line for line in self.events if line.job == job]


def check(history: History) -> list[str]:
    """Return one sentence per broken promise; empty means that all held."""
    return [sentence for rule in RULES for sentence in rule(history)]


def _nothing_lost(history: History) -> Iterable[str]:
    for job in sorted(history.kept):
        status = history.jobs.get(job, {}).get("status", "no hash")
        if status not in TERMINAL:
            yield f"job {job} was accepted and has no end: {status}"


def _one_end(history: History) -> Iterable[str]:
    ends = Counter(line.job for line in history.events if line.final)
    for job in sorted(history.kept):
        if ends[job] != 1:
            yield f"job {job} has {ends[job]} terminal events: {[line.name for line in history.of(job)]}"
    for job in sorted(ends.keys() - history.accepted):
        yield f"job {job} ended and was never accepted"


def _one_uid(history: History) -> Iterable[str]:
    for (job, execution), uids in sorted(history.uids.items()):
        if len(uids) != 1:
            yield f"job {job} has {len(uids)} Jobs for execution {execution}: {sorted(uids)}"


def _ours_alone(history: History) -> Iterable[str]:
    claimed = {(line.job, line.execution) for line in history.events if line.name == "active"}
    for job, execution in sorted(history.uids.keys() - claimed):
        if job not in history.lost:
            yield f"a Job was made for job {job!r}, execution {execution!r}, which nobody claimed"


def _true_uid(history: History) -> Iterable[str]:
    for line in history.events:
        uid = line.fields.get("uid", "")
        if uid and line.execution and uid not in history.uids.get((line.job, line.execution), set()):
            yield f"event {line.name} of job {line.job} names Job UID {uid}, which never stood for {line.execution}"
    for job, fields in sorted(history.jobs.items()):
        uid, execution = fields.get(Field.JOB_UID, ""), fields.get(Field.EXECUTION, "")
        if uid and execution and uid not in history.uids.get((job, execution), set()):
            yield f"job {job} holds Job UID {uid}, which never stood for {execution}"


def _one_at_a_time(history: History) -> Iterable[str]:
    active: dict[str, str] = {}
    seqs: dict[str, int] = defaultdict(int)
    for line in history.events:
        if line.name == "active":
            if line.job in active:
                yield f"job {line.job} was claimed as {line.execution} while {active[line.job]} was current"
            active[line.job] = line.execution
            seq = int(line.execution.rpartition("-")[2] or 0)
            if seq < seqs[line.job]:
                yield f"job {line.job} went back from seq {seqs[line.job]} to {seq}"
            seqs[line.job] = seq
        elif line.final or line.name in LEAVES_ACTIVE:
            active.pop(line.job, None)


def _quiet_after_end(history: History) -> Iterable[str]:
    ended: dict[str, Line] = {}
    for line in history.events:
        if line.job in ended and line.name in {"active", "recorded", "running", "released", "retrying", "delayed"}:
            yield f"job {line.job} had event {line.name} ({line.execution}) after its end {ended[line.job].name}"
        if line.final:
            ended[line.job] = line


def _end_of_the_current(history: History) -> Iterable[str]:
    last_claim: dict[str, str] = {}
    for line in history.events:
        if line.name == "active":
            last_claim[line.job] = line.execution
        if line.final and line.execution and line.execution != last_claim.get(line.job, line.execution):
            yield f"job {line.job} ended by {line.execution}, but {last_claim[line.job]} was current"
    for job, fields in sorted(history.jobs.items()):
        outcome = _decoded(fields.get(Field.OUTCOME, ""))
        final = next((line for line in reversed(history.of(job)) if line.final), None)
        if final and final.execution and outcome.get("execution", final.execution) != final.execution:
            yield f"job {job} holds the outcome of {outcome['execution']}, but ended by {final.execution}"


def _counted_once(history: History) -> Iterable[str]:
    for job, fields in sorted(history.jobs.items()):
        entries = _decoded_list(fields.get(Field.HISTORY, ""))
        executions = [entry.get("execution", "") for entry in entries]
        for execution, times in Counter(executions).items():
            if times > 1:
                yield f"job {job} has execution {execution} {times} times in its history"


def _nothing_left(history: History) -> Iterable[str]:
    for key, members in sorted(history.left.items()):
        if members:
            yield f"{key} still holds {len(members)}: {list(members)[:3]}"
    for job in history.standing:
        if job.job in history.lost:
            continue
        if not job.finalized or job.held:
            yield f"Job {job.name} of job {job.job} is not finalized (label {job.finalized}, finalizer {job.held})"


def _within_width(history: History) -> Iterable[str]:
    if history.width is None:
        return
    yield from history.width.breaches()
    inside: set[str] = set()
    for line in sorted(history.events, key=lambda line: line.at):
        if line.name == "active":
            live = history.width.live(line.at)
            if len(inside) >= history.width.slots * live:
                yield (
                    f"job {line.job} was claimed as {line.execution} with {len(inside)} in flight, {live} dispatchers "
                    f"and {history.width.slots} slots each"
                )
            inside.add(line.job)
        elif line.final or line.name in LEAVES_ACTIVE:
            inside.discard(line.job)


RULES: tuple[Callable[[History], Iterable[str]], ...] = (
    _nothing_lost,
    _one_end,
    _one_uid,
    _ours_alone,
    _true_uid,
    _one_at_a_time,
    _quiet_after_end,
    _end_of_the_current,
    _counted_once,
    _nothing_left,
    _within_width,
)
"""Promises 1 to 4, and the width, as rules over a history."""


def _decoded(text: str) -> Json:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _decoded_list(text: str) -> list[Json]:
    found = json.loads(text) if text else []
    return found if isinstance(found, list) else []


# -- reading ----------------------------------------------------------------------------------------------------------
def events(client: redis.Redis, queue: str, *, keys: Keys | None = None) -> list[Line]:
    """Return a queue's whole event stream."""
    raw: Any = client.xrange((keys or Keys()).events(queue))
    return [line_of(queue, entry.decode(), fields) for entry, fields in raw]


def line_of(queue: str, entry: str, raw: Mapping[bytes, bytes]) -> Line:
    """Return one entry of a queue's stream."""
    fields = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in raw.items()}
    at = int(fields.get("at") or entry.partition("-")[0])
    return Line(entry, queue, fields.get("event", ""), fields.get("job", ""), at, fields)


def job_fields(client: redis.Redis, job: str) -> dict[str, str]:
    """Return status and text fields of a job's hash; empty when there is none."""
    raw: Any = client.hgetall(Keys().job(job))
    return {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items() if key != b"data"}


def left_in_redis(client: redis.Redis, queues: Iterable[str], install: str) -> dict[str, list[str]]:
    """Return the members of every key that must be empty once nothing waits or runs."""
    keys = Keys()
    left = {keys.inflight(install): zset(client, keys.inflight(install))}
    left[keys.unfinalized(install)] = zset(client, keys.unfinalized(install))
    for queue in queues:
        left[keys.started(queue)] = zset(client, keys.started(queue))
        left[keys.delayed(queue)] = zset(client, keys.delayed(queue))
        left[keys.registry("scheduled", queue)] = zset(client, keys.registry("scheduled", queue))
        left[keys.queue(queue)] = listed(client, keys.queue(queue))
    for pattern in (keys.execution("*", "*"), keys.executions("*")):
        left[pattern] = [key.decode() for key in client.scan_iter(pattern, count=1000)]
    return left


def zset(client: redis.Redis, key: str) -> list[str]:
    """Return a sorted set's members as text."""
    raw: Any = client.zrange(key, 0, -1)
    return [member.decode("utf-8", "replace") for member in raw]


def listed(client: redis.Redis, key: str) -> list[str]:
    """Return a list's members as text."""
    raw: Any = client.lrange(key, 0, -1)
    return [member.decode("utf-8", "replace") for member in raw]


def hash_field(client: redis.Redis, key: str, name: str) -> str:
    """Return one field of a hash as text; empty when there is none."""
    raw: Any = client.hget(key, name)
    return raw.decode("utf-8", "replace") if raw else ""


def standing(kube: Kube, namespace: str, install: str) -> list[Standing]:
    """Return the install's Jobs that stand in a namespace."""
    items, _ = kube.items(batch(namespace), labelSelector=f"{Label.INSTALL}={short_hash(install)}")
    return [standing_of(item) for item in items]


def standing_of(manifest: Json) -> Standing:
    """Return what counts of a Job that stands."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations") or {}
    return Standing(
        name=metadata["name"],
        uid=metadata["uid"],
        job=annotations.get(Annotation.JOB_ID, ""),
        execution=annotations.get(Annotation.EXECUTION, ""),
        finalized=(metadata.get("labels") or {}).get(Label.FINALIZED) == "true",
        held=FINALIZER in (metadata.get("finalizers") or []),
    )
