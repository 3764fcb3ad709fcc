"""What comes back from Redis, as values: hostile bytes become replacement characters or are dropped, nothing raises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from heavylift.contract import limits, rqretry
from heavylift.contract.keys import Field
from heavylift.contract.names import UNREADABLE
from heavylift.contract.states import RQ_STATUS, JobState, Phase
from heavylift.errors import InvalidInputError
from heavylift.store.merge import without_marker
from heavylift.store.model import Claim, Event, JobRecord, Json, QueueCounts, QueueGauges, Snapshot

_E = TypeVar("_E", bound=StrEnum)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEPTH = 2 * limits.JSON_DEPTH
"""Nothing of ours nests deeper; what does could be read, but neither shown nor written again."""
_MAY_BE_LONE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")
_AS_RQ_WRITES = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def text(value: Any) -> str:
    """Return text of bytes, text or a number; anything else is empty."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else ""


def raw(value: Any) -> bytes:
    """Return the bytes of a reply's part."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else b""


def number(value: Any) -> int | None:
    """Return a whole number, or None for anything else."""
    if value is None or value == "":
        return None  # most fields of most jobs
    try:
        found = int(value if type(value) is bytes or type(value) is str else text(value))
    except ValueError:
        return None
    return found if abs(found) < 2**53 else None


def score(value: Any) -> int:
    """Return a zset's score as a whole number; 0 for an infinite one and for anything else."""
    try:
        return int(float(text(value)))
    except (ValueError, OverflowError):
        return 0


def parsed(value: Any) -> Any:
    """Return what JSON text says, made harmless: None for what is no JSON, too deep, or no finite number.

    Lone surrogates, which no stream takes, become replacement characters.
    """
    raw_text = text(value)
    if not raw_text:
        return None  # most fields of most jobs
    try:
        found = _read(raw_text)
    except (ValueError, RecursionError):
        return None
    if raw_text.count("[") + raw_text.count("{") > _DEPTH and _deeper(found, _DEPTH):
        return None
    return _mended(found) if "\\u" in raw_text and _MAY_BE_LONE.search(raw_text) else found


def _read(raw_text: str) -> Any:
    if raw_text[0] in "{[":  # as we write it: no blanks to be looked for around it
        found, end = _DECODER.raw_decode(raw_text)
        if end == len(raw_text):
            return found
    return _DECODER.decode(raw_text)


def _finite(digits: str) -> float | None:
    found = float(digits)
    return found if math.isfinite(found) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [item for each in level if isinstance(each, dict | list) for item in _items(each)]
    return any(isinstance(each, dict | list) for each in level)


def _items(holder: dict[str, Any] | list[Any]) -> list[Any]:
    return list(holder.values()) if isinstance(holder, dict) else holder


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return value


def obj(value: Any) -> Json:
    """Return a JSON object, or an empty one for anything else; see ``parsed``."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def mapping(value: Any) -> Json:
    """Return the mapping it is, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def array(value: Any) -> list[Any]:
    """Return a JSON array, or an empty one for anything else; see ``parsed``."""
    found = parsed(value)
    return found if isinstance(found, list) else []


def pairs(flat: Any) -> dict[str, Any]:
    """Return a flat list of names and values (or a mapping, as redis-py may make of it) with text names."""
    if isinstance(flat, Mapping):
        return {text(name): value for name, value in flat.items()}
    if not isinstance(flat, list | tuple):
        return {}
    return {text(flat[i]): flat[i + 1] for i in range(0, len(flat) - 1, 2)}


def member(kind: type[_E], value: Any, default: _E) -> _E:
    """Return an enum's member by value, or the default."""
    try:
        return kind(text(value))
    except ValueError:
        return default


def state(status: Any) -> JobState:
    """Return the state an RQ status means; an unknown or missing one counts as waiting, as RQ's ``created`` does."""
    return RQ_STATUS.get(text(status), JobState.WAITING)


