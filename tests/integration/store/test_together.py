"""Coroutines that ask at the same moment share a connection, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as aioredis
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from heavylift.errors import RedisUnavailableError
from heavylift.store import AsyncStore, ops
from heavylift.store.together import _says_something
from tests.integration.store.kit import World, request


async def test_many_at_once_need_one_connection(w: World) -> None:
    """Each gets its own answer, although Redis has forgotten the script; they come over one connection."""
    names = [f"job-{n}" for n in range(450)]
    w.redis.script_flush()
    before = {client["id"] for client in w.redis.client_list()}  # some of them may be closing
    async with AsyncStore.connect(w.server.url) as store:
        made = await asyncio.gather(*(store.run(ops.enqueue(request(id=name))) for name in names))
        found = await asyncio.gather(*(store.run(ops.get_job(name)) for name in (*names, "gone")))
        assert len({client["id"] for client in w.redis.client_list()} - before) == 1
    assert [one.id for one in made] == names
    assert [record.id if record else None for record in found] == [*names, None]


async def test_what_cannot_be_sent_fails_alone(w: World) -> None:
    """Text that is no Unicode stops neither its neighbours nor those that come later."""
    async with AsyncStore.connect(w.server.url) as store:
        asked = [store.run(ops.get_job(job)) for job in ("a", "\ud800", "b")]
        first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
        assert (first, last) == (None, None)
        assert isinstance(bad, UnicodeEncodeError)
        assert await store.run(ops.get_job("c")) is None


async def test_one_that_gives_up_leaves_the_others(w: World) -> None:
    """A cancelled coroutine takes nobody with it."""
    w.enqueue(id="a")
    async with AsyncStore.connect(w.server.url) as store:
        asked = [asyncio.create_task(store.run(ops.get_job("a"))) for _ in range(5)]
        await asyncio.sleep(0)
        asked[2].cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[2], asyncio.CancelledError)
    assert [one.id for n, one in enumerate(found) if n != 2] == ["a"] * 4  # type: ignore[union-attr]


async def test_redis_away_and_back(w: World) -> None:
    """All that asked meanwhile fail with what to check; afterwards all goes on."""
    async with AsyncStore.connect(w.server.url, patience=0.2) as store:
        w.server.kill()
        lost = await asyncio.gather(*(store.run(ops.get_job("a")) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in lost] == [RedisUnavailableError] * 5
        w.server.start()
        assert await store.run(ops.get_job("a")) is None


async def test_an_answer_that_comes_too_late_meets_nobody(w: World) -> None:
    """Who gave up waiting is told that Redis does not answer; the next ones get their own answers."""
    w.enqueue(id="late")
    async with AsyncStore.connect(w.server.url, timeout=0.4, patience=0) as store:
        assert await store.run(ops.get_job("other")) is None
        w.redis.client_pause(60_000, all=False)  # scripts, for they might write
        lost = await asyncio.gather(*(store.run(ops.get_job("late")) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in lost] == [RedisUnavailableError] * 3
        assert "does not answer in time" in str(lost[0])
        w.redis.client_unpause()
        assert await store.run(ops.get_job("other")) is None


async def test_a_connection_that_was_closed_is_made_anew(w: World) -> None:
    """Nobody notices: the server's end is seen before anything is sent."""
    async with AsyncStore.connect(w.server.url, patience=0) as store:
        assert await store.run(ops.get_job("a")) is None
        w.redis.client_kill_filter(skipme=True)
        async with asyncio.timeout(10):
            while not await _says_something(store._together._connection):  # noqa: ASYNC110 - until our side was told
                await asyncio.sleep(0)
        assert await store.run(ops.get_job("a")) is None


@pytest.mark.parametrize("count", [1, 3])
async def test_nothing_is_left_at_the_end(w: World, count: int) -> None:
    """Closing the store ends what is on its way."""
    store = AsyncStore.connect(w.server.url)
    asked = [asyncio.create_task(store.run(ops.get_job("a"))) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await store.aclose()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in found)


async def _talks_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer scripts with what is no answer of Redis."""
    while asked := await reader.read(65_536):
        writer.write(b":x\r\n" if b"EVAL" in asked else b"+OK\r\n" * asked.count(b"*"))
    writer.close()


async def test_what_is_no_answer_reaches_those_who_asked() -> None:
    """They get an error: a cancellation that nobody asked for would end their loops in silence."""
    server = await asyncio.start_server(_talks_nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = aioredis.ConnectionPool(host="127.0.0.1", port=port, protocol=2, parser_class=_AsyncRESP2Parser)
    async with server, aioredis.Redis.from_pool(pool) as client, AsyncStore(redis=client, patience=0) as store:
        asked = [asyncio.create_task(store.run(ops.get_job(job))) for job in "abc"]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [ValueError] * 3


async def test_a_connection_of_redis_py_before_8(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept, and made anew when it was closed, where the look at it has its former name."""
    look = getattr(AbstractConnection, "can_read", None) or AbstractConnection.can_read_destructive

    async def can_read_destructive(connection: Any) -> bool:
        if await look(connection):
            raise RedisConnectionError("Connection closed by server.")
        return False

    monkeypatch.delattr(AbstractConnection, "can_read", raising=False)
    monkeypatch.setattr(AbstractConnection, "can_read_destructive", can_read_destructive)
    monkeypatch.setattr(aioredis.ConnectionPool, "ensure_connection", lambda _, connection: connection.connect())
    async with AsyncStore.connect(w.server.url, patience=0) as store:
        for _ in range(2):
            assert await store.run(ops.get_job("a")) is None
        first = store._together._connection
        w.redis.client_kill_filter(skipme=True)
        async with asyncio.timeout(10):
            while not await _says_something(first):  # noqa: ASYNC110 - until our side was told
                await asyncio.sleep(0)
        assert await store.run(ops.get_job("a")) is None
