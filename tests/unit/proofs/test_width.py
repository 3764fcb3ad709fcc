"""The checker of widths finds a claim too many, whoever tells of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import pytest

from heavylift.contract.keys import Keys
from tests.proofs.history import History, Line, check
from tests.proofs.width import Step, Term, Width, WidthWatch

if TYPE_CHECKING:
    import redis

TERMS = (Term(0, "a", 30_000), Term(1000, "b", 31_000), Term(5000, "a", 0))
"""One dispatcher from 0 s, two from 1 s, one from 5 s, none from 31 s."""


def claimed(*claims: tuple[str, int], ends: tuple[tuple[str, int], ...] = ()) -> list[Line]:
    """Return the events of claims and ends: (job, ms)."""
    marks = [(at, "active", job) for job, at in claims] + [(at, "completed", job) for job, at in ends]
    return [
        Line(f"{at}-{n}", "q", name, job, at, {"final": "1" if name == "completed" else "", "execution": f"{job}-1"})
        for n, (at, name, job) in enumerate(sorted(marks))
    ]


def broken(events: list[Line], width: Width) -> list[str]:
    """Return what the rule of the width says of events."""
    whole = History(accepted=frozenset(), events=events, uids={}, jobs={}, width=width)
    return [sentence for sentence in check(whole) if "in flight" in sentence]


@pytest.mark.parametrize(
    ("claims", "ends", "count"),
    [
        ((("j", 100),), (), 0),
        ((("j", 100), ("k", 200)), (), 1),
        ((("j", 100), ("k", 1000)), (), 0),
        ((("j", 100), ("k", 2000), ("l", 2100)), (), 1),
        ((("j", 100), ("k", 300)), (("j", 200),), 0),
        ((("j", 100), ("k", 2000), ("l", 6000)), (("j", 5500),), 1),
        ((("j", 100), ("k", 2000), ("l", 6000)), (("j", 5500), ("k", 5600)), 0),
        ((("j", 40_000),), (), 1),
    ],
)
def test_events_beside_registrations(
    claims: tuple[tuple[str, int], ...], ends: tuple[tuple[str, int], ...], count: int
) -> None:
    """With one slot each, more claims than live dispatchers are named; what an end or a newcomer frees is not."""
    assert len(broken(claimed(*claims, ends=ends), Width(1, TERMS))) == count


def test_order_of_the_server() -> None:
    """A claim a microsecond before the dispatcher that would make room for it is a breach; after it, it is not."""
    join, more, late = Step(10, joins=True, member="j:1"), Step(10, joins=True, member="k:1"), Term(10, "b", 9000)
    width = Width(1, (), (Term(0, "a", 9000), join, late, more))

    assert list(width.breaches()) == []
    swapped = dataclasses.replace(width, order=(Term(0, "a", 9000), join, more, late))
    assert list(swapped.breaches()) == ["k:1 joined 1 in flight with 1 dispatchers of 1 slots"]


def test_same_member_again_is_no_claim_more() -> None:
    """An execution that is written again does not count twice; one that left makes room."""
    first, again = Step(10, joins=True, member="j:1"), Step(20, joins=True, member="j:1")
    gone, other = Step(30, joins=False, member="j:1"), Step(40, joins=True, member="k:1")

    assert list(Width(1, (), (Term(0, "a", 9000), first, again, gone, other)).breaches()) == []


def test_what_the_server_shows_is_read_in_pairs() -> None:
    """One command may add many, each with its score."""
    keys = Keys()
    watch = WidthWatch(cast("redis.Redis", None), "prod", 5)
    for at, line in enumerate((
        f"ZADD {keys.dispatchers('prod')} 9000 w1",
        f"ZADD {keys.inflight('prod')} 10 a:1 10 b:1",
        f"ZREM {keys.inflight('prod')} a:1 b:1",
        f"zrem {keys.dispatchers('prod')} w1",
        f"ZADD {keys.inflight('other')} 10 c:1",
        "PING",
    )):  # fmt: skip
        watch._note(at, line.split())

    joined = [Step(1, joins=True, member="a:1"), Step(1, joins=True, member="b:1")]
    left = [Step(2, joins=False, member="a:1"), Step(2, joins=False, member="b:1")]
    assert watch.width().order == [Term(0, "w1", 9000), *joined, *left, Term(3, "w1", 0)]
