"""What follows an end by its rule: exact delay tables, jitter, budgets, starts and total time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.contract.outcomes import Action, OutcomeClass
from heavylift.spec.following import Backoff, Case, Cost, Decision, Spent, Step, backoff_from, bounded, follow
from heavylift.spec.rules import Rule

SECOND, MINUTE = 1000, 60_000
RETRY = Rule(action=Action.RETRY)
NOW = 1_795_000_000_000


class Fixed:
    """A random source that always gives one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        """Return it."""
        return self.value


def lived(backoff: Backoff, max_attempts: int, source: Fixed | random.Random | None = None) -> list[int]:
    """Return the waits of a job whose every attempt fails, until it is given up."""
    waits: list[int] = []
    for made in range(1000):
        case = Case(cls="error", now=NOW)
        spent = Spent(attempts=made, max_attempts=max_attempts, starts=min(made + 1, 99))
        found = follow(RETRY, case, spent, backoff, source or Fixed(0.0))
        assert found.cost is Cost.ATTEMPT
        if found.step is Step.FAIL:
            return waits
        assert found.step is Step.RETRY
        waits.append(found.delay_ms)
    raise AssertionError("it never ended")


# -- growing delays ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("attempts", "backoff", "waits"),
    [
        (5, {"delay": MINUTE}, [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]),
        (5, {"delay": 2 * SECOND}, [2000, 4000, 8000, 16_000]),
        (3, {"delay": 2 * SECOND}, [2000, 4000]),
        (1, {"delay": 2 * SECOND}, []),
        (2, {"delay": 0}, [0]),
        (6, {"delay": 1, "max": 5}, [1, 2, 4, 5, 5]),
        (9, {"delay": 600 * SECOND}, [600_000, 1_200_000, 2_400_000] + [3_600_000] * 5),
        (4, {"type": "Fixed", "delay": 3333}, [3333, 3333, 3333]),
        (3, {"type": "Fixed", "delay": 7_200_000}, [7_200_000, 7_200_000]),
        (3, {"delay": 7_200_000}, [7_200_000, 7_200_000]),
        (4, {"delay": 123_457}, [123_457, 246_914, 493_828]),
    ],
)
def test_delay_tables(attempts: int, backoff: dict[str, object], waits: Sequence[int]) -> None:
    """As many waits as attempts less one; delay x 2^(n-1) to the millisecond, no longer than max; Fixed stays."""
    assert lived(backoff_from({"backoff": {"jitterPercent": 0, **backoff}}), attempts) == list(waits)


def test_five_attempts_take_fifteen_minutes() -> None:
    """First at once, then after 1, 2, 4 and 8 minutes."""
    assert sum(lived(Backoff(jitter=0), 5)) == 15 * MINUTE


# -- jitter -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("jitter", "drawn", "delay"),
    [
        (0.5, 0.0, 60_000),
        (0.5, 0.5, 45_000),
        (0.5, 1.0, 30_000),
        (1.0, 1.0, 0),
        (0.0, 0.7, 60_000),
        (0.25, 0.4, 54_000),
    ],
)
def test_jitter_formula(jitter: float, drawn: float, delay: int) -> None:
    """The delay is d x (1 - jitter x u) for a u drawn from [0, 1)."""
    assert Backoff(jitter=jitter).delay(1, Fixed(drawn)) == delay


@pytest.mark.parametrize(("percent", "low"), [(50, 30_000), (100, 0), (10, 54_000)])
def test_jitter_is_uniform_within_its_bounds(percent: int, low: int) -> None:
    """20,000 draws of a seeded generator: all within [(1-j)d, d], each tenth of it hit as often as any other."""
    backoff, source = backoff_from({"backoff": {"delay": MINUTE, "jitterPercent": percent}}), random.Random(20_261_122)
    tenths = [0] * 10
    for _ in range(20_000):
        delay = backoff.delay(1, source)
        assert low <= delay <= MINUTE
        tenths[min(int((delay - low) * 10 / (MINUTE - low)), 9)] += 1
    chi_square = sum((count - 2000) ** 2 / 2000 for count in tenths)
    assert chi_square < 27.9, tenths  # 9 degrees of freedom: one in a thousand


