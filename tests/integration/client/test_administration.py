"""Queue administration by the clients, both over one core, against a real Redis."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from heavylift import (
    AsyncClient,
    BatchError,
    Client,
    Dedupe,
    InvalidInputError,
    Job,
    JobNotFoundError,
    JobRequest,
    JobState,
    JobStateError,
    PayloadTooLargeError,
    WaitTimeoutError,
    aio,
    operations,
)
from heavylift import (
    client as sync,
)
from heavylift.contract.outcomes import OutcomeClass
from heavylift.jobs import Job as SyncJob
from heavylift.store.model import Outcome

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer

YEAR = {"year": 2026}


@pytest.fixture
async def aclient(redis_server: StoreServer) -> AsyncIterator[AsyncClient]:
    """An asynchronous client of the test's Redis."""
    async with AsyncClient(redis_server.url) as made:
        yield made


@pytest.mark.parametrize(
    ("one", "other"), [(sync.Client, aio.AsyncClient), (sync.Queue, aio.AsyncQueue), (SyncJob, aio.AsyncJob)]
)
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    """Each public method of the one is the other's, with the same arguments."""

    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {
            {"aclose": "close"}.get(name, name): [
                parameter for parameter in inspect.signature(method).parameters if parameter != "self"
            ]
            for name, method in found
            if not name.startswith("_")
        }

    assert methods(one) == methods(other)


def fail_one(player: Player, cls: OutcomeClass = OutcomeClass.ERROR) -> str:
    """Let the next job of ``reports`` fail."""
    claim = player.claim()
    assert claim is not None
    player.fail(claim, Outcome(cls=cls, message="as told"))
    return claim.job


def test_options_reach_the_queue(served: Player, client: Client) -> None:
    """Priority, LIFO and keys order what is claimed."""
    served.serve("reports", allow={"minPriority": -10})
    queue = client.queue("reports")
    late = queue.enqueue("annual", YEAR, priority=3)
    first = queue.enqueue("annual", YEAR)
    front = queue.enqueue("annual", YEAR, lifo=True, key="tenant")
    urgent = queue.enqueue("annual", YEAR, priority=-10)
    assert [served.run_one().job for _ in range(4)] == [urgent.id, front.id, first.id, late.id]


def test_defaults_of_the_queue_order_jobs_too(served: Player, client: Client) -> None:
    """A queue's default priority is that of jobs that name none; one as urgent as the default is allowed."""
    served.serve("reports", defaults={"priority": -3})
    queue = client.queue("reports")
    base, usual = queue.enqueue("annual", priority=0), queue.enqueue("annual")
    same = queue.enqueue("annual", priority=-3)
    with pytest.raises(InvalidInputError, match="priority is -4, more urgent than the -3"):
        queue.enqueue("annual", priority=-4)
    assert [served.run_one().job for _ in range(3)] == [usual.id, same.id, base.id]
    assert usual.info().priority == -3


def test_deduplicated_jobs_are_handles_of_the_one_there(served: Player, client: Client) -> None:
    """``created`` tells; the key is looked up and freed by name; entries of a batch meet each other."""
    queue = client.queue("reports")
    job = queue.enqueue("annual", YEAR, dedupe="annual")
    again = queue.enqueue("annual", {"year": 1}, dedupe=Dedupe("annual"))
    assert (again.id, again.created, job.created) == (job.id, False, True)
    held = queue.deduplicated("annual")
    assert held is not None
    assert held.id == job.id
    assert queue.release_key("annual")
    assert not queue.release_key("annual")
    assert queue.deduplicated("annual") is None
    batch = queue.enqueue_many([JobRequest("annual", YEAR, dedupe=key) for key in ("a", "b", "a")])
    assert [entry.created for entry in batch] == [True, True, False]
    assert batch[0].id == batch[2].id
    served.run_one()
    assert queue.enqueue("annual", YEAR, dedupe="annual").created


