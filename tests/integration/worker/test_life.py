"""The dispatcher's own life: kills, SIGTERM, cancels in between, RQ's tools, HeavyQueues that change."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest
import redis
from rq import Queue
from rq.callbacks import Callback
from rq.command import send_shutdown_command, send_stop_job_command
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend
from rq.worker import Worker

from heavylift.contract.names import Annotation
from heavylift.store import Fence, ops
from tests.integration.worker.stand import Stand
from tests.proofs.kube import core
from tests.proofs.processes import Daemon
from tests.proofs.waiting import until

Json = dict[str, Any]
KILLS = ("dispatcher.claim.before", "dispatcher.claim.after", "dispatcher.create.before", "dispatcher.create.after")


@pytest.mark.parametrize("point", [*KILLS, "dispatcher.record.after"])
def test_killed_and_started_again(stand: Stand, point: str) -> None:
    """Killed anywhere between claim and record and started again under its name, it ends with one Job each."""
    stand.queue()
    first = stand.dispatcher(FAILPOINT=f"{point}:kill")
    stand.enqueue("j1")
    assert first.wait_exit(30) == -9

    stand.dispatcher()
    (record,) = stand.wait_recorded("j1")

    assert (record.seq, record.attempts_made) == (1, 0)
    stand.checks_out({"j1": ""})


def test_lost_replies_of_redis(stand: Stand) -> None:
    """Whichever of Redis' answers is lost, claims are not made twice and none is forgotten: one Job per job."""
    stand.queue()
    jobs: dict[str, str] = {}
    for hit in (2, 4, 5, 6, 8, 10):
        point = f"store.reply:drop-reply@{hit}"
        dispatcher = stand.dispatcher(f"d{hit}", SLOTS="50", REDIS_PATIENCE="0s", FAILPOINT=point)
        for job in (f"j{hit}a", f"j{hit}b"):
            jobs[stand.enqueue(job)] = ""
        stand.wait_recorded(*jobs)
        dispatcher.kill()

    stand.checks_out(jobs)
    assert {stand.record(job).seq for job in jobs} == {1}


def test_sigterm_hands_back_and_leaves(stand: Stand) -> None:
    """SIGTERM during retries: the job is back at the front within seconds, no attempt spent, the worker is gone."""
    stand.queue()
    quota: Json = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    path = core(stand.name, "resourcequotas", "q")
    stand.kube.apply(path, {**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})
    until(lambda: "hard" in (stand.kube.get(path) or {}).get("status", {}), "the quota to hold")
    dispatcher = stand.dispatcher().wait_ready()
    stand.enqueue("j1")
    stand.enqueue("j2")
    until(lambda: stand.record("j1").state.value == "active", "a claim")

    assert dispatcher.stop(10) == 0

    record = stand.record("j1")
    assert (record.state.value, record.attempts_made, record.execution) == ("waiting", 0, "")
    assert stand.store.run(ops.get_job("j1", position=True)).position == 0  # type: ignore[union-attr]
    assert stand.store.run(ops.inflight_count(stand.install)) == 0
    with stand.server.client() as client:
        assert Worker.all(connection=client) == []
        assert client.zcard(f"heavylift:dispatchers:{stand.install}") == 0


def test_cancelled_between_claim_and_create(stand: Stand) -> None:
    """A job cancelled after its claim gets no Job."""
    stand.queue()
    dispatcher = _paused(stand, "dispatcher.create.before")
    stand.enqueue("j1")
    _hit(stand, "dispatcher.create.before")

    stand.store.run(ops.cancel("j1", by="test", reason="obsolete"))
    _go(stand, "dispatcher.create.before")

    record = stand.wait_state("j1", "cancelled")
    assert (record.job_uid, stand.jobs()) == ("", [])
    assert dispatcher.running


def test_cancelled_between_create_and_record(stand: Stand) -> None:
    """A job cancelled while its Job comes to be keeps its record and its request; deleting is the operator's."""
    stand.queue()
    _paused(stand, "dispatcher.create.after")
    stand.enqueue("j1")
    _hit(stand, "dispatcher.create.after")

    stand.store.run(ops.cancel("j1", by="test", reason="obsolete"))
    _go(stand, "dispatcher.create.after")

    (record,) = stand.wait_recorded("j1")
    assert record.cancel["reason"] == "obsolete"
    stand.checks_out({"j1": ""})


@pytest.mark.parametrize("point", ["dispatcher.create.before", "dispatcher.create.after"])
def test_zombie_cannot_act(stand: Stand, point: str) -> None:
    """A dispatcher that wakes after its job was given to another changes nothing: one Job, the other's."""
    stand.queue()
    zombie = _paused(stand, point)
    stand.enqueue("j1")
    _hit(stand, point)
    claimed = stand.record("j1")

    zombie.signal(signal.SIGSTOP)
    fence = Fence(job="j1", execution=claimed.execution, worker="d")
    stand.store.run(ops.release(fence, reason="taken for dead"))
    stand.dispatcher("d2")
    (record,) = stand.wait_recorded("j1")
    _go(stand, point)
    zombie.signal(signal.SIGCONT)

    until(lambda: zombie.metric("heavylift_dispatcher_conflicts_total") == 1, "the zombie to be refused")
    after = stand.record("j1")
    assert (after.worker, after.job_uid, after.execution) == ("d2", record.job_uid, claimed.execution)
    stand.checks_out({"j1": ""})


def _paused(stand: Stand, point: str) -> Daemon:
    return stand.dispatcher(FAILPOINT=f"{point}:pause", FAILPOINT_DIR=str(stand.folder)).wait_ready()


