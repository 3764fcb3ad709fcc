"""A queue's settings, troubles and pause."""

from __future__ import annotations

import hashlib

from heavylift.contract import limits
from heavylift.store import bodies, decode
from heavylift.store.model import Json, Reply, SettingsOwner
from heavylift.store.ops.replies import reply
from heavylift.store.steps import Call, Command, Op


def put_settings(queue: str, settings: Json, *, generation: int, install: str, namespace: str, uid: str) -> Op[Reply]:
    """Write a queue's settings where they are missing or older.

    REFUSED = another install or namespace owns the queue, the message names it; ALREADY = these or newer ones stand.
    """
    answer = yield Call("put_settings", (queue, bodies.compact(settings), generation, install, namespace, uid))
    return reply(answer)


def get_settings(queue: str) -> Op[Json | None]:
    """Return a queue's settings, or None when it has none (no HeavyQueue)."""
    found = yield Command(lambda keys: ("HGET", keys.settings(queue), "json"))
    return None if found is None else decode.obj(found)


def read_settings(queue: str) -> Op[tuple[Json | None, str]]:
    """Return a queue's settings as ``get_settings``, and their tag: another one means other settings."""
    found = yield Command(lambda keys: ("HGET", keys.settings(queue), "json"))
    if found is None:
        return None, "none"
    return decode.obj(found), hashlib.sha1(decode.raw(found), usedforsecurity=False).hexdigest()


def settings_owner(queue: str) -> Op[SettingsOwner | None]:
    """Return who wrote a queue's settings, or None when it has none."""
    found = yield Command(lambda keys: ("HMGET", keys.settings(queue), "install", "namespace", "uid", "generation"))
    install, namespace, uid, generation = found
    if install is None:
        return None
    return SettingsOwner(
        install=decode.text(install),
        namespace=decode.text(namespace),
        uid=decode.text(uid),
        generation=decode.number(generation) or 0,
    )


def delete_settings(queue: str, uid: str) -> Op[Reply]:
    """Remove a queue's settings if they are of this HeavyQueue; its waiting jobs stay."""
    answer = yield Call("delete_settings", (queue, uid))
    return reply(answer)


def breaker(queue: str) -> Op[int | None]:
    """Return when (ms) the next probe of a queue's open breaker may go; None while it is closed."""
    found = yield Command(lambda keys: ("HGET", keys.breaker(queue), "next"))
    return None if found is None else decode.number(found)


def set_trouble(queue: str, kind: str, note: Json) -> Op[None]:
    """Note what only the dispatcher knows, by kind; a JSON object with a ``message``."""
    text = bodies.compact(bodies.bounded(note, limits.EVIDENCE_MAX))
    yield Command(lambda keys: ("HSET", keys.trouble(queue), kind, text))


def clear_trouble(queue: str, kind: str) -> Op[None]:
    """Remove a note."""
    yield Command(lambda keys: ("HDEL", keys.trouble(queue), kind))


def troubles(queue: str) -> Op[dict[str, Json]]:
    """Return kind -> note."""
    found = yield Command(lambda keys: ("HGETALL", keys.trouble(queue)))
    return {kind: decode.obj(note) for kind, note in decode.pairs(found).items()}


def pause(queue: str, *, by: str, reason: str = "") -> Op[Reply]:
    """Stop claims of a queue; ALREADY = it is paused, the first holder stands."""
    answer = yield Call("pause", (queue, bodies.clip(by, 200), bodies.clip(reason, 500)))
    return reply(answer)


def resume(queue: str) -> Op[Reply]:
    """End the client's pause; ALREADY = there was none."""
    answer = yield Call("resume", (queue,))
    return reply(answer)


def paused(queue: str) -> Op[Json | None]:
    """Return ``{"by", "reason", "at" (ms)}`` of the client's pause, or None."""
    found = yield Command(lambda keys: ("HGETALL", keys.pause(queue)))
    fields = decode.pairs(found)
    if not fields:
        return None
    return {
        "by": decode.text(fields.get("by")),
        "reason": decode.text(fields.get("reason")),
        "at": decode.number(fields.get("at")),
    }


def trim(queue: str) -> Op[int]:
    """Take one bounded step of retention, for times when nothing ends; returns entries removed (0 = done)."""
    removed = yield Call("trim", (queue, limits.RETENTION_STEP))
    return int(removed)
