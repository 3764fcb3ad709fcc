"""The checker of histories finds each kind of broken promise, and nothing in a sound history."""

from __future__ import annotations

import dataclasses
import json

import pytest

from heavylift.contract.keys import Field
from tests.proofs.history import History, Line, Standing, check

FIRST, SECOND = "inc-1", "inc-2"


def lines(*steps: tuple[str, str, dict[str, str]]) -> list[Line]:
    """Return one job's events from (name, execution, more fields)."""
    return [
        Line(f"{n}-0", "q", name, "a", n, {"event": name, "job": "a", "execution": execution, **more})
        for n, (name, execution, more) in enumerate(steps)
    ]


def sound(**changes: object) -> History:
    """Return the history of one job that failed once, ran again and completed, with changes."""
    whole = History(
        accepted=frozenset({"a"}),
        events=lines(
            ("added", "", {}),
            ("active", FIRST, {}),
            ("recorded", FIRST, {"uid": "u1"}),
            ("retrying", FIRST, {}),
            ("active", SECOND, {}),
            ("recorded", SECOND, {"uid": "u2"}),
            ("completed", SECOND, {"final": "1"}),
        ),
        uids={("a", FIRST): {"u1"}, ("a", SECOND): {"u2"}},
        jobs={
            "a": {
                "status": "finished",
                Field.EXECUTION: SECOND,
                Field.JOB_UID: "u2",
                Field.OUTCOME: json.dumps({"execution": SECOND}),
                Field.HISTORY: json.dumps([{"execution": FIRST}, {"execution": SECOND}]),
            }
        },
        left={"heavylift:inflight:i": []},
        standing=[Standing("n", "u2", "a", SECOND, finalized=True, held=False)],
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]  # fields by name, on purpose


def test_sound_history_breaks_nothing() -> None:
    """A job that was retried and completed, with one Job each, is sound."""
    assert check(sound()) == []


def job(**changes: str) -> dict[str, dict[str, str]]:
    """Return the sound job's hash with changes."""
    return {"a": {**sound().jobs["a"], **changes}}


EVENTS = list(sound().events)

BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "lost": ({"jobs": {}}, "accepted and has no end: no hash"),
    "stuck": ({"jobs": job(status="started")}, "no end: started"),
    "never ended": ({"events": EVENTS[:-1]}, "0 terminal events"),
    "ended twice": ({"events": [*EVENTS, EVENTS[-1]]}, "2 terminal events"),
    "unknown end": ({"accepted": frozenset(), "jobs": {}}, "was never accepted"),
    "two Jobs": ({"uids": {("a", FIRST): {"u1", "u9"}, ("a", SECOND): {"u2"}}}, "2 Jobs for execution inc-1"),
    "stranger": ({"uids": {**sound().uids, ("b", "x-1"): {"u3"}}}, "which nobody claimed"),
    "false UID in an event": ({"uids": {("a", FIRST): {"u1"}, ("a", SECOND): {"u7"}}}, "names Job UID u2"),
    "false UID in the hash": ({"jobs": job(**{Field.JOB_UID: "u8"})}, "holds Job UID u8"),
    "claimed twice": ({"events": [*EVENTS[:3], *EVENTS[4:]]}, "claimed as inc-2 while inc-1 was current"),
    "back in seq": ({"events": [*EVENTS[:1], *EVENTS[4:6], *EVENTS[3:4], *EVENTS[1:3]]}, "back from seq 2 to 1"),
    "moved after its end": ({"events": [*EVENTS, EVENTS[1]]}, "had event active (inc-1) after its end"),
    "ended by an old execution": (
        {"events": [*EVENTS[:-1], dataclasses.replace(EVENTS[-1], fields={**EVENTS[-1].fields, "execution": FIRST})]},
        "ended by inc-1, but inc-2 was current",
    ),
    "another's outcome": (
        {"jobs": job(**{Field.OUTCOME: json.dumps({"execution": FIRST})})},
        "holds the outcome of inc-1",
    ),
    "counted twice": (
        {"jobs": job(**{Field.HISTORY: json.dumps([{"execution": FIRST}, {"execution": FIRST}])})},
        "execution inc-1 2 times in its history",
    ),
    "left in flight": ({"left": {"heavylift:inflight:i": ["a:inc-2"]}}, "heavylift:inflight:i still holds 1"),
    "not finalized": (
        {"standing": [Standing("n", "u2", "a", SECOND, finalized=False, held=True)]},
        "Job n of job a is not finalized",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_history_is_named(kind: str) -> None:
    """Each kind of broken promise gives a sentence that names it."""
    changes, words = BROKEN[kind]
    assert any(words in sentence for sentence in check(sound(**changes))), check(sound(**changes))


def test_declared_loss_is_no_breach() -> None:
    """A job that Redis lost, and whose loss is declared, may be gone and leave a Job behind."""
    gone = sound(jobs={}, events=[], lost=frozenset({"a"}), standing=[])
    assert check(gone) == []