@given(
    delay=st.integers(0, 10**9),
    longest=st.integers(0, 10**9),
    percent=st.integers(0, 100),
    failures=st.integers(1, 200),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_no_delay_leaves_its_bounds(delay: int, longest: int, percent: int, failures: int, drawn: float) -> None:
    """Whatever the numbers: a whole number of ms between (1-j)d and d, d no longer than max."""
    backoff = backoff_from({"backoff": {"delay": delay, "max": longest, "jitterPercent": percent}})
    whole = min(delay * 2 ** min(failures - 1, 40), longest)
    assert whole * (100 - percent) / 100 - 1 <= backoff.delay(failures, Fixed(drawn)) <= whole


# -- delays by error --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("asked", [0, 1, 10_000, 120_000])
def test_a_delay_the_program_asked_for_is_taken_as_it_is(asked: int) -> None:
    """No jitter, no maximum: 0 is now; the attempt is spent all the same."""
    found = follow(RETRY, Case(cls="error", now=NOW, asked_ms=asked), Spent(max_attempts=2), Backoff(), Fixed(0.9))
    assert found == Decision(step=Step.RETRY, cost=Cost.ATTEMPT, delay_ms=asked)


# -- the classes' own budgets -----------------------------------------------------------------------------------------
def test_a_budget_backs_off_by_its_own_count() -> None:
    """Attempts spent by errors do not lengthen the waits of disruptions, nor the other way round."""
    rule = Rule(action=Action.RETRY, max_retries=20)
    spent = Spent(attempts=7, max_attempts=9, budgets={"disrupted": 2, "lost": 9})
    found = follow(rule, Case(cls="disrupted", now=NOW), spent, Backoff(jitter=0), Fixed(0))
    assert found == Decision(step=Step.RETRY, cost=Cost.BUDGET, delay_ms=4 * MINUTE)


@pytest.mark.parametrize("cls", [cls.value for cls in OutcomeClass])
def test_each_class_exhausts_only_its_own_budget(cls: str) -> None:
    """Two retries of one class are two, whatever the others have spent."""
    rule, others = Rule(action=Action.REQUEUE, max_retries=2), {other.value: 2 for other in OutcomeClass}
    case = Case(cls=cls, now=NOW)
    within = follow(rule, case, Spent(budgets={**others, cls: 1}), Backoff(), Fixed(0))
    beyond = follow(rule, case, Spent(budgets={**others, cls: 2}), Backoff(), Fixed(0))
    assert (within.step, beyond.step, beyond.why) == (Step.RETRY, Step.FAIL, f"after 2 of 2 retries for {cls}")


# -- starts and total time --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("due", "delay", "step", "why"),
    [
        (None, 10**9, Step.RETRY, ""),
        (NOW + 60_001, MINUTE, Step.RETRY, ""),
        (NOW + MINUTE, MINUTE, Step.FAIL, "of its total time 1m is left, its next start would be in 1m"),
        (NOW + 1, 0, Step.RETRY, ""),
        (NOW, 0, Step.FAIL, "its total time is over"),
        (NOW - 5, 0, Step.FAIL, "its total time is over"),
    ],
)
def test_nothing_starts_after_the_total_time(due: int | None, delay: int, step: Step, why: str) -> None:
    """A start that would come at the end or later is not waited for; the failure says so."""
    found = bounded(Decision(step=Step.RETRY, delay_ms=delay), Spent(total_due=due), NOW)
    assert (found.step, found.why) == (step, why)


@pytest.mark.parametrize(("starts", "step"), [(99, Step.RETRY), (100, Step.FAIL), (101, Step.FAIL)])
def test_a_hundred_starts_are_the_most(starts: int, step: Step) -> None:
    """Also for what spends nothing; the failure names the number."""
    found = bounded(Decision(step=Step.RETRY), Spent(starts=starts), NOW)
    assert found.step is step
    assert (f"started {starts} times" in found.why) is (step is Step.FAIL)


# -- growth of memory -------------------------------------------------------------------------------------------------
MI = 1024**2


@pytest.mark.parametrize(
    ("percent", "most", "limits"),
    [
        (50, 1000 * MI, [96, 144, 216, 324, 486, 729, 1000, None]),
        (100, 512 * MI, [64, 128, 256, 512, None]),
        (10, 40 * MI, [32, 36, 40, None]),
        (1, 100 * MI, [98, 99, 100, None]),
    ],
)
def test_memory_grows_in_whole_mebibytes_up_to_its_end(percent: int, most: int, limits: list[int | None]) -> None:
    """Each end as oom asks for so much more; at the end of growth it stays."""
    rule = Rule(action=Action.RETRY, growth_percent=percent, memory_max=most)
    for now, after in itertools.pairwise(limits):
        assert now is not None
        assert rule.grown(now * MI) == (None if after is None else after * MI)


def test_no_rule_or_no_limit_no_growth() -> None:
    """Without a limit nothing is known to grow from; a larger one a producer was allowed is left alone."""
    rule = Rule(action=Action.RETRY, growth_percent=50, memory_max=100 * MI)
    assert (rule.grown(None), rule.grown(200 * MI), RETRY.grown(64 * MI)) == (None, None, None)
