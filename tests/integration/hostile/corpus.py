"""Evil bytes by name: what a broken or hostile writer can put wherever we read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from typing_extensions import override

from heavylift.contract.keys import Field, Keys

LARGE = 262_145
"""Bytes: one more than scripts read of a field."""
TEXTS: Mapping[str, bytes] = {
    "nothing": b"",
    "terminal": b"\x1b]0;owned\x07\x1b[2J\n{}\x00",
    "no UTF-8": b"\xff\xfe\x80",
    "NaN": b"NaN",
    "beyond floats": b"1e400",
    "beyond 64 bits": b"9223372036854775808",
    "largest": b"999999999999999",
    "smallest": b"-999999999999999",
    "minus one": b"-1",
    "RESP": b"$-1\r\n*2\r\n$3\r\nDEL\r\n$1\r\nx\r\n",
    "pattern": b"%b()[^%z]-%f[%w].*+",
    "cut JSON": b'{"a":',
    "backtracking": b"9" * 3000 + b"!",
}
"""Whole values of any field."""
LONG_TEXTS: Mapping[str, bytes] = {
    "large": b"x" * LARGE,
    "surrogate": b"\xed\xa0\x80",
    "many digits": b"9" * 5000,
    "deep list": b"[" * 10_000 + b"]" * 10_000,
    "deep object": b'{"a":' * 1_100 + b"1" + b"}" * 1_100,
    "null": b"null",
    "list": b"[1]",
    "text": b'"text"',
    "megabyte": b"[" + b" " * 1_000_000 + b"]",
}
"""Whole values of fields that hold more than a number or a name."""
VALUES: Mapping[str, bytes] = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "beyond floats": b"1e400",
    "beyond 64 bits": b"9" * 400,
    "huge": b"1e300",
    "largest": b"999999999999999",
    "zero": b"0",
    "negative": b"-1",
    "fraction": b"0.5",
    "true": b"true",
    "null": b"null",
    "text": b'"many"',
    "surrogate": b'"\\ud800"',
    "NUL": b'"\\u0000"',
    "terminal": b'"\\u001b[2J\\n"',
    "no UTF-8": b'"\xff\xfe"',
    "long text": b'"' + b"y" * 5_000 + b'"',
    "list": b"[]",
    "list of null": b"[null]",
    "object": b"{}",
    "deep list": b"[" * 900 + b"]" * 900,
    "deep object": b'{"a":' * 900 + b"1" + b"}" * 900,
}
"""Values inside JSON."""
Shape = Callable[[bytes], bytes]
"""A value -> JSON that holds it."""
POD = (
    *(
        "name",
        "uid",
        "node",
        "phase",
        "reason",
        "message",
        "created_at",
        "deleted_at",
        "grace_ms",
        "gone",
        "disruption",
    ),
    *("unscheduled", "container", "waiting", "waiting_message", "started_at", "ended", "ended_clean", "exit_code"),
    *("end_reason", "end_message", "finished_at", "culprit", "culprit_exit", "memory_limit"),
)
ENDED = (
    *(
        "class",
        "message",
        "exitCode",
        "evidence",
        "execution",
        "next",
        "at",
        "startedAt",
        "endedAt",
        "delayMs",
        "spend",
    ),
    *("memory", "seq", "attempt", "checkpoint"),
)


def of(*names: str, **nested: Shape) -> Shape:
    """Return the shape of an object that holds the value under each name, and other shapes."""

    def shape(value: bytes) -> bytes:
        members = [(name, value) for name in names] + [(name, inner(value)) for name, inner in nested.items()]
        return b"{" + b",".join(b'"%s":%s' % (name.encode(), member) for name, member in members) + b"}"

    return shape


def _known(value: bytes) -> bytes:
    return b'{"class":"oom","message":"m","evidence":{"log":%s},"execution":%s,"attempt":%s}' % (value, value, value)


SHAPES: Mapping[str, Mapping[str, Shape]] = {
    Field.OPTIONS: {
        "option": of("maxAttempts", "priority", "expires", "key", "lifo", "dedupe", "backoff"),
        "maps": of("timeouts", "resources", "env", "labels", "args"),
        "maxAttempts": of("maxAttempts"),
        "total": of(timeouts=of("total")),
        "nested": of(
            timeouts=of("run", "pending"),
            resources=of("memory", "cpu"),
            env=of("A"),
            labels=of("a"),
            backoff=of("type", "delay", "max", "jitterPercent"),
        ),
        "env": of(env=of("A")),
        "unknown": of("unknown"),
    },
    Field.FROZEN: {
        "frozen": of("maxAttempts", "generation", "container", "totalDue", "timeouts", "payload"),
        "nested": of(timeouts=of("run", "pending"), payload=of("format", "maxSize")),
    },
    Field.OUTCOME: {"outcome": of(*ENDED), "known class": _known},
    Field.HISTORY: {
        "entry": lambda value: b"[\n" + of(*ENDED)(value) + b"\n]",
        "list": lambda value: b"[" + value + b"]",
    },
    Field.BUDGETS: {"budgets": of("oom", "error", "")},
    Field.EVIDENCE: {
        "evidence": of("pod", "stop", "job", "refused", "$terminal"),
        "nested": of(pod=of(*POD), stop=of("at", "class", "why", "execution", "cls", "message")),
    },
    Field.CANCEL: {"cancel": of("by", "at", "reason")},
    Field.RESULT: {"result": bytes},
    Field.CHECKPOINT: {"checkpoint": of("page")},
    "dependency_ids": {"ids": lambda value: b"[" + value + b"]"},
    "retry_intervals": {"intervals": lambda value: b"[" + value + b"]"},
}
"""JSON fields of a job's hash -> what evil values can be wrapped in there."""
SETTINGS: Mapping[str, Shape] = {
    "values": of("queue", "generation", "paused", "concurrencyOrder", "container", "uid"),
    "maps": of("defaults", "timeouts", "payload", "retention", "outcomes", "breaker", "metrics", "allow", "result"),
    "cap": of("concurrencyMax"),
    "cap of a key": of("concurrencyPerKey"),
    "rate": of("rateLimit"),
    "rate's parts": of(rateLimit=of("limit", "period")),
    "defaults": of(defaults=of("priority", "maxAttempts", "backoff")),
    "backoff": of(defaults=of(backoff=of("type", "delay", "max", "jitterPercent"))),
    "timeouts": of(timeouts=of("run", "pending", "total")),
    "payload": of(payload=of("format", "maxSize")),
    "retention": of(retention=of("completed", "failed", "pods")),
    "kept": of(
        retention=of(completed=of("count", "age"), failed=of("count", "age"), pods=of("succeeded", "failed", "count"))
    ),
    "outcomes": of(
        outcomes=of("error", oom=of("action", "maxRetries", "memory"), nodeLost=of("action", "after", "noRetry"))
    ),
    "growth": of(outcomes=of(oom=of(memory=of("growthPercent", "max")))),
    "breaker": of(breaker=of("consecutiveFailures")),
    "tasks": of(metrics=of("tasks")),
    "allow": of(allow=of("args", "env", "labels", "resources", "maxAttempts", "runTimeout", "delay", "minPriority")),
}
"""What evil values can be wrapped in in a queue's settings."""
DEFINITIONS: Mapping[str, Shape] = {
    "parts": of("v", "queue", "cron", "timezone", "every", "start", "end", "limit", "concurrency", "job"),
    "job": lambda value: (
        b'{"v":1,"queue":"reports","cron":null,"timezone":null,"every":60000,"start":null,"end":null,"limit":null,'
        b'"concurrency":"Allow","catchUp":"Last","startingDeadline":null,"job":'
        + of("task", "data", "delay", "expires", "options")(value)
        + b"}"
    ),
    "options": lambda value: (
        b'{"v":1,"queue":"reports","cron":"* * * * *","timezone":"UTC","every":null,"start":null,"end":null,'
        b'"limit":null,"concurrency":"Allow","catchUp":"Last","startingDeadline":null,"job":{"task":"t","data":{},'
        b'"options":' + SHAPES[Field.OPTIONS]["option"](value) + b"}}"
    ),
    "timing": lambda value: (
        b'{"v":1,"queue":"reports","cron":null,"timezone":null,"every":%s,"start":%s,"end":%s,"limit":%s,'
        b'"concurrency":"Allow","catchUp":"Last","startingDeadline":%s,"job":{"task":"t","data":{}}}'
        % (value, value, value, value, value)
    ),
}
"""What evil values can be wrapped in in a schedule's definition."""
RQ_FIELDS = (
    *("status", "origin", "created_at", "enqueued_at", "started_at", "ended_at", "worker_name", "description"),
    *("timeout", "retries_left", "retry_intervals", "result_ttl", "failure_ttl", "ttl", "dependency_ids", "data"),
    *("allow_dependency_failures", "enqueue_at_front", "meta", "success_callback_name", "webhooks"),
)
OUR_FIELDS = tuple(
    sorted(value for name, value in vars(Field).items() if not name.startswith("_") and isinstance(value, str))
)
FIELDS = (*OUR_FIELDS, *RQ_FIELDS)


