"""What pods and Jobs say as evil bytes: each is an end of one class with words fit to be shown, never an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from heavylift.contract.names import RESULT_LIMIT
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Outcome, bodies, decode
from heavylift_operator.core.evidence import Evidence, pod_from_json, pod_json, read_job, read_pod
from heavylift_operator.core.outcome import Ended
from tests.integration.hostile.corpus import LONG_TEXTS, TEXTS, VALUES
from tests.unit.operator.objects import EXECUTION, FAILED, job, pod, terminated
from tests.unit.operator.verdicts import ended

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PARTS = ("v", "execution", "ok", "result", "error", "noRetry", "delayMs", "snooze", "hold", "checkpoint")
CODES = (0, 1, 64, 75, 137, 143)


def _envelopes() -> Iterator[tuple[str, str]]:
    for case, value in VALUES.items():
        text = value.decode("utf-8", "replace")
        for part in PARTS:
            sound = {"v": "1", "execution": f'"{EXECUTION}"', "ok": "false", part: text}
            yield f"{part}: {case}", "{" + ",".join(f'"{name}":{held}' for name, held in sound.items()) + "}"
        yield (
            f"error's parts: {case}",
            (
                f'{{"v":1,"execution":"{EXECUTION}","ok":false,"error":{{"type":{text},"message":{text},"traceback":{text}}}}}'
            ),
        )


def _messages() -> Iterator[tuple[str, str]]:
    """Yield termination messages as the API server would hand them over: text, however odd, cut at its limit."""
    for case, text in {**TEXTS, **LONG_TEXTS}.items():
        yield case, text.decode("utf-8", "replace")[:RESULT_LIMIT]
    for case, value in VALUES.items():
        yield f"plain: {case}", value.decode("utf-8", "replace")[:RESULT_LIMIT]
    for case, inner in _envelopes():
        yield case, '{"$heavylift":' + inner[: RESULT_LIMIT - 20] + "}"
    yield "lone surrogate", "\ud800" * 100


@pytest.mark.parametrize("code", CODES)
def test_termination_messages(code: int) -> None:
    """Whatever the file holds, the attempt has one class, and its words and its result can be stored and shown."""
    for case, message in _messages():
        seen = read_pod(pod("Succeeded" if code == 0 else "Failed", main=terminated(code, message=message)))
        assert pod_from_json(json.loads(bodies.compact(pod_json(seen)))) == seen, case
        for policy in ("None", "Optional", "Required"):
            found = ended(Evidence(job=read_job(job(FAILED)) if code else None, pod=seen), policy=policy)
            _storable(f"{case}: {policy}", found)


def _storable(what: str, found: Ended) -> None:
    assert found.message, what
    assert not STEERING.search(found.message), f"{what}: {found.message!r}"
    assert found.delay_ms is None or found.delay_ms >= 0, what
    stored = bodies.body(Outcome(cls=found.cls, message=found.message, evidence=dict(found.evidence)))
    assert decode.obj(stored)["class"] in set(OutcomeClass), what
    for text in (found.result, found.checkpoint):
        assert text is None or json.loads(text.encode()) == decode.parsed(text), what


def _fields(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a pod for each part of its status that holds the value."""
    for part in ("phase", "reason", "message"):
        found = pod("Failed", main=terminated(1))
        found["status"][part] = value
        yield part, found
    for part in ("reason", "message", "exitCode", "finishedAt", "startedAt"):
        found = pod("Failed", main=terminated(1))
        for status in found["status"]["containerStatuses"]:
            status["state"]["terminated"][part] = value
        yield f"terminated.{part}", found
    for part in ("type", "status", "reason", "message", "lastTransitionTime"):
        found = pod(
            "Failed", main=terminated(1), conditions=[{"type": "DisruptionTarget", "status": "True", part: value}]
        )
        yield f"condition.{part}", found
    for part in ("name", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        found = pod("Failed", main=terminated(1))
        found["metadata"][part] = value
        yield f"metadata.{part}", found


ODD: tuple[Any, ...] = (
    *(None, True, -1, 0.5, 10**400, float("inf"), [], {}, [None], {"a": 1}, "", "\ud800", "\x1b[2J\x00", "9" * 5000),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "not a time", "x" * 100_000),
)


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
def test_odd_pods(value: Any) -> None:
    """A part of a pod of another type or beyond all measure counts as not seen, and the attempt still ends."""
    for part, found in _fields(value):
        seen = read_pod(found)
        again = pod_from_json(json.loads(bodies.compact(pod_json(seen))))
        assert again is not None, part
        _storable(part, ended(Evidence(job=read_job(job(FAILED)), pod=seen)))
