"""The pure model of the queue and the real scripts, over random sequences of operations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.model
from tests.model.clocked import ClockedStore
from tests.model.sequences import dump, load, opened, play, replay, shrink
from tests.servers import StoreServer

SEQUENCES, STEPS, PARTS = 1000, 50, 5
SEED = 20_260_101
"""The same sequences in every run; ``python -m tests.model --sequences 20000`` looks for new ones."""
REGRESSIONS = sorted((Path(tests.model.__file__).parent / "regressions").glob("*.json"))


@pytest.fixture
def store(store_server: StoreServer) -> Iterator[ClockedStore]:
    """Give a clocked store on each server."""
    with opened(store_server.url) as found:
        yield found


@pytest.mark.parametrize("part", range(PARTS))
def test_scripts_do_what_the_model_does(store: ClockedStore, store_server: StoreServer, part: int) -> None:
    """Whatever is asked of both, answers, lists, registries, counts, events and jobs are the same after every step."""
    each = SEQUENCES // PARTS // 2
    first = SEED + (2 * part + ("valkey" in store_server.binary)) * each
    for seed in range(first, first + each):
        steps, found = play(store, seed, STEPS)
        if found:
            short = shrink(store, steps)
            pytest.fail(f"seed {seed}: {found}\nas short as it gets: {replay(store, short)}\n{dump(short)}")


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_once_differed_does_no_more(store: ClockedStore, path: Path) -> None:
    """Sequences that once showed a fault, as short as they got, play without one."""
    assert replay(store, load(path.read_text())) == ""


def test_a_fault_is_seen_and_shrunk(store: ClockedStore) -> None:
    """A model that forgets to count a cancelled job is caught, by as few steps as that takes."""
    steps = load(
        '[["time", {"ms": 5}], ["enqueue", {"job": 1, "value": 0, "named": false, "queue": "alpha", "strict": false}],'
        ' ["time", {"ms": 9}], ["cancel", {"job": 1}], ["look", {"queue": "beta"}]]'
    )
    assert replay(store, steps) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heavylift.testing.changing.Changing.displace", lambda *_: None)
        patch.setattr("heavylift.testing.moves.Moves.dedup_end", lambda *_: None)
        steps[3] = ("remove", {"job": 1})
        assert "alpha/levels/0" in replay(store, steps)
        assert [name for name, _ in shrink(store, steps)] == ["enqueue", "remove"]