@dataclass(frozen=True, slots=True)
class Evil:
    """One field with an evil value."""

    field: str
    case: str
    value: bytes

    @override
    def __str__(self) -> str:
        return f"{self.field} = {self.case} ({self.value[:40]!r})"


def of_field(field: str) -> Iterator[Evil]:
    """Yield every case of one field of a job's hash."""
    long = field in SHAPES or field in {"status", "origin", "created_at", "description", "data", Field.INCARNATION}
    for name, text in {**TEXTS, **(LONG_TEXTS if long else {})}.items():
        yield Evil(field, name, text)
    for shape, wrap in SHAPES.get(field, {}).items():
        for name, value in VALUES.items():
            yield Evil(field, f"{shape}: {name}", wrap(value))


def wrapped(shapes: Mapping[str, Shape], field: str = "") -> Iterator[Evil]:
    """Yield every value in every shape."""
    for shape, wrap in shapes.items():
        for name, value in VALUES.items():
            yield Evil(field, f"{shape}: {name}", wrap(value))


# -- keys -------------------------------------------------------------------------------------------------------------
ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "queue": ("reports",),
    "priority": (3,),
    "job": ("job",),
    "execution": ("a" * 16 + "-1",),
    "worker": ("w1",),
    "install": ("prod/heavylift",),
    "schedule": ("s",),
    "key": ("tenant",),
    "state": ("completed", "failed", "cancelled"),
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "registry": ("scheduled", "finished", "failed", "deferred", "canceled"),
    "lock": ("operator",),
}