def record(job: str, fields: Mapping[str, Any], position: int | None = None) -> JobRecord:
    """Return a job's hash as a value."""
    frozen, options = obj(fields.get(Field.FROZEN)), obj(fields.get(Field.OPTIONS))
    phase, spent = text(fields.get(Field.PHASE)), obj(fields.get(Field.BUDGETS))
    return JobRecord(
        id=job,
        state=state(fields.get("status")),
        phase=member(Phase, phase, Phase.CLAIMED) if phase else None,
        worker=text(fields.get(Field.WORKER)) or text(fields.get("worker_name")),
        max_attempts=_max_attempts(options, frozen),
        options=options,
        frozen=frozen,
        evidence=without_marker(obj(fields.get(Field.EVIDENCE))),
        budgets={name: count for name, count in spent.items() if isinstance(count, int)},
        history=tuple(entry for entry in array(fields.get(Field.HISTORY)) if isinstance(entry, dict)),
        outcome=obj(fields.get(Field.OUTCOME)),
        result=text(fields[Field.RESULT]) if Field.RESULT in fields else None,
        cancel=obj(fields.get(Field.CANCEL)),
        dependencies=tuple(entry for entry in array(fields.get("dependency_ids")) if isinstance(entry, str)),
        position=position,
        lifo=text(fields.get(Field.LIFO)) == "1",
        retry_delays=_retry_delays(fields),
        task=text(fields.get(Field.TASK)) or text(fields.get("func")),
        enqueued_at=_enqueued_at(fields),
        **_plain(fields),
    )


def _retry_delays(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """Return what plain RQ's ``Retry`` asks for; what cannot be read asks for nothing (such a job ends as invalid)."""
    attempts = number(fields.get(Field.RQ_ATTEMPTS))
    if attempts is None:
        return ()
    try:
        return rqretry.by_failure(rqretry.intervals(text(fields.get("retry_intervals"))), attempts - 1)
    except InvalidInputError:
        return ()


def _enqueued_at(fields: Mapping[str, Any]) -> int | None:
    """Return when the job was enqueued (again); RQ's own ``enqueued_at`` moves with each wait of the job."""
    moved = fields.get("created_at" if fields.get(Field.TASK) else "enqueued_at")
    return number(fields.get(Field.ENQUEUED_AT)) or rq_time(moved)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: text(fields.get(field)) for name, field in _TEXTS.items()}
    counted = {name: number(fields.get(field)) or 0 for name, field in _COUNTS.items()}
    return {**texts, **counted, **{name: number(fields.get(field)) for name, field in _NUMBERS.items()}}


