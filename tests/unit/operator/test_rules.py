"""Rules: retries, budgets, backoff and bounds as exact tables."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.spec.rules import Rule, default_rules
from heavylift_operator.core.outcome import Ended
from heavylift_operator.core.rules import (
    Backoff,
    Cost,
    Decision,
    Policy,
    Spent,
    Step,
    backoff_from,
    decide,
)
from tests.unit.operator.objects import NO_JITTER, T0, Middle

MI = 1024**2


def end(cls: OutcomeClass = OutcomeClass.ERROR, **more: Any) -> Ended:
    """Return an end."""
    return Ended(cls=cls, message="m", **more)


def verdict(ended: Ended, spent: Spent, *, now: int = T0, rule: Rule | None = None) -> Decision:
    """Decide by the default rules, or by one rule for this class."""
    rules = dict(default_rules())
    if rule is not None:
        rules[ended.cls] = rule
    return decide(ended, Policy(rules=rules, backoff=NO_JITTER.backoff), spent, now, Middle())


# -- delays -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("failures", "delay"), [(1, 60_000), (2, 120_000), (3, 240_000), (4, 480_000), (7, 3_600_000), (10**6, 3_600_000)]
)
def test_exponential_backoff_doubles_up_to_its_maximum(failures: int, delay: int) -> None:
    """Delay x 2^(n-1): 1, 2, 4, 8 minutes, one hour at most, whatever n is."""
    assert Backoff(jitter=0).delay(failures, Middle()) == delay


def test_fixed_backoff_stays() -> None:
    """The same after each failure."""
    assert [Backoff(kind="Fixed", delay_ms=3000, jitter=0).delay(n, Middle()) for n in (1, 5)] == [3000, 3000]


@pytest.mark.parametrize(("jitter", "low", "high"), [(0.5, 30_000, 60_000), (1.0, 0, 60_000), (0.0, 60_000, 60_000)])
def test_jitter_draws_from_below_the_delay(jitter: float, low: int, high: int) -> None:
    """Uniform in [(1-j) x d, d]: each tenth of it gets a tenth of the draws."""
    source = random.Random(7)
    drawn = [Backoff(jitter=jitter).delay(1, source) for _ in range(5000)]
    assert low <= min(drawn) <= max(drawn) <= high
    if jitter:
        tenths = Counter((wait - low) * 10 // (high - low + 1) for wait in drawn)
        assert set(tenths) == set(range(10))
        assert all(420 < count < 580 for count in tenths.values()), tenths


def test_the_first_source_with_a_backoff_wins() -> None:
    """The producer's, else the queue's, else the built-in one; unsound parts fall back."""
    mine = {"backoff": {"type": "Fixed", "delay": 5, "max": 9, "jitterPercent": 0}}
    assert backoff_from(mine, {"backoff": {"delay": 7}}) == Backoff(kind="Fixed", delay_ms=5, longest_ms=9, jitter=0)
    assert backoff_from({}, {"backoff": {"delay": 7}}).delay_ms == 7
    shorter = {"backoff": {"type": "Exponential", "delay": 7_200_000, "jitterPercent": 0}}
    assert backoff_from(shorter, {"backoff": {"max": 60_000}}).longest_ms == 7_200_000
    assert backoff_from({"backoff": {"delay": 7}}, {"backoff": {"delay": 9, "max": 80}}).longest_ms == 80
    assert backoff_from(None, "x") == Backoff()
    assert backoff_from({"backoff": {"delay": "soon", "jitterPercent": 900}}) == Backoff(jitter=1.0)


# -- attempts ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("made", "limit", "step"), [(0, 1, Step.FAIL), (0, 3, Step.RETRY), (1, 3, Step.RETRY), (2, 3, Step.FAIL)]
)
def test_max_attempts_counts_the_first_try_too(made: int, limit: int, step: Step) -> None:
    """max_attempts=3 is three starts in all."""
    found = verdict(end(), Spent(attempts=made, max_attempts=limit))
    assert (found.step, found.cost) == (step, Cost.ATTEMPT)


def test_attempts_back_off_by_how_many_failed() -> None:
    """The third failure waits four times the first."""
    policy = Policy(rules=default_rules(), backoff=Backoff(delay_ms=1000, jitter=0))
    found = decide(end(), policy, Spent(attempts=2, max_attempts=9), T0, Middle())
    assert found.delay_ms == 4000


@pytest.mark.parametrize(
    "ended", [end(no_retry=True), end(exit_code=64), end(error_type="app.BadYearError"), end(error_type="BadYearError")]
)
def test_what_must_not_be_retried_fails_at_once(ended: Ended) -> None:
    """By the program's word, by exit code, or by the name of a typed error."""
    rule = Rule(action=Action.RETRY, no_retry_exit_codes=frozenset({64}), no_retry_errors=frozenset({"BadYearError"}))
    assert verdict(ended, Spent(max_attempts=9), rule=rule).step is Step.FAIL


def test_a_delay_the_program_asked_for_replaces_the_backoff() -> None:
    """RetryAfter spends an attempt and names its time."""
    found = verdict(end(delay_ms=120_000), Spent(max_attempts=2))
    assert (found.step, found.cost, found.delay_ms) == (Step.RETRY, Cost.ATTEMPT, 120_000)


@pytest.mark.parametrize(("asked", "delay"), [(None, 60_000), (600_000, 600_000), (0, 0)])
def test_a_snooze_spends_nothing(asked: int | None, delay: int) -> None:
    """60 s unless it says otherwise; attempts do not matter."""
    found = verdict(end(snooze=True, delay_ms=asked), Spent(attempts=0, max_attempts=1))
    assert (found.step, found.cost, found.delay_ms) == (Step.RETRY, Cost.NONE, delay)


