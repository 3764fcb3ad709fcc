"""Calls made ahead: the next batch goes to Redis before the answer to the one before is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio as aioredis
from typing_extensions import override

from heavylift import JobRequest
from heavylift.batches import Batch, enqueue_many
from heavylift.contract import failpoints
from heavylift.errors import RedisUnavailableError
from heavylift.store import AsyncStore, Store, ops
from heavylift.store.steps import Ahead, AheadOp, Call
from tests.integration.store.kit import QUEUE, World, request

COUNT = 250
"""Five calls."""


def numbered(count: int = COUNT) -> list[JobRequest]:
    """Return requests whose ids tell their order."""
    return [JobRequest("annual", {"n": n}, id=f"n{n:04}", if_exists="return") for n in range(count)]


def enqueue(w: World, requests: Sequence[Any], *, awaited: bool) -> Batch:
    """Enqueue a batch with either runner."""
    op = enqueue_many(QUEUE, requests, strict=True)
    return asyncio.run(_awaited(w.server.url, op)) if awaited else w.store.run(op)


async def _awaited(url: str, op: AheadOp[Batch]) -> Batch:
    async with AsyncStore.connect(url) as store:
        return await store.run(op)


@pytest.fixture(autouse=True)
def _inert() -> Iterator[None]:
    yield
    failpoints.load({})


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 3, 5])
def test_each_is_accepted_once_and_in_order_whichever_answer_is_lost(w: World, lost: int, *, awaited: bool) -> None:
    """Answers that are lost are asked for again, each by itself: every job is there once, in the order given."""
    failpoints.load({failpoints.ENV: f"store.reply:drop-reply@{lost}"})
    batch = enqueue(w, numbered(), awaited=awaited)
    assert batch.errors == []
    assert [made.id for made in batch.accepted] == [f"n{n:04}" for n in range(COUNT)]
    assert all(made.created for made in batch.accepted)
    assert w.waiting() == [f"n{n:04}" for n in range(COUNT)]


class Forgetting(Store):
    """A store whose Redis forgets its scripts after the first call of each operation."""

    @override
    def _stream(self, calls: Iterator[Call], answers: list[Any]) -> Any:
        self.redis.script_flush()
        return super()._stream(calls, answers)


def test_scripts_that_are_forgotten_between_two_calls_are_sent_again(w: World) -> None:
    """Redis may lose its scripts at any moment; nothing of the batch is."""
    with Forgetting.connect(w.server.url) as store:
        batch = store.run(enqueue_many(QUEUE, numbered(), strict=True))
    assert [made.id for made in batch.accepted] == [f"n{n:04}" for n in range(COUNT)]
    assert w.redis.llen(f"rq:queue:{QUEUE}") == COUNT


@pytest.mark.parametrize("awaited", [False, True])
def test_what_is_not_confirmed_is_named_and_what_was_stays(w: World, *, awaited: bool) -> None:
    """When Redis refuses from the third call on, the entries before are accepted and the others named."""
    requests, done = numbered(), 0

    class Refusing(list[JobRequest]):
        """Takes the right to write away while the third call is made."""

        def __iter__(self) -> Iterator[JobRequest]:  # type: ignore[explicit-override]  # the decorator is for methods of ours
            nonlocal done
            for one in requests:
                done += 1
                if done == 130:
                    w.redis.config_set("maxmemory", 1)
                yield one

    try:
        batch = enqueue(w, Refusing(requests), awaited=awaited)
    finally:
        w.redis.config_set("maxmemory", 0)
    ((first, error),) = batch.errors
    assert isinstance(error, RedisUnavailableError)
    assert f"entries {first} to {COUNT - 1} are not confirmed" in str(error)
    assert first == len(batch.accepted) == w.redis.llen(f"rq:queue:{QUEUE}")
    assert 60 <= first < COUNT


@pytest.mark.parametrize("awaited", [False, True])
def test_requests_that_cannot_be_gone_through_are_told_and_those_before_stay(w: World, *, awaited: bool) -> None:
    """A file that ends early, say, is no lost connection: what it kept out is named, what came before is enqueued."""

    class Breaking(list[JobRequest]):
        """Cannot be read to its end."""

        def __iter__(self) -> Iterator[JobRequest]:  # type: ignore[explicit-override]  # the decorator is for methods of ours
            yield from self[:130]
            raise OSError("no such device")

    batch = enqueue(w, Breaking(numbered()), awaited=awaited)
    assert [str(error) for _, error in batch.errors] == [
        "from entry 130 on: going through the requests failed: OSError: no such device"
    ]
    assert [made.id for made in batch.accepted] == w.waiting() == [f"n{n:04}" for n in range(130)]


def unhealthy(pool: Any) -> None:
    """Let the time of the next look at each connection's health be over."""
    for connection in pool._in_use_connections:
        connection.next_health_check = -1.0


