"""HeavySchedule: a schedule as a custom resource, in CronJob's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, WithJsonSchema, field_validator, model_validator

from heavylift.contract import ids, payload
from heavylift.errors import InvalidInputError
from heavylift.spec.fields import DurationMs, LimitMs, Model, Quantity
from heavylift.spec.identity import Identity
from heavylift.spec.models import Backoff
from heavylift.spec.problems import describe
from heavylift.spec.schedule import LIMIT_MAX
from heavylift.spec.timing import CRON_MAX, check_cron, check_timezone

TaskName = Annotated[
    str, AfterValidator(payload.check_task), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200})
]
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
_OPEN = WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})


class JobTimeouts(Model):
    """Limits on a job's time; absent = the queue's."""

    pending: LimitMs | None = None
    """Job created until its container runs."""
    run: LimitMs | None = None
    """Each attempt's running time."""
    total: LimitMs | None = None
    """From the first claim, over all attempts."""


class ScheduledJob(Model):
    """The job each tick enqueues; what is absent is the queue's."""

    queue: Annotated[str, Field(min_length=1, max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
    """Its queue; the HeavyQueue that serves it is in the same namespace."""
    task: TaskName
    """The task's registered name."""
    data: Annotated[dict[str, JsonValue], _OPEN] = Field(default_factory=dict)
    """The task's data."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """Lower is sooner."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    """Attempts until the job counts as failed."""
    backoff: Backoff | None = None
    """How long a retry waits."""
    timeouts: JobTimeouts | None = None
    """Limits on its time."""
    delay: DurationMs | None = None
    """It starts not before this much after its tick."""
    expires: LimitMs | None = None
    """Not started by then = failed as expired."""
    resources: dict[str, Quantity] = Field(default_factory=dict, max_length=20)
    """Request and limit of its container."""
    env: dict[str, str] = Field(default_factory=dict, max_length=64)
    """Environment variables of its container."""
    labels: dict[str, str] = Field(default_factory=dict, max_length=32)
    """Labels."""
    key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Its concurrency key."""
    lifo: bool = False
    """It goes to the front of its priority."""

    @field_validator("queue")
    @classmethod
    def _queue_name(cls, value: str) -> str:
        return ids.check_queue_name(value)


class HeavyScheduleSpec(Model):
    """The spec of a HeavySchedule."""

    schedule: Annotated[str, Field(min_length=1, max_length=CRON_MAX)] | None = None
    """Cron: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly."""
    every: LimitMs | None = None
    """A period instead of a cron expression: whole seconds, aligned to start, else to midnight UTC."""
    time_zone: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """IANA name of the cron expression's time zone; UTC when absent."""
    start: Moment | None = None
    """No tick before."""
    end: Moment | None = None
    """No tick after."""
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    """Jobs it enqueues at most."""
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Allow"
    """While a job of it has not ended, the next tick enqueues another, is skipped, or cancels the old job."""
    starting_deadline_seconds: Annotated[int, Field(ge=1, le=315_360_000)] | None = None
    """A tick that could not start within this many seconds never does."""
    catch_up: Literal["None", "Last", "All"] = "Last"
    """Ticks that were missed by over a minute are skipped, or the newest is made up for, or each."""
    suspend: bool = False
    """While true it does not tick; what runs goes on, and nothing is made up for afterwards."""
    job: ScheduledJob
    """The job each tick enqueues."""

    @model_validator(mode="after")
    def _one_timing(self) -> Self:
        if (self.schedule is None) == (self.every is None):
            raise ValueError("give either schedule ('0 9 * * *') or every ('15m')")
        if self.every is not None and self.time_zone is not None:
            raise ValueError("timeZone goes with schedule only: every counts real time")
        return self

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return None if value is None else check_cron(value)

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        return None if value is None else check_timezone(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavySchedule:
    """One HeavySchedule as read from the cluster or from a file."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: HeavyScheduleSpec

    @classmethod
    def parse(cls, obj: Mapping[str, Any]) -> Self:
        """Return the HeavySchedule that an object (as the API server or a YAML file gives it) describes.

        Raises:
            InvalidInputError: it cannot be used; the message names the object, each path and the remedy.
        """
        own = Identity.of(obj, "HeavySchedule")
        if not isinstance(obj.get("spec"), Mapping):
            raise InvalidInputError(f"{own.subject}: spec is missing: give at least spec.schedule and spec.job")
        try:
            spec = HeavyScheduleSpec.model_validate(obj["spec"])
        except ValidationError as error:
            raise InvalidInputError(f"{own.subject}: {describe(error)}") from None
        return cls(name=own.name, namespace=own.namespace, uid=own.uid, generation=own.generation, spec=spec)