def rq_time(value: Any) -> int | None:
    """Return milliseconds of a time as RQ writes it, or None for anything else."""
    found = text(value)
    try:
        if _AS_RQ_WRITES.fullmatch(found):  # read in a twentieth of the time
            moment = datetime.fromisoformat(found)
        else:
            moment = datetime.strptime(found, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // timedelta(milliseconds=1)  # whole ones, as the scripts' clock


_TEXTS: dict[str, Any] = {
    "queue": "origin",
    "rq_status": "status",
    "incarnation": Field.INCARNATION,
    "reason": Field.REASON,
    "execution": Field.EXECUTION,
    "install": Field.INSTALL,
    "namespace": Field.NAMESPACE,
    "job_name": Field.JOB_NAME,
    "job_uid": Field.JOB_UID,
    "checkpoint": Field.CHECKPOINT,
    "dedupe": Field.DEDUP,
    "key": Field.KEY,
}
_COUNTS: dict[str, Any] = {
    "seq": Field.SEQ,
    "attempts_made": Field.ATTEMPTS_MADE,
    "starts": Field.STARTS,
    "priority": Field.PRIORITY,
}
_NUMBERS: dict[str, Any] = {
    "claimed_at": Field.CLAIMED_AT,
    "deadline": Field.DEADLINE,
    "running_at": Field.RUNNING_AT,
    "ended_at": Field.ENDED_AT,
    "due": Field.DUE,
    "expires": Field.EXPIRES,
    "result_ttl": "result_ttl",
    "failure_ttl": "failure_ttl",
    "first_claimed_at": Field.FIRST_CLAIM,
    "memory": Field.MEMORY,
}


def _max_attempts(options: Json, frozen: Json) -> int | None:
    for source in (frozen, options):
        found = source.get("maxAttempts")
        if isinstance(found, int | float) and not isinstance(found, bool):
            return int(found)
    return None


_CLAIM_PARTS, _CLAIM_LINES = 6, 14


def claims(rows: Any, *, install: str, worker: str) -> tuple[Claim, ...]:
    """Return the rows of the claim script's reply; what was frozen alike for several jobs is one object.

    Raises:
        ValueError: not such rows (a script of another version answered).
    """
    found: list[Claim] = []
    frozen: dict[bytes, Json] = {}
    before = b""
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != _CLAIM_PARTS:
            raise ValueError(f"not a claim: {row!r:.200}")
        before = raw(row[3]) or before
        if before not in frozen:
            frozen[before] = obj(before)
        found.append(_claim(row, install, worker, frozen[before]))
    return tuple(found)


def _claim(row: Any, install: str, worker: str, frozen: Json) -> Claim:
    lines = text(row[0]).split("\n")
    if len(lines) != _CLAIM_LINES:
        raise ValueError(f"not a claim: {row!r:.200}")
    job, queue, namespace, execution, incarnation, seq, attempt, task, claimed, deadline, trace, epoch, *last = lines
    silent, memory = last
    return Claim(
        job=job,
        queue=queue,
        namespace=namespace,
        install=install,
        worker=worker,
        execution=execution,
        incarnation=incarnation,
        seq=number(seq) or 0,
        attempt=number(attempt) or 1,
        task=task,
        data=raw(row[1]),
        claimed_at=number(claimed) or 0,
        deadline=number(deadline) or 0,
        options=_asked(row[2]),
        frozen=frozen,
        rq={name: text(value) for name, value in pairs(row[4]).items()} if row[4] else {},
        traceparent=trace,
        epoch=epoch,
        silent=number(silent) or 0,
        memory=number(memory),
        checkpoint=text(row[5]),
    )


def _asked(value: Any) -> Json:
    """Return a claim's options as they stand, odd values too: render judges each, and must not miss any."""
    if value == b"{}":
        return {}
    try:
        found = json.loads(text(value))
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {UNREADABLE: True}


def event(entry_id: Any, fields: Any) -> Event:
    """Return one entry of an event stream."""
    found = {name: text(value) for name, value in pairs(fields).items()}
    return Event(
        id=text(entry_id),
        name=found.pop("event", ""),
        job=found.pop("job", ""),
        at=number(found.pop("at", "")) or 0,
        fields=found,
    )


def counts(found: Json) -> QueueCounts:
    """Return the counts a script made."""
    return QueueCounts(**_counted(found))


def _counted(found: Json) -> dict[str, Any]:
    oldest = _many(found, "oldest")
    return {
        "waiting_children": _many(found, "children"),
        "oldest_waiting": oldest if oldest >= 0 else None,
        **{name: _many(found, name) for name in _COUNTED},
    }


_COUNTED = ("waiting", "delayed", "active", "completed", "failed", "cancelled", "quarantined")


def _many(found: Json, name: str) -> int:
    value = found.get(name)
    return int(value) if isinstance(value, int | float) else 0


def _some(found: Json, name: str) -> int | None:
    value = _many(found, name) if name in found else -1
    return value if value >= 0 else None


def _gauges(found: Json) -> QueueGauges:
    counters = found.get("counters")
    return QueueGauges(
        demand=_many(found, "demand"),
        startable=_many(found, "startable"),
        aside=_many(found, "aside"),
        held=text(found.get("held")),
        cap=_some(found, "cap"),
        rate_left=_some(found, "rateLeft"),
        rate_next=_some(found, "rateNext"),
        slowed=_some(found, "slowed"),
        slowed_by=text(found.get("slowedBy")),
        install=text(found.get("install")),
        counters=dict(counters) if isinstance(counters, dict) else {},
        **_counted(found),
    )


def snapshot(found: Json) -> Snapshot:
    """Return what the snapshot script found."""
    queues = found.get("queues")
    return Snapshot(
        at=_many(found, "at"),
        inflight=_many(found, "inflight"),
        dispatchers=_many(found, "dispatchers"),
        unfinalized=_many(found, "unfinalized"),
        schedules=_many(found, "schedules"),
        suspended=_many(found, "suspended"),
        oldest_due=_some(found, "due"),
        queues={name: _gauges(one) for name, one in queues.items()} if isinstance(queues, dict) else {},
    )
