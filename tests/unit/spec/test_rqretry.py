"""RQ's ``Retry`` read as RQ reads it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from rq import Retry
from rq.job import Job

from heavylift.contract import rqretry
from heavylift.contract.outcomes import Action
from heavylift.errors import InvalidInputError
from heavylift.spec.following import Backoff, Case, Cost, Spent, follow
from heavylift.spec.overrides import check_options
from heavylift.spec.rules import Rule
from heavylift.store import decode
from tests.unit.spec.test_following import NOW, Fixed
from tests.unit.worker.rendering import make_queue


@pytest.mark.parametrize("interval", [7, [10], [10, 30], [10, 30, 60], [0, 0, 5], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("retries", [1, 2, 3, 5])
def test_each_retry_waits_as_in_rq(interval: int | list[int], retries: int) -> None:
    """Whatever the list's length: RQ's own code says what each retry waits for."""
    retry = Retry(max=retries, interval=interval)
    theirs = [
        Job.get_retry_interval(cast("Any", SimpleNamespace(retry_intervals=retry.intervals, retries_left=left)))
        for left in range(retries, 0, -1)
    ]

    ours = rqretry.by_failure(rqretry.intervals(str(retry.intervals)), retries)

    assert ours == tuple(seconds * 1000 for seconds in theirs)


@pytest.mark.parametrize("text", ["", "[0]", "[]", "[0, 0]"])
def test_what_says_nothing_asks_for_nothing(text: str) -> None:
    """RQ writes a single 0 when nobody asked."""
    assert rqretry.by_failure(rqretry.intervals(text), 3) == ()


EVIL = [
    "{}",
    "7",
    "[-1]",
    "[1.5]",
    "[true]",
    '["1"]',
    "[1e999]",
    "[" * 5000,
    "[null]",
    "x",
    f"[{10**12}]",
    str([1] * 1001),
]


@pytest.mark.parametrize("text", EVIL)
def test_what_cannot_be_read_ends_the_job_as_invalid(text: str) -> None:
    """With words that name RQ's option; whoever only looks at the job sees none."""
    with pytest.raises(InvalidInputError, match=r"Retry\(interval=...\) is stored as"):
        check_options({}, {"maxAttempts": 3}, {"retry_intervals": text}, make_queue())
    assert decode.record("j", {"hl:rqmax": "3", "retry_intervals": text}).retry_delays == ()


def test_no_longer_than_the_queue_allows() -> None:
    """As any delay a producer asks for."""
    queue = make_queue(allow={"delay": "1h"})
    check_options({}, {"maxAttempts": 3}, {"retry_intervals": "[3600]"}, queue)
    with pytest.raises(InvalidInputError, match=r"Retry.* is 1h1s, more than the 1h that spec.allow.delay allows"):
        check_options({}, {"maxAttempts": 3}, {"retry_intervals": "[1, 3601]"}, queue)


def test_only_spent_attempts_wait_so() -> None:
    """What spends none goes by the queue's backoff; a delay that the program asks for wins."""
    backoff = Backoff(delay_ms=60_000, jitter=0.0, listed_ms=(1_000, 5_000))
    spent = Spent(attempts=1, max_attempts=4)

    def waits(rule: Rule, asked: int | None = None) -> tuple[Cost, int]:
        found = follow(rule, Case(cls="error", now=NOW, asked_ms=asked), spent, backoff, Fixed(0.9))
        return found.cost, found.delay_ms

    assert waits(Rule(action=Action.RETRY)) == (Cost.ATTEMPT, 5_000)
    assert waits(Rule(action=Action.RETRY), asked=7) == (Cost.ATTEMPT, 7)
    assert waits(Rule(action=Action.REQUEUE)) == (Cost.BUDGET, 60_000)
    assert backoff.after_attempt(9, Fixed(0.9)) == 5_000
