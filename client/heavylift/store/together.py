"""What several coroutines ask of Redis at one moment goes there in one pipeline, over one connection."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as aioredis

from heavylift.store.batch import PIPELINE_MAX
from heavylift.store.faults import FAULTS
from heavylift.store.steps import Arg

Words = tuple[Arg, ...]


class Together:
    """Gathers commands while others are on their way; a command that comes alone goes at once.

    Only for commands that do not block: one answer that is late keeps the others' back.
    """

    def __init__(self, redis: aioredis.Redis) -> None:
        self._redis = redis
        self._asked: list[tuple[Words, asyncio.Future[Any]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def execute(self, words: Words) -> Any:
        """Return Redis' answer, or raise what redis-py raises for this command."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((words, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="redis pipeline")
        return await answer

    async def aclose(self) -> None:
        """Give up what is on its way."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        batch: list[tuple[Words, asyncio.Future[Any]]] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:PIPELINE_MAX], self._asked[PIPELINE_MAX:]
                asked = [entry for entry in batch if not entry[1].done()]  # the others gave up meanwhile
                for (_, answer), reply in zip(asked, await self._exchange([words for words, _ in asked]), strict=True):
                    _settle(answer, reply)
        finally:
            self._sending = None
            for _, answer in (*batch, *self._asked):
                answer.cancel()  # only when we were cancelled: all others are settled
            self._asked = []

    async def _exchange(self, commands: list[Words]) -> list[Any]:
        """Return the answers, exceptions among them; that of a lost connection for each."""
        try:
            if len(commands) == 1:
                return [await self._redis.execute_command(*commands[0])]  # type: ignore[no-untyped-call]  # redis-py's
            async with self._redis.pipeline(transaction=False) as pipeline:
                for words in commands:
                    pipeline.execute_command(*words)
                return await pipeline.execute(raise_on_error=False)
        except FAULTS as error:
            return [error] * len(commands)
        except Exception as error:  # noqa: BLE001 - one command that cannot even be written down
            if len(commands) == 1:
                return [error]
            return [answer for words in commands for answer in await self._exchange([words])]


def _settle(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
