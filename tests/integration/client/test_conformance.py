"""What every client promises, on Redis, on Valkey and in memory: code that was tested with one runs on the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from heavylift import (
    BatchError,
    Client,
    Dedupe,
    DuplicateJobError,
    InvalidInputError,
    InvalidPayloadError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobRequest,
    JobState,
    JobStateError,
    PayloadTooLargeError,
    Timeouts,
    UnknownQueueError,
    testing,
)
from heavylift.aio import AsyncClient
from heavylift.store import Claim, Store
from tests.integration.client.conftest import Player
from tests.servers import StoreServer

YEAR = {"year": 2026}
HOUR = timedelta(hours=1)


@dataclass
class Stage:
    """A client, and somebody who plays dispatcher and operator on the same queues."""

    client: Client
    player: Player
    asynchronous: AsyncClient

    def take(self) -> Claim:
        """Claim the next job."""
        claim = self.player.claim()
        assert claim is not None
        return claim


@pytest.fixture(params=["redis", "valkey", "memory"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each kind of client, with the queue ``reports`` served."""
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            client = testing.Client({})
            found = Stage(client, Player(client.queues_.store), testing.AsyncClient(same=client))
        else:
            server: StoreServer = request.getfixturevalue(f"{request.param}_server")
            store = stack.enter_context(Store.connect(server.url))
            real = stack.enter_context(Client(server.url))
            found = Stage(real, Player(store), AsyncClient(server.url))
        found.player.serve("reports", allow={"labels": ["team"], "minPriority": -10})
        yield found


def test_a_job_goes_from_enqueue_to_its_result(stage: Stage) -> None:
    """Info follows a job's life, wait returns its result, and its events tell the story in order."""
    job = stage.client.queue("reports").enqueue("annual", YEAR, max_attempts=2)
    waiting = job.info()
    claim = stage.take()
    stage.player.running(claim)
    running = job.info()
    stage.player.complete(claim, '{"rows":3}')

    assert (waiting.state, waiting.position, waiting.max_attempts) == (JobState.WAITING, 0, 2)
    assert (running.state, running.phase, running.attempt) == (JobState.ACTIVE, "running", 1)
    assert job.wait(timeout=5) == {"rows": 3}
    assert [event.name for event in job.events()] == ["added", "active", "recorded", "running", "completed"]
    counts = stage.client.queue("reports").counts()
    assert (counts.waiting, counts.active, counts.completed) == (0, 0, 1)


async def test_a_queue_tells_its_bounds_and_what_they_leave(stage: Stage) -> None:
    """Cap, keys, rate with the time until it admits one more, both holders of a pause; to both clients."""
    spec = {"concurrency": {"max": 3, "perKey": 2, "order": "RoundRobin"}, "rateLimit": {"limit": 2, "period": "1h"}}
    stage.player.serve("reports", **spec)
    queue = stage.client.queue("reports")
    queue.enqueue_many([JobRequest("annual", YEAR) for _ in range(4)])
    before = queue.info()
    assert (before.name, before.served, before.paused, before.held, before.startable) == ("reports", True, False, "", 2)
    assert (before.concurrency, before.per_key, before.order) == (3, 2, "RoundRobin")
    assert (before.rate_limit, before.rate_period, before.rate_left, before.rate_next) == (2, HOUR, 2, None)
    stage.take()
    stage.take()
    queue.pause(reason="upgrade")
    async with stage.asynchronous as asynchronous:
        found = await asynchronous.queue("reports").info()
    assert (found.paused, found.pause["reason"], found.held, found.startable) == (True, "upgrade", "paused", 0)
    assert (found.counts, found.rate_left) == (queue.counts(), 0)
    assert found.rate_next is not None
    assert timedelta() < found.rate_next <= HOUR
    queue.resume()
    stage.player.serve("reports", paused=True)
    free = queue.info()
    assert (free.paused, free.pause, free.concurrency, free.per_key, free.order) == (True, {}, None, None, "Fifo")
    assert (free.rate_limit, free.rate_period, free.rate_left, free.rate_next) == (None, None, None, None)
    unserved = stage.client.queue("nobody").info()
    assert (unserved.served, unserved.held, unserved.counts.waiting) == (False, "no-heavyqueue", 0)


def test_a_delay_beyond_its_expiry_is_refused(stage: Stage) -> None:
    """A job that never started cannot be put off until it expired; one that has started can."""
    job = stage.client.queue("reports").enqueue("annual", YEAR, delay="1h", expires="2h", max_attempts=2)
    with pytest.raises(JobStateError, match="it expires before it could start: give a shorter delay"):
        job.change(delay="2h")
    job.change(delay="119m")
    job.change(delay=0)
    claim = stage.take()
    stage.player.running(claim)
    stage.player.fail(claim, retry_ms=60_000)
    job.change(delay="3h")
    assert job.info().state is JobState.DELAYED


