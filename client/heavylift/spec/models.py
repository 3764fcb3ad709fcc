"""HeavyQueue: a queue's settings and its Job template, as a person writes them and as the processes read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from heavylift.contract import ids, limits
from heavylift.errors import InvalidInputError, InvalidTemplateError
from heavylift.spec.fields import (
    DurationMs,
    EnvName,
    LabelKey,
    LaterString,
    LimitMs,
    Model,
    PayloadBytes,
    Quantity,
    RatePeriodMs,
    TaskName,
)
from heavylift.spec.identity import Identity
from heavylift.spec.problems import describe
from heavylift.spec.rules import Outcomes
from heavylift.spec.template import check_template

_HOUR = 3_600_000
_ATTEMPTS_MAX = 100
_COUNT_MAX = 1_000_000
Priority = Annotated[int, Field(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)]


class Concurrency(Model):
    """How many executions may run at once."""

    max: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Executions at once over the whole installation; absent = no cap. Lowering it kills nothing."""
    per_key: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Executions at once of each key (what a producer gives as key); absent = no cap. Lowering it kills nothing."""
    order: Literal["Fifo", "RoundRobin"] = "Fifo"
    """Fifo: by priority, then in the order they came. RoundRobin: the keys take turns, priority counts inside a key."""


class RateLimit(Model):
    """How many executions may start in any window of time."""

    limit: Annotated[int, Field(ge=1, le=100_000)]
    """Starts in any window at most; retries are starts, claims given back before they had a Job are none."""
    period: RatePeriodMs
    """How long the window is: 1s to 24h."""


class Backoff(Model):
    """How long a retry waits."""

    type: Literal["Exponential", "Fixed"] = "Exponential"
    """Exponential doubles the delay from attempt to attempt; Fixed keeps it."""
    delay: DurationMs = 60_000
    """The first delay."""
    max: DurationMs = _HOUR
    """No delay is longer."""
    jitter_percent: Annotated[int, Field(ge=0, le=100)] = 50
    """How much of a delay is random, so that many jobs do not come back at once."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.delay > self.max:
            raise ValueError("delay is longer than max: lower delay or raise max")
        return self


class Defaults(Model):
    """What a job gets when its producer says nothing."""

    priority: Priority = 0
    """Lower is sooner; first in, first out within one. Jobs of plain RQ have 0."""
    max_attempts: Annotated[int, Field(ge=1, le=_ATTEMPTS_MAX)] = 1
    """Attempts until a job counts as failed."""
    backoff: Backoff = Backoff()
    """How long a retry waits."""


class Timeouts(Model):
    """Limits on one attempt, and on all of them together."""

    pending: LimitMs = _HOUR
    """Job created until its container runs; stopped while the Job is suspended."""
    run: LimitMs = 24 * _HOUR
    """Container start to its end."""
    heartbeat: LaterString = None
    """Not supported yet: the longest silence of a program that reports progress."""
    total: LimitMs | None = None
    """First claim to the end of the last attempt, waits in between included; over = failed as timeout, no retry."""


