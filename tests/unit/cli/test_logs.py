"""Which start's log is meant by an attempt."""

from __future__ import annotations

import pytest

from heavylift.cli.jobs import start_of
from heavylift.contract.states import JobState
from heavylift.errors import JobNotFoundError
from heavylift.jobs import Attempt, JobInfo


def ended(seq: int, attempt: int) -> Attempt:
    """Return an ended start."""
    return Attempt(seq=seq, attempt=attempt, execution="", outcome=None, started_at=None, ended_at=None, next="retry")


def job(state: JobState, attempt: int) -> JobInfo:
    """Return a job whose first attempt was disrupted once, so that its second start was its first attempt still."""
    return JobInfo(
        id="a",
        queue="reports",
        task="annual",
        state=state,
        phase=None,
        reason="",
        attempt=attempt,
        max_attempts=3,
        priority=0,
        position=None,
        history=(ended(1, 1), ended(2, 1), ended(3, 2)),
    )


@pytest.mark.parametrize(
    ("state", "current", "attempt", "want"),
    [
        (JobState.FAILED, 2, 1, 2),
        (JobState.FAILED, 2, 2, 3),
        (JobState.ACTIVE, 3, 2, 3),
        (JobState.ACTIVE, 3, 3, None),
        (JobState.ACTIVE, 2, 2, None),
    ],
)
def test_an_attempt_means_its_last_start(state: JobState, current: int, attempt: int, want: int | None) -> None:
    """Disruptions add starts, no attempts; the attempt that runs is the current start."""
    assert start_of(job(state, current), attempt) == want


def test_an_attempt_that_never_was() -> None:
    """It is said, with where to look."""
    with pytest.raises(JobNotFoundError, match=r"has no attempt 9 \(any more\): heavylift jobs show a"):
        start_of(job(JobState.FAILED, 2), 9)