def cut(pool: Any) -> None:
    """Take the connections away, as another thread that closes the client."""
    for connection in pool._in_use_connections:
        if isinstance(connection, redis.Connection):
            connection.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
        else:
            connection._close()


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("harm", [unhealthy, cut])
def test_no_call_gets_the_answer_to_another(w: World, harm: Callable[[Any], None], *, awaited: bool) -> None:
    """A connection that redis-py makes again while an answer is owed brings no other call's answer."""
    for n, queue in enumerate("abc", 1):
        w.store.run(ops.enqueue_many([request(queue=queue, id=f"{queue}{i}", strict=False) for i in range(n)]))

    def op(pool: Any) -> AheadOp[list[Any]]:
        def calls() -> Iterator[Call]:
            for queue in "abc":
                if queue == "b":
                    harm(pool)
                yield Call("counts", (queue,))

        answers: list[Any] = yield Ahead(calls())
        return answers

    async def twice() -> list[list[Any]]:
        made = aioredis.Redis.from_url(w.server.url, health_check_interval=30, socket_timeout=2)
        async with made, AsyncStore(redis=made) as store:
            return [await store.run(op(made.connection_pool)) for _ in range(2)]

    if awaited:
        found = asyncio.run(twice())
    else:
        with redis.Redis.from_url(w.server.url, health_check_interval=30, socket_timeout=2) as given:
            store = Store(redis=given)
            found = [store.run(op(given.connection_pool)) for _ in range(2)]
    assert [[json.loads(answer)["waiting"] for answer in answers] for answers in found] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("awaited", [False, True])
def test_a_batch_keeps_its_order_when_others_teach_a_redis_that_was_restarted(w: World, *, awaited: bool) -> None:
    """A first call that is refused, as Redis lost its scripts, is not overtaken by the next one, which is not."""
    requests = numbered(COUNT * 2)

    class Meanwhile(list[JobRequest]):
        """While its second part is made, another producer enqueues."""

        def __iter__(self) -> Iterator[JobRequest]:  # type: ignore[explicit-override]  # the decorator is for methods of ours
            yield from self[:110]
            with Store.connect(w.server.url) as other:
                other.run(ops.enqueue(request(queue="other", id="o1", strict=False)))
            yield from self[110:]

    async def both() -> list[Batch]:
        async with AsyncStore.connect(w.server.url) as store:
            first = await store.run(enqueue_many(QUEUE, requests[:COUNT], strict=True))
            restart()
            await asyncio.sleep(0)
            return [first, await store.run(enqueue_many(QUEUE, Meanwhile(requests[COUNT:]), strict=True))]

    def restart() -> None:
        w.redis.script_flush()
        w.redis.client_kill_filter(_type="normal", skipme=True)

    if awaited:
        made = asyncio.run(both())
    else:
        made = [w.store.run(enqueue_many(QUEUE, requests[:COUNT], strict=True))]
        restart()
        made.append(w.store.run(enqueue_many(QUEUE, Meanwhile(requests[COUNT:]), strict=True)))
    assert [one.id for batch in made for one in batch.accepted] == [f"n{n:04}" for n in range(COUNT * 2)]
    assert w.waiting() == [f"n{n:04}" for n in range(COUNT * 2)]


def test_an_error_of_the_callers_own_leaves_the_connection_usable(w: World) -> None:
    """What goes wrong while a call is made ends the operation; the next one finds no stale answer."""

    def op(fails: bool) -> AheadOp[list[Any]]:
        def calls() -> Iterator[Call]:
            yield Call("epoch", ("",))
            yield Call("counts", (QUEUE,))
            yield Call("counts", (QUEUE,))
            if fails:
                raise ZeroDivisionError

        answers: list[Any] = yield Ahead(calls())
        return answers

    with pytest.raises(ZeroDivisionError):
        w.store.run(op(fails=True))
    answers = w.store.run(op(fails=False))
    assert len(answers) == 3
    assert answers[1] == answers[2]
    assert isinstance(w.redis, redis.Redis)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_batch_after_another_waits_for_nothing_and_survives_that_redis_forgot(w: World, *, awaited: bool) -> None:
    """Even the first call is sent ahead where Redis learned the script; what it forgot since, it is taught again."""
    batches = [numbered(COUNT * 2)[:COUNT], numbered(COUNT * 2)[COUNT:]]

    def op(requests: list[JobRequest]) -> AheadOp[Batch]:
        return enqueue_many(QUEUE, requests, strict=True)

    async def both() -> list[Batch]:
        async with AsyncStore.connect(w.server.url) as store:
            first = await store.run(op(batches[0]))
            w.redis.script_flush()
            return [first, await store.run(op(batches[1]))]

    if awaited:
        made = asyncio.run(both())
    else:
        made = [w.store.run(op(batches[0]))]
        w.redis.script_flush()
        made.append(w.store.run(op(batches[1])))
    assert [one.id for batch in made for one in batch.accepted] == [f"n{n:04}" for n in range(COUNT * 2)]
    assert w.waiting() == [f"n{n:04}" for n in range(COUNT * 2)]


def test_answers_are_read_while_calls_are_made(w: World) -> None:
    """Who makes the calls finds the answers to those before the last one."""
    seen: list[int] = []
    answers: list[Any] = []
    w.store.run(ops.counts(QUEUE))

    def op() -> AheadOp[list[Any]]:
        def calls() -> Iterator[Call]:
            for _ in range(4):
                seen.append(len(answers))
                yield Call("counts", (QUEUE,))

        found: list[Any] = yield Ahead(calls(), answers)
        return found

    for _ in range(2):
        answers.clear()
        assert w.store.run(op()) is answers
        assert len(answers) == 4
    assert seen == [0, 0, 1, 2] * 2