def test_a_failed_job_says_why_and_runs_again(stage: Stage) -> None:
    """Wait raises with the outcome; retry lets the job wait again with its history."""
    job = stage.client.queue("reports").enqueue("annual", YEAR)
    stage.player.fail(stage.take())
    with pytest.raises(JobFailedError, match="no such year"):
        job.wait(timeout=5)

    job.retry(max_attempts=4)

    info, claim = job.info(), stage.take()
    assert (info.state, len(info.history), info.outcome) == (JobState.WAITING, 1, None)
    assert info.max_attempts == 4
    assert (claim.seq, claim.attempt, claim.frozen["maxAttempts"]) == (2, 1, 4)


def test_a_retry_waits_for_its_delay(stage: Stage) -> None:
    """An attempt that failed with a delay leaves the job delayed, until it is promoted."""
    job = stage.client.queue("reports").enqueue("annual", YEAR)
    stage.player.fail(stage.take(), retry_ms=60_000)

    assert job.info().state is JobState.DELAYED
    assert stage.player.claim() is None
    assert (job.promote(), job.promote()) == (True, False)
    assert stage.take().attempt == 2


def test_cancel(stage: Stage) -> None:
    """A waiting job is cancelled at once, an active one by request, an ended one not at all."""
    queue = stage.client.queue("reports")
    active, waiting = queue.enqueue("annual", YEAR), queue.enqueue("annual", YEAR)
    claim = stage.take()

    assert (waiting.cancel("enough"), active.cancel()) == (True, True)
    assert waiting.info().state is JobState.CANCELLED
    with pytest.raises(JobCancelledError, match="by client: enough"):
        waiting.wait(timeout=5)
    stage.player.fail(claim)
    assert active.info().state is JobState.CANCELLED
    with pytest.raises(JobNotFoundError):
        stage.client.job("nobody").cancel()


def test_an_end_between_two_attempts_is_none(stage: Stage) -> None:
    """A job that is cancelled while it waits for its retry made the attempts it made, and its end counts as none."""
    job = stage.client.queue("reports").enqueue("annual", YEAR, max_attempts=3)
    stage.player.fail(stage.take(), retry_ms=60_000)

    job.cancel(reason="obsolete")

    info = job.info()
    assert (info.state, info.attempt, info.starts, info.attempts_made) == (JobState.CANCELLED, 1, 1, 1)
    first, end = info.history
    assert (first.seq, first.attempt, end.seq, end.attempt, end.execution) == (1, 1, 0, 0, "")
    assert end.outcome is not None
    assert end.outcome.cls == "cancelled"


def test_order(stage: Stage) -> None:
    """Lower priorities go first, lifo goes before what waits in its level, a changed one behind its new level."""
    queue = stage.client.queue("reports")
    for name, options in {
        "a": {}, "b": {"priority": 5}, "c": {"priority": -5}, "d": {"lifo": True}, "e": {"priority": -5},
    }.items():  # fmt: skip
        queue.enqueue("annual", YEAR, id=name, **options)  # type: ignore[arg-type]
    stage.client.job("a").change(priority=-5)

    assert [info.id for info in queue.jobs("waiting")] == ["c", "e", "a", "d", "b"]
    assert [stage.take().job for _ in range(5)] == ["c", "e", "a", "d", "b"]


def test_ids(stage: Stage) -> None:
    """A taken id is refused, returned, retried or replaced as asked; other data under it raises."""
    queue = stage.client.queue("reports")
    first = queue.enqueue("annual", YEAR, id="x")
    with pytest.raises(DuplicateJobError, match="x exists already and is waiting"):
        queue.enqueue("annual", YEAR, id="x")
    assert not queue.enqueue("annual", YEAR, id="x", if_exists="return").created
    with pytest.raises(DuplicateJobError, match="other data"):
        queue.enqueue("annual", {"year": 1}, id="x", if_exists="return")
    assert queue.enqueue("annual", YEAR, id="x", if_exists="replace", priority=3).created
    assert first.info().priority == 3
    stage.player.fail(stage.take())
    queue.enqueue("annual", YEAR, id="x", if_exists="retry_failed")
    assert first.info().state is JobState.WAITING


def test_deduplication(stage: Stage) -> None:
    """One unfinished job per key; keep_last keeps one follower with the latest data; the key goes free with the end."""
    queue = stage.client.queue("reports")
    first = queue.enqueue("annual", {"n": 1}, dedupe="k")
    again = queue.enqueue("annual", {"n": 2}, dedupe="k")
    assert (again.id, again.created) == (first.id, False)
    held = queue.deduplicated("k")
    assert held is not None
    assert held.id == first.id
    claim = stage.take()
    follower = queue.enqueue("annual", {"n": 3}, dedupe=Dedupe("k", mode="keep_last"))
    last = queue.enqueue("annual", {"n": 4}, dedupe=Dedupe("k", mode="keep_last"))
    assert (follower.created, last.id, follower.info().state) == (True, follower.id, JobState.WAITING_CHILDREN)
    stage.player.complete(claim)
    assert stage.take().job == follower.id
    assert queue.release_key("k")
    assert queue.deduplicated("k") is None


