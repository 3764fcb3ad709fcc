"""Checkpoints and resumable loops, called here as a task's tests would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from heavylift.context import Context, StopFlag, Stopped
from heavylift.errors import ConfigurationError, InvalidPayloadError, PayloadTooLargeError
from heavylift.kept import Kept, own_state, parse


class Attempt:
    """One attempt's context, and what it wrote."""

    def __init__(self, before: str | None = None) -> None:
        self.written: list[str] = []
        self.flag = StopFlag()
        restored = parse(before or "")
        self.kept = Kept(restored, self.written.append)
        self.ctx = Context(restored=own_state(restored), _stop=self.flag, _kept=self.kept)


def test_a_checkpoint_is_written_at_once_and_given_back() -> None:
    """Each one takes the place of the one before; the next attempt finds the last."""
    first = Attempt()
    assert first.ctx.restored is None
    first.ctx.checkpoint({"page": 1})
    first.ctx.checkpoint({"page": 2, "näme": "ü"})
    assert first.written == ['{"page":1}', '{"page":2,"näme":"ü"}']
    assert Attempt(first.kept.text).ctx.restored == {"page": 2, "näme": "ü"}


def test_an_attempt_that_keeps_nothing_leaves_what_was_kept() -> None:
    """Its envelope says nothing of a checkpoint, so the stored one stays."""
    assert Attempt('{"page":2}').kept.text is None


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_loop_goes_on_where_it_stopped(done: int) -> None:
    """An item counts as finished when the next one is asked for; every item is worked on to its end once."""
    first = Attempt()
    finished: list[int] = []

    def work() -> None:
        for item in first.ctx.resume(range(5)):
            if item == done:
                break
            finished.append(item)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        work()
    finished += list(Attempt(first.kept.text).ctx.resume(range(5)))
    assert finished == [0, 1, 2, 3, 4]


def test_steps_that_are_done_are_not_run_again() -> None:
    """Only the step that failed runs again, with those after it."""
    ran: list[str] = []

    def work(attempt: Attempt) -> None:
        for name in attempt.ctx.resume(["first", "second", "third", "fourth"]):
            ran.append(name)
            if ran == ["first", "second", "third"]:
                raise OSError(name)

    first = Attempt()
    with pytest.raises(OSError, match="third"):
        work(first)
    work(Attempt(first.kept.text))
    assert ran == ["first", "second", "third", "third", "fourth"]


def test_loops_inside_items_and_after_each_other() -> None:
    """An inner loop goes on inside the item under way and starts anew with the next; a finished one is skipped."""
    log: list[tuple[object, ...]] = []

    def work(ctx: Context, stop_at: tuple[object, ...] | None) -> None:
        for outer in ctx.resume("ab", name="outer"):
            for inner in ctx.resume(range(3), name="inner"):
                if (outer, inner) == stop_at:
                    raise OSError
                log.append((outer, inner))
        for last in ctx.resume("xy", name="last"):
            if (last,) == stop_at:
                raise OSError
            log.append((last,))

    before: str | None = None
    for stop in (("a", 1), ("b", 0), ("b", 2), ("y",), None):
        attempt = Attempt(before)
        try:
            work(attempt.ctx, stop)
        except OSError:
            before = attempt.kept.text or before
    assert log == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("x",), ("y",)]


def test_state_and_positions_are_kept_together() -> None:
    """One does not undo the other, and the task never sees the positions."""
    first = Attempt()
    for item in first.ctx.resume(range(3)):
        first.ctx.checkpoint({"sum": item})
        if item == 1:
            break
    assert json.loads(first.kept.text or "") == {"sum": 1, "$resume": {"": 1}}
    second = Attempt(first.kept.text)
    assert second.ctx.restored == {"sum": 1}
    assert list(second.ctx.resume(range(3))) == [1, 2]
    assert json.loads(second.kept.text or "") == {"sum": 1, "$resume": {"": 3}}


def test_two_loops_of_one_name_are_refused() -> None:
    """They could not be told apart in the next attempt."""
    ctx = Attempt().ctx
    assert list(ctx.resume("ab")) == ["a", "b"]
    with pytest.raises(ConfigurationError, match="two loops are named ''"):
        next(iter(ctx.resume("cd")))


def test_sigterm_lets_the_item_at_hand_end() -> None:
    """The attempt then stops between two items, with that item counted."""
    attempt = Attempt()
    seen: list[int] = []

    def work() -> None:
        for item in attempt.ctx.resume(range(5)):
            attempt.flag.seen = item == 2
            seen.append(item)

    with pytest.raises(Stopped) as stopped:
        work()
    assert (seen, stopped.value.code, attempt.flag.watched) == ([0, 1, 2], 143, True)
    assert list(Attempt(attempt.kept.text).ctx.resume(range(5))) == [3, 4]


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ({"rows": "x" * 2040}, PayloadTooLargeError, "2,051 bytes of JSON, more than the 2,048"),
        ({"at": object()}, InvalidPayloadError, "checkpoint.at is a object"),
        ({"n": float("nan")}, InvalidPayloadError, "checkpoint.n is nan"),
        ({"$resume": {}}, InvalidPayloadError, "choose another key"),
        (["page", 1], InvalidPayloadError, "pass a mapping"),
    ],
)
def test_what_cannot_be_kept_is_refused(state: Any, error: type[Exception], words: str) -> None:
    """The message says what to do; what was kept before stands."""
    attempt = Attempt()
    attempt.ctx.checkpoint({"page": 1})
    with pytest.raises(error) as refused:
        attempt.ctx.checkpoint(state)
    assert words in str(refused.value)
    assert attempt.kept.text == '{"page":1}'
    for _ in attempt.ctx.resume(range(1)):
        pass
    assert json.loads(attempt.kept.text) == {"page": 1, "$resume": {"": 1}}


@pytest.mark.parametrize(
    ("stored", "restored"),
    [
        ("", None),
        ("null", None),
        ("[1]", None),
        ("not JSON", None),
        ("[" * 100_000, None),
        ("{}", {}),
        ('{"$resume": {"": 3}}', None),
        ('{"$resume": {"": "3", "a": -1, "b": true}, "x": 1}', {"x": 1}),
        ('{"$resume": 7, "x": 1}', {"x": 1}),
    ],
)
def test_any_stored_text_is_read(stored: str, restored: Mapping[str, Any] | None) -> None:
    """Another program's checkpoint, or none, never stops an attempt; positions that are none count as 0."""
    attempt = Attempt(stored)
    assert attempt.ctx.restored == restored
    assert len(list(attempt.ctx.resume(range(5)))) == (2 if stored == '{"$resume": {"": 3}}' else 5)


def test_a_local_context_keeps_for_itself() -> None:
    """Called here, a task works as in a pod; nothing is written."""
    ctx = Context(restored={"page": 4})
    ctx.checkpoint({"page": 5})
    assert (ctx.restored, list(ctx.resume("ab"))) == ({"page": 4}, ["a", "b"])
