"""Retries as their formulas say, through the client, on Redis and in memory: waits, budgets, what ends a job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import heavylift
from heavylift import Backoff, Client, Failure, JobState, testing
from heavylift.store import ops
from tests.integration.client.attempts import EVICTED, Attempts, Doubled
from tests.integration.client.conftest import INSTALL, Player

ENDS: dict[str, BaseException] = {
    "unrecoverable": heavylift.UnrecoverableError("the source is gone"),
    "key": KeyError("year"),
    "exit": SystemExit(64),
    "later": heavylift.RetryAfter("2m", "busy"),
    "now": heavylift.RetryAfter(0),
    "snooze": heavylift.Snooze("10m"),
    "at once": heavylift.Snooze(0),
    "limited": heavylift.RateLimited("1m"),
    "limited for long": heavylift.RateLimited("5h"),
    "seventy-five": SystemExit(75),
}


@heavylift.task(name="a-fails", no_retry_on=(KeyError,))
def fails(how: str = "") -> str:
    """End as told."""
    raise ENDS.get(how, ValueError(how))


def by_error(failure: Failure) -> int | str | None:
    """Wait as the error says."""
    said = str(failure.error)
    if said == "give up":
        raise heavylift.UnrecoverableError("no use")
    waits_of: dict[str, int | str] = {"rate limit": 120, "timeout": "10s", "at once": 0}
    return waits_of.get(said)


@heavylift.task(name="a-by-error", backoff=by_error)
def custom(ctx: heavylift.Context, said: list[str]) -> None:
    """Raise the attempt's error."""
    raise RuntimeError(said[ctx.attempt - 1])


@dataclass
class Stage:
    """A client of the queue ``reports``, and who works on it."""

    client: Client
    attempts: Attempts | Doubled

    def enqueue(self, task: str, data: Any = None, **options: Any) -> heavylift.Job[Any]:
        """Enqueue a job."""
        return self.client.queue("reports").enqueue(task, data, **options)


ALLOW = {"maxAttempts": 100, "resources": {"memory": "64Gi"}}


@pytest.fixture
def attempts(player: Player, tmp_path: Path) -> Attempts:
    """Attempts of the queue ``reports`` on a real Redis."""
    player.serve("reports", allow=ALLOW)
    return Attempts(player, tmp_path)


