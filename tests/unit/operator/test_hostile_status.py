"""Statuses from records with evil values: what the operator writes is what the API server takes, fit to be shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from heavylift.store import decode
from heavylift.store.schedules import record
from heavylift_operator.adapters.clock import rfc3339
from heavylift_operator.core import queues, schedules
from heavylift_operator.services.schedules import _standing
from tests.integration.hostile.corpus import LONG_TEXTS, TEXTS, VALUES
from tests.unit.operator.objects import T0
from tests.unit.operator.test_edges import heavyqueue

CRDS = Path(__file__).parents[3] / "manifests" / "crds"
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z")
ALL: Mapping[str, bytes] = {**TEXTS, **LONG_TEXTS, **{f"value: {name}": value for name, value in VALUES.items()}}


@functools.cache
def _schema(kind: str) -> Any:
    """Return what holds a status against its kind's schema."""
    crd = yaml.safe_load((CRDS / f"{kind}.yaml").read_text())
    found = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return jsonschema.Draft202012Validator(_nullable(found))


def _nullable(schema: Any) -> Any:
    """Return the schema with null admitted for properties: in a merge patch it takes them away."""
    if isinstance(schema, list):
        return [_nullable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _nullable(part) for name, part in schema.items()}
    if isinstance(made.get("properties"), dict):
        made["properties"] = {name: {"anyOf": [{"type": "null"}, part]} for name, part in made["properties"].items()}
    return made


def _taken(what: str, status: Any, schema: Any) -> None:
    for error in schema.iter_errors(status):
        raise AssertionError(f"{what}: {error.json_path}: {error.message[:200]}")
    for name, value in status.items():
        if name.endswith("Time") and value is not None:
            assert TIME.fullmatch(value), f"{what}: {name}: {value}"
    for condition in status["conditions"]:
        assert condition["reason"], what
        assert not STEERING.search(condition["message"]), f"{what}: {condition['message']!r}"


SCHEDULE: dict[str, Any] = {
    "metadata": {"name": "s", "namespace": "analytics", "uid": "u", "generation": 1},
    "spec": {"every": "1m", "job": {"queue": "reports", "task": "t"}},
}
FIELDS = ("mark", "next", "last", "lastAt", "lastJob", "fired", "missed", "skipped", "jobs", "suspended", "problem")


@pytest.mark.parametrize("field", FIELDS)
def test_of_schedules(field: str) -> None:
    """Whatever stands in a field of a schedule in Redis, its HeavySchedule's status can be written."""
    schema = _schema("heavyschedules")
    for case, value in ALL.items():
        found = record([b"analytics/s", [b"queue", b"reports", field.encode(), value]])
        status = schedules.status(schedules.read(SCHEDULE), _standing(found, None), rfc3339, T0)
        _taken(f"{field}: {case}", status, schema)


def test_of_queues() -> None:
    """Whatever stands in a queue's notes and counts in Redis, its HeavyQueue's status can be written."""
    schema = _schema("heavyqueues")
    one = queues.read(heavyqueue())
    for case, value in ALL.items():
        note = decode.obj(b'{"message":%s,"at":%s}' % (value, value))
        said = {"by": decode.text(value)[:300], "reason": decode.text(value), "at": decode.number(value)}
        for troubles in ({}, {"corrupt": note}, {decode.text(value): note}):
            for counts in (None, decode.obj(b'{"waiting":%s,"oldest":%s,"failed":%s}' % (value, value, value))):
                standing = queues.Standing(troubles=troubles, pause=said, counts=counts, dispatchers=1)
                _taken(case, queues.status(one, standing, rfc3339(T0), rfc3339), schema)
