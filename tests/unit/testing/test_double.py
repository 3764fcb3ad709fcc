"""The clients of ``heavylift.testing``: whole runs in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import heavylift
from heavylift import (
    Backoff,
    ConfigurationError,
    Context,
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    JobState,
    RateLimited,
    RetryAfter,
    Snooze,
    UnknownQueueError,
    UnrecoverableError,
    WaitTimeoutError,
    testing,
)
from heavylift.store import ops

START = datetime(2026, 1, 1, tzinfo=UTC)
_ran: list[str] = []


@heavylift.task(name="double.add")
def add(a: int, b: int) -> int:
    """Add."""
    _ran.append(f"{a}+{b}")
    return a + b


@heavylift.task(name="double.steer")
def steer(ctx: Context, how: str) -> str:
    """Do what the argument says, once."""
    if ctx.attempt == 1 and not ctx.restored:
        ctx.checkpoint({"seen": how})
        raise {
            "later": RetryAfter("2m"),
            "snooze": Snooze("10m"),
            "limited": RateLimited("5m"),
            "never": UnrecoverableError("no use"),
            "error": OSError("no route"),
        }[how]
    return f"{how} {ctx.attempt} {dict(ctx.restored or {})}"


@pytest.fixture
def client() -> testing.Client:
    """A fresh client that serves any queue."""
    _ran.clear()
    return testing.Client()


def test_jobs_run_in_the_order_of_their_queue(client: testing.Client) -> None:
    """Nothing runs by itself; run_all takes the jobs in their order and gives results."""
    queue = client.queue("sums")
    jobs = [queue.enqueue("double.add", {"a": i, "b": 1}, priority=-i % 2) for i in range(4)]
    assert _ran == []
    assert jobs[0].info().state is JobState.WAITING

    assert client.run_all() == 4

    assert _ran == ["0+1", "2+1", "1+1", "3+1"]
    assert [job.wait() for job in jobs] == [1, 2, 3, 4]
    assert queue.counts().completed == 4


def test_a_task_enqueues_through_the_client(client: testing.Client) -> None:
    """Task objects take the client as any other; waiting runs what there is to run."""
    job = add.options(queue="sums", client=client).enqueue(2, 3)
    assert job.wait() == 5


@pytest.mark.parametrize(
    ("cls", "state", "history", "minutes"),
    [("oom", JobState.COMPLETED, 2, 1), ("disrupted", JobState.COMPLETED, 2, 1), ("timeout", JobState.FAILED, 1, 0),
     ("job-deleted", JobState.CANCELLED, 1, 0), ("node-lost", JobState.ACTIVE, 0, 0)],
)  # fmt: skip
def test_an_attempt_ends_as_asked(
    client: testing.Client, cls: str, state: JobState, history: int, minutes: int
) -> None:
    """fail_next ends the next attempt as any outcome class; what follows is the queue's rule, after its backoff."""
    job = client.queue("sums").enqueue("double.add", {"a": 1, "b": 1}, max_attempts=3)
    client.fail_next(cls)
    client.run_all()

    info = job.info()
    assert (info.state, len(info.history)) == (state, history)
    assert (client.now - START).total_seconds() == 60 * minutes


def test_attempts_come_to_an_end(client: testing.Client) -> None:
    """A job whose attempts are spent fails with the last outcome; each wait is twice the one before."""
    job = client.queue("sums").enqueue(
        "double.add", {"a": 1, "b": 1}, max_attempts=3, backoff=Backoff.exponential("10s", jitter=0)
    )
    client.fail_next("error", times=3, message="no luck")
    assert client.run_all() == 3
    assert (client.now - START).total_seconds() == 30
    with pytest.raises(JobFailedError, match="no luck"):
        job.wait()
    job.retry()
    assert job.wait() == 2


