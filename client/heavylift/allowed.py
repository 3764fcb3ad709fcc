"""What a queue's owner allows, held against a job before it is enqueued; the dispatcher checks again at claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeGuard

from heavylift.contract import limits
from heavylift.contract.durations import format_ms
from heavylift.errors import NotAllowedError
from heavylift.spec import quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What one queue's settings admit, read once for any number of jobs; durations in ms, 0 = no limit."""

    served: bool
    """Whether there are settings; without them there is nothing to hold a job against."""
    payload: int
    """Bytes of JSON a job's data may have."""
    priority: int
    """The priority of jobs whose producer names none."""
    min_priority: int
    attempts: int
    run: int
    pending: int
    total: int
    delay: int
    env: frozenset[str]
    labels: frozenset[str]
    resources: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Self:
        """Return what a queue's settings admit; what is missing or odd in them admits nothing more than usual."""
        allow, defaults = _part(settings, "allow"), _part(settings, "defaults")
        timeouts, size = _part(settings, "timeouts"), _part(settings, "payload").get("maxSize")
        priority = _whole(defaults, "priority")
        if abs(priority) > limits.PRIORITY_MAX:
            priority = 0
        return cls(
            served=bool(settings),
            payload=min(size, limits.PAYLOAD_MAX) if _is_whole(size) else limits.PAYLOAD_DEFAULT,
            priority=priority,
            min_priority=min(_whole(allow, "minPriority"), priority),
            attempts=max(_whole(allow, "maxAttempts"), _whole(defaults, "maxAttempts")),
            run=max(_whole(allow, "runTimeout"), _whole(timeouts, "run")),
            pending=_whole(timeouts, "pending"),
            total=_whole(timeouts, "total"),
            delay=_whole(allow, "delay"),
            env=_names(allow.get("env")),
            labels=_names(allow.get("labels")),
            resources=_part(allow, "resources"),
        )

    def check(self, options: Mapping[str, Any], delay_ms: int) -> None:
        """Check a job's stored options and delay.

        Raises:
            NotAllowedError: names what ``spec.allow`` does not admit, or its maximum.
        """
        if not self.served:
            return
        _at_most_ms("delay", delay_ms, self.delay, "allow.delay")
        if not options:
            return
        _at_most("max_attempts", options.get("maxAttempts"), self.attempts, "allow.maxAttempts")
        if timeouts := _part(options, "timeouts"):
            _at_most_ms("timeouts.run", timeouts.get("run"), self.run, "allow.runTimeout")
            _at_most_ms("timeouts.pending", timeouts.get("pending"), self.pending, "timeouts.pending")
            _at_most_ms("timeouts.total", timeouts.get("total"), self.total, "timeouts.total")
        self.check_priority(options.get("priority"))
        for option, names in (("env", self.env), ("labels", self.labels)):
            for name in options.get(option) or ():
                if name not in names:
                    raise _refused(f"{option}.{name}", f"allow.{option}")
        if "resources" in options:
            _resources(_part(options, "resources"), self.resources)

    def check_priority(self, asked: object) -> None:
        """Check the priority a job asks for.

        Raises:
            NotAllowedError: it is more urgent than ``spec.allow`` admits.
        """
        if self.served and _is_whole(asked) and asked < self.min_priority:
            raise NotAllowedError(
                f"priority is {asked}, more urgent than the {self.min_priority} that spec.allow.minPriority of its "
                "HeavyQueue admits"
            )


def payload_limit(settings: Mapping[str, Any] | None) -> int:
    """Return the bytes a job's data may have in this queue."""
    return Admission.of(settings).payload


def check_allowed(options: Mapping[str, Any], delay_ms: int, settings: Mapping[str, Any] | None) -> None:
    """Check a job's stored options and delay; without settings there is nothing to hold them against.

    Raises:
        NotAllowedError: names what ``spec.allow`` does not admit, or its maximum.
    """
    Admission.of(settings).check(options, delay_ms)


def _names(allowed: object) -> frozenset[str]:
    return (
        frozenset(name for name in allowed if isinstance(name, str))
        if isinstance(allowed, list | tuple)
        else frozenset()
    )


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


def _refused(what: str, where: str) -> NotAllowedError:
    return NotAllowedError(f"{what} is not allowed in this queue: leave it out, or have it added to spec.{where}")


def _over(what: str, value: str, maximum: str, where: str) -> NotAllowedError:
    return NotAllowedError(f"{what} is {value}, more than the {maximum} that spec.{where} of its HeavyQueue admits")


def _part(whole: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    part = (whole or {}).get(name)
    return part if isinstance(part, Mapping) else {}


def _whole(whole: Mapping[str, Any], name: str) -> int:
    value = whole.get(name)
    return value if _is_whole(value) else 0


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
