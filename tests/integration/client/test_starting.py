"""When a job starts: delay, priority, keys, pauses and changes together, as a producer sees them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from heavylift import Client, Dedupe, InvalidInputError, Job, JobState, WaitTimeoutError
from heavylift.options import ChangeOptions
from heavylift.store import Claim
from tests.integration.client.conftest import Player, Run
from tests.proofs.waiting import until


def put(client: Client, name: str, **options: Any) -> Job[Any]:
    """Enqueue a job with this id."""
    return client.queue("reports").enqueue("annual", {"name": name}, id=name, **options)


def take(player: Player) -> list[Claim]:
    """Claim until there is nothing more."""
    return list(iter(player.claim, None))


def starts(player: Player) -> list[str]:
    """Claim until there is nothing more; return the ids in their order."""
    return [claim.job for claim in take(player)]


def all_wait(client: Client, count: int) -> None:
    """Return once so many jobs wait, due ones among them."""
    until(lambda: client.queue("reports").counts().waiting == count, f"{count} jobs to wait", every=0.005)


# -- delay and order --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("delay", "ms"),
    [(0.25, 250), ("1500ms", 1500), (timedelta(milliseconds=7), 7), (1, 1000), ("720h", 2_592_000_000)],
)
def test_a_delay_is_exact_to_the_millisecond(served: Player, client: Client, delay: Any, ms: int) -> None:
    """However it is written."""
    info = put(client, "a", delay=delay).info()
    assert info.state is JobState.DELAYED
    assert info.not_before is not None
    assert info.enqueued_at is not None
    assert info.not_before - info.enqueued_at == timedelta(milliseconds=ms)
    if ms >= 1000:
        assert served.claim() is None


def test_due_jobs_go_by_priority_then_time(served: Player, client: Client) -> None:
    """A delayed job that is due stands in its own priority, by the moment it was due and not by that of its enqueue."""
    client.queue("reports").pause()
    put(client, "later", delay="40ms", priority=5)
    put(client, "sooner", delay="20ms", priority=5)
    put(client, "first", delay="40ms")
    put(client, "plain", priority=4)
    all_wait(client, 4)
    client.queue("reports").resume()
    assert starts(served) == ["first", "plain", "sooner", "later"]


def test_priorities_and_lifo(served: Player, client: Client) -> None:
    """Lower priorities first over their whole range, first in first out within one; lifo is of its own priority."""
    served.serve("reports", allow={"minPriority": -1000})
    options: dict[str, dict[str, Any]] = {
        "zero-1": {},
        "high": {"priority": 1000},
        "low": {"priority": -1000},
        "zero-2": {"priority": 0},
        "one-1": {"priority": 1},
        "one-2": {"priority": 1},
        "one-l1": {"priority": 1, "lifo": True},
        "one-l2": {"priority": 1, "lifo": True},
        "zero-l": {"lifo": True},
    }
    for name, given in options.items():
        put(client, name, **given)
    expected = ["low", "zero-l", "zero-1", "zero-2", "one-l2", "one-l1", "one-1", "one-2", "high"]
    assert [info.id for info in client.queue("reports").jobs()] == expected
    assert starts(served) == expected
    for priority in (-1001, 1001):
        with pytest.raises(InvalidInputError, match="from -1000 to 1000"):
            put(client, "beyond", priority=priority)


# -- bounds -----------------------------------------------------------------------------------------------------------
def test_a_job_between_attempts_holds_no_place(served: Player, client: Client) -> None:
    """It counts against neither cap, and waits for both when it is due."""
    served.serve("reports", concurrency={"max": 1, "perKey": 1})
    put(client, "a", key="t", max_attempts=2)
    put(client, "b", key="t")
    (claim,) = take(served)
    served.fail(claim, retry_ms=3_600_000)
    (other,) = take(served)
    assert other.job == "b"
    assert client.job("a").promote()
    assert starts(served) == []
    served.complete(other)
    assert starts(served) == ["a"]


def test_a_key_at_its_cap_and_priorities(served: Player, client: Client) -> None:
    """Its jobs stand aside for others, and come back by priority, then age."""
    served.serve("reports", concurrency={"perKey": 2})
    options: dict[str, dict[str, Any]] = {
        "a1": {"key": "a", "priority": 2},
        "a2": {"key": "a", "priority": 2},
        "a0": {"key": "a", "priority": 1},
        "b1": {"key": "b", "priority": 3},
        "n1": {"priority": 4},
    }
    for name, given in options.items():
        put(client, name, **given)
    running = take(served)
    assert [claim.job for claim in running] == ["a0", "a1", "b1", "n1"]
    put(client, "a-first", key="a")
    assert starts(served) == []
    served.complete(running[0])
    assert starts(served) == ["a-first"]
    served.complete(running[1])
    assert starts(served) == ["a2"]


@pytest.mark.parametrize(
    ("order", "first", "then"), [("Fifo", ["a1", "a2"], ["b1"]), ("RoundRobin", ["a1", "b1", "a2"], [])]
)
def test_a_cap_of_keys_lowered_to_what_runs(
    served: Player, client: Client, order: str, first: list[str], then: list[str]
) -> None:
    """A key that had room a moment ago starts nothing more until it is below the new cap; others go on."""
    served.serve("reports", concurrency={"perKey": 3, "order": order})
    for name in ("a1", "a2", "a3", "a4", "b1"):
        put(client, name, key=name[0])
    running = [claim for _ in first if (claim := served.claim())]
    assert [claim.job for claim in running] == first
    served.serve("reports", concurrency={"perKey": 2, "order": order})
    assert starts(served) == then
    served.complete(running[0])
    assert starts(served) == ["a3"]


def test_key_delay_and_deduplication_together(served: Player, client: Client) -> None:
    """A debounced job with a key at its cap starts when both let it, at its priority."""
    served.serve("reports", concurrency={"perKey": 1})
    put(client, "holds", key="t")
    (holds,) = take(served)
    put(client, "calm", key="t", priority=1, dedupe=Dedupe("d", mode="debounce", ttl="30ms"))
    all_wait(client, 1)
    put(client, "other", priority=2)
    assert starts(served) == ["other"]
    served.complete(holds)
    assert starts(served) == ["calm"]


def test_what_is_left_of_the_rate_is_told(served: Player, client: Client, run: Run) -> None:
    """How many more may start, and in how many milliseconds the next one; a limit raised at run time counts at once."""
    assert run("queues", "show", "reports", "-o", "json").json["rateLimit"] == {}
    served.serve("reports", concurrency={"perKey": 3, "order": "RoundRobin"}, rateLimit={"limit": 2, "period": "1h"})
    for name in "abcd":
        put(client, name)
    assert starts(served) == ["a", "b"]
    shown = run("queues", "show", "reports", "-o", "json").json
    assert (shown["concurrencyPerKey"], shown["concurrencyOrder"]) == (3, "RoundRobin")
    rate = shown["rateLimit"]
    assert (rate["limit"], rate["periodMs"], rate["left"]) == (2, 3_600_000, 0)
    assert 3_000_000 < rate["nextMs"] <= 3_600_000
    served.serve("reports", rateLimit={"limit": 3, "period": "1h"})
    rate = run("queues", "show", "reports", "-o", "json").json["rateLimit"]
    assert (rate["left"], rate["nextMs"]) == (1, 0)
    assert starts(served) == ["c"]


# -- pauses and changes -----------------------------------------------------------------------------------------------
def test_a_pause_that_waits_then_a_purge(served: Player, client: Client) -> None:
    """A pause says when something still runs, and stays; a purge takes what waits with its keys, not what runs."""
    served.serve("reports", concurrency={"perKey": 1})
    reports = client.queue("reports")
    put(client, "runs")
    (claim,) = take(served)
    served.running(claim)
    put(client, "waits", key="t", priority=3, dedupe="d")
    put(client, "delayed", delay="1h")
    with pytest.raises(WaitTimeoutError):
        reports.pause("upgrade", wait=0.05)
    put(client, "late")
    assert starts(served) == []
    assert (reports.purge(dry_run=True), reports.purge()) == (2, 2)
    counts = reports.counts()
    assert (counts.waiting, counts.delayed, counts.active) == (0, 1, 1)
    assert put(client, "next", key="t", dedupe="d").created
    served.complete(claim)
    reports.pause(wait=1)
    assert starts(served) == []
    reports.resume()
    assert starts(served) == ["next"]


@pytest.mark.parametrize("options", [{}, {"priority": 3}, {"delay": "1ms"}, {"key": "t"}])
def test_a_pause_of_the_heavyqueue(served: Player, client: Client, options: dict[str, Any]) -> None:
    """Whatever waits in the queue, ``spec.paused`` holds it until the HeavyQueue says otherwise: no resume ends it."""
    served.serve("reports", paused=True, concurrency={"perKey": 1})
    put(client, "a", **options)
    all_wait(client, 1)
    client.queue("reports").pause()
    client.queue("reports").resume()
    assert starts(served) == []
    served.serve("reports", concurrency={"perKey": 1})
    assert starts(served) == ["a"]


def test_a_promotion_in_a_paused_queue(served: Player, client: Client) -> None:
    """The job waits at the end of its priority, and starts no sooner than the pause allows."""
    reports = client.queue("reports")
    put(client, "first", priority=2)
    delayed = put(client, "delayed", delay="1h", priority=9)
    reports.pause()
    delayed.change(priority=2)
    assert delayed.info().state is JobState.DELAYED
    assert [delayed.promote(), delayed.promote()] == [True, False]
    put(client, "last", priority=2)
    assert delayed.info().not_before is None
    assert starts(served) == []
    reports.resume()
    assert starts(served) == ["first", "delayed", "last"]


def test_a_change_is_judged_like_an_enqueue(served: Player, client: Client) -> None:
    """What an enqueue would refuse a change refuses too, and nothing changes; so does the job's state."""
    job = put(client, "a")
    refused: list[ChangeOptions] = [
        {"priority": -1},
        {"priority": 1001},
        {"delay": "720h1ms"},
        {"data": {"x": float("inf")}},
    ]
    for changes in refused:
        with pytest.raises(InvalidInputError):
            job.change(**changes)
    assert (job.info().state, job.info().priority) == (JobState.WAITING, 0)
    (claim,) = take(served)
    late: list[ChangeOptions] = [{"data": {"year": 1}}, {"delay": "1m"}]
    for changes in late:
        with pytest.raises(InvalidInputError, match="active"):
            job.change(**changes)
    served.complete(claim)
    with pytest.raises(InvalidInputError, match="completed"):
        job.change(priority=1)
