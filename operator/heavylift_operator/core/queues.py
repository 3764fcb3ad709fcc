"""HeavyQueues: who owns a queue's name, and what their status says; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.spec import HeavyQueue
from heavylift.spec.status import Condition, ReadyReason
from heavylift_operator.core.objects import Object, parsed
from heavylift_operator.core.reading import Json, child, integer, items, printable, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Object[HeavyQueue]):
    """One HeavyQueue object, sound or not."""

    queue: str
    """The queue it wants."""
    created: str


def read(obj: Mapping[str, Any]) -> Found:
    """Return what an object wants to be; never raises."""
    meta, spec = child(obj, "metadata"), child(obj, "spec")
    name = text(meta, "name")
    found, error = parsed(HeavyQueue.parse, obj)
    return Found(
        namespace=text(meta, "namespace"),
        name=name,
        uid=text(meta, "uid"),
        generation=integer(meta, "generation") or 1,
        queue=text(spec, "queue") or name,
        created=text(meta, "creationTimestamp", 64),
        parsed=found,
        error=error,
        status=child(obj, "status"),
    )


def owners(found: Iterable[Found]) -> dict[str, Found]:
    """Return queue name -> the HeavyQueue that owns it: the oldest, also while it is not sound."""
    oldest: dict[str, Found] = {}
    for one in found:
        known = oldest.get(one.queue)
        if known is None or (one.created, one.uid) < (known.created, known.uid):
            oldest[one.queue] = one
    return oldest


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a pass learned about one HeavyQueue."""

    owner: Found | None = None
    """Who owns its queue's name, if that is another one."""
    taken: str = ""
    """Another install or namespace owns the name in Redis: which one, and what to do."""
    redis: str = ""
    """Why Redis cannot be used; empty = it can."""
    counts: Mapping[str, Any] | None = None
    """The queue's part of a snapshot."""
    dispatchers: int = 0
    troubles: Mapping[str, Mapping[str, Any]]
    pause: Mapping[str, Any] | None = None
    """The client's pause."""
    metrics: tuple[bool, str, str] | None = None
    """Whether HPAs can read the queue's figures, with reason and message; None = the operator does not serve them."""


def _ready(one: Found, now: Standing) -> tuple[bool, str, str]:
    """Return Ready's status, reason and message."""
    if one.parsed is None:
        return False, ReadyReason.TEMPLATE_INVALID, one.error
    if now.owner is not None:
        other = f"HeavyQueue {now.owner.namespace}/{now.owner.name}"
        return False, ReadyReason.QUEUE_NAME_TAKEN, f"{other} is older and owns queue {one.queue}: choose another name"
    if now.taken:
        return False, ReadyReason.QUEUE_NAME_TAKEN, now.taken
    if now.redis:
        return False, ReadyReason.REDIS_UNAVAILABLE, now.redis
    for kind, note in sorted(now.troubles.items()):
        return False, _reason(kind), printable(text(note, "message", 1000) or kind, 1000)
    if now.dispatchers == 0:
        return (
            False,
            ReadyReason.NO_DISPATCHER,
            "no dispatcher is alive: check the dispatcher's Deployment and its logs",
        )
    return True, ReadyReason.SERVING, "jobs are claimed and run"


def _reason(kind: str) -> str:
    """Return a note's kind as a condition's reason."""
    clean = "".join(letter for letter in kind if letter.isascii() and letter.isalnum())[:60]
    return clean if clean[:1].isalpha() else "Trouble"


def _paused(one: Found, now: Standing) -> tuple[bool, str, str]:
    by_spec = one.parsed is not None and one.parsed.spec.paused
    by = printable(text(now.pause, "by"), 100) if now.pause else ""
    why = printable(text(now.pause, "reason", 500), 500) if now.pause else ""
    client = f"paused by {by}: {why}".rstrip(": ") if now.pause else ""
    if by_spec and now.pause:
        return True, "SpecAndClient", f"spec.paused is true, and {client}"
    if by_spec:
        return True, "Spec", "spec.paused is true"
    return (True, "Client", client) if now.pause else (False, "NotPaused", "claims go on")


def status(one: Found, now: Standing, stamp: str, stamped: Any) -> Json:
    """Return the status to write.

    Args:
        one: the HeavyQueue.
        now: what is known.
        stamp: this moment, RFC 3339, for conditions that change.
        stamped: turns ms since the epoch into RFC 3339.
    """
    conditions = [
        _condition(one, Condition.READY, _ready(one, now), stamp),
        _condition(one, Condition.PAUSED, _paused(one, now), stamp),
    ]
    if now.metrics is not None:
        conditions.append(_condition(one, Condition.METRICS_SERVED, now.metrics, stamp))
    written: Json = {"observedGeneration": one.generation, "conditions": conditions}
    if now.counts is not None and now.owner is None and not now.taken:
        for name in ("waiting", "delayed", "active", "failed"):
            written[name] = max(0, integer(now.counts, name) or 0)
        oldest = integer(now.counts, "oldest")
        written["oldestWaitingTime"] = stamped(oldest) if oldest is not None and oldest >= 0 else None
    return written


def _condition(one: Found, kind: Condition, said: tuple[bool, str, str], stamp: str) -> Json:
    holds, reason, message = said
    state = "True" if holds else "False"
    before = next((found for found in items(one.status, "conditions") if found.get("type") == kind.value), {})
    same = before.get("status") == state
    return {
        "type": kind.value,
        "status": state,
        "observedGeneration": one.generation,
        "lastTransitionTime": (text(before, "lastTransitionTime", 64) if same else "") or stamp,
        "reason": str(reason),
        "message": printable(message, 32_000),
    }


def differs(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether a status has to be written: (at all, at once because a condition changed)."""
    changed = any(old.get(key) != value for key, value in new.items())
    return changed, list(items(old, "conditions")) != list(items(new, "conditions"))


def kept_jobs(found: Iterable[Found]) -> dict[str, int]:
    """Return queue -> finished Jobs kept at most, of the sound owners."""
    return {one.queue: one.parsed.spec.retention.pods.count for one in owners(found).values() if one.parsed is not None}
