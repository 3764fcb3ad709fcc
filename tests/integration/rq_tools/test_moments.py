"""RQ's tools see true states at each moment of a job's life."""

from __future__ import annotations

from pathlib import Path

from rq import Retry

from heavylift.contract.names import Annotation
from tests.integration.rq_tools.conftest import Bench
from tests.proofs.rqtools import Dashboard, Shown, dashboard, rq_info


def shown(bench: Bench, board: Dashboard, job: str, expected: tuple[str, str, Shown]) -> None:
    """Assert that RQ's job, ``rq info`` and the dashboard's three pages agree on (status, registry, figures)."""
    status, registry, figures = expected
    assert bench.status(job) == status
    queues, workers = rq_info(bench.run.server.url)
    assert queues[bench.name] == figures
    assert any(bench.name in line for line in workers), workers
    assert board.queue(bench.name) == figures
    assert board.jobs(bench.name, registry) == [job]
    page = board.job(job)
    assert (page["status"], page["origin"], page["id"]) == (status, bench.name, job)
    assert bench.status(job) == status, "looking changes nothing"


def test_success_at_every_moment(bench: Bench, tmp_path: Path) -> None:
    """Waiting, running and finished are shown alike by RQ's job, rq info and rq-dashboard; the result is there."""
    bench.spec(paused=True)
    with dashboard(bench.run.server.url, tmp_path) as board:
        meta = {"asked by": "an accountant"}
        job = bench.rq.enqueue("reports.annual", 2026, job_timeout=600, ttl=3600, retry=Retry(max=1), meta=meta).id
        shown(bench, board, job, ("queued", "queued", Shown(1, 0, 0, 0)))
        bench.spec(paused=False)
        bench.running(job)
        shown(bench, board, job, ("started", "started", Shown(0, 1, 0, 0)))
        assert board.job(job)["started_at"]
        assert bench.redis.ttl(f"rq:job:{job}") == -1, "RQ's ttl must not delete a job that runs"
        assert bench.kube_job(job)["metadata"]["annotations"][Annotation.RUN_DEADLINE] == "600"
        bench.end(job, message='{"pages": 12, "report": "s3://bucket/2026.pdf"}')
        assert bench.ended(job) == "finished"
        shown(bench, board, job, ("finished", "finished", Shown(0, 0, 1, 0)))
        result = {"pages": 12, "report": "s3://bucket/2026.pdf"}
        assert board.job(job)["result"] == result
    fetched = bench.fetch(job)
    assert fetched.return_value() == result
    assert fetched.meta == meta
    assert fetched.started_at is not None
    assert fetched.ended_at is not None
    assert fetched.started_at <= fetched.ended_at


def test_failure_at_every_moment(bench: Bench, tmp_path: Path) -> None:
    """A failed attempt with a retry left and the last failure are shown alike, with the reason."""
    bench.spec(defaults={"backoff": {"type": "Fixed", "delay": "100ms", "jitterPercent": 0}})
    with dashboard(bench.run.server.url, tmp_path) as board:
        job = bench.rq.enqueue("reports.annual", 2026, retry=Retry(max=1)).id
        bench.end(job, exit_code="3", message="the year has no data")
        bench.reached(job, "2")
        bench.running(job)
        shown(bench, board, job, ("started", "started", Shown(0, 1, 0, 0)))
        bench.end(job, exit_code="4", message="still no data")
        assert bench.ended(job) == "failed"
        shown(bench, board, job, ("failed", "failed", Shown(0, 0, 0, 1)))
        assert "still no data" in board.job(job)["exc_info"]
    result = bench.fetch(job).latest_result()
    assert result is not None
    assert result.exc_string is not None
    assert "error" in result.exc_string
    assert "still no data" in result.exc_string


def test_unset_timeout_is_the_queues(bench: Bench) -> None:
    """RQ's own default of 180 s counts as unset: the queue's run limit holds."""
    bench.spec(timeouts={"run": "2h"})
    job = bench.rq.enqueue("reports.annual", 2026).id
    bench.running(job)
    assert bench.kube_job(job)["metadata"]["annotations"][Annotation.RUN_DEADLINE] == "7200"
    bench.end(job)
    bench.ended(job)


def test_payload_of_plain_rq(bench: Bench) -> None:
    """The pod gets the function's name as the task, and arguments and keywords as the data."""
    job = bench.rq.enqueue("reports.annual", 2026, currency="$(EUR)").id
    container = bench.kube_job_when_there(job)["spec"]["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert env["HEAVYLIFT_JOB_TASK"] == "reports.annual"
    assert env["HEAVYLIFT_JOB_PAYLOAD"].replace("$$", "$").replace(" ", "") == (
        '{"args":[2026],"kwargs":{"currency":"$(EUR)"}}'
    )
    bench.end(job)
    bench.ended(job)
