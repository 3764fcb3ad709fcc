"""Waiting for a job's end, cancelling it, running it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from heavylift import (
    Client,
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobState,
    WaitTimeoutError,
    operations,
)
from heavylift.contract.outcomes import OutcomeClass
from heavylift.store import Store
from heavylift.store.model import Outcome
from tests.integration.client.conftest import Player

if TYPE_CHECKING:
    from tests.servers import StoreServer

YEAR = {"year": 2026}


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, at most 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def listening(server: StoreServer, job: str) -> Callable[[], object]:
    """Return whether somebody hears of the job's end."""
    with server.client() as redis:
        return lambda: dict(redis.pubsub_numsub(f"heavylift:done:{job}"))[f"heavylift:done:{job}".encode()] > 0


def test_wait_wakes_up_at_the_end(
    served: Player, client: Client, redis_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is published: a waiter learns of it without looking again."""
    monkeypatch.setattr(operations, "POLL_S", 3600.0)
    job = client.queue("reports").enqueue("annual", YEAR)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(job.wait(timeout=7200)), daemon=True)
    thread.start()
    until(listening(redis_server, job.id))

    served.run_one('"done"')
    thread.join(timeout=30)

    assert got == ["done"]


def test_wait_looks_again_when_the_message_is_lost(
    served: Player, client: Client, redis_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiter that hears nothing finds the end by looking, every second."""
    monkeypatch.setattr(operations, "POLL_S", 0.02)
    job = client.queue("reports").enqueue("annual", YEAR)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(job.wait(timeout=60)), daemon=True)
    thread.start()
    until(listening(redis_server, job.id))
    claim = served.claim()
    assert claim is not None
    with redis_server.client() as redis:
        redis.client_kill_filter(_type="pubsub")

    served.complete(claim, '"found"')
    thread.join(timeout=30)

    assert got == ["found"]


def test_wait_raises_why_the_job_failed(served: Player, client: Client) -> None:
    """A failed job raises its class and message; the outcome holds the evidence."""
    job = client.queue("reports").enqueue("annual", YEAR)
    claim = served.claim()
    assert claim is not None
    served.fail(claim, Outcome(cls=OutcomeClass.OOM, message="needed more than 64Mi", evidence={"limit": "64Mi"}))

    with pytest.raises(JobFailedError, match=f"job {job.id} failed: oom: needed more than 64Mi") as failed:
        job.wait(timeout=5)

    assert failed.value.outcome["class"] == "oom"
    assert failed.value.outcome["evidence"] == {"limit": "64Mi"}


def test_wait_that_takes_too_long_leaves_the_job_alone(served: Player, client: Client) -> None:
    """The wait's time is not the job's."""
    job = client.queue("reports").enqueue("annual", YEAR)

    with pytest.raises(WaitTimeoutError, match="it goes on"):
        job.wait(timeout=0)
    with pytest.raises(TimeoutError):
        job.wait(timeout="50ms")

    served.run_one("7")
    assert job.wait() == 7


def test_wait_and_info_of_a_job_that_is_not_there(client: Client) -> None:
    """An id nobody enqueued is not found, at once."""
    for ask in (client.job("nope").info, client.job("nope").wait, client.job("nope").cancel, client.job("nope").retry):
        with pytest.raises(JobNotFoundError, match="there is no job nope"):
            ask()


def test_cancel_of_a_waiting_job(served: Player, client: Client) -> None:
    """A waiting job is cancelled at once; its waiters learn who and why; a second cancel changes nothing."""
    job = client.queue("reports").enqueue("annual", YEAR)

    assert job.cancel(reason="wrong year")
    assert job.cancel()

    with pytest.raises(JobCancelledError, match="cancelled by client: wrong year"):
        job.wait(timeout=5)
    assert served.claim() is None


def test_cancel_of_a_running_job_is_a_request(served: Player, client: Client) -> None:
    """A running job is asked to stop; it is cancelled when its pod has ended."""
    job = client.queue("reports").enqueue("annual", YEAR)
    claim = served.claim()
    assert claim is not None
    served.running(claim)

    assert job.cancel(reason="obsolete")
    requested = job.info()
    served.cancelled(claim)

    assert (requested.state, requested.cancel["reason"]) == (JobState.ACTIVE, "obsolete")
    with pytest.raises(JobCancelledError):
        job.wait(timeout=5)


def test_cancel_after_the_end_is_too_late(served: Player, client: Client) -> None:
    """A completed job stays completed."""
    job = client.queue("reports").enqueue("annual", YEAR)
    served.run_one("1")

    assert not job.cancel()
    assert job.wait(timeout=5) == 1


def test_retry_runs_a_failed_job_again(served: Player, client: Client) -> None:
    """A retry starts from the first attempt, with new options, and keeps the history."""
    served.serve("reports", allow={"resources": {"memory": "16Gi"}})
    job = client.queue("reports").enqueue("annual", YEAR, resources={"memory": "1Gi"})
    claim = served.claim()
    assert claim is not None
    served.fail(claim)

    job.retry(resources={"memory": "8Gi"}, max_attempts=2)
    again = served.claim()

    assert again is not None
    assert again.options["resources"] == {"memory": "8Gi"}
    assert (again.attempt, again.seq, again.frozen["maxAttempts"]) == (1, 2, 2)
    assert len(job.info().history) == 1


def test_retry_of_a_job_that_has_not_failed(served: Player, client: Client) -> None:
    """Only failed and cancelled jobs can be retried; the message says what it is."""
    job = client.queue("reports").enqueue("annual", YEAR)

    with pytest.raises(InvalidInputError, match="is waiting: only failed and cancelled"):
        job.retry()

    served.run_one()
    with pytest.raises(InvalidInputError, match="is completed"):
        job.retry()


def test_wait_survives_a_restart_of_redis(own_store_server: StoreServer) -> None:
    """A waiter that listens while Redis restarts still gets the result."""
    own_store_server.start(appendonly="yes", appendfsync="always")
    with Client(own_store_server.url) as client, Store.connect(own_store_server.url) as store:
        player = Player(store)
        player.serve("reports")
        job = client.queue("reports").enqueue("annual", YEAR)
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(job.wait(timeout=60)), daemon=True)
        thread.start()
        until(listening(own_store_server, job.id))
        own_store_server.restart()
        player.run_one('"after the restart"')
        thread.join(timeout=60)

    assert got == ["after the restart"]
