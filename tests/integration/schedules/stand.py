"""What tests of schedules stand on: operators' tick services on a real store, under a clock that the test moves."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from heavylift import Client, schedules
from heavylift.errors import RedisUnavailableError
from heavylift.spec.schedule import ScheduleDefinition
from heavylift.store import AsyncStore, Store, decode, ops
from heavylift.store.schedules import ScheduleOwner, SchedulePut, ScheduleRecord
from heavylift.store.steps import Op, T
from heavylift_operator.services.ticks import Ticks
from tests.integration.client.conftest import INSTALL, NAMESPACE, Player
from tests.servers import StoreServer

QUEUE = "reports"


def ms(text: str, zone: str = "UTC") -> int:
    """Return a local time as ms since the epoch."""
    found = datetime.fromisoformat(text)
    return round((found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


@dataclass
class Clock:
    """What counts as now. It lies in the past, so that the scripts' own clock agrees that everything is due."""

    now: int

    def __call__(self) -> int:
        """Return this moment, ms since the epoch."""
        return self.now


@dataclass
class Mortal:
    """A connection whose process may die before an operation, or after it with the reply unread."""

    store: AsyncStore
    chance: float = 0.0
    seed: int = 1
    deaths: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def run(self, op: Op[T]) -> T:
        """Run one operation, unless it dies."""
        before = self._dies()
        if not before:
            result = await self.store.run(op)
        if before or self._dies():
            self.deaths += 1
            raise RedisUnavailableError("died")
        return result

    def _dies(self) -> bool:
        return self._random.random() < self.chance


async def look(operator: Ticks) -> None:
    """Look until nothing is due; one that died starts anew, as its pod would."""
    while True:
        try:
            if await operator.once():
                return
        except RedisUnavailableError:
            continue


class Stand:
    """Two operators, a client, and the clock."""

    def __init__(self, server: StoreServer) -> None:
        self.server = server
        self.store = Store.connect(server.url)
        self.player = Player(self.store)
        self.player.serve(QUEUE)
        self.client = Client(server.url)
        self.clock = Clock(ms("2025-01-01T00:00"))
        self.runners = [Mortal(AsyncStore.connect(server.url), seed=seed) for seed in (1, 2)]
        self.operators = [Ticks(link=runner, not_after=self.clock) for runner in self.runners]

    async def aclose(self) -> None:
        """Close all connections."""
        for runner in self.runners:
            await runner.store.aclose()
        self.client.close()
        self.store.close()

    def define(self, name: str, *, owner: ScheduleOwner | None = None, **options: Any) -> ScheduleDefinition:
        """Define a schedule at the clock's time."""
        made = schedules.define(options.pop("queue", QUEUE), "annual", {"year": 2025}, options)
        put = SchedulePut(
            id=name,
            queue=made.queue,
            definition=made.to_json(),
            timing=made.timing_json(),
            prefix=name,
            since=self.clock.now,
            next=made.timing.after(self.clock.now),
            owner=owner,
        )
        self.store.run(ops.put_schedule(put))
        return made

    async def until_idle(self, *operators: int) -> None:
        """Let operators (all of them) look until nothing is due."""
        for number in operators or range(len(self.operators)):
            while not await self.operators[number].once():
                pass

    async def at(self, moment: str, *operators: int) -> None:
        """Move the clock there, and let operators do what is due."""
        self.clock.now = ms(moment)
        await self.until_idle(*operators)

    def jobs(self) -> list[str]:
        """Return the ids of the waiting jobs, in order."""
        return [decode.text(raw) for raw in self.store.redis.lrange(f"rq:queue:{QUEUE}", 0, -1)]

    def ticks(self, name: str) -> list[int]:
        """Return the ticks (ms) whose jobs wait."""
        return [int(job.rpartition("-")[2]) * 1000 for job in self.jobs() if job.rpartition("-")[0] == name]

    def hours(self, name: str) -> list[str]:
        """Return the ticks whose jobs wait as day and time, UTC."""
        return [datetime.fromtimestamp(tick / 1000, ZoneInfo("UTC")).strftime("%d %H:%M") for tick in self.ticks(name)]

    def record(self, name: str) -> ScheduleRecord:
        """Return a schedule that must be there."""
        found = self.store.run(ops.get_schedule(name))
        assert found is not None
        return found

    def events(self, name: str) -> list[dict[str, str]]:
        """Return the fields of the queue's events of one name."""
        return [dict(event.fields) for event in self.store.run(ops.events(QUEUE, count=10_000)) if event.name == name]

    def end_all(self) -> None:
        """Run every waiting job to success."""
        while (claim := self.player.claim(QUEUE)) is not None:
            self.player.complete(claim)


OWNER = ScheduleOwner(install=INSTALL, namespace=NAMESPACE, name="daily", uid="uid-1", generation=1)
