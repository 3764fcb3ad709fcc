"""The asynchronous runner: the same as ``sync``, awaited."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

import redis.asyncio as aioredis
from redis import ResponseError
from redis.asyncio.retry import Retry

from heavylift.contract.failpoints import afailpoint
from heavylift.contract.keys import Keys
from heavylift.errors import ConfigurationError, HeavyliftError
from heavylift.store.batch import Batch
from heavylift.store.connection import Target, no_backoff
from heavylift.store.faults import FAULTS, Patience, busy, missing_script
from heavylift.store.joint import Parcel, left_over, post
from heavylift.store.lines import Lines
from heavylift.store.steps import Ahead, AheadOp, Call, Op, Step, T, key_of
from heavylift.store.sync import CONFIRM_S, asked_of, command, confirmed, decode_message
from heavylift.store.together import Together


class AsyncStore:
    """Runs operations on one Redis from coroutines of one event loop; see ``Store``."""

    def __init__(
        self,
        *,
        redis: aioredis.Redis,
        patience: float = 5.0,
        keys: Keys | None = None,
        where: str = "",
        owned: bool = False,
    ) -> None:
        given = redis.get_connection_kwargs()  # type: ignore[no-untyped-call]  # redis-py's
        if given.get("decode_responses"):
            raise ConfigurationError("the Redis client decodes responses: make it with decode_responses=False")
        self.redis = redis
        self.keys = keys or Keys.from_env()
        self.patience = patience
        self.where = where or f"{given.get('host', given.get('path', '?'))}:{given.get('port', '')}"
        self._owned = owned
        self._together = Together(redis)
        self._lines = Lines()

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        timeout: float = 5.0,
        username: str | None = None,
        password: str | None = None,
        password_file: str | None = None,
        patience: float = 5.0,
    ) -> Self:
        """Return a store for a URL; connects at the first operation.

        Raises:
            ConfigurationError: not a usable URL, or an unusable password file.
        """
        target = Target(url=url, timeout=timeout, username=username, password=password, password_file=password_file)
        client = aioredis.Redis.from_url(url, retry=Retry(no_backoff(), 0), **target.options())
        return cls(redis=client, patience=patience, where=target.where, owned=True)

    async def run(self, op: AheadOp[T]) -> T:
        """Run one operation.

        Raises:
            RedisUnavailableError: Redis cannot be reached, or refuses; the message says what to check.
            StoreCorruptError: a key has the wrong type.
        """
        try:
            step = next(op)
            while True:
                try:
                    reply = await (self._take_ahead(step) if isinstance(step, Ahead) else self._take(step))
                except HeavyliftError as error:
                    step = op.throw(error)
                else:
                    step = op.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def run_many(self, ops: Sequence[Op[T]]) -> list[T | HeavyliftError]:
        """Run operations side by side, their steps in common pipelines; each gives its value or its own error.

        Raises:
            RedisUnavailableError: Redis cannot be reached; what was asked of it may have been done.
        """
        batch = Batch(ops)
        try:
            while due := batch.due():
                answers = await self._take_many([step for _, step in due])
                for (index, _), answer in zip(due, answers, strict=True):
                    batch.answered(index, answer)
        finally:
            batch.close()
        return batch.ended()

    async def _take_many(self, steps: Sequence[Step]) -> list[Any]:
        async def once() -> list[Any]:
            answers = await self._execute_many(steps)
            honour_cancel(asked)
            await afailpoint("store.reply")
            return answers

        asked = cancel_requests()
        answers = await patiently(self, once)
        if late := left_over(answers):
            for index, answer in zip(late, await self._take_many([steps[index] for index in late]), strict=True):
                answers[index] = answer
        return [
            await self._alone(step) if isinstance(answer, Exception) else answer
            for step, answer in zip(steps, answers, strict=True)
        ]

    async def _alone(self, step: Step) -> Any:
        """Take a step once more by itself that failed among others: alone it knows what to do about it."""
        try:
            return await self._take(step)
        except HeavyliftError as error:
            return error

    async def _execute_many(self, steps: Sequence[Step]) -> list[Any]:
        sent = post([asked_of(step, self.keys) for step in steps])
        return list(sent.answers(await self._exchange(sent.parcels)))

    async def _exchange(self, parcels: Sequence[Parcel]) -> list[Any]:
        """Return the replies, errors that Redis answers among them."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for parcel in parcels:
                pipeline.execute_command(*parcel.words)
            return await pipeline.execute(raise_on_error=False)

    async def _take(self, step: Step) -> Any:
        async def once() -> Any:
            reply = await self._execute(step)
            honour_cancel(asked)
            await afailpoint("store.reply")
            return reply

        asked = _cancel_requests_at(step)
        return await patiently(self, once, step)

    async def _take_ahead(self, ahead: Ahead) -> list[Any]:
        """Take calls while the answer to the one before each is on its way; as of ``Store``."""
        calls, answers = ahead.calls, ahead.answers
        try:
            while waiting := await self._stream(calls, answers):
                while waiting:
                    answers.append(await self._take(waiting.popleft()))
        except HeavyliftError as error:
            answers.append(error)
        return answers

    async def _stream(self, calls: Iterator[Call], answers: list[Any]) -> deque[Call]:
        waiting: deque[Call] = deque(islice(calls, 1))
        if not waiting:
            return waiting
        pool: Any = self.redis.connection_pool
        asked = cancel_requests()
        try:
            connection = await pool.get_connection()
        except FAULTS:
            honour_cancel(asked)
            return waiting
        line = self._lines.of(connection)
        try:
            await connection.send_command(*command(waiting[0], self.keys))
            for call in calls:
                waiting.append(call)
                ahead = line.knows(waiting[0].script)
                if ahead:  # redis-py's own look at the connection's health would read the answer that is owed
                    await connection.send_command(*command(call, self.keys), check_health=False)
                    line.check(waiting[0].script)
                answers.append(await _answer(connection, asked))
                line.answered(waiting.popleft().script)
                if not ahead:
                    await connection.send_command(*command(call, self.keys))
            answers.append(await _answer(connection, asked))
            line.answered(waiting.popleft().script)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if not isinstance(error, FAULTS):
                raise
            honour_cancel(asked)
        finally:
            await pool.release(connection)
        return waiting

    async def _execute(self, step: Step) -> Any:
        if not isinstance(step, Call):  # it may block
            return await self.redis.execute_command(*command(step, self.keys))  # type: ignore[no-untyped-call]  # redis-py's
        one = asked_of(step, self.keys)
        while True:
            try:
                return await self._together.execute(one)
            except ResponseError as error:
                if missing_script(error):
                    one = asked_of(step, self.keys, whole=True)
                elif not (step.most > 1 and busy(error)):  # a call of several takes the first of them at least
                    raise

    def subscribe(self, *channels: str) -> AsyncSubscription:
        """Return an async context manager that hears these channels; see ``AsyncSubscription``."""
        return AsyncSubscription(self, channels)

    async def aclose(self) -> None:
        """Close the connections, if the store made them."""
        await self._together.aclose()
        if self._owned:
            await self.redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _answer(connection: Any, asked: int) -> Any:
    reply = await connection.read_response()
    honour_cancel(asked)
    await afailpoint("store.reply")
    return reply


