"""Schedules in the asynchronous client, as in ``heavylift.scheduling``, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from heavylift import schedules
from heavylift.scheduleinfo import ScheduleInfo
from heavylift.schedules import ScheduleOptions

if TYPE_CHECKING:
    from heavylift.aio import AsyncClient, AsyncJob


class AsyncSchedule:
    """As ``Schedule``, awaited."""

    __slots__ = ("_client", "id")

    def __init__(self, client: AsyncClient, id: str) -> None:  # noqa: A002 - as in ``schedule.id``
        self._client = client
        self.id = id

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<AsyncSchedule {self.id!r}>"

    async def info(self) -> ScheduleInfo:
        """As ``Schedule.info``."""
        return await self._client.run(schedules.info(self.id))

    async def suspend(self) -> None:
        """As ``Schedule.suspend``."""
        await self._client.run(schedules.suspend(self.id, self._client.actor))

    async def resume(self) -> None:
        """As ``Schedule.resume``."""
        await self._client.run(schedules.resume(self.id, self._client.actor))

    async def trigger(self) -> AsyncJob[Any]:
        """As ``Schedule.trigger``."""
        return self._client.job(await self._client.run(schedules.trigger(self.id)))

    async def delete(self) -> bool:
        """As ``Schedule.delete``."""
        return await self._client.run(schedules.delete(self.id, self._client.actor))


class AsyncClientSchedules:
    """The part of ``AsyncClient`` that has to do with schedules."""

    def schedule(self: AsyncClient, id: str) -> AsyncSchedule:  # type: ignore[misc]  # a part of it  # noqa: A002 - as in ``job.id``
        """As ``Client.schedule``."""
        return AsyncSchedule(self, id)

    async def schedules(self: AsyncClient) -> list[ScheduleInfo]:  # type: ignore[misc]  # a part of it
        """As ``Client.schedules``."""
        return await self.run(schedules.schedules(None))


class AsyncQueueSchedules:
    """The part of ``AsyncQueue`` that has to do with schedules."""

    _client: AsyncClient
    name: str

    async def schedule(
        self,
        id: str,  # noqa: A002 - as in ``schedule.id``
        /,
        task: str,
        data: Any = None,
        **options: Unpack[ScheduleOptions],
    ) -> AsyncSchedule:
        """As ``Queue.schedule``."""
        definition = schedules.define(self.name, task, data, options)
        client = self._client
        await client.run(schedules.schedule(id, definition, by=client.actor, strict=client.strict))
        return AsyncSchedule(client, id)

    async def schedules(self) -> list[ScheduleInfo]:
        """As ``Queue.schedules``."""
        return await self._client.run(schedules.schedules(self.name))

    async def unschedule(self, id: str) -> bool:  # noqa: A002 - as in ``schedule``
        """As ``Queue.unschedule``."""
        return await self._client.run(schedules.delete(id, self._client.actor, self.name))
