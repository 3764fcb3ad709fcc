"""What follows a refused Job, by the HeavyQueue's rule."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from typing_extensions import override

from heavylift.store import decode
from heavylift.store.model import JobRecord, Next, Spend
from heavylift_worker.rejection import after_rejection
from tests.unit.worker.rendering import make_claim, make_queue


class _Never(random.Random):
    @override
    def random(self) -> float:
        return 0.0


def _record(budgets: dict[str, int], starts: int = 0) -> JobRecord:
    return decode.record("j1", {"hl:budgets": json.dumps(budgets), "hl:starts": str(starts)})


@pytest.mark.parametrize(
    ("rule", "claim", "spent", "expected"),
    [
        ({"action": "Fail"}, {}, {}, (Next.FAIL, Spend.NONE, 0)),
        ({"action": "Cancel"}, {}, {}, (Next.CANCEL, Spend.NONE, 0)),
        ({"action": "Retry"}, {"attempt": 2, "frozen": {"maxAttempts": 3}}, {}, (Next.RETRY, Spend.ATTEMPT, 120_000)),
        ({"action": "Retry"}, {"attempt": 3, "frozen": {"maxAttempts": 3}}, {}, (Next.FAIL, Spend.ATTEMPT, 0)),
        ({"action": "Retry", "maxRetries": 2}, {}, {"rejected": 1}, (Next.RETRY, Spend.BUDGET, 120_000)),
        ({"action": "Retry", "maxRetries": 2}, {}, {"rejected": 2}, (Next.FAIL, Spend.NONE, 0)),
        ({"action": "Requeue"}, {}, {"rejected": 50}, (Next.RETRY, Spend.BUDGET, 3_600_000)),
        ({"action": "Requeue", "maxRetries": 1}, {}, {"rejected": 1}, (Next.FAIL, Spend.NONE, 0)),
        (
            {"action": "Requeue"},
            {"options": {"backoff": {"type": "Fixed", "delay": 3000, "max": 10, "jitterPercent": 0}}},
            {"rejected": 9},
            (Next.RETRY, Spend.BUDGET, 3000),
        ),
        ({"action": "Requeue"}, {"options": {"backoff": "soon"}}, {}, (Next.RETRY, Spend.BUDGET, 60_000)),
    ],
)
def test_rule_decides(
    rule: dict[str, Any], claim: dict[str, Any], spent: dict[str, int], expected: tuple[Next, Spend, int]
) -> None:
    """Action, attempts, the class's own budget and the backoff decide together."""
    queue = make_queue(outcomes={"rejected": rule})

    assert after_rejection(make_claim(**claim), queue, _record(spent), _Never()) == expected


def test_plain_rqs_intervals_count() -> None:
    """What RQ's ``Retry`` asks for, without jitter."""
    queue = make_queue(outcomes={"rejected": {"action": "Retry"}})
    record = decode.record("j1", {"hl:rqmax": "3", "retry_intervals": "[10, 30]"})

    found = after_rejection(make_claim(attempt=2, frozen={"maxAttempts": 3}), queue, record, _Never())

    assert found == (Next.RETRY, Spend.ATTEMPT, 30_000)


def test_jitter_only_shortens() -> None:
    """A delay is drawn between its half (50 percent) and its whole."""
    queue = make_queue(outcomes={"rejected": {"action": "Requeue"}})

    delays = {after_rejection(make_claim(), queue, None, random.Random(seed))[2] for seed in range(200)}

    assert min(delays) >= 30_000
    assert max(delays) <= 60_000
    assert len(delays) > 100


@pytest.mark.parametrize(
    ("frozen", "starts", "expected"),
    [
        ({"totalDue": 60_001}, 0, Next.RETRY),
        ({"totalDue": 60_000}, 0, Next.FAIL),
        ({}, 99, Next.RETRY),
        ({}, 100, Next.FAIL),
    ],
)
def test_total_time_and_starts_bound_a_refused_job_too(frozen: dict[str, Any], starts: int, expected: Next) -> None:
    """The dispatcher keeps the same bounds as the operator: one rule decides for both."""
    queue = make_queue(outcomes={"rejected": {"action": "Requeue"}})

    found = after_rejection(make_claim(frozen=frozen), queue, _record({}, starts), _Never())

    assert found[0] is expected