class PayloadSpec(Model):
    """What a job's data may be."""

    format: Literal["JSON"] = "JSON"
    """JSON; Pickle is not supported yet."""
    max_size: PayloadBytes = limits.PAYLOAD_DEFAULT
    """The largest data a job may carry, as JSON; at most 100Ki."""

    @field_validator("format", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        if value == "Pickle":
            raise ValueError("Pickle is not supported yet: use JSON, and enqueue with rq's JSONSerializer")
        return value


class ResultSpec(Model):
    """What a successful job must leave behind."""

    policy: Literal["None", "Optional", "Required"] = "Optional"
    """Required: a job that exits 0 without a valid JSON result ends as no-result. None: results are not read."""


class Breaker(Model):
    """When a broken template stops claiming."""

    consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 3
    """Failures in a row (image, rejected, template) after which claiming stops and one job probes per backoff."""


class Allow(Model):
    """What a producer may set per job; absent = refused; over a maximum = refused by name, never clamped."""

    args: bool = False
    """Arguments of the container."""
    env: Annotated[tuple[EnvName, ...], Field(strict=False, max_length=100)] = ()
    """Names of environment variables."""
    labels: Annotated[tuple[LabelKey, ...], Field(strict=False, max_length=50)] = ()
    """Keys of labels."""
    resources: dict[str, Quantity] = Field(default_factory=dict, max_length=20)
    """Resource name to the largest quantity."""
    max_attempts: Annotated[int, Field(ge=1, le=_ATTEMPTS_MAX)] = 10
    """The largest maxAttempts."""
    run_timeout: LimitMs = 24 * _HOUR
    """The longest run timeout."""
    delay: DurationMs = 720 * _HOUR
    """The longest delay."""
    min_priority: Priority = 0
    """The most urgent priority (lower is sooner); never below that of the defaults."""


class Kept(Model):
    """How many ended jobs are kept and for how long, whichever comes first."""

    count: Annotated[int, Field(ge=0, le=_COUNT_MAX)]
    """Jobs kept at most."""
    age: DurationMs
    """Time kept at most."""


class Completed(Kept):
    """Jobs that succeeded or were cancelled."""

    count: Annotated[int, Field(ge=0, le=_COUNT_MAX)] = 1000
    """Jobs kept at most."""
    age: DurationMs = 24 * _HOUR
    """Time kept at most."""


class Failed(Kept):
    """Jobs that failed."""

    count: Annotated[int, Field(ge=0, le=_COUNT_MAX)] = 5000
    """Jobs kept at most."""
    age: DurationMs = 168 * _HOUR
    """Time kept at most."""


class PodsKept(Model):
    """How long finished Jobs and their pods stay in the cluster, for their logs."""

    succeeded: DurationMs = 600_000
    """After a success; shorter, a minute at least, where they end too fast for the count."""
    failed: DurationMs = 24 * _HOUR
    """After a failure."""
    count: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Finished Jobs kept at most: the oldest goes before the next attempt is finished."""


class Retention(Model):
    """What stays how long, whichever limit comes first."""

    completed: Completed = Completed()
    """Jobs in Redis that succeeded or were cancelled."""
    failed: Failed = Failed()
    """Jobs in Redis that failed."""
    pods: PodsKept = PodsKept()
    """Finished Jobs and their pods in the cluster."""


class MetricsSpec(Model):
    """What of this queue is measured apart."""

    tasks: Annotated[tuple[TaskName, ...], Field(strict=False, max_length=limits.TALLIED_TASKS_MAX)] = ()
    """Tasks whose waits, starts and runs have histograms of their own (label `task`)."""


class HeavyQueueSpec(Model):
    """The spec of a HeavyQueue."""

    queue: str | None = None
    """RQ queue name; default metadata.name; cannot change. The oldest HeavyQueue of a name wins."""
    paused: bool = False
    """While true nothing is claimed; what runs goes on."""
    concurrency: Concurrency = Concurrency()
    """How many executions may run at once."""
    rate_limit: RateLimit | None = None
    """Starts in any window of time, over the whole installation; absent = no limit."""
    defaults: Defaults = Defaults()
    """What a job gets when its producer says nothing."""
    timeouts: Timeouts = Timeouts()
    """Limits on one attempt."""
    payload: PayloadSpec = PayloadSpec()
    """What a job's data may be."""
    result: ResultSpec = ResultSpec()
    """What a successful job must leave behind."""
    outcomes: Outcomes = Outcomes()
    """What to do with each class of outcome."""
    breaker: Breaker = Breaker()
    """When a broken template stops claiming."""
    allow: Allow = Allow()
    """What a producer may set per job."""
    metrics: MetricsSpec = MetricsSpec()
    """What of this queue is measured apart."""
    retention: Retention = Retention()
    """What stays how long."""
    container: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Whose exit code, environment and resources are Heavylift's; default: the first container."""
    job_template: dict[str, JsonValue]
    """A batch/v1 JobTemplateSpec; each attempt becomes one Job made from it."""

    @field_validator("queue")
    @classmethod
    def _queue_name(cls, value: str | None) -> str | None:
        return value if value is None else ids.check_queue_name(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavyQueue:
    """One HeavyQueue as read from the cluster or from a file."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    """metadata.creationTimestamp (RFC 3339, UTC; sorts as text) or empty."""
    queue: str
    """RQ queue name: spec.queue, else metadata.name."""
    spec: HeavyQueueSpec

    @property
    def seniority(self) -> tuple[str, str]:
        """The oldest HeavyQueue of a name wins: the smallest of (creation time, uid)."""
        return (self.created, self.uid)

    @property
    def container(self) -> str:
        """The name of the container whose exit code, environment and resources are Heavylift's."""
        if self.spec.container:
            return self.spec.container
        pod: Any = self.spec.job_template
        return str(pod["spec"]["template"]["spec"]["containers"][0]["name"])

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> Self:
        """Return the HeavyQueue that an object (as the API server or a YAML file gives it) describes.

        Raises:
            InvalidTemplateError: something below spec.jobTemplate cannot be used.
            InvalidInputError: anything else cannot be used; both name the object, each path and the remedy.
        """
        own = Identity.of(obj, "HeavyQueue")
        spec = _parse_spec(obj.get("spec"), own.subject)
        try:
            check_template(spec.job_template, spec.container)
            queue = ids.check_queue_name(spec.queue or own.name)
        except InvalidTemplateError as error:
            raise InvalidTemplateError(f"{own.subject}: {error}") from None
        return cls(
            name=own.name,
            namespace=own.namespace,
            uid=own.uid,
            generation=own.generation,
            created=own.created,
            queue=queue,
            spec=spec,
        )


def _parse_spec(spec: object, subject: str) -> HeavyQueueSpec:
    if not isinstance(spec, Mapping):
        raise InvalidInputError(f"{subject}: spec is missing: give at least spec.jobTemplate")
    try:
        return HeavyQueueSpec.model_validate(spec)
    except ValidationError as error:
        kind = InvalidTemplateError if _is_template(error) else InvalidInputError
        raise kind(f"{subject}: {describe(error)}") from None


def _is_template(error: ValidationError) -> bool:
    return all(entry["loc"][:1] == ("jobTemplate",) for entry in error.errors(include_url=False))