def test_delay_and_expiry(stage: Stage) -> None:
    """A delayed job is not claimed; a change of its delay to 0 lets it wait."""
    queue = stage.client.queue("reports")
    job = queue.enqueue("annual", YEAR, delay="1h", expires="2h")
    info = job.info()
    assert info.not_before is not None
    assert info.enqueued_at is not None
    assert (info.not_before - info.enqueued_at).total_seconds() == pytest.approx(3600, abs=5)
    assert stage.player.claim() is None
    job.change(delay=0)
    assert stage.take().job == job.id


def test_pause_purge_remove(stage: Stage) -> None:
    """A paused queue starts nothing; purge and remove take jobs away for good."""
    queue = stage.client.queue("reports")
    queue.pause("upgrade")
    jobs = queue.enqueue_many([JobRequest("annual", {"i": i}) for i in range(5)])
    assert stage.player.claim() is None
    jobs[0].remove()
    with pytest.raises(JobNotFoundError):
        jobs[0].info()
    assert queue.purge("waiting") == 4
    assert queue.counts().waiting == 0
    queue.resume()
    queue.enqueue("annual", YEAR)
    assert stage.take().task == "annual"


def test_a_retry_leaves_what_it_does_not_name(stage: Stage) -> None:
    """More memory is no less cpu: each resource, variable and time set anew takes the place of its own."""
    stage.player.serve("reports", allow={"resources": {"memory": "8Gi", "cpu": "4"}, "env": ["A", "B"]})
    queue = stage.client.queue("reports")
    times, asked = Timeouts(run="1h", total="5h"), {"memory": "4Gi", "cpu": "2"}
    job = queue.enqueue("annual", YEAR, resources=asked, env={"A": "1", "B": "2"}, timeouts=times)
    stage.player.fail(stage.take())

    job.retry(resources={"memory": "8Gi"}, env={"B": "3"}, timeouts=Timeouts(run="2h"))
    claim = stage.take()
    assert claim.options == {
        "resources": {"memory": "8Gi", "cpu": "2"},
        "env": {"A": "1", "B": "3"},
        "timeouts": {"run": 7_200_000, "total": 18_000_000},
    }
    assert job.info().total_due is not None
    stage.player.fail(claim)
    assert len(queue.retry_failed(resources={"cpu": "4"})) == 1
    assert job.info().total_due is None, "its time begins with its next claim"
    assert stage.take().options["resources"] == {"memory": "8Gi", "cpu": "4"}


def test_what_is_wrong_is_refused(stage: Stage) -> None:
    """Bad input, too much of it, unknown queues and what the queue's owner forbids are refused in the same words."""
    queue = stage.client.queue("reports")
    with pytest.raises(InvalidPayloadError, match="year"):
        queue.enqueue("annual", {"year": float("nan")})
    with pytest.raises(PayloadTooLargeError):
        queue.enqueue("annual", {"x": "y" * 70_000})
    with pytest.raises(UnknownQueueError, match="no HeavyQueue serves queue 'other'"):
        stage.client.queue("other").enqueue("annual", YEAR)
    with pytest.raises(InvalidInputError, match="env"):
        queue.enqueue("annual", YEAR, env={"A": "b"})
    with pytest.raises(InvalidInputError, match="a job cannot wait for itself"):
        queue.enqueue("annual", YEAR, id="own", depends_on=["own"])
    with pytest.raises(BatchError) as refused:
        queue.enqueue_many([JobRequest("annual", YEAR), JobRequest("annual", {"x": float("inf")})])
    assert len(refused.value.jobs) == 1


def test_bulk_retry_and_lists(stage: Stage) -> None:
    """Failed jobs are found by class and label, and run again together."""
    queue = stage.client.queue("reports")
    queue.enqueue_many([JobRequest("annual", YEAR, id=f"j{i}", labels={"team": "ab"[i % 2]}) for i in range(4)])
    for _ in range(4):
        stage.player.fail(stage.take())

    assert {info.id for info in queue.jobs("failed", labels={"team": "a"}, cls="error")} == {"j0", "j2"}
    assert queue.jobs("failed", cls="oom") == []
    assert {job.id for job in queue.retry_failed(having={"team": "b"})} == {"j1", "j3"}
    assert queue.counts().waiting == 2


async def test_the_asynchronous_client(stage: Stage) -> None:
    """The asynchronous client gives the same."""
    async with stage.asynchronous as client:
        queue = client.queue("reports")
        job = await queue.enqueue("annual", YEAR)
        other = await queue.enqueue("annual", YEAR)
        stage.player.complete(stage.take(), "7")
        assert await job.wait(timeout=5) == 7
        assert await other.cancel()
        assert (await other.info()).state is JobState.CANCELLED
        assert [event.name async for event in job.events()][-1] == "completed"
        assert (await queue.counts()).cancelled == 1
