"""HeavySchedules: what an object wants, and what its status says; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.contract import limits
from heavylift.spec.heavyschedule import HeavySchedule
from heavylift.spec.status import ScheduleReason
from heavylift_operator.core.objects import Object, parsed
from heavylift_operator.core.reading import Json, child, integer, items, printable, stamp, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Object[HeavySchedule]):
    """One HeavySchedule object, sound or not."""

    since: int
    """Its creation, or the last tick it told of, ms since the epoch: ticks up to there are decided."""


def read(obj: Mapping[str, Any]) -> Found:
    """Return what an object wants to be; never raises."""
    meta, status = child(obj, "metadata"), child(obj, "status")
    found, error = parsed(HeavySchedule.parse, obj)
    return Found(
        namespace=text(meta, "namespace"),
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        generation=integer(meta, "generation") or 1,
        since=max(stamp(meta, "creationTimestamp") or 0, stamp(status, "lastScheduleTime") or 0),
        parsed=found,
        error=error,
        status=status,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a pass learned about one HeavySchedule."""

    trouble: tuple[ScheduleReason, str] | None = None
    """Why it cannot tick, and what to do."""
    suspended: bool = False
    last: int | None = None
    next: int | None = None
    last_job: str = ""
    active: int = 0
    fired: int = 0
    missed: int = 0
    skipped: int = 0
    known: bool = False
    """Whether it stands in Redis: else the numbers say nothing."""


def status(one: Found, now: Standing, stamped: Callable[[int], str], at: int) -> Json:
    """Return the status to write.

    Args:
        one: the HeavySchedule.
        now: what is known.
        stamped: turns ms since the epoch into RFC 3339.
        at: this moment (ms), for a condition that changes.
    """
    written: Json = {"observedGeneration": one.generation, "conditions": [_ready(one, now, stamped(at))]}
    if now.known:
        written |= {
            "lastScheduleTime": stamped(now.last) if now.last is not None else None,
            "nextScheduleTime": stamped(now.next) if now.next is not None and not now.suspended else None,
            "lastJobId": printable(now.last_job, limits.JOB_ID_MAX) or None,
            **{name: max(0, getattr(now, name)) for name in ("active", "fired", "missed", "skipped")},
        }
    return written


def _ready(one: Found, now: Standing, stamp_: str) -> Json:
    holds, reason, message = _said(one, now)
    state = "True" if holds else "False"
    before = next((found for found in items(one.status, "conditions") if found.get("type") == "Ready"), {})
    same = before.get("status") == state
    return {
        "type": "Ready",
        "status": state,
        "observedGeneration": one.generation,
        "lastTransitionTime": (text(before, "lastTransitionTime", 64) if same else "") or stamp_,
        "reason": str(reason),
        "message": printable(message, 32_000),
    }


def _said(one: Found, now: Standing) -> tuple[bool, ScheduleReason, str]:
    if one.parsed is None:
        return False, ScheduleReason.INVALID, one.error
    if now.trouble is not None:
        return False, *now.trouble
    if now.suspended:
        return False, ScheduleReason.SUSPENDED, "spec.suspend is true"
    if now.known and now.next is None:
        return False, ScheduleReason.ENDED, "there is no further tick: spec.end or spec.limit is reached"
    return True, ScheduleReason.SCHEDULING, "its ticks enqueue jobs"
