"""Both runners against servers that fail, refuse and come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from heavylift.contract import failpoints
from heavylift.contract.keys import Keys
from heavylift.contract.states import JobState
from heavylift.errors import ConfigurationError, RedisUnavailableError
from heavylift.store import AsyncStore, Next, Store, decode, ops
from tests.integration.store.kit import QUEUE, World, request, world
from tests.servers import StoreServer, free_port


@pytest.fixture(autouse=True)
def _inert() -> Iterator[None]:
    yield
    failpoints.load({})


async def test_the_async_runner_does_the_same(w: World) -> None:
    """Every kind of step works awaited: scripts, plain commands, waits for events."""
    async with AsyncStore.connect(w.server.url) as store:
        done = await store.run(ops.enqueue(request(id="a")))
        assert done.created
        assert await store.run(ops.queues()) == [QUEUE]
        record = await store.run(ops.get_job("a"))
        assert record is not None
        assert record.state is JobState.WAITING
        assert await store.run(ops.events(QUEUE, after="$", block_ms=20)) == []
        assert (await store.run(ops.inflight("i")))[1] == []
        await store.run(ops.ping())


async def test_async_runner_repeats_a_lost_reply(w: World) -> None:
    """A lost reply is asked for again by the async runner too."""
    failpoints.load({failpoints.ENV: "store.reply:drop-reply"})
    async with AsyncStore.connect(w.server.url) as store:
        assert (await store.run(ops.enqueue(request(id="a")))).created
    assert w.waiting() == ["a"]


async def test_async_subscription_hears_what_is_published(w: World) -> None:
    """Nothing published after the block was entered is missed; a wait without a message ends in time."""
    keys = w.store.keys
    async with AsyncStore.connect(w.server.url) as store, store.subscribe(keys.doorbell(), keys.wake()) as heard:
        assert await heard.get(timeout=0.01) is None
        w.enqueue()
        assert await heard.get(timeout=10) == (keys.doorbell(), QUEUE.encode())
        w.enqueue()
        async for channel, _ in heard:
            assert channel == keys.doorbell()
            break


def test_done_is_published(w: World) -> None:
    """The end of a job is told on its own channel, with the state."""
    claim = w.active()
    with w.store.subscribe(w.store.keys.done(claim.job)) as heard:
        w.finish(claim, Next.FAIL)
        assert heard.get(timeout=10) == (w.store.keys.done(claim.job), b"failed")
        assert heard.get(timeout=0.01) is None
        w.redis.publish(w.store.keys.done(claim.job), "again")
        assert next(iter(heard)) == (w.store.keys.done(claim.job), b"again")


def test_scripts_are_loaded_again_after_a_flush(w: World) -> None:
    """A server that forgot its scripts gets them again."""
    w.enqueue()
    w.redis.script_flush()
    w.enqueue()
    assert len(w.waiting()) == 2


def test_a_restarted_server_is_waited_for(own_store_server: StoreServer) -> None:
    """While the server restarts, operations wait for it and then go on; a subscription comes back too."""
    own_store_server.start(appendonly="yes", appendfsync="always")
    with world(own_store_server) as w:
        w.store.patience = 30.0
        w.enqueue(id="before")
        own_store_server.stop()
        restart = threading.Thread(target=own_store_server.start)
        restart.start()
        w.enqueue(id="after")
        restart.join()
        assert w.waiting() == ["before", "after"]


def test_unreachable_is_said_at_once_when_asked(tmp_path: Path) -> None:
    """Without patience an unreachable server is one clear error, naming the place, never the password."""
    port = free_port()
    with Store.connect(f"redis://:hunter2@127.0.0.1:{port}/0", patience=0) as store:
        with pytest.raises(RedisUnavailableError, match=f"127.0.0.1:{port}") as failed:
            store.run(ops.ping())
        with pytest.raises(RedisUnavailableError), store.subscribe("x"):
            pass
    assert "hunter2" not in str(failed.value)
    assert tmp_path.exists()


async def test_unreachable_async() -> None:
    """The async runner says the same."""
    async with AsyncStore.connect(f"redis://127.0.0.1:{free_port()}/0", patience=0) as store:
        with pytest.raises(RedisUnavailableError, match="cannot be reached"):
            await store.run(ops.ping())
        with pytest.raises(RedisUnavailableError):
            async with store.subscribe("x"):
                pass


def test_wrong_password_is_told_apart(own_store_server: StoreServer) -> None:
    """A wrong or missing password is an error about credentials, at once."""
    own_store_server.start(requirepass="right")
    for password in (None, "wrong"):
        store = Store.connect(own_store_server.url, password=password, patience=30)
        with store, pytest.raises(RedisUnavailableError, match="credentials"):
            store.run(ops.ping())
    with Store.connect(own_store_server.url, password="right") as store:
        store.run(ops.ping())


def test_password_file_is_read_at_each_connection(own_store_server: StoreServer, tmp_path: Path) -> None:
    """A rotated password is taken up; a missing or empty file is a configuration error that names it."""
    own_store_server.start(requirepass="one")
    path = tmp_path / "password"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Store.connect(own_store_server.url, password_file=str(path))
    path.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        Store.connect(own_store_server.url, password_file=str(path))
    path.write_text("one\n")
    with Store.connect(own_store_server.url, password_file=str(path)) as store:
        store.run(ops.ping())
        path.write_text("two\n")
        own_store_server.stop()
        own_store_server.start(requirepass="two")
        store.run(ops.ping())


async def test_password_file_works_awaited_and_in_silence(
    own_store_server: StoreServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The async runner reads the file too, and no library complains in the log."""
    own_store_server.start(requirepass="one")
    path = tmp_path / "password"
    path.write_text("one\n")
    async with AsyncStore.connect(own_store_server.url, password_file=str(path)) as store:
        await store.run(ops.ping())
    assert caplog.records == []


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "redis://h:port/0", "redis://h:1/db", ""])
def test_unusable_urls_are_refused(url: str) -> None:
    """What is no Redis URL is a configuration error that shows the form."""
    with pytest.raises(ConfigurationError, match="redis://"):
        Store.connect(url)


