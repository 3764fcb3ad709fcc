"""How long finished Jobs stay, by the tempo at which they end."""

from __future__ import annotations

import pytest

from heavylift_operator.core.staying import QUEUES_MAX, Staying

MINUTES_10 = 600_000


def stays(rate: float, ends: int, *, success: bool = True, count: int = 200) -> list[int]:
    """Return how long each of so many Jobs stays that end at a rate per second."""
    staying = Staying()
    return [staying.seconds("q", success=success, wanted_ms=MINUTES_10, count=count, now=n / rate) for n in range(ends)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(0.1, 600), (0.2, 600), (0.5, 280), (1.0, 140), (2.0, 70), (20.0, 60)],
)
def test_successes_that_come_fast_stay_shorter(rate: float, expected: int) -> None:
    """So that seven tenths of the count stand at any time; never less than a minute, never longer than is wished."""
    found = stays(rate, 1000)
    assert found[:140] == [600] * 140  # fewer than may stay
    assert set(found[140:]) == {expected}


@pytest.mark.parametrize("rate", [0.3, 1.0, 2.3])
def test_the_count_is_kept_without_a_delete(rate: float) -> None:
    """Once those of before have gone, fewer Jobs stand than the count at which the janitor begins."""
    found = stays(rate, 3000)
    leaves = [n / rate + stay for n, stay in enumerate(found)]
    for n in range(2000, 3000, 50):
        standing = sum(leave > n / rate for leave in leaves[: n + 1])
        assert standing <= 200 * 9 // 10


def test_failures_stay_their_time() -> None:
    """However many there are; and where nothing is set, a day."""
    assert set(stays(5.0, 1000, success=False)) == {600}
    assert Staying().seconds("q", success=False, wanted_ms=None, count=200, now=0.0) == 86_400
    assert Staying().seconds("q", success=True, wanted_ms=None, count=200, now=0.0) == 600


def test_a_tempo_that_falls_gives_time_back() -> None:
    """After a burst, Jobs stay long again; a changed count counts at once."""
    staying = Staying()
    burst = [staying.seconds("q", success=True, wanted_ms=MINUTES_10, count=200, now=n / 10) for n in range(500)]
    assert burst[-1] == 60
    later = [staying.seconds("q", success=True, wanted_ms=MINUTES_10, count=200, now=50 + n * 10) for n in range(200)]
    assert later[-1] == 600
    assert staying.seconds("q", success=True, wanted_ms=MINUTES_10, count=0, now=3000.0) == 600


def test_queues_without_end_take_no_memory_without_end() -> None:
    """The one that was new longest ago is forgotten."""
    staying = Staying()
    for n in range(2 * QUEUES_MAX):
        staying.seconds(f"q{n}", success=True, wanted_ms=MINUTES_10, count=200, now=0.0)
    assert len(staying._ends) == QUEUES_MAX