def test_a_follower_can_be_waited_for(served: Player, client: Client) -> None:
    """The follower of an active job is a job with a handle from the start."""
    queue = client.queue("reports")
    queue.enqueue("annual", YEAR, dedupe=Dedupe("annual", mode="keep_last"))
    claim = served.claim()
    assert claim is not None
    follower = queue.enqueue("annual", {"year": 2027}, dedupe=Dedupe("annual", mode="keep_last"))
    assert (follower.created, follower.info().state) == (True, JobState.WAITING_CHILDREN)
    assert follower.info().reason == f"follows {claim.job}"
    served.complete(claim)
    served.run_one('"done"')
    assert follower.wait(timeout=5) == "done"


def test_a_job_is_changed_promoted_and_removed(served: Player, client: Client) -> None:
    """Each by its handle; what cannot be is refused with the reason, and a missing job by its name."""
    served.serve("reports", payload={"maxSize": "1Ki"})
    job = client.queue("reports").enqueue("annual", YEAR, delay="1h")
    job.change(priority=7, delay="2h", data={"year": 2030})
    info = job.info()
    assert (info.priority, info.state) == (7, JobState.DELAYED)
    assert info.not_before is not None
    assert (info.not_before - datetime.now(UTC)).total_seconds() > 7000
    for changes, message in (
        ({}, "nothing is to change"),
        ({"priority": -5}, "more urgent than the 0"),
        ({"delay": "9000h"}, "delay is 9000h, more than"),
        ({"data": [1]}, "data is a list"),
        ({"max_attempts": 3}, "max_attempts cannot be changed"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            job.change(**changes)
    with pytest.raises(PayloadTooLargeError, match="more than the 1,024"):
        job.change(data={"text": "x" * 2000})
    assert job.promote()
    assert not job.promote()
    claim = served.claim()
    assert claim is not None
    with pytest.raises(InvalidInputError, match="cannot be changed: it is active"):
        job.change(data=YEAR)
    with pytest.raises(InvalidInputError, match="cannot be removed: it is active"):
        job.remove()
    other = client.queue("reports").enqueue("annual", YEAR)
    other.remove()
    for method in (other.remove, other.promote, other.info, lambda: other.change(priority=1)):
        with pytest.raises(JobNotFoundError, match=other.id):
            method()


def test_failed_jobs_are_retried_in_bulk(served: Player, client: Client) -> None:
    """By class, time and label, with changed options, priority and data; refusals come with what went on."""
    served.serve("reports", allow={"resources": {"memory": "8Gi"}, "labels": ["team"]})
    queue = client.queue("reports")
    queue.enqueue("annual", YEAR, labels={"team": "bi"})
    queue.enqueue("annual", YEAR, dedupe="annual")
    queue.enqueue("annual", YEAR)
    kinds = (OutcomeClass.OOM, OutcomeClass.OOM, OutcomeClass.ERROR)
    labelled, keyed, error = (fail_one(served, cls) for cls in kinds)
    assert [info.id for info in queue.jobs("failed", cls="oom", since="1h")] == [keyed, labelled]
    assert [info.id for info in queue.jobs("failed", since=datetime.now(UTC))] == []
    (last, *_) = queue.jobs("failed")
    assert last.ended_at is not None
    assert last.id == error
    assert error in [info.id for info in queue.jobs("failed", since=last.ended_at)]
    after = last.ended_at + timedelta(microseconds=1)
    assert error not in [info.id for info in queue.jobs("failed", since=after)]
    with pytest.raises(InvalidInputError, match="dedupe stays as the job was enqueued with"):
        queue.retry_failed(dedupe="other")  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match="leave delay out"):
        queue.retry_failed(delay="1h")  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match="there is no outcome class 'tired'"):
        queue.retry_failed(cls="tired")
    with pytest.raises(InvalidInputError, match="waiting ones have no outcome"):
        queue.jobs("waiting", cls="oom")
    with pytest.raises(InvalidInputError, match="9Gi, more than the 8Gi"):
        queue.retry_failed(resources={"memory": "9Gi"})
    holder = queue.enqueue("annual", YEAR, dedupe="annual", delay="1h")
    with pytest.raises(BatchError, match="1 jobs were not retried, 1 were") as caught:
        queue.retry_failed(cls="oom", resources={"memory": "8Gi"}, data={"year": 1})
    assert [job.id for job in caught.value.jobs] == [labelled]
    assert f"job {keyed} cannot be retried: the job {holder.id} holds" in str(caught.value.exceptions[0])
    assert [job.id for job in queue.retry_failed(cls="error", priority=9)] == [error]
    assert queue.retry_failed(having={"team": "none"}) == []
    claim = served.claim()
    assert claim is not None
    assert (claim.job, claim.options["resources"]) == (labelled, {"memory": "8Gi"})


