"""The dispatcher as a process between a real Redis and a real API server."""

from __future__ import annotations

import json

from heavylift.contract.names import FINALIZER, Env
from tests.integration.worker.stand import Stand
from tests.proofs.waiting import until


def test_a_job_gets_its_kubernetes_job(stand: Stand) -> None:
    """What was enqueued stands in the cluster as rendered, and the record names it."""
    stand.queue()
    stand.dispatcher().wait_ready()

    stand.enqueue("j1", {"year": 2026, "text": "$(HOME) $$5"})
    (record,) = stand.wait_recorded("j1")

    (job,) = stand.jobs()
    assert (record.state.value, record.job_uid, record.worker) == ("active", job["metadata"]["uid"], "d")
    assert job["metadata"]["finalizers"] == [FINALIZER]
    variables = {v["name"]: v["value"] for v in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert json.loads(variables[Env.PAYLOAD].replace("$$", "$")) == {"year": 2026, "text": "$(HOME) $$5"}


def test_many_jobs_over_two_dispatchers(stand: Stand) -> None:
    """Each of 60 jobs gets exactly one Job, never more at once than slots x live dispatchers."""
    stand.queue()
    stand.dispatcher("d1", SLOTS="15").wait_ready()
    stand.dispatcher("d2", SLOTS="15").wait_ready()

    names = [stand.enqueue(f"j{n}") for n in range(60)]
    until(lambda: len(stand.jobs()) >= 30, "30 Jobs")
    active = [name for name in names if stand.record(name).job_uid]

    assert len(stand.jobs()) == len(active) == 30
    assert active == names[:30]
    stand.checks_out(dict.fromkeys(active, ""))
