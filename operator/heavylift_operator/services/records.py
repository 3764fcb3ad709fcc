"""Jobs as Redis knows them, together with their queues' settings, which are the same for many of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift.store.model import JobRecord
from heavylift.store.steps import Op
from heavylift_operator.core.reading import Json

SETTINGS_S: Final = 1.0
"""How old settings may be that an end is judged by; they come from a HeavyQueue later than that anyway."""
_QUEUES_MAX: Final = 1_000


@dataclass(slots=True, kw_only=True)
class Records:
    """Reads them in one trip."""

    link: RedisLink
    monotonic: Callable[[], float]
    _settings: dict[str, tuple[float, Json]] = field(default_factory=dict)
    """Queue -> when its settings were read, and they."""

    async def read(self, job: str, queue: str) -> tuple[JobRecord | None, Json | None]:
        """Return a job and the settings of the queue it should be in; None where they are not known.

        Raises:
            HeavyliftError: Redis or the job's key is not as it should be.
        """
        read_at, settings = self._settings.get(queue, (None, None))
        if read_at is not None and self.monotonic() - read_at < SETTINGS_S:
            record = await self.link.run(ops.get_job(job))
        else:
            record, settings = await self._both(job, queue)
        return record, settings if record is not None and record.queue == queue else None

    async def _both(self, job: str, queue: str) -> tuple[JobRecord | None, Json | None]:
        asked: list[Op[Any]] = [ops.get_job(job), ops.get_settings(queue)]
        now = self.monotonic()
        answers = await self.link.run_many(asked)
        for answer in answers:
            if isinstance(answer, HeavyliftError):
                raise answer
        record: Any = answers[0]
        settings: Any = answers[1]
        if settings is not None:
            if len(self._settings) >= _QUEUES_MAX:
                self._settings.clear()
            self._settings[queue] = (now, settings)
        return record, settings