def test_a_retry_that_another_job_holds_back_says_how_to_go_on(served: Player, client: Client) -> None:
    """One or many: the job that has the key, and what to do about it."""
    reports = client.queue("reports")
    failed = reports.enqueue("annual", YEAR, dedupe="a")
    claim = served.claim()
    assert claim is not None
    served.fail(claim)
    rival = reports.enqueue("annual", YEAR, dedupe="a")
    words = f"the job {rival.id} holds its deduplication key: wait for its end, cancel it, or free the key"
    with pytest.raises(JobStateError, match=words):
        failed.retry()
    with pytest.raises(BatchError) as refused:
        reports.retry_failed()
    assert words in str(refused.value.exceptions[0])
    reports.release_key("a")
    failed.retry()


def test_purge_tells_waiting_callers(served: Player, client: Client) -> None:
    """A dry run counts; a purge wakes whoever waits for one of the jobs; active jobs are refused."""
    queue = client.queue("reports")
    job = queue.enqueue("annual", YEAR)
    served.alive()
    assert queue.purge(dry_run=True) == 1
    assert job.info().state is JobState.WAITING
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            job.wait(timeout="1m")
        except JobNotFoundError as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert queue.purge("waiting") == 1
    waiting.join(30)
    assert len(caught) == 1
    with pytest.raises(InvalidInputError, match="active jobs cannot be purged"):
        queue.purge("active")


def test_pause_waits_for_what_runs(served: Player, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns at the end of the last active job; when the time is over the queue stays paused."""
    queue = client.queue("reports")
    queue.enqueue("annual", YEAR)
    claim = served.claim()
    assert claim is not None
    with pytest.raises(WaitTimeoutError, match="jobs of queue reports still run; it stays paused"):
        queue.pause(wait="1ms")
    monkeypatch.setattr(operations, "POLL_S", 3600.0)
    pausing = threading.Thread(target=lambda: queue.pause(wait="1h"))
    pausing.start()
    served.complete(claim)
    pausing.join(30)
    assert not pausing.is_alive()
    queue.enqueue("annual", YEAR)
    assert served.claim() is None


async def test_the_asynchronous_client_does_the_same(served: Player, aclient: AsyncClient) -> None:
    """Each method once."""
    queue = aclient.queue("reports")
    job = await queue.enqueue("annual", YEAR, delay="1h", dedupe="annual")
    held = await queue.deduplicated("annual")
    assert held is not None
    assert held.id == job.id
    await job.change(priority=2)
    assert await job.promote()
    await asyncio.to_thread(fail_one, served)
    assert not await queue.release_key("annual")
    assert [info.id for info in await queue.jobs("failed", cls="error")] == [job.id]
    assert [again.id for again in await queue.retry_failed(cls="error")] == [job.id]
    await queue.pause(wait="1h")
    assert await queue.purge(dry_run=True) == 1
    await job.remove()
    assert await queue.purge() == 0


def test_a_removed_handle_says_so(served: Player, client: Client) -> None:
    """A handle by id of a job that never was raises the same error everywhere."""
    nobody: Job[Any] = client.job("nobody")
    served.alive()
    for method in (nobody.promote, nobody.remove, nobody.retry, lambda: nobody.change(priority=1)):
        with pytest.raises(JobNotFoundError, match="there is no job nobody"):
            method()