def cancel_requests() -> int:
    """Return how often the running task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _cancel_requests_at(step: Step | None) -> int | None:
    """Return the same, or None where no cancellation can be lost: a script's answer is a future of our own."""
    return None if isinstance(step, Call) else cancel_requests()


def honour_cancel(before: int | None) -> None:
    """Raise the cancellation that came since, if it was lost.

    redis-py writes under ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation that meets the end of
    what it waits for; without this a process would not stop.
    """
    if before is not None and cancel_requests() > before:
        raise asyncio.CancelledError


async def patiently(
    store: AsyncStore,
    call: Callable[[], Awaitable[T]],
    step: Step | None = None,
    failed: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Call again while trying again may help; as of ``sync.patiently``."""
    patience, asked = Patience(store.patience), _cancel_requests_at(step)
    while True:
        try:
            return await call()
        except FAULTS as error:
            if failed is not None:
                await failed()
            honour_cancel(asked)
            key = key_of(step, store.keys) if step is not None else ""
            await asyncio.sleep(patience.pause(error, time.monotonic(), store.where, key))


class AsyncSubscription:
    """Messages of some channels: ``async with store.subscribe(a) as messages: await messages.get(timeout=1)``."""

    def __init__(self, store: AsyncStore, channels: tuple[str, ...]) -> None:
        self._store = store
        self._channels = tuple(dict.fromkeys(channels))
        self._pubsub: Any = None

    async def _open(self) -> Any:
        pubsub = self._store.redis.pubsub()
        self._pubsub = pubsub
        await pubsub.subscribe(*self._channels)
        open_ = len(self._channels)
        while open_:
            open_ -= confirmed(await pubsub.get_message(timeout=CONFIRM_S))
        return pubsub

    async def _close(self) -> None:
        if self._pubsub is not None:
            pubsub, self._pubsub = self._pubsub, None
            await pubsub.aclose()

    async def _hear(self, timeout: float) -> tuple[str, bytes] | None:  # noqa: ASYNC109 - redis-py's own
        pubsub = self._pubsub if self._pubsub is not None else await self._open()
        return decode_message(await pubsub.get_message(timeout=timeout))

    async def get(self, timeout: float = 1.0) -> tuple[str, bytes] | None:  # noqa: ASYNC109 - as queue.get
        """Return the next (channel, message), or None after at most ``timeout`` seconds.

        Raises:
            RedisUnavailableError: the connection could not be made again within the store's patience.
        """
        asked = cancel_requests()

        async def once() -> tuple[str, bytes] | None:
            message = await self._hear(timeout)
            honour_cancel(asked)
            return message

        return await patiently(self._store, once, failed=self._close)

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            message = await self.get(timeout=1.0)
            if message is not None:
                yield message

    async def __aenter__(self) -> Self:
        await patiently(self._store, self._open, failed=self._close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