@pytest.fixture(params=["redis", "memory"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """Both: what a test with the double says of retries is what a cluster does."""
    if request.param == "redis":
        return Stage(request.getfixturevalue("client"), request.getfixturevalue("attempts"))
    double = testing.Client({"reports": {"allow": ALLOW}})
    return Stage(double, Doubled(double.queues_))


def waits(stage: Stage, job: heavylift.Job[Any]) -> list[int]:
    """Run a job to its end; return its waits in ms."""
    found: list[int] = []
    while True:
        stage.attempts.run()
        info = job.info()
        if info.state.terminal:
            return found
        found.append(info.history[-1].delay_ms)
        if info.state is JobState.DELAYED:
            job.promote()


MINUTE = 60_000
EXACT = {"jitterPercent": 0}


@pytest.mark.parametrize(
    ("defaults", "options", "table"),
    [
        ({"maxAttempts": 5, "backoff": {"type": "Fixed", "delay": "2s", **EXACT}}, {}, [2000] * 4),
        ({"maxAttempts": 5, "backoff": {"delay": "60s", **EXACT}}, {}, [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]),
        ({"backoff": {"type": "Fixed", "delay": "1h"}}, {"max_attempts": 2, "backoff": Backoff.fixed("250ms")}, [250]),
        ({}, {"max_attempts": 6, "backoff": Backoff.exponential("2s", jitter=0)}, [2000, 4000, 8000, 16000, 32000]),
        ({}, {"max_attempts": 5, "backoff": Backoff.exponential("2s", max="5s", jitter=0)}, [2000, 4000, 5000, 5000]),
        ({}, {"max_attempts": 3, "backoff": Backoff.exponential(0.001, jitter=0)}, [1, 2]),
        ({}, {"max_attempts": 9, "backoff": Backoff.exponential("60s")},
         [MINUTE * 2**n for n in range(6)] + [60 * MINUTE] * 2),
        ({}, {}, []),
    ],
)  # fmt: skip
def test_tables_of_waits(stage: Stage, defaults: dict[str, Any], options: dict[str, Any], table: list[int]) -> None:
    """The waits are those of the formula, one fewer than there are attempts, and all of them are told."""
    stage.attempts.serve("reports", defaults=defaults)
    job = stage.enqueue("a-fails", **options)

    assert waits(stage, job) == table
    info = job.info()
    assert (info.state, info.attempts_made, info.starts) == (JobState.FAILED, len(table) + 1, len(table) + 1)
    assert [entry.attempt for entry in info.history] == [*range(1, len(table) + 2)]
    assert {entry.outcome.cls for entry in info.history if entry.outcome} == {"error"}


@pytest.mark.parametrize("how", ["unrecoverable", "key", "exit"])
def test_what_ends_a_job_at_once(stage: Stage, how: str) -> None:
    """No attempt follows an error that no attempt would mend."""
    job = stage.enqueue("a-fails", {"how": how}, max_attempts=5)

    assert waits(stage, job) == []
    assert (job.info().attempts_made, job.info().state) == (1, JobState.FAILED)


def test_exit_code_64_of_any_program(client: Client, attempts: Attempts) -> None:
    """A program in any language ends its job with 64."""
    job = client.queue("reports").enqueue("anything", max_attempts=5)
    attempts.ended(attempts.take(), 64, "no such customer")

    assert (job.info().state, job.info().attempts_made) == (JobState.FAILED, 1)
    assert job.info().outcome.exit_code == 64  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("how", "delay", "made"),
    [
        *(("later", 120_000, 1), ("now", 0, 1), ("snooze", 600_000, 0), ("at once", 0, 0), ("limited", 60_000, 0)),
        ("seventy-five", 60_000, 0),
    ],
)
def test_what_spends_an_attempt(stage: Stage, how: str, delay: int, made: int) -> None:
    """RetryAfter is a failure that sets its own delay; Snooze and RateLimited spend nothing."""
    job = stage.enqueue("a-fails", {"how": how}, max_attempts=2)
    stage.attempts.run()

    info = job.info()
    assert (info.attempts_made, info.starts, info.history[-1].delay_ms) == (made, 1, delay)
    assert info.state is (JobState.DELAYED if delay else JobState.WAITING)
    job.promote()
    if how == "limited":
        assert stage.attempts.idle()
        return
    stage.attempts.run()
    assert job.info().state is (JobState.FAILED if made else JobState.DELAYED if delay else JobState.WAITING)


def test_no_program_holds_its_queue_for_more_than_an_hour(stage: Stage) -> None:
    """Its own job waits as long as it says; the others an hour at most."""
    job = stage.enqueue("a-fails", {"how": "limited for long"})
    stage.attempts.run()

    gauges = stage.client.run(ops.gauges(INSTALL, ["reports"])).queues["reports"]
    assert job.info().history[-1].delay_ms == 5 * 60 * MINUTE
    assert gauges.slowed is not None
    assert 59 * MINUTE < gauges.slowed <= 60 * MINUTE


def test_a_wait_for_each_error(stage: Stage) -> None:
    """A backoff function says how long, None is the queue's, 0 at once, and giving up ends the job."""
    stage.attempts.serve("reports", defaults={"maxAttempts": 9, "backoff": {"delay": "60s", **EXACT}})
    said = ["rate limit", "timeout", "other", "at once", "give up", "never"]
    job = stage.enqueue("a-by-error", {"said": said})

    assert waits(stage, job) == [120_000, 10_000, 4 * MINUTE, 0]
    assert job.info().attempts_made == 5


def test_at_most_100_starts(stage: Stage) -> None:
    """A job that snoozes for ever ends with its hundredth start, and says so."""
    job = stage.enqueue("a-fails", {"how": "snooze"})
    for _ in range(99):
        stage.attempts.run()
        job.promote()
    assert job.info().starts == 99
    stage.attempts.run()

    info = job.info()
    assert (info.state, info.starts, info.attempts_made) == (JobState.FAILED, 100, 0)
    assert "started 100 times" in info.outcome.message  # type: ignore[union-attr]
    assert [entry.seq for entry in info.history] == [*range(81, 101)]


@heavylift.task(name="a-keeps")
def keeps(ctx: heavylift.Context, how: list[str]) -> list[int]:
    """Do three of six items in the first attempt, then end as told; say what the last one did."""
    done: list[int] = []
    for item in ctx.resume(range(6)):
        if item == 3 and ctx.restored is None:
            ctx.checkpoint({"sum": sum(done)})
            if how[0] == "error":
                raise OSError("gone")
            if how[0] == "snooze":
                raise heavylift.Snooze("1s")
            raise SystemExit(3)
        done.append(item)
    return [(ctx.restored or {}).get("sum", -1), *done]


@pytest.mark.parametrize("how", ["error", "snooze", "exit"])
def test_a_checkpoint_is_carried_on(stage: Stage, how: str) -> None:
    """The next attempt goes on with the item at hand, and has what was kept; an end by success keeps nothing."""
    job = stage.enqueue("a-keeps", {"how": [how]}, max_attempts=2)
    stage.attempts.run()
    assert job.info().checkpoint == {"sum": 3, "$resume": {"": 3}}
    job.promote()
    stage.attempts.run()

    assert (job.wait(timeout=5), job.info().checkpoint) == ([3, 3, 4, 5], None)


@heavylift.task(name="a-tells")
def tells(ctx: heavylift.Context) -> str:
    """Return the token of the attempt; the first one fails with it."""
    if ctx.attempt == 1:
        raise heavylift.RetryAfter(0, ctx.execution)
    return ctx.execution


def test_a_token_fences_and_an_id_gives_the_stored_result(stage: Stage) -> None:
    """No two attempts have one token, a later one's number is higher; the same id again is the same run."""
    job = stage.enqueue("a-tells", id="once", max_attempts=2)
    stage.attempts.run()
    last = stage.attempts.run().execution

    (first, _), again = job.info().history, stage.enqueue("a-tells", id="once", if_exists="return", max_attempts=9)
    assert (first.execution, last) == (f"{last.rpartition('-')[0]}-1", f"{last.rpartition('-')[0]}-2")
    assert first.outcome is not None
    assert first.execution in first.outcome.message
    assert (again.created, again.wait(timeout=5), stage.attempts.idle()) == (False, last, True)


def evicted(attempts: Attempts) -> None:
    """End the next attempt by an eviction."""
    claim = attempts.take()
    attempts.ended(claim, 137, conditions=[EVICTED])


def killed(attempts: Attempts, memory: str = "4Gi") -> None:
    """End the next attempt by the memory limit."""
    attempts.ended(attempts.take(), 137, reason="OOMKilled", memory=memory)


def test_each_class_has_its_own_budget(client: Client, attempts: Attempts) -> None:
    """Twenty evictions spend none of the attempts; the next one ends the job."""
    job = client.queue("reports").enqueue("a-fails", max_attempts=3)
    attempts.run()
    for _ in range(20):
        job.promote()
        evicted(attempts)
        assert job.info().attempts_made == 1
    job.promote()
    attempts.run()
    assert job.info().attempts_made == 2
    job.promote()
    evicted(attempts)

    info = job.info()
    assert (info.state, info.outcome.cls if info.outcome else "", info.starts) == (JobState.FAILED, "disrupted", 23)


def test_memory_grows_up_to_its_cap(client: Client, attempts: Attempts) -> None:
    """4Gi, 6Gi, 9Gi, then the cap, which another end at the cap does not move."""
    attempts.player.serve(
        "reports",
        defaults={"maxAttempts": 9, "backoff": {"delay": "1s", **EXACT}},
        outcomes={"oom": {"action": "Retry", "memory": {"growthPercent": 50, "max": "10Gi"}}},
    )
    job = client.queue("reports").enqueue("a-fails")
    had, gib = ["4Gi", "6Gi", "9Gi", "10Gi"], 1024**3
    for memory in had:
        killed(attempts, memory)
        job.promote()

    assert [entry.next_memory for entry in job.info().history] == [6 * gib, 9 * gib, 10 * gib, None]
    assert job.info().memory == 10 * gib
