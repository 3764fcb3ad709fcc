"""Values made of the same words are made once, and never mixed up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from heavylift import Backoff
from heavylift.errors import InvalidDurationError, InvalidInputError
from heavylift.remembered import remembered


def test_the_same_words_give_the_same_object() -> None:
    """Producers that write a backoff for each job of a batch have one made."""
    assert Backoff.exponential("10s", max="10m") is Backoff.exponential("10s", max="10m")
    assert Backoff.fixed("10s") != Backoff.exponential("10s", jitter=0.0)
    assert Backoff.fixed(timedelta(seconds=10)) == Backoff.fixed("10s") == Backoff.fixed(10)


@pytest.mark.parametrize("bad", [True, [1], {"s": 1}, "10", float("nan")])
def test_what_is_refused_is_refused_after_what_equals_it(bad: Any) -> None:
    """Nothing that was good before lets a bad value through, and what no cache can hold is named as ever."""
    Backoff.fixed(1)
    for _ in range(2):
        with pytest.raises(InvalidDurationError, match="backoff delay"):
            Backoff.fixed(bad)
    with pytest.raises(InvalidInputError, match="jitter"):
        Backoff.exponential(1, jitter=True)


def test_an_error_of_the_makers_own_stays_its_own() -> None:
    """What the function raises comes through, whatever its type."""

    def make(value: object) -> object:
        raise TypeError(f"not {value}")

    with pytest.raises(TypeError, match="not 1"):
        remembered(make)(1)
