"""What several coroutines ask of Redis at one moment goes there in one pipeline, over one connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import redis.asyncio as aioredis
from redis import exceptions as redis_errors

from heavylift.store.batch import PIPELINE_MAX
from heavylift.store.faults import FAULTS
from heavylift.store.joint import Asked, post


class Together:
    """Gathers commands while others are on their way; a command that comes alone goes at once.

    Calls of a script that takes several at once become one command.

    Only for commands that do not block: one answer that is late keeps the others' back. The connection is taken from
    the client's pool once and kept: with one time limit for all answers an exchange costs a third of a pipeline's.
    """

    def __init__(self, redis: aioredis.Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._connection: Any = None
        self._limit_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: list[tuple[Asked, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def execute(self, asked: Asked) -> Any:
        """Return Redis' answer, or raise what redis-py raises for this command."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # before Python 3.12 each such question is a system call
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append((asked, answer))
        if self._sending is None:
            self._sending = self._loop.create_task(self._send(), name="redis pipeline")
        return await answer

    async def aclose(self) -> None:
        """Give up what is on its way, and the connection."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._drop()

    async def _send(self) -> None:
        batch: list[tuple[Asked, asyncio.Future[Any]]] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:PIPELINE_MAX], self._asked[PIPELINE_MAX:]
                asked = [entry for entry in batch if not entry[1].done()]  # the others gave up meanwhile
                for (_, answer), reply in zip(asked, await self._exchange([one for one, _ in asked]), strict=True):
                    _settle(answer, reply)
        finally:
            self._sending = None
            for _, answer in (*batch, *self._asked):
                answer.cancel()  # only when we were cancelled: all others are settled
            self._asked = []

    async def _exchange(self, asked: list[Asked]) -> list[Any]:
        """Return the answers, exceptions among them; that of a lost connection for each."""
        try:
            sent = post(asked)
            connection = await self._connected()
            packed = connection.pack_commands([parcel.words for parcel in sent.parcels])
        except FAULTS as error:
            return [error] * len(asked)
        except Exception as error:  # noqa: BLE001 - one command that cannot even be written down
            if len(asked) == 1:
                return [error]
            return [answer for one in asked for answer in await self._exchange([one])]
        try:
            return list(sent.answers(await self._talk(connection, packed, len(sent.parcels))))
        except TimeoutError:
            return [redis_errors.TimeoutError("Timeout reading from Redis")] * len(asked)
        except Exception as error:  # noqa: BLE001 - FAULTS, and what is no answer: nobody else tells those who wait
            return [error] * len(asked)

    async def _talk(self, connection: Any, packed: list[bytes], count: int) -> list[Any]:
        answers: list[Any] = []
        try:
            async with asyncio.timeout(self._limit_s):
                await connection.send_packed_command(packed)
                while len(answers) < count:
                    answers.append(await _answer(connection))
        finally:
            if len(answers) < count:  # one that comes late must meet nobody
                await connection.disconnect(nowait=True)
                await self._drop()
        return answers

    async def _connected(self) -> Any:
        """Return our connection, a new one where there is none or the server closed it."""
        if self._connection is not None and await _says_something(self._connection):
            await self._connection.disconnect(nowait=True)  # closed, or an answer that nobody waits for
            await self._drop()
        if self._connection is None:
            self._connection = await self._pool.get_connection()
            # redis-py would run each write in a task of its own, and each read under a limit of its own.
            self._limit_s, self._connection.socket_timeout = self._connection.socket_timeout, None
        return self._connection

    async def _drop(self) -> None:
        """Give the connection back to the pool, as it came."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.socket_timeout = self._limit_s
            with contextlib.suppress(*FAULTS):
                await self._pool.release(connection)


async def _says_something(connection: Any) -> bool:
    """Return whether a connection at rest has something to say, its end for one."""
    look = getattr(connection, "can_read", None) or connection.can_read_destructive  # its name before redis-py 8
    try:
        return bool(await look())
    except FAULTS:
        return True  # what redis-py before 8 says of an end


async def _answer(connection: Any) -> Any:
    """Return the next answer, or the error that Redis answers this command with."""
    try:
        return await connection.read_response(timeout=math.inf)
    except redis_errors.ResponseError as error:
        return error


def _settle(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
