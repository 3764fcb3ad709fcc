"""All benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.benchmarks import cluster_costs, cluster_rates, queue_costs, queue_rates
from tests.benchmarks.rounds import Effort
from tests.benchmarks.rows import Row


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark: yields its rows as they come."""

    name: str
    run: Callable[[Effort], Iterator[Row]]

    @property
    def words(self) -> str:
        """What it measures, in one sentence."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


BENCHES: Final = (
    Bench("enqueue", queue_rates.enqueue),
    Bench("claim", queue_rates.claim),
    Bench("finish", queue_rates.finish),
    Bench("options", queue_rates.options),
    Bench("memory", queue_costs.memory),
    Bench("depth", queue_costs.depth),
    Bench("bounds", queue_costs.bounds),
    Bench("latency", cluster_rates.latency),
    Bench("create", cluster_rates.create),
    Bench("through", cluster_rates.through),
    Bench("finished", cluster_rates.finished),
    Bench("writes", cluster_costs.writes),
    Bench("inflight", cluster_costs.inflight),
)
