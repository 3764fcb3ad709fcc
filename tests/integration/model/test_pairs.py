"""Each two of a job's options, its queue's settings and its ends, together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.model.clocked import ClockedStore
from tests.model.pairplay import play
from tests.model.pairs import PARAMETERS, covering_array
from tests.model.sequences import opened
from tests.servers import StoreServer


@pytest.fixture
def store(store_server: StoreServer) -> Iterator[ClockedStore]:
    """Give a clocked store on each server."""
    with opened(store_server.url) as found:
        yield found


def test_each_two_values_meet() -> None:
    """The array has a row for any two values of any two parameters."""
    rows = covering_array()
    for one, other in itertools.combinations(PARAMETERS, 2):
        met = {(str(row[one]), str(row[other])) for row in rows}
        assert met == {(str(a), str(b)) for a in PARAMETERS[one] for b in PARAMETERS[other]}, (one, other)


def test_options_combine(store: ClockedStore) -> None:
    """Enqueue, run and end each row: the invariants hold after every step, and nothing is left behind."""
    failed = [f"{found}\n  in {dict(row)}" for row in covering_array() if (found := play(store, row))]
    assert not failed, "\n".join(failed)


def test_a_fault_is_seen(store: ClockedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that forgets that an execution of a key ended is caught by a row that has one."""
    monkeypatch.setattr("heavylift.testing.lanes.Lanes.key_ends", lambda *_: None)
    row = next(row for row in covering_array() if row["key"] and row["perKey"] and not row["expires"])
    assert "keyed" in play(store, row)


UNSEEN = {"order", "way", "end"}
"""Turns of keys are held against the history of a crowd; the other two are no options."""


def test_each_option_is_observed(redis_server: StoreServer) -> None:
    """Where one option is left out of what is asked for, and only there, a row that has it is told to differ."""
    with opened(redis_server.url) as store:
        for name, values in PARAMETERS.items():
            rows = [row for row in covering_array() if row[name] == values[-1]] if name not in UNSEEN else []
            found = (play(store, row, {**row, name: values[0]}) for row in rows)
            assert name in UNSEEN or any(found), f"{name} = {values[0]} is not told from {values[-1]}"