def test_a_decoding_client_is_refused(w: World) -> None:
    """A client that decodes would corrupt payloads: it is refused."""
    client = redis.Redis.from_url(w.server.url, decode_responses=True)
    with contextlib.closing(client), pytest.raises(ConfigurationError, match="decode_responses"):
        Store(redis=client)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_given_client_is_used_and_left_open(w: World, protocol: int) -> None:
    """A client of the user's works in either protocol and is not closed by the store."""
    with contextlib.closing(redis.Redis.from_url(w.server.url, protocol=protocol)) as client:
        with Store(redis=client) as store:
            store.run(ops.enqueue(request(id="a")))
            (event,) = store.run(ops.events(QUEUE))
            assert event.job == "a"
            store.run(ops.set_trouble(QUEUE, "x", {"message": "m"}))
            assert store.run(ops.troubles(QUEUE)) == {"x": {"message": "m"}}
            assert store.run(ops.settings_owner(QUEUE)) is not None
            assert store.run(ops.server_report())["maxmemory_policy"] == "noeviction"
            claim = w.claim()
            assert store.run(ops.inflight(claim.install))[1][0].execution == claim.execution
            assert store.run(ops.get_job("a")) == w.job("a")
        assert client.ping()


def test_full_memory_refuses_and_leaves_nothing_half_written(own_store_server: StoreServer) -> None:
    """Without memory each writing operation is refused as a whole, saying why; with memory again all goes on."""
    own_store_server.start()
    with world(own_store_server) as w:
        w.store.patience = 0.2
        waiting, claim = w.enqueue(id="first").id, None
        w.enqueue(id="second")
        claim = w.claim()
        w.redis.config_set("maxmemory", 1)
        refused = (
            lambda: w.enqueue(id="third"),
            lambda: w.finish(claim),
            lambda: w.finish(claim, Next.RETRY),
            lambda: w.run(ops.cancel("second", by="x")),
        )
        for attempt in refused:
            with pytest.raises(RedisUnavailableError, match="out of memory"):
                attempt()
        w.redis.config_set("maxmemory", 0)
        assert w.job(waiting).execution == claim.execution
        assert w.waiting() == ["second"]
        assert w.run(ops.get_job("third")) is None
        w.finish(claim)
        assert [c.job for c in w.ask().claims] == ["second"]


def test_another_key_prefix_moves_everything(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RQ_KEY_PREFIX set all keys, ours too, lie under it."""
    monkeypatch.setenv("RQ_KEY_PREFIX", "tenant")
    w.redis.flushall()
    with Store.connect(w.server.url) as store:
        assert store.keys == Keys("tenant", "heavylift:tenant")
        assert store.run(ops.enqueue(request(strict=False))).created
    keys = [decode.text(key) for key in w.redis.scan_iter("*")]
    assert {key.split(":")[0] for key in keys} == {"tenant", "heavylift"}
    assert all(key.startswith(("tenant:", "heavylift:tenant:")) for key in keys)


async def test_cancelled_task_leaves_the_store_usable(w: World) -> None:
    """A coroutine cancelled in the middle of an operation harms no later one."""
    async with AsyncStore.connect(w.server.url) as store:
        task = asyncio.create_task(store.run(ops.events(QUEUE, after="$", block_ms=60_000)))
        await asyncio.sleep(0)
        await store.run(ops.ping())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await store.run(ops.enqueue(request(id="a")))).created
