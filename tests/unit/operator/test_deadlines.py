"""Deadlines: pending and run limits of our own."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core.deadlines import Limits, due, expired
from heavylift_operator.core.evidence import Stop, read_job
from heavylift_operator.core.outcome import Underway
from tests.unit.operator.objects import T0, job

UNSCHEDULABLE = Underway(
    phase=Phase.PENDING, reason="unschedulable", message="0/3 nodes", stuck=OutcomeClass.UNSCHEDULABLE
)
LIMITS = Limits(pending_ms=60_000, run_ms=600_000)
RUNS = Underway(phase=Phase.RUNNING, running_at=T0 + 20_000)


def check(state: Underway, now: float, **more: Any) -> Stop | None:
    """Ask at T0 + now seconds, with limits of 60 s and 10 min."""
    return expired(read_job(job(**more)), state, LIMITS, now=T0 + round(now * 1000))


@pytest.mark.parametrize(("now", "passed"), [(59, False), (60, False), (61, True)])
def test_the_pending_limit_counts_from_the_jobs_creation(now: float, passed: bool) -> None:
    """And names what it waited for, in Kubernetes' words."""
    stop = check(UNSCHEDULABLE, now)
    assert (stop is not None) is passed
    if stop is not None:
        assert (stop.cls, stop.message) == ("unschedulable", "did not start within 1m: 0/3 nodes")


def test_a_suspended_job_does_not_wait() -> None:
    """Kueue holds it on purpose."""
    assert check(Underway(phase=Phase.PENDING, reason="suspended"), 10_000, suspend=True) is None


def test_resuming_starts_the_pending_limit_anew() -> None:
    """Kubernetes sets startTime at the resumption."""
    assert check(UNSCHEDULABLE, 1059, start=1000) is None
    assert check(UNSCHEDULABLE, 1061, start=1000) is not None


@pytest.mark.parametrize(("now", "passed"), [(619, False), (621, True)])
def test_the_run_limit_counts_from_the_containers_start(now: float, passed: bool) -> None:
    """Time spent pending does not count."""
    stop = check(RUNS, now)
    assert (stop is not None) is passed
    assert stop is None or (stop.cls, stop.message) == ("timeout", "ran longer than its limit of 10m")


@pytest.mark.parametrize(
    ("state", "now", "passed"),
    [
        (RUNS, 30, False),
        (RUNS, 31, True),
        (UNSCHEDULABLE, 31, True),
        (Underway(phase=Phase.PENDING, reason="suspended"), 31, True),
        (Underway(phase=Phase.RUNNING, running_at=T0, reason="ending"), 31, False),
    ],
)
def test_the_total_limit_counts_whatever_the_attempt_does(state: Underway, now: float, passed: bool) -> None:
    """Running, pending or suspended: at the end of the time for all attempts it is stopped as timeout."""
    limits = Limits(pending_ms=60_000, run_ms=600_000, total_ms=7_200_000, total_due=T0 + 30_000)
    stop = expired(read_job(job()), state, limits, now=T0 + round(now * 1000))
    assert (stop is not None) is passed
    words = "stopped at the end of its total time of 2h, counted from its first claim"
    assert stop is None or (stop.cls, stop.message) == ("timeout", words)


@pytest.mark.parametrize(("total", "first"), [(10, 10), (900, 620), (None, 620)])
def test_the_first_deadline_is_the_one_to_look_again_at(total: int | None, first: int) -> None:
    """What is left of the total time cuts the attempt's own."""
    limits = Limits(run_ms=600_000, total_due=None if total is None else T0 + total * 1000)
    assert due(read_job(job()), RUNS, limits) == T0 + first * 1000


def test_a_program_that_already_ended_does_not_time_out() -> None:
    """Only the Job's condition is still missing."""
    state = Underway(phase=Phase.RUNNING, running_at=T0, reason="ending")
    assert check(state, 10_000) is None
    assert due(read_job(job()), state, LIMITS) is None


def test_a_hopeless_image_is_not_waited_for() -> None:
    """At once, with the kubelet's words."""
    state = Underway(
        phase=Phase.PENDING, reason="image", message="InvalidImageName: x", stuck=OutcomeClass.IMAGE, hopeless=True
    )
    stop = check(state, 1)
    assert stop is not None
    assert (stop.cls, stop.message, stop.execution) == ("image", "InvalidImageName: x", "inc-1")


def test_without_a_limit_nothing_expires() -> None:
    """Limits are settings, not laws."""
    assert expired(read_job(job()), RUNS, Limits(), now=T0 * 2) is None
