"""Reading, without RQ's side effects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from heavylift.contract import limits
from heavylift.contract.states import JobState
from heavylift.errors import StoreCorruptError
from heavylift.store import decode
from heavylift.store.model import Event, InFlight, JobRecord, Json, QueueCounts, Snapshot
from heavylift.store.steps import Call, Command, Op

_BLOCK_MS = 500


def get_job(job: str, *, position: bool = False) -> Op[JobRecord | None]:
    """Return a job, or None when there is none.

    Raises:
        StoreCorruptError: its key is not a hash.
    """
    answer = yield Call("get_job", (job, "1" if position else "0"))
    verdict, message, fields, place = answer
    if decode.text(verdict) == "corrupt":
        raise StoreCorruptError(decode.text(message))
    if decode.text(verdict) == "missing":
        return None
    return decode.record(job, decode.pairs(fields), int(place) if int(place) >= 0 else None)


def list_jobs(queue: str, state: JobState, *, start: int = 0, count: int = limits.FIND_STEP) -> Op[list[JobRecord]]:
    """Return a page of a queue's jobs: waiting in order, delayed by due time, ended newest first."""
    page, _ = yield from page_jobs(queue, state, start=start, count=count)
    return page


def page_jobs(
    queue: str, state: JobState, *, start: int = 0, count: int = limits.FIND_STEP
) -> Op[tuple[list[JobRecord], bool]]:
    """Return a page of a queue's jobs as ``list_jobs``, and whether more may follow.

    A page may hold fewer than ``count`` although more follow: ids without a job, or that moved on, are left out, and
    one call looks at 50 at most.
    """
    count = min(count, limits.FIND_STEP)
    looked, *answer = yield Call("list_jobs", (queue, state.value, start, count))
    page = [decode.record(job, decode.pairs(fields)) for job, fields in decode.pairs(answer).items()]
    return page, int(looked) >= count


def counts(queue: str) -> Op[QueueCounts]:
    """Return a queue's jobs by state; costs the same at any depth."""
    answer = yield Call("counts", (queue,))
    return decode.counts(decode.obj(answer))


def queues() -> Op[list[str]]:
    """Return the names of all queues RQ knows, without priority levels."""
    found = yield Command(lambda keys: ("SMEMBERS", keys.queues()))
    names = (decode.text(key).partition(":queue:")[2] for key in found)
    return sorted(name for name in names if name and "@" not in name)


def inflight(install: str, cursor: int = 0, count: int = 100) -> Op[tuple[int, list[InFlight]]]:
    """Return a page of what an install runs; begin with cursor 0, end when it comes back as 0."""
    answer = yield Command(lambda keys: ("ZSCAN", keys.inflight(install), cursor, "COUNT", count))
    following, flat = answer
    scored = flat if flat and isinstance(flat[0], tuple) else decode.pairs(flat).items()
    found = []
    for member, score in scored:
        job, _, execution = decode.text(member).partition(":")
        found.append(InFlight(job=job, execution=execution, claimed_at=decode.score(score)))
    return int(following), found


def inflight_count(install: str) -> Op[int]:
    """Return how many executions an install runs."""
    found = yield Command(lambda keys: ("ZCARD", keys.inflight(install)))
    return int(found)


def events(queue: str, after: str = "0", count: int = 100, block_ms: int | None = None) -> Op[list[Event]]:
    """Return events after an id; with ``block_ms`` wait that long for the first ("$" = only what is yet to come)."""
    last, left = after, block_ms or 0
    if after == "$":
        newest = yield Command(lambda keys: ("XREVRANGE", keys.events(queue), "+", "-", "COUNT", 1))
        last = decode.text(newest[0][0]) if newest else "0"
    while True:
        block = min(left, _BLOCK_MS)
        wait: tuple[str | int, ...] = ("BLOCK", block) if block > 0 else ()
        position = last
        found = yield Command(
            lambda keys, wait=wait, position=position: (  # type: ignore[misc]  # the defaults bind it
                "XREAD", "COUNT", count, *wait, "STREAMS", keys.events(queue), position,
            )
        )  # fmt: skip
        left -= block
        if found or left <= 0:
            return _entries(found)


def _entries(found: Any) -> list[Event]:
    """Return the entries of XREAD's reply for one stream, as a list (RESP2) or a mapping (RESP3)."""
    if not found:
        return []
    stream = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
    return [decode.event(entry_id, fields) for entry_id, fields in stream if fields]


def quarantine(queue: str, count: int = 50) -> Op[list[Json]]:
    """Return notes on bad entries, newest first: ``{"id", "message", "at", "queue"}``."""
    found = yield Command(lambda keys: ("LRANGE", keys.quarantine(queue), 0, count - 1))
    return [decode.obj(note) for note in found]


def counters(queue: str) -> Op[dict[str, int]]:
    """Return the counters scripts keep: enqueued, claimed, completed, failed, dropped, quarantined, conflicts, ..."""
    found = yield Command(lambda keys: ("HGETALL", keys.counters(queue)))
    return {name: decode.number(value) or 0 for name, value in decode.pairs(found).items()}


def snapshot(install: str, queues: Sequence[str]) -> Op[Json]:
    """Return all gauges in one step (more for more than 25 queues); ``gauges`` gives the same as values.

    ``{"at", "inflight", "dispatchers", "unfinalized", "queues": {name: {"waiting", "delayed", "active", "children",
    "completed", "failed", "cancelled", "quarantined", "oldest" (ms or -1), "paused", "held" (what holds all of it back,
    or ""), "cap" (or -1), "startable", "demand", "aside", "rateLeft" (-1 = no limit), "rateNext" (ms, -1 = now),
    "install", "counters"}}}``.
    """
    found = yield from _snapshot(install, queues[: limits.SNAPSHOT_QUEUES])
    for start in range(limits.SNAPSHOT_QUEUES, len(queues), limits.SNAPSHOT_QUEUES):
        more = yield from _snapshot(install, queues[start : start + limits.SNAPSHOT_QUEUES])
        found["queues"] |= more["queues"]
    return found


def _snapshot(install: str, queues: Sequence[str]) -> Op[Json]:
    answer = yield Call("snapshot", (install, *queues))
    found: Json = json.loads(decode.text(answer))
    found.pop("queue_names")
    found["queues"] = found["queues"] if isinstance(found["queues"], dict) else {}
    for queue in found["queues"].values():
        queue["counters"] = queue["counters"] if isinstance(queue["counters"], dict) else {}
    return found


def gauges(install: str, queues: Sequence[str]) -> Op[Snapshot]:
    """Return all gauges of an install and its queues in one step; costs the same at any depth."""
    return decode.snapshot((yield from snapshot(install, queues)))
