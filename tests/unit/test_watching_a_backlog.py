"""What is said to be wrong while a backlog is watched: each check finds what it is there for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from heavylift.store import Event
from tests.benchmarks.census import Census
from tests.benchmarks.watch import Past, Seen, compare_oldest, judge
from tests.proofs.kube import Kube

Json = dict[str, Any]


def seen() -> Seen:
    """Return nothing seen yet, of a width of two and three finished Jobs kept."""
    return Seen(width=2, retention=3)


def events(*told: str) -> list[Event]:
    """Return events from ``name job``, a millisecond apart."""
    return [
        Event(id=f"{at}-0", at=at, name=name, job=job, fields={})
        for at, (name, _, job) in enumerate((one.partition(" ") for one in told), start=1)
    ]


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (["active a", "active b", "completed a", "active c", "retrying b", "active d"], []),
        (["active a", "active b", "active c", "completed a"], ["3 in flight after event 7-0"]),
    ],
)
def test_more_in_flight_than_the_width_is_said(told: list[str], wrong: list[str]) -> None:
    """Between any two events, however short it was."""
    found, past = seen(), Past(2)
    past.take(events(*(f"added {job}" for job in "abcd"), *told), found)
    assert found.wrong == wrong


def test_waits_and_the_oldest_come_from_the_history() -> None:
    """A job waits from its event to its claim; the oldest is whoever has waited longest of those left."""
    found, past = seen(), Past(2)
    past.take(events("added a", "added b", "added c", "active b", "active a", "retrying a", "waiting a"), found)
    assert past.waits_ms == [2, 4]
    assert past.oldest() == 3


@pytest.mark.parametrize(
    ("before", "told", "after", "right"),
    [
        (5, 5, 5, True),
        (5, 6, 7, True),
        (5, 4, 7, False),
        (5, 8, 7, False),
        (5, None, 7, False),
        (None, 6, 7, False),
        (None, None, None, True),
        (5, None, None, True),
        (5, 5, None, False),
    ],
)
def test_an_oldest_beside_the_history_is_said(
    before: int | None, told: int | None, after: int | None, *, right: bool
) -> None:
    """It lies between what the history says just before and just after."""
    found = seen()
    compare_oldest(before, told, after, found)
    assert (found.wrong == []) is right


def job(uid: str, *, ended: str = "") -> Json:
    """Return a Job as a watch shows it."""
    conditions = [{"type": ended, "status": "True"}] if ended else []
    return {"metadata": {"uid": uid}, "status": {"conditions": conditions}}


def census() -> Census:
    """Return a census that is told its events here."""
    return Census(cast("Kube", None), "ns")


def test_jobs_are_counted_after_each_change() -> None:
    """The most that stood, and the most that had not ended; a Job seen twice is one."""
    one = census()
    for kind, what in [
        ("ADDED", job("a")),
        ("MODIFIED", job("a")),
        ("ADDED", job("b")),
        ("MODIFIED", job("a", ended="SuccessCriteriaMet")),
        ("MODIFIED", job("a", ended="Complete")),
        ("ADDED", job("c")),
        ("MODIFIED", job("b", ended="Failed")),
        ("DELETED", job("a", ended="Complete")),
        ("ADDED", job("d")),
    ]:
        one.take(kind, what)
    assert (one.most, one.most_unfinished) == (3, 2)


@pytest.mark.parametrize(
    ("most", "unfinished", "trouble", "wrong"),
    [
        (5, 2, "", []),
        (6, 2, "", ["6 Jobs in the API server"]),
        (5, 3, "", ["3 Jobs at work in the API server"]),
        (1, 1, "410", ["Jobs were not counted throughout: 410"]),
    ],
)
def test_more_jobs_than_there_may_be_are_said(most: int, unfinished: int, trouble: str, wrong: list[str]) -> None:
    """More at work than the width, more at all than width and retention, or a gap in the counting."""
    one, found = census(), seen()
    one.most, one.most_unfinished, one.trouble = most, unfinished, trouble
    judge(one, found)
    assert found.wrong == wrong
