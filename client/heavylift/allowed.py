"""What a queue's owner allows, held against a job before it is enqueued; the dispatcher checks again at claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from heavylift.contract import limits
from heavylift.contract.durations import format_ms
from heavylift.errors import InvalidInputError
from heavylift.spec import quantities


def payload_limit(settings: Mapping[str, Any] | None) -> int:
    """Return the bytes a job's data may have in this queue."""
    size = _part(settings, "payload").get("maxSize")
    return min(size, limits.PAYLOAD_MAX) if _is_whole(size) else limits.PAYLOAD_DEFAULT


def default_priority(settings: Mapping[str, Any] | None) -> int:
    """Return the priority of jobs whose producer names none."""
    return _whole(_part(settings, "defaults"), "priority")


def check_allowed(options: Mapping[str, Any], delay_ms: int, settings: Mapping[str, Any] | None) -> None:
    """Check a job's stored options and delay; without settings there is nothing to hold them against.

    Raises:
        InvalidInputError: names what ``spec.allow`` does not admit, or its maximum.
    """
    if not settings or not (options or delay_ms):
        return
    allow, timeouts = _part(settings, "allow"), _part(options, "timeouts")
    if "maxAttempts" in options:
        attempts = max(_whole(allow, "maxAttempts"), _whole(_part(settings, "defaults"), "maxAttempts"))
        _at_most("max_attempts", options["maxAttempts"], attempts, "allow.maxAttempts")
    if timeouts:
        queue_timeouts = _part(settings, "timeouts")
        run = max(_whole(allow, "runTimeout"), _whole(queue_timeouts, "run"))
        _at_most_ms("timeouts.run", timeouts.get("run"), run, "allow.runTimeout")
        _at_most_ms("timeouts.pending", timeouts.get("pending"), _whole(queue_timeouts, "pending"), "timeouts.pending")
        _at_most_ms("timeouts.total", timeouts.get("total"), _whole(queue_timeouts, "total"), "timeouts.total")
    _at_most_ms("delay", delay_ms, _whole(allow, "delay"), "allow.delay")
    if "priority" in options:
        _priority(options["priority"], min(_whole(allow, "minPriority"), default_priority(settings)))
    for option in ("env", "labels"):
        _names(option, _part(options, option), allow.get(option))
    _resources(_part(options, "resources"), _part(allow, "resources"))


def _priority(asked: object, most: int) -> None:
    if _is_whole(asked) and asked < most:
        raise InvalidInputError(
            f"priority is {asked}, more urgent than the {most} that spec.allow.minPriority of its HeavyQueue admits"
        )


def _names(option: str, given: Mapping[str, Any], allowed: object) -> None:
    names = allowed if isinstance(allowed, list | tuple) else ()
    for name in given:
        if name not in names:
            raise _refused(f"{option}.{name}", f"allow.{option}")


def _resources(given: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for name, amount in given.items():
        limit = allowed.get(name)
        if not isinstance(limit, str):
            raise _refused(f"resources.{name}", "allow.resources")
        if quantities.to_milli(amount) > quantities.to_milli(limit):
            raise _over(f"resources.{name}", amount, limit, f"allow.resources.{name}")


def _at_most(what: str, value: object, maximum: int, where: str) -> None:
    if _is_whole(value) and maximum and value > maximum:
        raise _over(what, str(value), str(maximum), where)


def _at_most_ms(what: str, value: object, maximum: int, where: str) -> None:
    if _is_whole(value) and maximum and value > maximum:
        raise _over(what, format_ms(value), format_ms(maximum), where)


def _refused(what: str, where: str) -> InvalidInputError:
    return InvalidInputError(f"{what} is not allowed in this queue: leave it out, or have it added to spec.{where}")


def _over(what: str, value: str, maximum: str, where: str) -> InvalidInputError:
    return InvalidInputError(f"{what} is {value}, more than the {maximum} that spec.{where} of its HeavyQueue admits")


def _part(whole: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    part = (whole or {}).get(name)
    return part if isinstance(part, Mapping) else {}


def _whole(whole: Mapping[str, Any], name: str) -> int:
    value = whole.get(name)
    return value if _is_whole(value) else 0


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
