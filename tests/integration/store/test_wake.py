"""A cancel's wake-up beside the events of its Job."""

from __future__ import annotations

from typing import cast

import pytest

from heavylift.errors import RedisUnavailableError
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import Service
from heavylift.store import AsyncStore, ops
from heavylift_operator.core.evidence import read_job
from heavylift_operator.services.wake import Wake
from heavylift_operator.services.workqueue import Item, WorkQueue
from tests.integration.store.kit import INSTALL, World, name_of
from tests.unit.operator.objects import job
from tests.unit.operator.test_interest import Asked, finisher
from tests.unit.operator.test_workqueue import Clock


async def test_an_event_of_the_same_job_takes_no_wake_up_away(w: World) -> None:
    """A Job on its way needs nobody; one that was cancelled is looked at, whatever else is said of it meanwhile."""
    claim = w.active()
    w.run(ops.cancel(claim.job, by="ann"))
    clock, link, store = Clock(), Asked(), AsyncStore.connect(w.server.url)
    queue = WorkQueue(clock=clock)
    works = finisher(queue, link, clock)
    event = Item(
        namespace=claim.namespace, name=name_of(claim), job_id=claim.job, execution=claim.execution, job=read_job(job())
    )
    await works.attend(event)
    assert link.times == 0
    try:
        woken = Wake(link=cast("RedisLink", store), queue=queue, service=cast("Service", None), install=INSTALL)
        await woken.look(claim.job)
    finally:
        await store.aclose()
    queue.put(event)
    with pytest.raises(RedisUnavailableError):
        await works.attend(await queue.get())
    assert link.times == 1
