"""How calls of one script share a command."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError, TryAgainError

from heavylift.store.joint import Asked, alone, left_over, post

HEAD = ("EVALSHA", "abc", 0, "rq", "heavylift")


def _asked(*own: str, most: int = 3, head: tuple[str | int, ...] = HEAD) -> Asked:
    return Asked((*head, *own), most)


def test_calls_of_one_script_share_a_command_up_to_its_bound() -> None:
    """Five calls of a script that takes three go as three and two, and each has its own answer."""
    sent = post([_asked(f"a{n}", f"b{n}") for n in range(5)])
    assert [parcel.words for parcel in sent.parcels] == [
        [*HEAD, "a0", "b0", "a1", "b1", "a2", "b2"],
        [*HEAD, "a3", "b3", "a4", "b4"],
    ]
    assert list(sent.answers([["0", "1", "2"], ["3", "4"]])) == ["0", "1", "2", "3", "4"]


def test_what_stands_between_keeps_its_place() -> None:
    """Another script, a plain command and a script that takes one at a time share nothing; answers come as asked."""
    other = ("EVALSHA", "def", 0, "rq", "heavylift")
    single = [_asked("d", most=1), _asked("e", most=1)]
    sent = post([_asked("a"), _asked("b", head=other), Asked(("PING",)), _asked("c"), *single])
    assert [len(parcel.words) - 5 for parcel in sent.parcels] == [1, 1, -4, 1, 1, 1]
    assert list(sent.answers([["a"], ["b"], "PONG", ["c"], "d", "e"])) == ["a", "b", "PONG", "c", "d", "e"]


def test_an_error_of_the_command_is_everybodys() -> None:
    """Where Redis refuses the whole call, each that is in it hears of it; others do not."""
    error = ValueError("NOSCRIPT")
    sent = post([_asked("a"), _asked("b"), Asked(("PING",))])
    assert list(sent.answers([error, "PONG"])) == [error, error, "PONG"]


def test_an_error_of_one_is_its_own() -> None:
    """An error among the answers belongs to one call; alone, it is raised."""
    error = ValueError("OOM")
    assert list(post([_asked("a"), _asked("b")]).answers([["fine", error]])) == ["fine", error]
    assert alone(_asked("a"), ["fine"]) == "fine"
    assert alone(Asked(("PING",)), "PONG") == "PONG"
    with pytest.raises(ValueError, match="OOM"):
        alone(_asked("a"), [error])


def test_only_those_that_others_kept_back_are_asked_for_again() -> None:
    """Not what failed for another reason; and nothing, where no call did anything."""
    full, late = ResponseError("OOM command not allowed"), TryAgainError("one call does not do so much")
    assert left_over(["fine", late, full, late]) == [1, 3]
    assert left_over([late, late]) == []
    assert left_over([]) == []
