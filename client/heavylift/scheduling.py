"""Schedules in the synchronous client: the handle, methods of client and queue; thin over ``heavylift.schedules``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from heavylift import schedules
from heavylift.scheduleinfo import ScheduleInfo
from heavylift.schedules import ScheduleOptions

if TYPE_CHECKING:
    from heavylift.client import Client
    from heavylift.jobs import Job


class Schedule:
    """A schedule by id: attributes cost nothing, methods ask Redis.

    All raise ScheduleNotFoundError when there is none of this id; those that change it ScheduleOwnedError when it comes
    from a HeavySchedule, which is to be changed instead.
    """

    __slots__ = ("_client", "id")

    def __init__(self, client: Client, id: str) -> None:  # noqa: A002 - as in ``schedule.id``
        self._client = client
        self.id = id

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # the decorator is not in Python 3.11's library
        return f"<Schedule {self.id!r}>"

    def info(self) -> ScheduleInfo:
        """Return what it is and does."""
        return self._client.run(schedules.info(self.id))

    def suspend(self) -> None:
        """Let it tick no more until ``resume``; jobs it enqueued go on."""
        self._client.run(schedules.suspend(self.id, self._client.actor))

    def resume(self) -> None:
        """Let it tick again, from now on: what was suspended is not made up for."""
        self._client.run(schedules.resume(self.id, self._client.actor))

    def trigger(self) -> Job[Any]:
        """Enqueue its job now, whatever its concurrency policy, also while it is suspended; return the job.

        Raises:
            InvalidInputError: its queue does not allow the job any more.
        """
        return self._client.job(self._client.run(schedules.trigger(self.id)))

    def delete(self) -> bool:
        """Delete it; jobs it enqueued stay. False = there was none."""
        return self._client.run(schedules.delete(self.id, self._client.actor))


class ClientSchedules:
    """The part of ``Client`` that has to do with schedules."""

    def schedule(self: Client, id: str) -> Schedule:  # type: ignore[misc]  # a part of Client  # noqa: A002 - as in ``job.id``
        """Return the handle of a schedule by id; asks nothing. ``queue.schedule`` defines one."""
        return Schedule(self, id)

    def schedules(self: Client) -> list[ScheduleInfo]:  # type: ignore[misc]  # a part of Client
        """Return all schedules in this Redis, by id."""
        return self.run(schedules.schedules(None))


class QueueSchedules:
    """The part of ``Queue`` that has to do with schedules."""

    _client: Client
    name: str

    def schedule(self, id: str, /, task: str, data: Any = None, **options: Unpack[ScheduleOptions]) -> Schedule:  # noqa: A002 - as in ``job.id``
        """Define a schedule, or define it anew under its id; what was fired is not fired again.

        Args:
            id: unique in this Redis; letters, digits, ``-`` and ``_``, at most 150 characters. Each tick enqueues a job
                ``<id>-<seconds since the epoch>``, which is why any number of operators fires it once.
            task: the task's registered name.
            data: as of ``enqueue``.
            options: when it ticks (``cron`` or ``every``, ...) and the options of its jobs: see ScheduleOptions.

        Raises:
            InvalidInputError: something passed is not usable or not allowed in this queue.
            UnknownQueueError: no HeavyQueue serves the queue, and the client is strict.
            ScheduleOwnedError: the id is of another queue's schedule.
            RedisUnavailableError: Redis cannot be reached or refuses; it is safe to repeat.
        """
        definition = schedules.define(self.name, task, data, options)
        client = self._client
        client.run(schedules.schedule(id, definition, by=client.actor, strict=client.strict))
        return Schedule(client, id)

    def schedules(self) -> list[ScheduleInfo]:
        """Return the schedules of this queue, by id."""
        return self._client.run(schedules.schedules(self.name))

    def unschedule(self, id: str) -> bool:  # noqa: A002 - as in ``schedule``
        """Delete a schedule of this queue; jobs it enqueued stay. False = there was none. Raises ScheduleOwnedError."""
        return self._client.run(schedules.delete(id, self._client.actor, self.name))
