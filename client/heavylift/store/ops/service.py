"""What processes need besides: registration, locks, the epoch, the server's condition."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from heavylift.errors import RedisUnavailableError
from heavylift.store import decode
from heavylift.store.model import Json
from heavylift.store.steps import Call, Command, Op


def register_dispatcher(install: str, worker: str, ttl_ms: int) -> Op[int]:
    """Count a dispatcher as alive for ``ttl_ms``; returns how many are."""
    live = yield Call("register", (install, worker, max(ttl_ms, 1)))
    return int(live)


def unregister_dispatcher(install: str, worker: str) -> Op[int]:
    """A dispatcher leaves; returns how many are left."""
    live = yield Call("register", (install, worker, 0))
    return int(live)


def ensure_epoch() -> Op[str]:
    """Return the epoch of this Redis's data, made now if it was missing."""
    answer = yield Call("epoch", (secrets.token_hex(8),))
    return decode.text(answer[0])


def get_epoch() -> Op[str | None]:
    """Return the epoch without making one: None = this Redis has lost its data, or never had any."""
    found = yield Command(lambda keys: ("GET", keys.epoch()))
    return None if found is None else decode.text(found)


def take_lock(name: str, holder: str, ttl_ms: int) -> Op[bool]:
    """Take or renew a lock that only saves double work."""
    taken = yield Call("lock", (ttl_ms, holder, "ours", f"lock:{name}"))
    return bool(taken)


def drop_lock(name: str, holder: str) -> Op[None]:
    """Drop a lock, if it is this holder's."""
    yield Call("lock", (0, holder, "ours", f"lock:{name}"))


def ping() -> Op[None]:
    """Return when Redis answers."""
    yield Command(lambda _: ("PING",))


def hold_rq_locks(queue: str, token: str, ttl_ms: int) -> Op[bool]:
    """Keep stock maintenance and stock schedulers off a queue; False = a stock process holds one of them."""
    held = yield Call("lock", (ttl_ms, token, "rq", f"clean_registries:{queue}", f"scheduler-lock:{queue}"))
    return bool(held)


def release_rq_locks(queue: str, token: str) -> Op[None]:
    """Let stock maintenance and schedulers have the queue again."""
    yield Call("lock", (0, token, "rq", f"clean_registries:{queue}", f"scheduler-lock:{queue}"))


def server_report(clock: Callable[[], float] = time.time) -> Op[Json]:
    """Return the server's condition; ``unknown`` where a managed Redis forbids looking.

    ``{"version", "server" (redis | valkey), "persistence" ("aof", "rdb", "none"), "maxmemory_policy", "used_memory",
    "maxmemory", "role", "skew_ms" (theirs minus ours)}``.
    """
    before = clock()
    seconds, micros = yield Command(lambda _: ("TIME",))
    now = (before + clock()) / 2
    skew = (int(seconds) + int(micros) / 1_000_000) - now
    info = yield from _info()
    valkey = info.get("server_name") == "valkey" or "valkey_version" in info
    policy = info.get("maxmemory_policy") or (yield from _config("maxmemory-policy"))
    return {
        "version": info.get("valkey_version") or info.get("redis_version") or "unknown",
        "server": "valkey" if valkey else "redis",
        "persistence": (yield from _persistence(info)),
        "maxmemory_policy": policy,
        "used_memory": decode.number(info.get("used_memory")),
        "maxmemory": decode.number(info.get("maxmemory")),
        "role": info.get("role", "unknown"),
        "skew_ms": round(skew * 1000),
    }


def _info() -> Op[dict[str, str]]:
    try:
        found = yield Command(lambda _: ("INFO",))
    except RedisUnavailableError:
        return {}
    if isinstance(found, dict):
        return {decode.text(name): decode.text(value) for name, value in found.items()}
    lines = (line.partition(":") for line in decode.text(found).splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, _, value in lines if name}


def _config(name: str) -> Op[str]:
    try:
        found = yield Command(lambda _: ("CONFIG GET", name))
    except RedisUnavailableError:
        return "unknown"
    value = decode.pairs(found).get(name)
    return "unknown" if value is None else decode.text(value)


def _persistence(info: dict[str, str]) -> Op[str]:
    if not info:
        return "unknown"
    if info.get("aof_enabled") == "1":
        return "aof"
    save = yield from _config("save")
    return save if save == "unknown" else "rdb" if save else "none"
