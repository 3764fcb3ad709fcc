"""What a producer set for one job, held against its HeavyQueue's ``allow``: accepted whole or refused by name.

Everything here comes from Redis and is hostile until it has been through ``check_options``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract import durations, rqretry
from heavylift.contract.names import UNREADABLE
from heavylift.errors import InvalidInputError
from heavylift.spec import quantities
from heavylift.spec.models import Allow, HeavyQueue

TEXT_MAX: Final = 32 * 1024
"""Bytes of a job's own environment values and arguments together."""
ARGS_MAX: Final = 200
_RQ_DEFAULT_TIMEOUT_S: Final = 180
"""RQ's own default counts as unset (interface: "Python client")."""
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")
_KNOWN: Final = frozenset(
    {
        *("args", "backoff", "dedupe", "env", "expires", "key", "labels", "lifo", "maxAttempts", "priority"),
        *("resources", "timeouts"),
    }
)
RQ_REFUSED: Final[Mapping[str, str]] = {
    "success_callback_name": "on_success",
    "failure_callback_name": "on_failure",
    "stopped_callback_name": "on_stopped",
    "webhooks": "webhooks",
    "repeats_left": "repeat",
    "repeat_intervals": "repeat",
    "rate_limit_key": "rate_limit",
}
"""RQ's hash field -> the option of RQ's client that set it; none of these would be carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """A producer's own values, all within what the queue allows."""

    args: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)


def check_rq_options(rq: Mapping[str, str]) -> None:
    """Check that a plain RQ job asks for nothing that would be dropped silently.

    Raises:
        InvalidInputError: it does; the message names RQ's option.
    """
    for name, option in RQ_REFUSED.items():
        if rq.get(name) not in {None, "", "0", "[]", "null"}:
            raise InvalidInputError(f"RQ's option {option} is not carried out by Heavylift: enqueue without it")


