"""The synchronous runner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self

import redis
from redis.retry import Retry

from heavylift.contract.failpoints import failpoint
from heavylift.contract.keys import Keys
from heavylift.errors import ConfigurationError, HeavyliftError
from heavylift.store import scripts
from heavylift.store.batch import Batch
from heavylift.store.connection import Target, no_backoff
from heavylift.store.faults import FAULTS, Patience, missing_script
from heavylift.store.joint import Asked, Parcel, alone, left_over, post
from heavylift.store.lines import Lines
from heavylift.store.steps import Ahead, AheadOp, Arg, Call, Op, Step, T, key_of


class Store:
    """Runs operations on one Redis; threads may share it.

    Each step is tried again on lost connections and while Redis loads or fails over, for ``patience`` seconds.
    """

    def __init__(
        self,
        *,
        redis: redis.Redis,
        patience: float = 5.0,
        keys: Keys | None = None,
        where: str = "",
        owned: bool = False,
    ) -> None:
        given = redis.get_connection_kwargs()
        if given.get("decode_responses"):
            raise ConfigurationError("the Redis client decodes responses: make it with decode_responses=False")
        self.redis = redis
        self.keys = keys or Keys.from_env()
        self.patience = patience
        self.where = where or f"{given.get('host', given.get('path', '?'))}:{given.get('port', '')}"
        self._owned = owned
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
        """Return a store for a URL (``redis://``, ``rediss://``, ``unix://``); connects at the first operation.

        Raises:
            ConfigurationError: not a usable URL, or an unusable password file.
        """
        target = Target(url=url, timeout=timeout, username=username, password=password, password_file=password_file)
        client = redis.Redis.from_url(url, retry=Retry(no_backoff(), 0), **target.options())
        return cls(redis=client, patience=patience, where=target.where, owned=True)

    def run(self, op: AheadOp[T]) -> T:
        """Run one operation.

        Raises:
            RedisUnavailableError: Redis cannot be reached, or refuses; the message says what to check.
            StoreCorruptError: a key has the wrong type.
        """
        try:
            step = next(op)
            while True:
                try:
                    reply = self._take_ahead(step) if isinstance(step, Ahead) else self._take(step)
                except HeavyliftError as error:
                    step = op.throw(error)
                else:
                    step = op.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def run_many(self, ops: Sequence[Op[T]]) -> list[T | HeavyliftError]:
        """Run operations side by side, their steps in common pipelines; each gives its value or its own error.

        Raises:
            RedisUnavailableError: Redis cannot be reached; what was asked of it may have been done.
        """
        batch = Batch(ops)
        try:
            while due := batch.due():
                answers = self._take_many([step for _, step in due])
                for (index, _), answer in zip(due, answers, strict=True):
                    batch.answered(index, answer)
        finally:
            batch.close()
        return batch.ended()

    def _take_many(self, steps: Sequence[Step]) -> list[Any]:
        def once() -> list[Any]:
            answers = self._execute_many(steps)
            failpoint("store.reply")
            return answers

        answers = patiently(self, once)
        if late := left_over(answers):
            for index, answer in zip(late, self._take_many([steps[index] for index in late]), strict=True):
                answers[index] = answer
        return [self._alone(step) if isinstance(a, Exception) else a for step, a in zip(steps, answers, strict=True)]

    def _alone(self, step: Step) -> Any:
        """Take a step once more by itself that failed among others: alone it knows what to do about it."""
        try:
            return self._take(step)
        except HeavyliftError as error:
            return error

    def _execute_many(self, steps: Sequence[Step]) -> list[Any]:
        sent = post([asked_of(step, self.keys) for step in steps])
        return list(sent.answers(self._exchange(sent.parcels)))

    def _exchange(self, parcels: Sequence[Parcel]) -> list[Any]:
        """Return the replies, errors that Redis answers among them."""
        if len(parcels) == 1:
            try:
                return [self.redis.execute_command(*parcels[0].words)]  # type: ignore[no-untyped-call]  # redis-py's
            except redis.ResponseError as error:
                return [error]
        with self.redis.pipeline(transaction=False) as pipeline:
            for parcel in parcels:
                pipeline.execute_command(*parcel.words)  # type: ignore[no-untyped-call]  # redis-py's
            return pipeline.execute(raise_on_error=False)

    def _take(self, step: Step) -> Any:
        def once() -> Any:
            reply = self._execute(step)
            failpoint("store.reply")
            return reply

        return patiently(self, once, step)

    def _take_ahead(self, ahead: Ahead) -> list[Any]:
        """Take calls while the answer to the one before each is on its way; see ``Ahead``."""
        calls, answers = ahead.calls, ahead.answers
        try:
            while waiting := self._stream(calls, answers):
                while waiting:  # alone each knows what to do about it
                    answers.append(self._take(waiting.popleft()))
        except HeavyliftError as error:
            answers.append(error)
        return answers

    def _stream(self, calls: Iterator[Call], answers: list[Any]) -> deque[Call]:
        """Send calls over one connection and read their answers; returns those that failed or were not answered.

        Until it answered a script each of its calls is awaited; see ``Line``.
        """
        waiting: deque[Call] = deque(islice(calls, 1))
        if not waiting:
            return waiting
        pool = self.redis.connection_pool
        try:
            connection: Any = pool.get_connection()
        except FAULTS:
            return waiting
        line = self._lines.of(connection)
        try:
            connection.send_command(*command(waiting[0], self.keys))
            for call in calls:
                waiting.append(call)
                ahead = line.knows(waiting[0].script)
                if ahead:  # redis-py's own look at the connection's health would read the answer that is owed
                    connection.send_command(*command(call, self.keys), check_health=False)
                    line.check(waiting[0].script)
                answers.append(self._answer(connection))
                line.answered(waiting.popleft().script)
                if not ahead:
                    connection.send_command(*command(call, self.keys))
            answers.append(self._answer(connection))
            line.answered(waiting.popleft().script)
        except BaseException as error:
            connection.disconnect()
            if not isinstance(error, FAULTS):
                raise
        finally:
            pool.release(connection)
        return waiting

    def _answer(self, connection: Any) -> Any:
        reply = connection.read_response()
        failpoint("store.reply")
        return reply

    def _execute(self, step: Step) -> Any:
        one = asked_of(step, self.keys)
        try:
            reply = self.redis.execute_command(*one.words)  # type: ignore[no-untyped-call]  # redis-py's
        except redis.ResponseError as error:
            if not isinstance(step, Call) or not missing_script(error):
                raise
            reply = self.redis.execute_command(*command(step, self.keys, whole=True))  # type: ignore[no-untyped-call]  # redis-py's
        return alone(one, reply)

    def subscribe(self, *channels: str) -> Subscription:
        """Return a context manager that hears these channels; see ``Subscription``."""
        return Subscription(self, channels)

    def close(self) -> None:
        """Close the connections, if the store made them."""
        if self._owned:
            self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Subscription:
    """Messages of some channels: ``with store.subscribe(a, b) as messages: messages.get(timeout=1)``.

    Once the block is entered, nothing published is missed while the connection lasts; a lost one is made again, and
    what was published in between is gone: look at the state too.
    """

    def __init__(self, store: Store, channels: tuple[str, ...]) -> None:
        self._store = store
        self._channels = tuple(dict.fromkeys(channels))
        self._pubsub: redis.client.PubSub | None = None

    def _open(self) -> redis.client.PubSub:
        pubsub: redis.client.PubSub = self._store.redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
        self._pubsub = pubsub
        pubsub.subscribe(*self._channels)
        open_ = len(self._channels)
        while open_:
            open_ -= confirmed(pubsub.get_message(timeout=CONFIRM_S))
        return pubsub

    def _close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _hear(self, timeout: float) -> tuple[str, bytes] | None:
        pubsub = self._pubsub or self._open()
        return decode_message(pubsub.get_message(timeout=timeout))

    def get(self, timeout: float = 1.0) -> tuple[str, bytes] | None:
        """Return the next (channel, message), or None after at most ``timeout`` seconds.

        Raises:
            RedisUnavailableError: the connection could not be made again within the store's patience.
        """
        return patiently(self._store, lambda: self._hear(timeout), failed=self._close)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        while True:
            message = self.get(timeout=1.0)
            if message is not None:
                yield message

    def __enter__(self) -> Self:
        patiently(self._store, self._open, failed=self._close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def patiently(
    store: Store, call: Callable[[], T], step: Step | None = None, failed: Callable[[], None] = lambda: None
) -> T:
    """Call again while trying again may help, within the store's patience.

    Args:
        store: whose Redis it is about.
        call: what is tried.
        step: what is asked, where it is one step: its key is named in an error.
        failed: called after each failure.

    Raises:
        HeavyliftError: as of ``Patience.pause``.
    """
    patience = Patience(store.patience)
    while True:
        try:
            return call()
        except FAULTS as error:
            failed()
            key = key_of(step, store.keys) if step is not None else ""
            # The caller's thread is what waits; without Redis there is nobody who would say when it is back.
            time.sleep(patience.pause(error, time.monotonic(), store.where, key))


def command(step: Step, keys: Keys, *, whole: bool = False) -> tuple[Arg, ...]:
    """Return the Redis command of a step; ``whole`` = with the script's text, for a Redis that does not know it."""
    if not isinstance(step, Call):
        return step.build(keys)
    script = scripts.load(step.script)
    name, text = ("EVAL", script.text) if whole else ("EVALSHA", script.sha)
    return (name, text, 0, keys.rq, keys.ours, *step.args)


def asked_of(step: Step, keys: Keys, *, whole: bool = False) -> Asked:
    """Return what is asked of Redis with a step; ``whole`` as of ``command``."""
    return Asked(command(step, keys, whole=whole), step.most if isinstance(step, Call) else 1)


CONFIRM_S = 5.0


def confirmed(message: Any) -> bool:
    """Whether this is the server's word that a channel is subscribed.

    Raises:
        redis.TimeoutError: it did not come.
    """
    if message is None:
        raise redis.TimeoutError("no answer to SUBSCRIBE")
    return isinstance(message, dict) and message.get("type") == "subscribe"


def decode_message(message: Any) -> tuple[str, bytes] | None:
    """Return (channel, message) of a pub/sub message, None for anything else."""
    if not isinstance(message, dict) or message.get("type") != "message":
        return None
    channel, data = message.get("channel"), message.get("data")
    if not isinstance(channel, bytes) or not isinstance(data, bytes):
        return None
    return channel.decode("utf-8", "replace"), data
