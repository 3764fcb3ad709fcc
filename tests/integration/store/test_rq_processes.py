"""RQ's own processes beside a queue that uses every option: they tell the truth, and break nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from heavylift.contract.states import JobState
from heavylift.store import Claim, Next, ops
from tests.integration.store.kit import QUEUE, World, world
from tests.proofs.rqtools import Shown, dashboard, django_rq, rq_info
from tests.servers import StoreServer

FOREVER = 3_600_000
DEDUPE = {"dedupe": {"id": "annual", "mode": "keep_last"}}


@pytest.fixture
def w(redis_server: StoreServer) -> Iterator[World]:
    """Give a world on Redis alone: these processes ask both stores the same."""
    with world(redis_server) as made:
        yield made


def rq(server: StoreServer, *arguments: str) -> str:
    """Run RQ's command line to its end; return what it printed."""
    argv = [sys.executable, "-m", "rq.cli", *arguments, "--url", server.url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def light(number: int) -> int:
    """Return the double: what a light job does in RQ's worker."""
    return number * 2


def everything(w: World) -> dict[str, Any]:
    """Fill a queue with all options in use; return what runs and what waits where."""
    w.serve(concurrencyPerKey=1)
    active: list[Claim] = []
    for options in (DEDUPE, {"key": "tenant"}, {}):
        w.enqueue(options=options)
        active.append(w.claim())
    return {
        "active": active,
        "follower": w.enqueue(options=DEDUPE).id,
        "aside": [w.enqueue(options={"key": "tenant"}).id for _ in range(2)],
        "levels": [w.enqueue(options={"priority": priority}).id for priority in (-5, 5, 5)],
        "base": [w.enqueue(options={"lifo": lifo}).id for lifo in (False, True)],
        "delayed": w.enqueue(delay_ms=FOREVER, options={"dedupe": {"id": "d", "mode": "debounce", "ttl": FOREVER}}).id,
        "deferred": w.enqueue(depends_on=(active[2].job,)).id,
    }


def standing(w: World) -> dict[bytes, Any]:
    """Return where every job stands and who holds what, but for what RQ's tools keep of themselves."""
    found: dict[bytes, Any] = {}
    for key in sorted(w.redis.scan_iter("*")):
        if key.startswith((b"rq:clean", b"rq:worker", b"rq:scheduler", b"rq:results", b"heavylift:events")):
            continue
        kind = w.redis.type(key)
        unordered = w.redis.smembers(key) if kind == b"set" else w.redis.hgetall(key) if kind == b"hash" else None
        found[key] = unordered or w.redis.dump(key)
    return found


def test_rq_info_counts_all_of_it_and_moves_nothing(w: World) -> None:
    """Levels show as queues; two of it at once, with the cleanup they do, leave every key as it was."""
    jobs = everything(w)
    before = standing(w)
    argv = [sys.executable, "-m", "rq.cli", "info", "--raw", "--url", w.server.url]
    other = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    queues, _ = rq_info(w.server.url)
    assert other.wait(60) == 0
    waiting = sum(shown.waiting for name, shown in queues.items() if name.split("@")[0] == QUEUE)
    assert waiting == w.run(ops.counts(QUEUE)).waiting == len([*jobs["aside"], *jobs["levels"], *jobs["base"]])
    assert queues[QUEUE] == Shown(2, 3, 0, 0)
    assert (queues[f"{QUEUE}@5"].waiting, queues[f"{QUEUE}@-5"].waiting) == (2, 1)
    assert standing(w) == before


@pytest.mark.parametrize("command", ["requeue", "empty"])
def test_rqs_commands_leave_a_sound_queue(w: World, command: str) -> None:
    """`rq requeue` runs failed jobs again, `rq empty` removes what waits; keys and followers go on after both."""
    jobs = everything(w)
    if command == "requeue":
        for claim in jobs["active"][:2]:
            w.finish(claim, Next.FAIL)
        rq(w.server, "requeue", "--queue", QUEUE, "--all", "-S", "json")
        assert w.run(ops.counts(QUEUE)).failed == 0
        expected = {claim.job for claim in jobs["active"][:2]} | {*jobs["base"], jobs["follower"]}
    else:
        rq(w.server, "empty", QUEUE, "-S", "json")
        for claim in jobs["active"][:2]:
            w.finish(claim)
        expected = {jobs["follower"]}
    expected |= {*jobs["aside"], *jobs["levels"]}
    w.finish(jobs["active"][2])
    ran: list[str] = []
    while claims := w.ask().claims:
        for claim in claims:
            ran.append(claim.job)
            w.finish(claim)
    assert sorted(ran) == sorted({*expected, jobs["deferred"]}), "each once, none lost"
    assert w.run(ops.counts(QUEUE)).waiting == 0
    w.run(ops.sweep_dedupe(QUEUE))
    assert list(w.redis.hgetall(f"heavylift:dedup:{QUEUE}")) == [b"d"]
    assert w.job(jobs["delayed"]).state is JobState.DELAYED
    assert w.idle()


def test_stock_workers_on_other_queues_are_untouched(w: World) -> None:
    """RQ's worker with its scheduler does its light jobs, delayed ones too, and nothing of the heavy queue moves."""
    everything(w)
    before = standing(w)
    plain = Queue("light", connection=w.redis, serializer=JSONSerializer)
    now = plain.enqueue(light, 2)
    due = plain.enqueue_at(datetime(2020, 1, 1, tzinfo=UTC), light, 3)
    rq(w.server, "worker", "light", "--burst", "--with-scheduler", "-S", "json")
    assert (now.return_value(), due.return_value()) == (4, 6)
    after = {key: value for key, value in standing(w).items() if key in before and key != b"rq:queues"}
    assert after == {key: value for key, value in before.items() if key != b"rq:queues"}


def test_the_dashboard_shows_every_state(w: World, tmp_path: Path) -> None:
    """rq-dashboard reads jobs without the fields that say nothing, in every table and on each job's page."""
    jobs = everything(w)
    with dashboard(w.server.url, tmp_path) as board:
        assert board.queue(QUEUE) == Shown(2, 3, 0, 0)
        assert board.jobs(QUEUE, "queued") == [jobs["base"][1], jobs["base"][0]]
        assert board.jobs(QUEUE, "scheduled") == [jobs["delayed"]]
        assert sorted(board.jobs(QUEUE, "deferred")) == sorted([jobs["follower"], jobs["deferred"]])
        page = board.job(jobs["base"][0])
        assert (page["status"], page["origin"], page["description"]) == ("queued", QUEUE, "annual")


def test_django_rq_shows_every_state_and_moves_no_job(w: World) -> None:
    """Its figures are ours, in JSON and on its page; levels count and list nothing; each job has its true status.

    Where it is told of `Q@keys` it drops entries, which are no jobs: the next claim puts them back.
    """
    w.serve()
    done, failed = w.active(), w.active()
    w.finish(done)
    w.finish(failed, Next.FAIL)
    jobs = everything(w)
    before = standing(w)
    names, keys = (QUEUE, f"{QUEUE}@5", f"{QUEUE}@-5"), f"{QUEUE}@keys"
    shown = django_rq(w.server.url, *names, keys)
    ours, after = w.run(ops.counts(QUEUE)), standing(w)
    assert {key for key in before | after if before.get(key) != after.get(key)} == {f"rq:queue:{keys}".encode()}
    expected = {
        "queued": set(jobs["base"]),
        "started": {claim.job for claim in jobs["active"]},
        "finished": {done.job},
        "failed": {failed.job},
        "deferred": {jobs["deferred"], jobs["follower"]},
        "scheduled": {jobs["delayed"]},
    }
    counted = {name: [shown[where][name] for where in ("figures", "page")] for name in names}
    assert counted[QUEUE] == [{name: len(ids) for name, ids in expected.items()}] * 2
    assert [[one["queued"] for one in counted[name]] for name in names[1:]] == [[2, 2], [1, 1]]
    assert sum(counted[name][0]["queued"] for name in names) + len(jobs["aside"]) == ours.waiting
    there = (ours.active, ours.completed, ours.failed, ours.waiting_children, ours.delayed)
    assert tuple(counted[QUEUE][0][name] for name in list(expected)[1:]) == there
    assert {name: set(ids) for name, ids in shown["tables"][QUEUE].items()} == expected
    assert not any(ids for name in (*names[1:], keys) for ids in shown["tables"][name].values())
    assert shown["jobs"] == {job: [name, "annual"] for name, ids in expected.items() for job in ids}
    w.claim()
    assert w.redis.llen(f"rq:queue:{keys}") == len(jobs["aside"])