@pytest.mark.parametrize(
    ("how", "result", "minutes", "spent"),
    [("later", "later 2 {'seen': 'later'}", 2, 1), ("snooze", "snooze 1 {'seen': 'snooze'}", 10, 0),
     ("limited", "limited 1 {'seen': 'limited'}", 5, 0), ("error", "error 2 {'seen': 'error'}", 1, 1)],
)  # fmt: skip
def test_a_task_steers_its_job(client: testing.Client, how: str, result: str, minutes: int, spent: int) -> None:
    """What a task raises means here what it means in a pod, and its checkpoint is there again."""
    job = client.queue("q").enqueue("double.steer", {"how": how}, max_attempts=3)
    client.run_all()
    assert job.wait() == result
    assert (client.now - START).total_seconds() == 60 * minutes
    assert [attempt.spent == "attempt" for attempt in job.info().history].count(True) == spent


def test_errors_that_no_attempt_mends(client: testing.Client) -> None:
    """UnrecoverableError, a task nobody registered and data that does not fit end the job at once."""
    queue = client.queue("q")
    jobs = [
        queue.enqueue("double.steer", {"how": "never"}, max_attempts=5),
        queue.enqueue("double.nobody", max_attempts=5),
        queue.enqueue("double.add", {"a": 1, "c": 1}, max_attempts=5),
    ]
    assert client.run_all() == 3
    for job, words in zip(
        jobs, ("no use", "no task named 'double.nobody': registered are ", "does not take this data"), strict=True
    ):
        with pytest.raises(JobFailedError, match=words):
            job.wait()


def test_time_stands_still_until_it_is_moved(client: testing.Client) -> None:
    """Delays, expiries and rate limits follow the client's clock alone."""
    client.serve("q", {"rateLimit": {"limit": 1, "period": "1m"}})
    queue = client.queue("q")
    late = queue.enqueue("double.add", {"a": 1, "b": 1}, delay="1h")
    first, second = (queue.enqueue("double.add", {"a": i, "b": 3}) for i in range(2))
    gone = queue.enqueue("double.add", {"a": 1, "b": 2}, expires="10s")

    assert client.run_all(wait=False) == 1
    assert [job.info().state.value for job in (first, second, late)] == ["completed", "waiting", "delayed"]
    client.advance("1m")
    assert client.run_all(wait=False) == 1
    assert client.run_all() == 1
    with pytest.raises(JobFailedError, match="expired"):
        gone.wait()
    assert late.info().state is JobState.COMPLETED
    assert (client.now - START).total_seconds() == 3600


def test_nothing_to_wait_for(client: testing.Client) -> None:
    """Who waits for a job that nothing can start is told so, and does not wait."""
    queue = client.queue("q")
    queue.pause()
    job = queue.enqueue("double.add", {"a": 1, "b": 1})
    with pytest.raises(WaitTimeoutError, match="nothing can run"):
        job.wait()
    with pytest.raises(WaitTimeoutError, match="nothing can run"):
        list(queue.events())
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.wait()


def test_queues_given_are_the_only_ones() -> None:
    """With queues named, another one is unknown, and each has the settings of its spec."""
    client = testing.Client({"reports": {"defaults": {"maxAttempts": 2}}})
    job = client.queue("reports").enqueue("double.add", {"a": 1, "b": 1})
    client.fail_next("error")
    client.run_all()
    assert job.info().max_attempts == 2
    assert job.wait() == 2
    with pytest.raises(UnknownQueueError):
        client.queue("sums").enqueue("double.add", {"a": 1, "b": 1})
    with pytest.raises(InvalidInputError, match=r"spec\.concurrency\.max"):
        testing.Client({"reports": {"concurrency": {"max": 0}}})


def test_a_job_waits_for_others(client: testing.Client) -> None:
    """A job that depends on others runs once all of them completed; one that failed keeps it waiting."""
    queue = client.queue("q")
    parents = [queue.enqueue("double.add", {"a": i, "b": 1}) for i in range(2)]
    child = queue.enqueue("double.add", {"a": 9, "b": 9}, depends_on=parents)
    client.fail_next("error")
    assert client.run_all() == 2
    assert child.info().state is JobState.WAITING_CHILDREN

    parents[0].retry()

    assert client.run_all() == 2
    assert _ran == ["1+1", "0+1", "9+9"]


