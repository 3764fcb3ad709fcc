"""Clients, dispatchers and operators killed at any moment, and after each script, leave nothing half done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from typing_extensions import override

from heavylift.contract import failpoints
from heavylift.store import Store, faults, scripts
from heavylift.store.steps import Call, Step
from tests.proofs import audit
from tests.proofs.crowd.plan import QUEUES
from tests.proofs.crowd.trail import Reader
from tests.proofs.killed.acts import serve, settle, tour
from tests.proofs.killed.run import after_each_script, ends, random_kills
from tests.servers import StoreServer, redis_binary, running

SEED = 2
ASIDE = {
    *("counts", "find_ended", "get_job", "key_standing", "list_jobs", "own_claims", "schedules"),
    *("schedule_due", "snapshot", "unfinalized"),  # these only look
    *("delete_settings", "epoch", "lock", "put_settings", "register"),  # these touch no job and none of its places
}
"""Scripts that the tour may leave out; sweeps too: they mend what the audit is to find."""


@pytest.fixture
def client(store_server: StoreServer) -> Iterator[redis.Redis]:
    """Give a plain client of the server."""
    with contextlib.closing(store_server.client()) as made:
        yield made


def test_random_kills_leave_nothing_half_done(store_server: StoreServer, client: redis.Redis) -> None:
    """Forty processes die at random moments: every index fits the jobs, and another process ends each job once."""
    found = random_kills(client, store_server.url, kills=40, seed=SEED)
    assert found.broken == []
    assert found.kills == 40
    assert min(found.found_running, found.found_held) > 0, "the dead held executions and keys"
    assert found.happened.keys() >= {"completed", "failed", "cancelled", "released", "retrying", "deduplicated"}


def test_killed_after_each_script(store_server: StoreServer, client: redis.Redis) -> None:
    """A process that makes a tour of all scripts dies after its first reply, after its second, and so on.

    One store takes the odd replies, the other the even ones.
    """
    first = 1 if "redis-server" in store_server.binary else 2
    found = after_each_script(client, store_server.url, seed=SEED, first=first, step=2)
    assert found.broken == []
    assert found.kills > 40
    assert min(found.found_running, found.found_held) > 0


class Forgetful(Store):
    """A store that loses the first answer to each step, and notes which scripts it was asked for."""

    asked: set[str]

    @override
    def _take(self, step: Step) -> Any:
        failpoints.load({failpoints.ENV: "store.reply:drop-reply"})
        if isinstance(step, Call):
            self.asked.add(step.script)
        return super()._take(step)

    @override
    def _take_many(self, steps: Any) -> Any:
        failpoints.load({failpoints.ENV: "store.reply:drop-reply"})
        self.asked.update(step.script for step in steps)
        return super()._take_many(steps)


def test_each_lost_reply_is_made_good(
    store_server: StoreServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the answer to every single step lost once, each thing is done once; tours go by every script."""
    monkeypatch.setattr(faults, "_FIRST_S", 0.0001)
    with Store.connect(store_server.url) as plain, Forgetful.connect(store_server.url) as store:
        store.asked = set()
        reader = Reader(client, QUEUES)
        serve(plain)
        for seed in range(SEED, SEED + 3):
            tour(store, seed)
        failpoints.load({})
        assert audit.unsound(audit.take(client)) == []
        settle(plain)
    reader.read()
    assert ends([line for lines in reader.lines.values() for line in lines]) == []
    assert {name for name in scripts.names() if not name.startswith("sweep")} - ASIDE <= store.asked


@pytest.fixture(autouse=True)
def _inert() -> Iterator[None]:
    yield
    failpoints.load({})


LEAKS: dict[str, tuple[tuple[Any, ...], str]] = {
    "a key's counter": (("ZADD", "heavylift:keyed:steady", 0, "k0\0gone:x-1"), "heavylift:keyed:steady holds"),
    "its other way round": (("HSET", "heavylift:keyof:steady", "gone:x-1", "k0"), "heavylift:keyof:steady holds"),
    "a place in the ring": (("HSET", "heavylift:slots:steady", "k9", "f1"), "heavylift:slots:steady holds 'k9'"),
    "a head": (("ZADD", "heavylift:heads:steady", 1, "k9"), "heavylift:heads:steady holds 'k9'"),
    "a full key": (("ZADD", "heavylift:full:steady", 1, "k9"), "heavylift:full:steady holds 'k9'"),
    "a deduplication key": (("HSET", "heavylift:dedup:steady", "d", "gone"), "key d of steady is held by gone"),
    "an entry of a list": (("RPUSH", "rq:queue:steady", "gone"), "job gone stands in ['steady/level 0']"),
    "a delayed entry": (("ZADD", "heavylift:delayed:steady", 1, "gone"), "job gone stands in ['steady/delayed']"),
    "an entry of RQ's": (("ZADD", "rq:failed:steady", 1, "gone"), "rq:failed:steady holds 'gone'"),
    "a started one": (("ZADD", "rq:wip:steady", 1, "gone:x-1"), "the started registry holds 'gone:x-1'"),
    "a part of the width": (("ZADD", "heavylift:inflight:prod/heavylift", 1, "gone:x-1"), "the width holds 'gone:x-1'"),
    "a worker's": (("SADD", "rq:worker:w:executions", "gone:x-1"), "the workers' executions holds 'gone:x-1'"),
    "RQ's execution": (("HSET", "rq:execution:gone:x-1", "id", "x-1"), "rq:execution: holds"),
    "RQ's executions": (("ZADD", "rq:executions:gone", 1, "x-1"), "rq:executions: holds 'gone:x-1'"),
    "a result": (("XADD", "rq:results:gone", "*", "type", 1), "rq:results:gone is left of a job that is gone"),
    "a rate without end": (("ZADD", "heavylift:rate:steady", 1, "gone:x-1"), "heavylift:rate:steady has no end"),
    "a job in no place": (("HSET", "rq:job:lost", "status", "queued", "origin", "steady"), "job lost is queued and"),
    "an unconfirmed Job": (
        ("ZADD", "heavylift:unfinalized:prod/heavylift", 1, "ns/x"),
        "heavylift:unfinalized:prod/heavylift holds 'ns/x'",
    ),
    "a schedule": (("ZADD", "heavylift:schedules", 1, "gone"), "heavylift:schedules holds 'gone'"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """Give a server after one tour: jobs in many states, and all of it sound."""
    with (
        running(redis_binary(), tmp_path_factory.mktemp("audit")) as server,
        contextlib.closing(server.client()) as made,
        Store.connect(server.url) as store,
    ):
        serve(store)
        tour(store, SEED)
        assert audit.unsound(audit.take(made)) == []
        yield made


@pytest.mark.parametrize("leak", LEAKS)
def test_the_audit_finds_each_leak(sound: redis.Redis, leak: str) -> None:
    """One entry that nothing stands behind is named, whichever index it is in."""
    command, sentence = LEAKS[leak]
    key, backup = command[1], sound.dump(command[1])
    sound.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's
    try:
        assert [found for found in audit.unsound(audit.take(sound)) if sentence in found]
    finally:
        sound.delete(key)
        if backup:
            sound.restore(key, 0, backup)