def check_options(
    options: Mapping[str, Any], frozen: Mapping[str, Any], rq: Mapping[str, str], queue: HeavyQueue
) -> Overrides:
    """Return a job's overrides if its queue allows all of them.

    Args:
        options: what the producer set, as stored.
        frozen: what claim resolved for this attempt (maxAttempts, timeouts in ms).
        rq: RQ's own fields of a plain RQ job.
        queue: the HeavyQueue whose ``allow`` decides.

    Raises:
        InvalidInputError: names what is not allowed, over its maximum, or of the wrong shape.
    """
    judge = _Judge(queue)
    if UNREADABLE in options:
        raise InvalidInputError("the job's options cannot be read as JSON: enqueue it again")
    for name in options:
        if name not in _KNOWN:
            raise InvalidInputError(f"the option {str(name)[:60]!r} is not known: leave it out")
    judge.priority(options.get("priority"))
    judge.attempts(options, frozen, rq)
    judge.timeouts(options, frozen, rq)
    judge.intervals(rq)
    args, env = judge.args(options.get("args")), judge.env(options.get("env"))
    if sum(len(text.encode()) for text in (*(args or ()), *env.values())) > TEXT_MAX:
        raise InvalidInputError(f"env and args together are larger than {TEXT_MAX:,} bytes: use the job's data instead")
    return Overrides(
        args=args,
        env=env,
        labels=judge.labels(options.get("labels")),
        resources=judge.resources(options.get("resources")),
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Holds one producer's options against one queue."""

    queue: HeavyQueue

    @property
    def _allow(self) -> Allow:
        return self.queue.spec.allow

    def _refused(self, what: str, where: str) -> InvalidInputError:
        return InvalidInputError(
            f"{what} is not allowed by HeavyQueue {self.queue.namespace}/{self.queue.name}: "
            f"leave it out, or have it added to {where}"
        )

    def _over(self, what: str, value: str, maximum: str, where: str) -> InvalidInputError:
        return InvalidInputError(f"{what} is {value}, more than the {maximum} that {where} allows")

    def priority(self, asked: object) -> None:
        most = min(self._allow.min_priority, self.queue.spec.defaults.priority)
        if asked is not None and (not isinstance(asked, int) or asked < most):
            raise InvalidInputError(f"priority is {asked!r:.40}, more urgent than the {most} of spec.allow.minPriority")

    def attempts(self, options: Mapping[str, Any], frozen: Mapping[str, Any], rq: Mapping[str, str]) -> None:
        asked = options.get("maxAttempts")
        if asked is None and not rq.get("retries_left"):
            return
        value = _whole("maxAttempts", asked if asked is not None else frozen.get("maxAttempts"))
        if value > max(self._allow.max_attempts, self.queue.spec.defaults.max_attempts):
            raise self._over("maxAttempts", str(value), str(self._allow.max_attempts), "spec.allow.maxAttempts")

    def timeouts(self, options: Mapping[str, Any], frozen: Mapping[str, Any], rq: Mapping[str, str]) -> None:
        asked = _mapping("timeouts", options.get("timeouts"))
        resolved = _mapping("timeouts", frozen.get("timeouts"))
        if asked.get("run") is not None or _rq_timeout_set(rq):
            run = _whole("timeouts.run", asked.get("run") if asked.get("run") is not None else resolved.get("run"))
            limit = self._allow.run_timeout
            if run > max(limit, self.queue.spec.timeouts.run):
                raise self._over(
                    "timeouts.run", durations.format_ms(run), durations.format_ms(limit), "spec.allow.runTimeout"
                )
        total = self.queue.spec.timeouts.total
        if asked.get("total") is not None:
            own = _whole("timeouts.total", asked["total"])
            if total is not None and own > total:
                raise self._over(
                    "timeouts.total", durations.format_ms(own), durations.format_ms(total), "spec.timeouts.total"
                )
        if asked.get("pending") is not None:
            pending, limit = _whole("timeouts.pending", asked["pending"]), self.queue.spec.timeouts.pending
            if pending > limit:
                raise self._over(
                    "timeouts.pending",
                    durations.format_ms(pending),
                    durations.format_ms(limit),
                    "spec.timeouts.pending",
                )

    def intervals(self, rq: Mapping[str, str]) -> None:
        longest = max(rqretry.intervals(rq.get("retry_intervals", "")), default=0) * 1_000
        if longest > self._allow.delay:
            asked, limit = durations.format_ms(longest), durations.format_ms(self._allow.delay)
            raise self._over("Retry(interval=...)", asked, limit, "spec.allow.delay")

    def args(self, asked: Any) -> tuple[str, ...] | None:
        if asked is None:
            return None
        if not isinstance(asked, list | tuple) or len(asked) > ARGS_MAX:
            raise InvalidInputError(f"args is not a list of at most {ARGS_MAX} strings")
        if not self._allow.args:
            raise self._refused("args", "spec.allow.args")
        return tuple(_text(f"args[{index}]", value) for index, value in enumerate(asked))

    def env(self, asked: Any) -> dict[str, str]:
        found = _mapping("env", asked)
        for name in found:
            if name not in self._allow.env:
                raise self._refused(f"env.{str(name)[:60]}", "spec.allow.env")
        return {name: _text(f"env.{name}", value) for name, value in found.items()}

    def labels(self, asked: Any) -> dict[str, str]:
        found = _mapping("labels", asked)
        for key, value in found.items():
            if key not in self._allow.labels:
                raise self._refused(f"labels.{str(key)[:60]}", "spec.allow.labels")
            if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
                raise InvalidInputError(
                    f"labels.{key} is {str(value)[:40]!r}, no label value: use up to 63 letters, digits, '-', '_', '.'"
                )
        return dict(found)

    def resources(self, asked: Any) -> dict[str, str]:
        found = _mapping("resources", asked)
        for name, value in found.items():
            limit = self._allow.resources.get(name)
            if limit is None:
                raise self._refused(f"resources.{str(name)[:60]}", "spec.allow.resources")
            if _milli(name, value) > quantities.to_milli(limit):
                raise self._over(f"resources.{name}", str(value), limit, f"spec.allow.resources.{name}")
        return {name: str(value) for name, value in found.items()}


def _rq_timeout_set(rq: Mapping[str, str]) -> bool:
    return rq.get("timeout", "") not in {"", "-1", str(_RQ_DEFAULT_TIMEOUT_S)}


def _milli(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidInputError(f"resources.{name} is not a quantity: write it like 4Gi, 2 or 500m")
    try:
        return quantities.to_milli(str(value))
    except InvalidInputError as error:
        raise InvalidInputError(f"resources.{name}: {error}") from None


def _mapping(what: str, value: Any) -> Mapping[Any, Any]:
    if value is None or value == []:  # an empty mapping may come out of Lua as an empty list
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} is not a mapping")
    return value


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} is not a string: quote it")
    if _UNSENDABLE.search(value):
        raise InvalidInputError(f"{what} holds a NUL or a lone surrogate: no program can be given that")
    return value


def _whole(what: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():  # Lua's numbers
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{what} is {str(value)[:40]!r}, not a whole number above 0")
    return value