def every_key(keys: Keys) -> Mapping[str, str]:
    """Return every key the contract can build, by a name; a new key function is among them at once.

    Raises:
        LookupError: a parameter of a key function has no value here: give it one.
    """
    found: dict[str, str] = {}
    for name, function in inspect.getmembers(Keys, inspect.isfunction):
        if name.startswith("_"):
            continue
        rows: list[tuple[Any, ...]] = [()]
        for parameter in list(inspect.signature(function).parameters)[1:]:
            values = NAMES.get(name) if parameter == "name" else ARGUMENTS.get(parameter)
            if values is None:
                raise LookupError(f"Keys.{name}: what is a {parameter}? Say so in ARGUMENTS")
            rows = [(*row, value) for row in rows for value in values]
        for row in rows:
            found[" ".join((name, *(str(part) for part in row if part not in {"reports", "job"})))] = function(
                keys, *row
            )
    return found


JUNK = (b"junk", b"\xff\xfe", b"a:b:c", b"x" * 1000, b"\x00")
WRITES: Mapping[str, Callable[[redis.Redis, str], Any]] = {
    "string": lambda client, key: client.set(key, b"\xff junk"),
    "list": lambda client, key: client.rpush(key, *JUNK),
    "set": lambda client, key: client.sadd(key, *JUNK),
    "zset": lambda client, key: client.zadd(
        key, {b"low": "-inf", b"high": "+inf", **{junk: at for at, junk in enumerate(JUNK)}}
    ),
    "hash": lambda client, key: client.hset(key, mapping=dict.fromkeys(JUNK, b"\xff junk")),
    "stream": lambda client, key: client.xadd(key, {b"\xff": b"junk"}),
}
"""Type -> how a key of it with junk in it is written; for a key of that very type it is junk of the right type."""
