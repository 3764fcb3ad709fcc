"""The name of the data in a Redis."""

from __future__ import annotations

import pytest

from heavylift.store import ops
from tests.integration.store.kit import INSTALL, WORKER, World


def test_a_claim_carries_the_epoch_of_its_data(w: World) -> None:
    """The one that the first enqueue made, asked again and resumed too; another once the data is gone."""
    w.enqueue()
    asked = {"max": 1, "request": "again"}
    claim = w.claim(**asked)
    assert claim.epoch == w.run(ops.get_epoch())
    assert w.claim(**asked).epoch == claim.epoch
    assert [mine.epoch for mine in w.run(ops.own_claims(INSTALL, WORKER))] == [claim.epoch]
    w.redis.flushall()
    w.serve()
    w.enqueue()
    assert w.claim().epoch not in {"", claim.epoch}


def test_a_claim_makes_the_epoch_that_is_missing(w: World) -> None:
    """RQ's own enqueue makes none; the Jobs that follow must not seem to come from elsewhere."""
    w.enqueue()
    w.redis.delete("heavylift:epoch")
    claim = w.claim()
    assert claim.epoch
    assert claim.epoch == w.run(ops.get_epoch()) == w.run(ops.ensure_epoch())


@pytest.mark.parametrize("written", ["", "soon", "1-" + "a" * 70, "1-\xff\n"])
def test_an_epoch_that_is_none_of_ours_is_not_passed_on(w: World, written: str) -> None:
    """It would become an annotation: such a Job goes without."""
    w.enqueue()
    w.redis.set("heavylift:epoch", written)
    assert w.claim().epoch == ""
