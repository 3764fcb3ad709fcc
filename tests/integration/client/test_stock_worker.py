"""RQ's own worker on a queue of ours: it must not run heavy work inside itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from heavylift import Client, JobFailedError, JobState
from heavylift.store import ops

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Take back what RQ's worker makes of SIGINT and SIGTERM: a stopped test run must end as its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # RQ's own
def test_stock_worker_fails_the_job_with_the_remedy(served: Player, client: Client, redis_server: StoreServer) -> None:
    """The job ends as failed, nothing of it ran, and the retry that the message names works."""
    job = client.queue("reports").enqueue("os.abort", {})
    with redis_server.client() as redis:
        worker = SimpleWorker([Queue("reports", connection=redis)], connection=redis, serializer=JSONSerializer)
        worker.work(burst=True, logging_level="CRITICAL")
        fetched = worker.queues[0].fetch_job(job.id)
        assert fetched is not None
        result = fetched.latest_result()

    assert job.info().state is JobState.FAILED
    assert "was enqueued for Heavylift and runs only in its Kubernetes Job" in str(result and result.exc_string)
    with pytest.raises(JobFailedError, match="a worker of RQ"):
        job.wait(timeout=5)

    assert client.queue("reports").jobs("failed") == []  # until an operator's next look
    assert served.store.run(ops.sweep_ended("reports")) == (None, 1)
    assert served.store.run(ops.sweep_ended("reports")) == (None, 0)
    assert [info.id for info in client.queue("reports").jobs("failed")] == [job.id]
    assert [found.id for found in client.queue("reports").retry_failed()] == [job.id]
    claim = served.claim()
    assert claim is not None
    assert claim.job == job.id