# -- budgets ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cls", "limit"),
    [
        (OutcomeClass.DISRUPTED, 20),
        (OutcomeClass.POD_DELETED, 20),
        (OutcomeClass.IMAGE, 5),
        (OutcomeClass.UNSCHEDULABLE, 10),
        (OutcomeClass.NO_RESULT, 2),
        (OutcomeClass.LOST, 2),
    ],
)
def test_infrastructure_faults_have_budgets_of_their_own(cls: OutcomeClass, limit: int) -> None:
    """A job with one attempt is still run again; the budget ends."""
    within = verdict(end(cls), Spent(max_attempts=1, budgets={cls.value: limit - 1}))
    assert (within.step, within.cost) == (Step.RETRY, Cost.BUDGET)
    beyond = verdict(end(cls), Spent(max_attempts=1, budgets={cls.value: limit}))
    assert beyond.step is Step.FAIL
    assert str(limit) in beyond.why


def test_a_requeue_without_bound_backs_off_further_each_time() -> None:
    """Counted, so that the delay grows, but never exhausted."""
    policy = Policy(rules=default_rules(), backoff=Backoff(delay_ms=1000, jitter=0))
    found = decide(end(OutcomeClass.QUOTA), policy, Spent(budgets={"quota": 3}), T0, Middle())
    assert (found.step, found.cost, found.delay_ms) == (Step.RETRY, Cost.BUDGET, 8000)


@pytest.mark.parametrize(
    "ended", [end(), end(OutcomeClass.QUOTA), end(OutcomeClass.DISRUPTED), end(snooze=True)], ids=str
)
def test_no_job_starts_more_than_100_times(ended: Ended) -> None:
    """Whatever the rules say."""
    assert verdict(ended, Spent(max_attempts=500, starts=99)).step is Step.RETRY
    found = verdict(ended, Spent(max_attempts=500, starts=100))
    assert found.step is Step.FAIL
    assert "100" in found.why


# -- memory, total time -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ended", "attempts", "step", "memory"),
    [
        (end(OutcomeClass.OOM, memory_limit="64Mi"), 3, Step.RETRY, 96 * MI),
        (end(OutcomeClass.OOM, memory_limit="64Mi"), 1, Step.FAIL, 96 * MI),
        (end(OutcomeClass.OOM, memory_limit="200Mi"), 3, Step.RETRY, None),
        (end(OutcomeClass.OOM), 3, Step.RETRY, None),
        (end(OutcomeClass.OOM, memory_limit="lots"), 3, Step.RETRY, None),
    ],
)
def test_the_attempt_after_an_oom_gets_more_memory(ended: Ended, attempts: int, step: Step, memory: int | None) -> None:
    """Half as much again, up to 100Mi, also for a retry by a person; nothing where its own limit is not known."""
    rule = Rule(action=Action.RETRY, growth_percent=50, memory_max=100 * MI)
    found = verdict(ended, Spent(max_attempts=attempts), rule=rule)
    assert (found.step, found.memory) == (step, memory)


@pytest.mark.parametrize(
    "ended", [end(), end(OutcomeClass.TIMEOUT), end(OutcomeClass.DISRUPTED), end(snooze=True)], ids=str
)
def test_nothing_follows_the_total_time(ended: Ended) -> None:
    """Whatever its class and its rule."""
    rule = None if ended.snooze else Rule(action=Action.RETRY, max_retries=50)
    assert verdict(ended, Spent(max_attempts=9, total_due=T0 + 60_001), rule=rule).step is Step.RETRY
    assert verdict(ended, Spent(max_attempts=9, total_due=T0), rule=rule).step is Step.FAIL


# -- fixed meanings and other actions ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cls", "step"),
    [
        (OutcomeClass.SUCCEEDED, Step.COMPLETE),
        (OutcomeClass.CANCELLED, Step.CANCEL),
        (OutcomeClass.INVALID, Step.FAIL),
        (OutcomeClass.TIMEOUT, Step.FAIL),
        (OutcomeClass.REJECTED, Step.FAIL),
        (OutcomeClass.UNKNOWN, Step.FAIL),
        (OutcomeClass.JOB_DELETED, Step.CANCEL),
        (OutcomeClass.NODE_LOST, Step.WAIT),
    ],
)
def test_default_ends(cls: OutcomeClass, step: Step) -> None:
    """The defaults of a HeavyQueue that names none."""
    assert verdict(end(cls), Spent(max_attempts=9)).step is step


@pytest.mark.parametrize(("waited", "step"), [(0, Step.WAIT), (599_999, Step.WAIT), (600_000, Step.RETRY)])
def test_replace_waits_for_the_node_first(waited: int, step: Step) -> None:
    """`after` counts from when the pod was overdue."""
    rule = Rule(action=Action.REPLACE, after_ms=600_000)
    found = verdict(end(OutcomeClass.NODE_LOST, since=T0), Spent(), now=T0 + waited, rule=rule)
    assert found.step is step
    assert found.delay_ms == (600_000 - waited if step is Step.WAIT else 0)


def test_any_class_can_be_cancelled_by_a_rule() -> None:
    """`action: Cancel` ends the job as cancelled."""
    assert verdict(end(OutcomeClass.OOM), Spent(), rule=Rule(action=Action.CANCEL)).step is Step.CANCEL
