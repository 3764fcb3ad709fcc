"""What to do with each outcome class: the values under ``spec.outcomes``, and the rules the operator decides by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from heavylift.contract.outcomes import CONFIGURABLE, Action, OutcomeClass
from heavylift.spec.fields import DurationMs, ErrorName, ExitCodeNumber, MemoryBytes, Model

_REPEATS = (Action.RETRY, Action.REQUEUE)
_ONLY_LOST_NODES = (Action.WAIT, Action.REPLACE)
_RETRIES_MAX = 1000
_MEBIBYTE = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens after an attempt of one outcome class."""

    action: Action
    max_retries: int | None = None
    """The class's own budget; None = attempts are spent (Retry) or there is no bound but the starts limit (Requeue)."""
    after_ms: int | None = None
    """Replace only: how long the node is waited for, in ms."""
    no_retry_exit_codes: frozenset[int] = frozenset()
    no_retry_errors: frozenset[str] = frozenset()
    """Names of typed errors that end the job at once."""
    growth_percent: int | None = None
    """``oom``: by how much the next attempt's memory grows; None = it stays the same."""
    memory_max: int | None = None
    """Bytes of memory growth ends at."""

    def grown(self, limit: int | None) -> int | None:
        """Return the bytes of memory to ask for after an end at this limit, in whole MiB; None = the same as before.

        A limit at ``memory_max`` or above it (a producer may have been allowed more) stays as it is.
        """
        if self.growth_percent is None or limit is None or limit >= (self.memory_max or 0):
            return None
        wanted = -(-limit * (100 + self.growth_percent) // 100)
        return min(-(-wanted // _MEBIBYTE) * _MEBIBYTE, self.memory_max or 0)


class NoRetry(Model):
    """Errors that are not tried again."""

    exit_codes: Annotated[tuple[ExitCodeNumber, ...], Field(strict=False, max_length=64)] = (64,)
    """Exit codes of the program that end the job at once."""
    errors: Annotated[tuple[ErrorName, ...], Field(strict=False, max_length=64)] = ()
    """Names of typed errors (a Python exception's class) that end the job at once."""


class OutcomeRule(Model):
    """Retry spends an attempt (or maxRetries where given), Requeue none; Fail and Cancel end the job."""

    action: Annotated[Action, Field(strict=False)]
    max_retries: Annotated[int, Field(ge=0, le=_RETRIES_MAX)] | None = None
    """Retries of this class only, instead of attempts."""

    @field_validator("action", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        known = [action.value for action in cls.actions()]
        if value not in known:
            hint = " (Wait and Replace are for nodeLost)" if value in {a.value for a in _ONLY_LOST_NODES} else ""
            raise ValueError(f"{value!r} is not possible here: use {', '.join(known)}{hint}")
        return value

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if self.max_retries is not None and self.action not in _REPEATS:
            raise ValueError(f"maxRetries does not go with action {self.action}: leave it out, or use Retry or Requeue")
        return self

    @classmethod
    def actions(cls) -> tuple[Action, ...]:
        """Return the actions this class of outcome can have."""
        return (*_REPEATS, Action.FAIL, Action.CANCEL)

    def rule(self) -> Rule:
        """Return what the operator decides by."""
        return Rule(action=self.action, max_retries=self.max_retries)


class ErrorRule(OutcomeRule):
    """The rule for errors of the program itself."""

    no_retry: NoRetry = NoRetry()
    """Errors that are not tried again."""

    @override
    def rule(self) -> Rule:
        """Return what the operator decides by."""
        return Rule(
            action=self.action,
            max_retries=self.max_retries,
            no_retry_exit_codes=frozenset(self.no_retry.exit_codes),
            no_retry_errors=frozenset(self.no_retry.errors),
        )


class MemoryGrowth(Model):
    """How the container's memory grows from attempt to attempt; request and limit keep their ratio."""

    growth_percent: Annotated[int, Field(ge=1, le=1000)] = 50
    """How much more the attempt after an oom asks for: 50 makes 4Gi 6Gi."""
    max: MemoryBytes
    """Growth ends here; allow.resources bounds producers, not this."""


class OomRule(OutcomeRule):
    """The rule for a container that used more memory than its limit."""

    memory: MemoryGrowth | None = None
    """Growing memory from attempt to attempt; absent = the same size again."""

    @override
    def rule(self) -> Rule:
        """Return what the operator decides by."""
        if self.memory is None:
            return super().rule()
        return Rule(
            action=self.action,
            max_retries=self.max_retries,
            growth_percent=self.memory.growth_percent,
            memory_max=self.memory.max,
        )


class NodeLostRule(OutcomeRule):
    """Wait: for the node or for its deletion. Replace: start anew after a while; the old pod may still run (twice)."""

    after: DurationMs | None = None
    """Replace only: how long the node is waited for."""

    @classmethod
    @override
    def actions(cls) -> tuple[Action, ...]:
        """Return the actions this class of outcome can have."""
        return (*_ONLY_LOST_NODES, *_REPEATS, Action.FAIL, Action.CANCEL)

    @model_validator(mode="after")
    def _after(self) -> Self:
        if (self.after is not None) != (self.action is Action.REPLACE):
            raise ValueError("after and action Replace go together: write {action: Replace, after: 10m}")
        return self

    @override
    def rule(self) -> Rule:
        """Return what the operator decides by."""
        return Rule(action=self.action, max_retries=self.max_retries, after_ms=self.after)


class Outcomes(Model):
    """A rule per class of outcome; a class left out keeps its default, a class given is replaced as a whole."""

    error: ErrorRule = ErrorRule(action=Action.RETRY)
    """The program ended with an exit code or a typed error of its own."""
    oom: OomRule = OomRule(action=Action.RETRY)
    """Killed for using more memory than its limit."""
    timeout: OutcomeRule = OutcomeRule(action=Action.FAIL)
    """Ran past timeouts.run."""
    disrupted: OutcomeRule = OutcomeRule(action=Action.RETRY, max_retries=20)
    """Evicted, preempted, drained or on a node that shut down."""
    node_lost: NodeLostRule = NodeLostRule(action=Action.WAIT)
    """Its node is unreachable; nobody knows whether the program still runs."""
    job_deleted: OutcomeRule = OutcomeRule(action=Action.CANCEL)
    """Somebody deleted the Job before it ended."""
    pod_deleted: OutcomeRule = OutcomeRule(action=Action.RETRY, max_retries=20)
    """Somebody deleted the pod before it ended."""
    image: OutcomeRule = OutcomeRule(action=Action.REQUEUE, max_retries=5)
    """The image cannot be pulled or the container cannot be created from it."""
    unschedulable: OutcomeRule = OutcomeRule(action=Action.REQUEUE, max_retries=10)
    """No node could take the pod before timeouts.pending."""
    quota: OutcomeRule = OutcomeRule(action=Action.REQUEUE)
    """The namespace's quota admits no pod."""
    rejected: OutcomeRule = OutcomeRule(action=Action.FAIL)
    """Admission refused the Job or its pod."""
    no_result: OutcomeRule = OutcomeRule(action=Action.RETRY, max_retries=2)
    """Ended, but what it should have left behind is missing or not valid."""
    lost: OutcomeRule = OutcomeRule(action=Action.RETRY, max_retries=2)
    """Gone without a trace."""
    unknown: OutcomeRule = OutcomeRule(action=Action.FAIL)
    """Something new; the evidence is kept word for word."""

    def rules(self) -> dict[OutcomeClass, Rule]:
        """Return the rule of every configurable class."""
        return {cls: self.of(cls).rule() for cls in CONFIGURABLE}

    def of(self, cls: OutcomeClass) -> OutcomeRule:
        """Return what was written, or stands by default, for one configurable class."""
        found: OutcomeRule = getattr(self, cls.value.replace("-", "_"))
        return found


def default_rules() -> dict[OutcomeClass, Rule]:
    """Return the rules of a HeavyQueue that names none."""
    return Outcomes().rules()


def encode_rule(rule: Rule) -> dict[str, Any]:
    """Return a rule as kept in Redis; absent keys are None or empty, ``after`` is in ms, ``memory.max`` in bytes."""
    encoded: dict[str, Any] = {"action": rule.action.value}
    if rule.max_retries is not None:
        encoded["maxRetries"] = rule.max_retries
    if rule.after_ms is not None:
        encoded["after"] = rule.after_ms
    if rule.growth_percent is not None:
        encoded["memory"] = {"growthPercent": rule.growth_percent, "max": rule.memory_max}
    if rule.no_retry_exit_codes or rule.no_retry_errors:
        encoded["noRetry"] = {"exitCodes": sorted(rule.no_retry_exit_codes), "errors": sorted(rule.no_retry_errors)}
    return encoded


def rules_from_settings(settings: Mapping[str, Any]) -> dict[OutcomeClass, Rule]:
    """Return the rules kept in a queue's settings; whatever is missing or unsound there is the default rule."""
    stored = settings.get("outcomes")
    found = stored if isinstance(stored, Mapping) else {}
    return {cls: _decode_rule(found.get(cls.spec_key)) or rule for cls, rule in default_rules().items()}


def _decode_rule(stored: object) -> Rule | None:
    if not isinstance(stored, Mapping) or stored.get("action") not in [action.value for action in Action]:
        return None
    no_retry = stored.get("noRetry")
    lists = no_retry if isinstance(no_retry, Mapping) else {}
    growth = stored.get("memory")
    memory = growth if isinstance(growth, Mapping) else {}
    return Rule(
        action=Action(stored["action"]),
        max_retries=_natural(stored.get("maxRetries")),
        after_ms=_natural(stored.get("after")),
        no_retry_exit_codes=frozenset(code for code in _list(lists.get("exitCodes")) if isinstance(code, int)),
        no_retry_errors=frozenset(name for name in _list(lists.get("errors")) if isinstance(name, str)),
        growth_percent=_natural(memory.get("growthPercent")),
        memory_max=_natural(memory.get("max")),
    )


def _natural(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
