"""Values made of the same words are made once, and never mixed up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from heavylift import Backoff, Timeouts
from heavylift.contract.durations import to_ms
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


class OwnText(str):
    """Text of a user's own type, which says when two are equal and is no key."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # as when only __eq__ is defined

    @override
    def __eq__(self, other: object) -> bool:
        return True


def test_text_of_a_users_own_type_is_read_as_it_stands() -> None:
    """What is remembered is plain text: nothing else decides what is equal to it."""
    assert to_ms("5s") == 5_000
    assert to_ms(OwnText("7s")) == 7_000
    assert to_ms("5s") == 5_000
    assert Timeouts(run=OwnText("2m")).to_json() == {"run": 120_000}
    assert Backoff.fixed(OwnText("3s")).delay_ms == 3_000


def test_a_text_too_long_to_be_meant_is_refused() -> None:
    """What is remembered takes a bounded part of the memory, however long a text that somebody sends."""
    assert to_ms("0s" * 40 + "5s") == 5_000
    with pytest.raises(InvalidDurationError, match="is not a duration"):
        to_ms("0s" * 100_000)
