"""A backlog longer than the width; minutes of it, thousands waiting: ``python -m tests.benchmarks watch``."""

from __future__ import annotations

from tests.benchmarks import watch
from tests.benchmarks.site import site
from tests.cluster import Cluster


def test_a_backlog_never_shows_more_than_the_width(kwok: Cluster) -> None:
    """Two dispatchers keep the width, the operators the count of finished Jobs; figures are as the events have them."""
    with site(kwok) as here:
        seen = watch.run(here, watch.Plan(seconds=60, jobs=100, width=8, run_ms=500, retention=10, enough=24))
    assert seen.wrong == []
    assert max(seen.in_flight_max, seen.unfinished_max) <= 8
    assert min(seen.completed, seen.oldest_compared, seen.waits_compared) > 0
    assert len(seen.oldest_seen) > 1, "the gauge moved, else it was not compared"