def _hit(stand: Stand, point: str) -> None:
    until((stand.folder / f"{point}.hit").exists, f"{point} to be reached")


def _go(stand: Stand, point: str) -> None:
    (stand.folder / f"{point}.go").touch()


def test_rq_sees_the_worker(stand: Stand) -> None:
    """RQ lists the dispatcher with its queues and state, again after its key was lost, and its commands are obeyed."""
    stand.queue()
    dispatcher = stand.dispatcher().wait_ready()
    stand.enqueue("j1")
    stand.wait_recorded("j1")
    with stand.server.client() as client:
        until(lambda: _shown(client) == [("d", [stand.name], "busy")], "RQ to show the dispatcher")
        assert [e.job_id for e in Worker.all(connection=client)[0].get_current_executions()] == ["j1"]

        client.delete("rq:worker:d")
        until(lambda: _shown(client) == [("d", [stand.name], "busy")], "the dispatcher to register anew")

        send_stop_job_command(client, "j1", serializer=JSONSerializer)
        until(lambda: stand.record("j1").cancel, "RQ's stop to be a cancel")
        send_shutdown_command(client, "d")
        assert dispatcher.wait_exit(15) == 0
        assert _shown(client) == []


def _shown(client: redis.Redis) -> list[tuple[str, list[str], str]]:
    return [(worker.name, worker.queue_names(), worker.get_state()) for worker in Worker.all(connection=client)]


def test_rq_suspend_stops_claims(stand: Stand) -> None:
    """``rq suspend`` holds claims back until ``rq resume``."""
    stand.queue()
    dispatcher = stand.dispatcher().wait_ready()
    with stand.server.client() as client:
        suspend(client)
        stand.enqueue("j1")
        until(lambda: _shown(client) == [("d", [stand.name], "suspended")], "RQ to show it as suspended")
        assert stand.record("j1").state.value == "waiting"
        assert dispatcher.metric("heavylift_jobs_claimed_total") == 0

        resume(client)
        stand.wait_recorded("j1")


def test_plain_rq_jobs(stand: Stand) -> None:
    """RQ's own client is a way in; pickles and options nobody would carry out end as invalid with the remedy."""
    stand.queue()
    stand.dispatcher().wait_ready()
    with stand.server.client() as client:
        queue = Queue(stand.name, connection=client, serializer=JSONSerializer)
        queue.enqueue("myapp.report", 2026, job_id="plain", job_timeout=600)
        queue.enqueue("myapp.report", job_id="callback", on_success=Callback("myapp.done"))
        Queue(stand.name, connection=client).enqueue("myapp.report", 2026, job_id="pickled")

        (record,) = stand.wait_recorded("plain")
        assert record.frozen["timeouts"]["run"] == 600_000
        assert "on_success" in stand.wait_state("callback", "failed").outcome["message"]
        assert "JSONSerializer" in stand.wait_state("pickled", "failed").outcome["message"]
        assert Job.fetch("pickled", connection=client, serializer=JSONSerializer).get_status().value == "failed"


def test_heavyqueues_that_change(stand: Stand) -> None:
    """A new HeavyQueue is served, an edited template applies to the next Job, a deleted one is not claimed."""
    dispatcher = stand.dispatcher().wait_ready()
    stand.queue()
    stand.enqueue("j1")
    stand.wait_recorded("j1")

    stand.queue(container={"command": ["second"]})
    numbers = itertools.count(2)
    until(lambda: _command(stand, f"j2-{next(numbers)}") == ["second"], "the edited template to reach the dispatcher")
    assert _command_of(stand, "j1") is None

    stand.kube.delete(f"/apis/heavylift.dev/v1alpha1/namespaces/{stand.name}/heavyqueues/{stand.name}")
    until(lambda: dispatcher_serves(stand) == [], "the dispatcher to drop the queue")
    stand.enqueue("j3")
    stand.queue(container={"command": ["third"]})
    stand.wait_recorded("j3")
    assert "Traceback" not in dispatcher.log()


def _command(stand: Stand, job: str) -> list[str] | None:
    """Enqueue a job and return the command of its Job."""
    stand.enqueue(job)
    stand.wait_recorded(job)
    return _command_of(stand, job)


def _command_of(stand: Stand, job: str) -> list[str] | None:
    (found,) = [each for each in stand.jobs() if each["metadata"]["annotations"][Annotation.JOB_ID] == job]
    command: list[str] | None = found["spec"]["template"]["spec"]["containers"][0].get("command")
    return command


def dispatcher_serves(stand: Stand) -> list[str]:
    """Return the queues RQ shows for the dispatcher."""
    with stand.server.client() as client:
        return [name for _, queues, _ in _shown(client) for name in queues]


def test_redis_restarted(stand: Stand) -> None:
    """Redis away and back: one line each, readiness follows, and what is enqueued afterwards runs."""
    stand.queue()
    dispatcher = stand.dispatcher(REDIS_PATIENCE="200ms").wait_ready()
    stand.server.kill()
    until(lambda: dispatcher.probe()[0] == 503, "readiness to fail")
    assert dispatcher.probe("/livez")[0] == 200
    assert "redis" in dispatcher.probe()[1]

    stand.server.start()
    dispatcher.wait_ready()
    stand.queue()
    stand.enqueue("j1")
    stand.wait_recorded("j1")

    until(lambda: dispatcher.metric("heavylift_redis_up") == 1, "the next heartbeat to show Redis as up")
    assert "Traceback" not in dispatcher.log()
