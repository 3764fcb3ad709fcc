"""Malformed entries, placed by hand the way a hostile or broken producer could."""

from __future__ import annotations

import io
import json
import pickletools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import redis

from heavylift.contract.ids import plain_source
from heavylift.contract.keys import Field, Keys

KEYS = Keys()
CANARY_MODULE = "heavylift_canary"
"""A module on the processes' path whose import leaves a file behind."""
CREATED = "2026-11-22T10:00:00.000000Z"
Place = Callable[[redis.Redis, str, str], str]
"""(client, queue, id) -> the id as it was placed in the queue's list."""


class End(Enum):
    """What must become of a bad entry."""

    INVALID = "ends as failed, class invalid, with a message"
    QUARANTINED = "stands in the queue's quarantine with a message"
    DROPPED = "is dropped and counted"
    RUNS = "runs as its first execution, the bad field ignored"


@dataclass(frozen=True)
class Entry:
    """One kind of malformed entry."""

    place: Place
    end: End
    words: str = ""
    """What its message says."""


def packed(value: object) -> bytes:
    """Return RQ's ``data`` of a JSON value."""
    return zlib.compress(json.dumps(value).encode())


def job(data: bytes | None = None, *, status: str | None = "queued", **fields: str | bytes) -> Place:
    """Return a placer of a job hash with this data and status, and of its id in the queue's list."""

    def place(client: redis.Redis, queue: str, job_id: str) -> str:
        whole: dict[Any, Any] = {"origin": queue, "created_at": CREATED, "enqueued_at": CREATED, **fields}
        if status is not None:
            whole["status"] = status
        if data is not None:
            whole["data"] = data
        client.hset(KEYS.job(job_id), mapping=whole)
        client.rpush(KEYS.queue(queue), job_id)
        return job_id

    return place


def side_fields(fields: Mapping[str, str]) -> Place:
    """Return a placer of a job that looks like one of ours, with these side fields."""

    def place(client: redis.Redis, queue: str, job_id: str) -> str:
        ours = {Field.INCARNATION: "aaaabbbbccccdddd", Field.SOURCE: plain_source(job_id, CREATED), **fields}
        return job(packed([f"{CANARY_MODULE}.run", None, [], {}]), **ours)(client, queue, job_id)

    return place


def wrong_job(kind: str) -> Place:
    """Return a placer of an id whose job key has another type."""

    def place(client: redis.Redis, queue: str, job_id: str) -> str:
        _wrong(client, KEYS.job(job_id), kind)
        client.rpush(KEYS.queue(queue), job_id)
        return job_id

    return place


def ghost(job_id: str | None = None) -> Place:
    """Return a placer of an id without any hash; ``job_id`` replaces the id."""

    def place(client: redis.Redis, queue: str, given: str) -> str:
        placed = given if job_id is None else job_id
        client.rpush(KEYS.queue(queue), placed)
        return placed

    return place


def _wrong(client: redis.Redis, key: str, kind: str) -> None:
    client.delete(key)
    if kind == "string":
        client.set(key, "not what you think")
    elif kind == "list":
        client.rpush(key, "not", "what", "you", "think")
    elif kind == "zset":
        client.zadd(key, {"not what you think": 1})
    else:
        client.hset(key, "not", "what you think")


def evil_pickle(path: str) -> bytes:
    """Return a pickle that would create a file when loaded, written by hand: nothing here imports pickle.

    The disassembler raises if it is no pickle.
    """
    program = b"cos\nsystem\n(V" + f"touch {path}".encode() + b"\ntR."
    pickletools.dis(program, out=io.StringIO())
    return program


def proto2(program: bytes) -> bytes:
    """Return the pickle with the protocol header that RQ's own pickles begin with."""
    return b"\x80\x02" + program


BOMB = zlib.compress(b"[" + b" " * 60_000_000 + b"]", 9)
DEEP = zlib.compress(b'["f", null, [' + b"[" * 10_000 + b"]" * 10_000 + b"], {}]")
INCOMPRESSIBLE = bytes((n * 2654435761 >> 13) & 255 for n in range(300_000))


