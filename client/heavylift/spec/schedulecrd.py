"""The HeavySchedule's CustomResourceDefinition, derived from its model."""

from __future__ import annotations

from typing import Any

from heavylift.spec.definition import Kind, definition
from heavylift.spec.heavyschedule import HeavyScheduleSpec
from heavylift.spec.status import CONDITIONS
from heavylift.spec.structural import Schema, structural

_ROOT_RULES: list[Schema] = [
    {
        "rule": "has(self.spec.schedule) != has(self.spec.every)",
        "message": "give either spec.schedule ('0 9 * * *') or spec.every ('15m')",
    },
    {
        "rule": "!has(self.spec.every) || !has(self.spec.timeZone)",
        "message": "spec.timeZone goes with spec.schedule only: every counts real time",
    },
    {
        "rule": "size(self.metadata.name) <= 100",
        "message": "the name is too long for the ids of its jobs: use at most 100 characters",
    },
]
_COLUMNS: list[Schema] = [
    {"name": "Queue", "type": "string", "jsonPath": ".spec.job.queue"},
    {"name": "Schedule", "type": "string", "jsonPath": ".spec.schedule"},
    {"name": "Every", "type": "string", "jsonPath": ".spec.every", "priority": 1},
    {"name": "Timezone", "type": "string", "jsonPath": ".spec.timeZone"},
    {"name": "Suspend", "type": "boolean", "jsonPath": ".spec.suspend"},
    {"name": "Last", "type": "date", "jsonPath": ".status.lastScheduleTime"},
    {"name": "Next", "type": "string", "jsonPath": ".status.nextScheduleTime"},
    {"name": "Active", "type": "integer", "jsonPath": ".status.active", "priority": 1},
    {"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "priority": 1},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def _count(description: str) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": 0, "description": description}


_STATUS: Schema = {
    "type": "object",
    "description": "What the operator knows of the schedule; written at most every 30 s, if changed.",
    "properties": {
        "observedGeneration": _count("Generation of the spec these values belong to."),
        "lastScheduleTime": {
            "type": "string",
            "format": "date-time",
            "description": "The tick that was fired last.",
        },
        "nextScheduleTime": {
            "type": "string",
            "description": "The next tick, RFC 3339; a string, because columns cannot show dates in the future.",
        },
        "lastJobId": {"type": "string", "description": "Id of the job enqueued last."},
        "active": _count("Its jobs that have not ended."),
        "fired": _count("Jobs its ticks enqueued."),
        "missed": _count("Ticks that never started because nobody could fire them in time."),
        "skipped": _count("Ticks skipped because a job was unfinished (Forbid), or because their id was taken."),
        "conditions": CONDITIONS,
    },
}


def heavyschedule() -> Schema:
    """Return the HeavySchedule's CustomResourceDefinition."""
    generated = HeavyScheduleSpec.model_json_schema()
    kind = Kind(
        name="HeavySchedule",
        short="hs",
        description="A job enqueued again and again: by a cron expression in a time zone, or every so often.",
        columns=_COLUMNS,
        rules=_ROOT_RULES,
    )
    return definition(kind, structural(generated, generated["$defs"]), _STATUS)