def test_keys_take_turns(client: testing.Client) -> None:
    """Where keys take turns no key waits for all jobs of another, and jobs without a key have one turn together."""
    client.serve("q", {"concurrency": {"perKey": 1, "order": "RoundRobin"}})
    for a, key in enumerate(("red", "red", "red", "blue"), 1):
        client.queue("q").enqueue("double.add", {"a": a, "b": 0}, key=key)
    for a in (5, 6):
        client.queue("q").enqueue("double.add", {"a": a, "b": 0})
    assert client.run_all() == 6
    assert _ran == ["1+0", "4+0", "5+0", "2+0", "6+0", "3+0"]


def test_an_image_that_cannot_be_pulled_opens_the_breaker(client: testing.Client) -> None:
    """Some failed pulls in a row stop the queue; one probe goes after each pause, and the first start ends it."""
    client.serve("q", {"breaker": {"consecutiveFailures": 2}, "outcomes": {"image": {"action": "Requeue"}}})
    jobs = [client.queue("q").enqueue("double.add", {"a": i, "b": 0}) for i in range(3)]
    client.fail_next("image", times=3)
    assert client.run_all(wait=False) == 2
    assert jobs[2].info().state is JobState.WAITING

    assert client.run_all() == 4
    assert [job.wait() for job in jobs] == [0, 1, 2]


def test_schedules_tick_as_time_passes(client: testing.Client) -> None:
    """Each tick enqueues its job while time passes it; run_all runs what came, and does not wait for the next tick."""
    schedule = client.queue("q").schedule("nightly", "double.add", {"a": 1, "b": 1}, cron="0 3 * * *")
    assert client.run_all() == 0
    client.advance("3h")
    assert client.run_all() == 1
    client.advance("47h")
    assert [job.state for job in client.queue("q").jobs("waiting")] == [JobState.WAITING]
    client.advance("48h")
    assert client.run_all() == 3
    assert (schedule.info().fired, client.now - START) == (4, timedelta(hours=98))

    assert schedule.trigger().wait() == 2
    schedule.suspend()
    client.advance("48h")
    assert client.run_all() == 0
    assert schedule.delete()


def test_schedules_keep_their_policy(client: testing.Client) -> None:
    """A tick is skipped while the job before runs on, where the schedule says so; one nobody serves waits."""
    client.serve("q", {"outcomes": {"nodeLost": {"action": "Wait"}}})
    schedule = client.queue("q").schedule("often", "double.add", {"a": 1, "b": 1}, every="1m", concurrency="Forbid")
    client.fail_next("node-lost")
    client.advance("1m")
    assert client.run_all() == 1
    client.advance("5m")
    assert (client.run_all(), schedule.info().fired, schedule.info().skipped) == (0, 1, 5)


def test_what_the_double_does_not_know_is_said(client: testing.Client) -> None:
    """What is asked of it and unknown is refused in words, never silently left out."""
    with pytest.raises(InvalidInputError, match="does not know"):
        client.run(ops.quarantine("q"))
    with pytest.raises(InvalidInputError, match="no attempt ends as 'bad'"):
        client.fail_next("bad")


def test_jobs_that_enqueue_jobs_for_ever(client: testing.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that enqueues itself does not hang the test."""
    monkeypatch.setattr("heavylift.testing.client.ATTEMPTS_MAX", 20)

    @heavylift.task(name="double.again")
    def again() -> None:
        client.queue("q").enqueue("double.again")

    client.queue("q").enqueue("double.again")
    with pytest.raises(ConfigurationError, match="enqueue itself"):
        client.run_all()


async def test_both_clients_share_queues(client: testing.Client) -> None:
    """An asynchronous client of the same queues sees the same jobs."""
    async with testing.AsyncClient(same=client) as other:
        job = await other.queue("q").enqueue("double.add", {"a": 4, "b": 4})
        assert client.run_all() == 1
        assert await job.wait() == 8
        later = await add.options(queue="q", client=other).enqueue_async(1, 2)
        assert await later.wait() == 3
