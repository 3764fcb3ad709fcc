"""Wake-ups: a cancel of a running job reaches its Job within seconds instead of at the next pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from heavylift.contract import ids
from heavylift.contract.keys import Keys
from heavylift.errors import HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift.store import ops
from heavylift_operator.services.workqueue import Item, WorkQueue

_JOB_ID_MAX = 200
_RETRY_S = 1.0


@dataclass(slots=True, kw_only=True)
class Wake:
    """Hears the wake channel; a message lost is made up for by the reconciler."""

    link: RedisLink
    queue: WorkQueue
    service: Service
    install: str
    _log: Any = field(default_factory=lambda: logs.get("wake"))

    async def run(self) -> None:
        """Listen until told to stop."""
        channel = Keys.from_env().wake()
        while not self.service.stop.is_set():
            try:
                async with self.link.store().subscribe(channel) as messages:
                    while not self.service.stop.is_set():
                        heard = await messages.get(timeout=1.0)
                        if heard is not None:
                            await self.look(heard[1].decode("utf-8", "replace"))
            except HeavyliftError as error:
                self.link.failed(error)
                await self.service.pause(_RETRY_S)

    async def look(self, job: str) -> None:
        """Have a job's current execution looked at, if it is ours."""
        record = await self.link.run(ops.get_job(job)) if len(job) <= _JOB_ID_MAX else None
        if record is None or not record.execution or record.install != self.install or not record.namespace:
            return
        name = record.job_name or ids.job_name(self.install, record.queue, job, record.incarnation, record.seq)
        found = Item(
            namespace=record.namespace, name=name, job_id=job, execution=record.execution, listed=True, asked=True
        )
        self.queue.put(found)
