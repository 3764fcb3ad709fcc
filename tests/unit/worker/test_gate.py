"""Breakers and the gate, on a clock that needs no waiting."""

from __future__ import annotations

from heavylift_worker.breaker import Breaker, State
from heavylift_worker.gate import Gate, Room
from tests.unit.worker.fakes import QuickClock

SERVING = {"q1": "a", "q2": "a", "q3": "b"}


def _breaker() -> tuple[Breaker, QuickClock]:
    clock = QuickClock()
    return Breaker(threshold=3, pause_s=30, monotonic=clock.monotonic), clock


def test_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count anew."""
    breaker, _ = _breaker()

    assert [breaker.failed("x") for _ in range(2)] == [False, False]
    assert breaker.succeeded() is False
    assert [breaker.failed("x") for _ in range(3)] == [False, False, True]
    assert (breaker.state, breaker.room) == (State.OPEN, 0)


def test_one_probe_after_the_pause() -> None:
    """Half open lets one through; its success closes, its failure opens for twice as long."""
    breaker, clock = _breaker()
    breaker.failed("x", at_once=True)

    clock.seconds += 30
    assert (breaker.state, breaker.room) == (State.HALF_OPEN, 1)
    breaker.probe()
    assert breaker.room == 0
    assert breaker.failed("again") is True
    clock.seconds += 30
    assert breaker.state is State.OPEN
    clock.seconds += 30
    assert breaker.room == 1
    assert breaker.succeeded() is True
    assert (breaker.state.value, breaker.why) == ("closed", "")


def test_probe_without_a_verdict_does_not_block_for_ever() -> None:
    """A probe that was handed back is followed by another after a pause."""
    breaker, clock = _breaker()
    breaker.failed("x", at_once=True)
    clock.seconds += 30
    breaker.probe()
    assert breaker.room == 0

    clock.seconds += 30

    assert breaker.room == 1


def test_pause_has_a_limit() -> None:
    """However often probes fail, one goes out every five minutes."""
    breaker, clock = _breaker()
    for _ in range(20):
        breaker.failed("x", at_once=True)
        clock.seconds += 300
        assert breaker.room == 1


def test_a_failing_namespace_closes_all_its_queues() -> None:
    """Five failures in a namespace pause its queues and no others; then one job probes for the whole namespace."""
    clock = QuickClock()
    gate = Gate(5, 30.0, clock.monotonic)
    assert gate.room(SERVING) == Room(("q1", "q2", "q3"), ())

    opened = [gate.namespace_failed("a", "quota") for _ in range(5)]

    assert opened == [False] * 4 + [True]
    assert gate.room(SERVING) == Room(("q3",), ())
    clock.seconds += 30
    assert gate.room(SERVING) == Room(("q3",), ("q1",))
    gate.probing("q1", "a")
    assert gate.room(SERVING) == Room(("q3",), ())
    assert gate.created("q1", "a") is True
    assert gate.room(SERVING) == Room(("q1", "q2", "q3"), ())


def test_a_refused_queue_pauses_alone() -> None:
    """A queue's own breaker opens by its HeavyQueue's threshold; its neighbours in the namespace go on."""
    clock = QuickClock()
    gate = Gate(5, 30.0, clock.monotonic)

    assert [gate.queue_failed("q1", "denied", threshold=2) for _ in range(2)] == [False, True]
    assert gate.room(SERVING) == Room(("q2", "q3"), ())
    assert gate.open_names()["queue"]["q1"] is State.OPEN
    gate.renewed("q1")
    assert gate.room(SERVING) == Room(("q1", "q2", "q3"), ())


def test_no_more_is_claimed_for_a_namespace_that_is_being_retried() -> None:
    """While creates are being retried in a namespace, its queues wait; others go on."""
    gate = Gate(5, 30.0, QuickClock().monotonic)

    gate.retrying["a"] += 1
    assert gate.room(SERVING) == Room(("q3",), ())
    gate.retrying["a"] -= 1
    assert gate.room(SERVING) == Room(("q1", "q2", "q3"), ())
