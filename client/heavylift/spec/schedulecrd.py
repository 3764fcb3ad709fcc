"""The HeavySchedule's CustomResourceDefinition, derived from its model."""

from __future__ import annotations

from typing import Any

from heavylift.contract import names
from heavylift.spec.heavyschedule import HeavyScheduleSpec
from heavylift.spec.status import CONDITIONS
from heavylift.spec.structural import Schema, structural

_ROOT_RULES = [
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
_COLUMNS = [
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
    plural = "heavyschedules"
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": _COLUMNS,
        "schema": {"openAPIV3Schema": _root_schema()},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "HeavySchedule",
                "listKind": "HeavyScheduleList",
                "plural": plural,
                "singular": "heavyschedule",
                "shortNames": ["hs"],
                "categories": ["heavylift"],
            },
            "versions": [version],
        },
    }


def _root_schema() -> Schema:
    generated = HeavyScheduleSpec.model_json_schema()
    return {
        "type": "object",
        "description": "A job enqueued again and again: by a cron expression in a time zone, or every so often.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(generated, generated["$defs"]),
            "status": _STATUS,
        },
        "x-kubernetes-validations": _ROOT_RULES,
    }
