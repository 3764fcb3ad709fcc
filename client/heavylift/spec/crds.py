"""CustomResourceDefinitions derived from the models: structural schemas, CEL rules, columns.

The API server so refuses early what the models refuse; the models stay the truth and check everything again.
"""

from __future__ import annotations

from heavylift.spec.definition import Kind, definition
from heavylift.spec.models import HeavyQueueSpec
from heavylift.spec.rules import ErrorRule, NodeLostRule, OomRule, OutcomeRule
from heavylift.spec.schedulecrd import heavyschedule
from heavylift.spec.status import STATUS
from heavylift.spec.structural import OPEN, Schema, structural
from heavylift.spec.template import REFUSED_IN_JOB

SIZE_MAX = 240_000
"""Bytes a CRD may have as YAML: plain ``kubectl apply`` keeps a copy in an annotation of at most 256 KiB."""

_QUEUE_OF = "(has({0}.spec.queue) ? {0}.spec.queue : {0}.metadata.name)"
_ROOT_RULES: list[Schema] = [
    {
        "rule": f"{_QUEUE_OF.format('self')} == {_QUEUE_OF.format('oldSelf')}",
        "message": "spec.queue cannot change: create another HeavyQueue for another queue",
    },
    {
        "rule": "has(self.spec.queue) || size(self.metadata.name) <= 100",
        "message": "the name is too long for a queue: use at most 100 characters, or set spec.queue",
    },
]
_BUDGET = {
    "rule": "!has(self.maxRetries) || self.action in ['Retry', 'Requeue']",
    "message": "maxRetries goes with the actions Retry and Requeue only",
}
_RULES: dict[str, list[dict[str, str]]] = {
    "Backoff": [
        {
            "rule": "duration(self.delay) <= duration(self.max)",
            "message": "delay is longer than max: lower delay or raise max",
        }
    ],
    "Timeouts": [
        {"rule": f"duration(self.{name}) >= duration('1s')", "message": f"{name} is too short: use at least 1s"}
        for name in ("pending", "run")
    ],
    "RateLimit": [
        {"rule": "duration(self.period) >= duration('1s')", "message": "period is too short: use at least 1s"},
        {"rule": "duration(self.period) <= duration('24h')", "message": "period is too long: use at most 24h"},
    ],
    "OutcomeRule": [_BUDGET],
    "ErrorRule": [_BUDGET],
    "OomRule": [_BUDGET],
    "NodeLostRule": [
        _BUDGET,
        {
            "rule": "has(self.after) == (self.action == 'Replace')",
            "message": "after and action Replace go together: write {action: Replace, after: 10m}",
        },
    ],
}
"""CEL beside what the schema itself says, by model."""
_REFUSED_TYPES = {
    "completionMode": "string",
    "managedBy": "string",
    "manualSelector": "boolean",
    "podFailurePolicy": "object",
    "podReplacementPolicy": "string",
    "selector": "object",
    "successPolicy": "object",
}
_CONDITION = ".status.conditions[?(@.type=='{}')].{}"
_COLUMNS: list[Schema] = [
    {"name": "Ready", "type": "string", "jsonPath": _CONDITION.format("Ready", "status")},
    {"name": "Reason", "type": "string", "jsonPath": _CONDITION.format("Ready", "reason")},
    {"name": "Paused", "type": "string", "jsonPath": _CONDITION.format("Paused", "status")},
    {"name": "Waiting", "type": "integer", "jsonPath": ".status.waiting"},
    {"name": "Active", "type": "integer", "jsonPath": ".status.active"},
    {"name": "Failed", "type": "integer", "jsonPath": ".status.failed"},
    {"name": "Oldest", "type": "date", "jsonPath": ".status.oldestWaitingTime"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def build(pod_template: Schema | None = None) -> list[Schema]:
    """Return all CustomResourceDefinitions.

    Args:
        pod_template: structural schema of a PodTemplateSpec; None leaves it open (the models and the cluster judge it).
    """
    return [heavyqueue(pod_template or OPEN), heavyschedule()]


def heavyqueue(pod_template: Schema) -> Schema:
    """Return the HeavyQueue's CustomResourceDefinition."""
    kind = Kind(
        name="HeavyQueue",
        short="hq",
        description="A queue and how its jobs run: each job claimed from it becomes one Kubernetes Job.",
        columns=_COLUMNS,
        rules=_ROOT_RULES,
    )
    return definition(kind, spec_schema(pod_template), STATUS)


def spec_schema(pod_template: Schema) -> Schema:
    """Return the structural schema of a HeavyQueue's spec."""
    generated = HeavyQueueSpec.model_json_schema()
    definitions = generated["$defs"]
    for rule in (OutcomeRule, ErrorRule, OomRule, NodeLostRule):
        definitions[rule.__name__]["properties"]["action"] = {
            "type": "string",
            "enum": [action.value for action in rule.actions()],
        }
    for model, rules in _RULES.items():
        definitions[model]["x-kubernetes-validations"] = list(rules)
    schema = structural(generated, definitions)
    properties = schema["properties"]
    properties["jobTemplate"] = {
        **_job_template(pod_template),
        "description": properties["jobTemplate"]["description"],
    }
    properties["queue"] |= {"minLength": 1, "maxLength": 100, "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]*$"}
    return schema


def _job_template(pod_template: Schema) -> Schema:
    """Return the schema of a batch/v1 JobTemplateSpec without what Heavylift itself decides."""
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    refused = {name: _refused(_REFUSED_TYPES.get(name, "integer")) for name in sorted(REFUSED_IN_JOB)}
    return {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "metadata": {"type": "object", "properties": {"annotations": strings, "labels": strings}},
            "spec": {
                "type": "object",
                "required": ["template"],
                "properties": {**refused, "suspend": {"type": "boolean"}, "template": pod_template},
                "x-kubernetes-validations": [
                    {"rule": f"!has(self.{name})", "message": f"{name} is not allowed here: {REFUSED_IN_JOB[name]}"}
                    for name in sorted(REFUSED_IN_JOB)
                ],
            },
        },
    }


def _refused(kind: str) -> Schema:
    return dict(OPEN) if kind == "object" else {"type": kind}
