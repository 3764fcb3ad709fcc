"""HeavySchedules brought to a real store, where one of them meets a stranger's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from heavylift.errors import StoreCorruptError
from heavylift.runtime.link import RedisLink
from heavylift.store import AsyncStore, ops
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.services.schedules import Schedules
from tests.integration.client.conftest import INSTALL, NAMESPACE
from tests.integration.schedules.stand import QUEUE, Clock, Stand

Json = dict[str, Any]


@dataclass
class Objects:
    """A cluster that holds HeavySchedules only, by name."""

    queues: Mapping[str, str]
    conditions: dict[str, Json] = field(default_factory=dict)
    namespaces: tuple[str, ...] = (NAMESPACE,)

    async def heavyschedules(self) -> tuple[list[Json], Json]:
        """Return them, none refused."""
        return [self._object(name, queue) for name, queue in self.queues.items()], {}

    def _object(self, name: str, queue: str) -> Json:
        return {
            "apiVersion": "heavylift.dev/v1alpha1",
            "kind": "HeavySchedule",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1},
            "spec": {"schedule": "0 9 * * *", "job": {"queue": queue, "task": "annual", "data": {}}},
        }

    async def patch_schedule_status(self, namespace: str, name: str, status: Json) -> None:
        """Keep the Ready condition."""
        assert namespace == NAMESPACE
        self.conditions[name] = status["conditions"][0]

    @property
    def clock(self) -> Any:
        """A clock that stands."""
        return type("Standing", (), {"now_ms": staticmethod(Clock(1_800_000_000_000))})()


async def test_a_queue_of_wrong_types_costs_its_own_schedules_only(each_stand: Stand) -> None:
    """The others stand in Redis and are ready; the status of the one names the key, and the pass raises it."""
    stand = each_stand
    stand.player.serve("broken")
    stand.store.redis.delete("heavylift:settings:broken")
    stand.store.redis.set("heavylift:settings:broken", "x")
    cluster = Objects({"first": "broken", "second": QUEUE})
    link = AsyncStore.connect(stand.server.url)
    service = Schedules(
        link=cast("RedisLink", link), cluster=cast("Cluster", cluster), install=INSTALL, status_interval_ms=1000
    )
    try:
        with pytest.raises(StoreCorruptError, match="heavylift:settings:broken"):
            await service.once(leads=True)
    finally:
        await link.aclose()
    assert stand.store.run(ops.get_schedule(f"{NAMESPACE}/second")) is not None
    said = {name: (one["status"], one["reason"]) for name, one in cluster.conditions.items()}
    assert said == {"first": ("False", "TickFailing"), "second": ("True", "Scheduling")}
    assert "heavylift:settings:broken" in cluster.conditions["first"]["message"]
