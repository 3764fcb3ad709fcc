"""Ticks: any number of operators looks for schedules that are due; each tick is fired once, by whoever comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from heavylift import schedules
from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.spec.schedule import ScheduleDefinition, decide, tick_id
from heavylift.store import ops
from heavylift.store.model import EnqueueRequest, Verdict
from heavylift.store.schedules import ScheduleFire, ScheduleRecord
from heavylift.store.steps import Op, T

LOOK_S: Final = 1.0
"""Longest pause between two looks: a schedule defined just now is seen by then."""
_USUAL: Final = {"fired", "replacing"}
_SHORTEST_S: Final = 0.01
_OVERTAKEN_S: Final = 0.05
"""Pause after a look at which all was decided already: another operator is at it."""


class Runner(Protocol):
    """What runs operations of the store."""

    async def run(self, op: Op[T]) -> T:
        """Run one operation."""


@dataclass(slots=True, kw_only=True)
class Ticks:
    """Fires what is due. Redis's clock says what is: ``not_after`` can only hold it back."""

    link: Runner
    not_after: Callable[[], int | None] = field(default=lambda: None)
    """A moment (ms) that counts as now when it is earlier than Redis's."""
    _log: Any = field(default_factory=lambda: logs.get("schedules"))

    async def once(self) -> float:
        """Take the next decision for each schedule that is due; return the seconds to wait before the next look.

        Raises:
            HeavyliftError: Redis failed; asking again is safe.
        """
        due = await self.link.run(ops.due_schedules(self.not_after()))
        for schedule_id, problem in due.corrupt:
            self._log.warning("schedule cannot be read", schedule=schedule_id, why=problem)
        decided = [await self._attend(schedule, due.now) for schedule in due.schedules]
        if decided or due.corrupt:  # of many that are due, a look sees some
            return 0.0 if due.corrupt or any(decided) else _OVERTAKEN_S
        return LOOK_S if due.next_ms is None else min(max(due.next_ms / 1000, _SHORTEST_S), LOOK_S)

    async def _attend(self, schedule: ScheduleRecord, now: int) -> bool:
        """Decide one schedule; whatever is wrong with it holds up no other. False = somebody else was faster."""
        try:
            return await self._decide(schedule, now)
        except RedisUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - a definition written by a stranger must not stop the others
            problem = str(error) if isinstance(error, HeavyliftError) else f"it cannot be read: {error!r:.200}"
            reply = await self.link.run(ops.defer_schedule(schedule.id, schedule.revision, problem))
            if reply.verdict is Verdict.APPLIED and problem != schedule.problem:
                self._log.warning("schedule cannot be fired", schedule=schedule.id, why=problem)
            return reply.verdict is Verdict.APPLIED

    async def _decide(self, schedule: ScheduleRecord, now: int) -> bool:
        definition = ScheduleDefinition.from_json(schedule.definition)
        decision = decide(definition, schedule.mark, now)
        entry: EnqueueRequest | None = None
        if decision.fire is not None:
            settings = await self.link.run(ops.get_settings(schedule.queue))
            entry = schedules.job_request(definition, tick_id(schedule.prefix, decision.fire), settings)
        reply = await self.link.run(
            ops.fire_schedule(
                ScheduleFire(
                    id=schedule.id,
                    revision=schedule.revision,
                    from_mark=schedule.mark,
                    mark=decision.mark,
                    missed=decision.missed,
                    next=decision.next,
                    concurrency=definition.concurrency.value,
                    limit=definition.limit,
                    tick=decision.fire,
                    entry=entry,
                )
            )
        )
        if reply.verdict is Verdict.APPLIED and (decision.missed or reply.message not in _USUAL):
            self._log.info(
                "ticks decided", schedule=schedule.id, became=reply.message, tick=decision.fire, missed=decision.missed
            )
        elif reply.verdict is Verdict.REFUSED and reply.message != schedule.problem:
            self._log.warning("schedule cannot be fired", schedule=schedule.id, why=reply.message)
        return reply.verdict is not Verdict.ALREADY