def entries(canary: str) -> Mapping[str, Entry]:
    """Return every kind of malformed job entry; ``canary`` is the file that hostile code would create."""
    evil = evil_pickle(canary)
    func = f"{CANARY_MODULE}.run"
    return {
        "job key is a string": Entry(wrong_job("string"), End.QUARANTINED),
        "job key is a list": Entry(wrong_job("list"), End.QUARANTINED),
        "job key is a zset": Entry(wrong_job("zset"), End.QUARANTINED),
        "no status": Entry(job(packed([func, None, [], {}]), status=None), End.QUARANTINED),
        "unknown status": Entry(job(packed([func, None, [], {}]), status="flying"), End.QUARANTINED),
        "status of a finished job": Entry(job(packed([func, None, [], {}]), status="finished"), End.DROPPED),
        "no data": Entry(job(), End.INVALID),
        "data empty": Entry(job(b""), End.INVALID),
        "data is no zlib": Entry(job(b"x\x9c\x00\x01broken"), End.INVALID),
        "data is a cut zlib": Entry(job(packed([func, None, ["x" * 900], {}])[:-9]), End.INVALID),
        "data is a bomb": Entry(job(BOMB), End.INVALID),
        "data is too large": Entry(job(INCOMPRESSIBLE), End.INVALID),
        "data is not JSON": Entry(job(zlib.compress(b"not { json")), End.INVALID),
        "data holds NaN": Entry(job(zlib.compress(b'["f", null, [NaN], {}]')), End.INVALID),
        "data holds a lone surrogate": Entry(job(zlib.compress(b'["f", null, ["\\ud800"], {}]')), End.INVALID),
        "data is deep": Entry(job(DEEP), End.INVALID),
        "data has the wrong shape": Entry(job(packed({"func": func})), End.INVALID),
        "data has too few parts": Entry(job(packed([func])), End.INVALID),
        "func is null": Entry(job(packed([None, None, [], {}])), End.INVALID),
        "func is a number": Entry(job(packed([7, None, [], {}])), End.INVALID),
        "evil pickle": Entry(job(zlib.compress(evil)), End.INVALID),
        "evil pickle, RQ's protocol": Entry(job(zlib.compress(proto2(evil))), End.INVALID, "JSONSerializer"),
        "evil pickle, not compressed": Entry(job(proto2(evil)), End.INVALID),
        "ghost": Entry(ghost(), End.DROPPED),
        "huge id": Entry(ghost("h" * 1_000_000), End.QUARANTINED),
        "id of control characters": Entry(ghost("\x1b[2J\r\nfaked: line\x00"), End.QUARANTINED),
        "options are not JSON": Entry(side_fields({"hl:options": "{"}), End.INVALID),
        "history is a number": Entry(side_fields({"hl:history": "7"}), End.RUNS),
        "seq is no number": Entry(side_fields({"hl:seq": "many"}), End.RUNS),
        "seq is infinite": Entry(side_fields({"hl:seq": "1e999"}), End.RUNS),
        "attempts are negative": Entry(side_fields({"hl:attempts": "-3"}), End.RUNS),
    }


@dataclass(frozen=True)
class BadKey:
    """A value of the wrong type at one of a queue's own keys."""

    key: Callable[[str], str]
    kind: str

    def place(self, client: redis.Redis, queue: str) -> str:
        """Put it there; return the key."""
        key = self.key(queue)
        _wrong(client, key, self.kind)
        return key


QUEUE_KEYS: Mapping[str, BadKey] = {
    "list is a string": BadKey(KEYS.queue, "string"),
    "list is a zset": BadKey(KEYS.queue, "zset"),
    "settings are a list": BadKey(KEYS.settings, "list"),
    "levels are a string": BadKey(KEYS.levels, "string"),
    "delayed jobs are a hash": BadKey(KEYS.delayed, "hash"),
    "started registry is a string": BadKey(KEYS.started, "string"),
    "pause is a list": BadKey(KEYS.pause, "list"),
}
"""Bad values at a queue's own keys: that queue says what is wrong, others go on."""
