"""The outcome annotation: what a Redis that lost its last second is told again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heavylift.contract.outcomes import OutcomeClass
from heavylift_operator.core.outcome import Ended
from heavylift_operator.core.plan import Finish, read_annotation, write_annotation
from heavylift_operator.core.rules import Cost, Decision, Step
from tests.unit.operator.objects import EXECUTION

STORED: dict[str, Any] = {
    "class": "oom",
    "message": "killed for using more memory than its limit of 64Mi",
    "next": "retry",
    "execution": EXECUTION,
    "exitCode": 137,
    "evidence": {"memoryLimit": "64Mi"},
    "memory": 100,
}


def test_what_the_next_attempt_needs_is_read_back() -> None:
    """Cost, delay, memory and checkpoint: finishing again from the annotation gives what the first finish gave."""
    ended = Ended(cls=OutcomeClass.OOM, message="m", checkpoint='{"page":7}')
    decision = Decision(step=Step.RETRY, cost=Cost.ATTEMPT, delay_ms=2000, memory=100)
    text = write_annotation(STORED, Finish(ended=ended, decision=decision), None)
    read = read_annotation(text, EXECUTION)
    assert read is not None
    assert (read[0].cls, read[0].exit_code, read[0].checkpoint) == (OutcomeClass.OOM, 137, '{"page":7}')
    assert read[1] == decision


def test_a_result_is_read_back() -> None:
    """As the JSON text it was."""
    done = {**STORED, "class": "succeeded", "next": "complete"}
    read = read_annotation(write_annotation(done, None, '{"rows":7}'), EXECUTION)
    assert read is not None
    assert (read[0].result, read[0].checkpoint) == ('{"rows":7}', None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 100_000,
        json.dumps({**STORED, "execution": "inc-9"}),
        json.dumps({**STORED, "class": "odd"}),
        json.dumps({**STORED, "next": "wait"}),
    ],
)
def test_what_is_no_outcome_of_this_execution_is_none(text: str) -> None:
    """Broken, foreign or impossible: reported, never acted on."""
    assert read_annotation(text, EXECUTION) is None
