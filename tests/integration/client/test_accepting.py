"""What an enqueue promises, option by option and in every state a job can be in, as a producer sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from rq.job import Job as RQJob
from rq.serializers import JSONSerializer

from heavylift import (
    AsyncClient,
    BatchError,
    Client,
    Dedupe,
    DuplicateJobError,
    InvalidInputError,
    InvalidPayloadError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobRequest,
    JobState,
    PayloadTooLargeError,
    Queue,
    Timeouts,
)
from heavylift.contract import payload
from heavylift.options import IF_EXISTS
from heavylift.store import Claim
from tests.integration.client.conftest import Player
from tests.proofs.waiting import until
from tests.servers import StoreServer

DATA = {"year": 2026}
STATES = ("waiting", "delayed", "active", "retrying", "completed", "failed", "cancelled")


def claimed(player: Player) -> Claim:
    """Claim the next job, which must be there."""
    claim = player.claim()
    assert claim is not None
    return claim


def data_of(claim: Claim) -> Any:
    """Return the data of a claimed job."""
    return json.loads(payload.decode(claim.data).data_json)


def bring(player: Player, client: Client, state: str) -> Job[Any]:
    """Return a job ``a`` that was brought into a state."""
    job = client.queue("reports").enqueue("annual", DATA, id="a", delay="1h" if state == "delayed" else 0)
    if state == "cancelled":
        assert job.cancel()
    if state in {"waiting", "delayed", "cancelled"}:
        return job
    claim = claimed(player)
    if state == "active":
        player.running(claim)
    elif state == "completed":
        player.complete(claim, '{"pages": 12}')
    else:
        player.fail(claim, retry_ms=3_600_000 if state == "retrying" else None)
    return job


# -- ids --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", STATES)
def test_an_id_stays_taken(served: Player, client: Client, state: str) -> None:
    """Whatever became of its job: raise refuses, return gives it as it is, other data and other queues never pass."""
    served.serve("images")
    job = bring(served, client, state)
    before = job.info()
    reports = client.queue("reports")
    with pytest.raises(DuplicateJobError, match=before.state.value):
        reports.enqueue("annual", DATA, id="a")
    same = reports.enqueue("annual", DATA, id="a", if_exists="return", priority=7, max_attempts=9)
    assert (same.id, same.created) == ("a", False)
    for mode in IF_EXISTS:
        for queue, task, data in (("reports", "annual", {}), ("reports", "monthly", DATA), ("images", "annual", DATA)):
            with pytest.raises(DuplicateJobError):
                client.queue(queue).enqueue(task, data, id="a", if_exists=mode)
    assert job.info() == before
    if state == "completed":
        assert same.wait(timeout=1) == {"pages": 12}
    if state == "failed":
        with pytest.raises(JobFailedError):
            same.wait(timeout=1)


@pytest.mark.parametrize("state", STATES)
def test_retry_failed_by_state(served: Player, client: Client, state: str) -> None:
    """It runs a failed or cancelled job again from its first attempt, and leaves every other one alone."""
    job = bring(served, client, state)
    before = job.info()
    again = client.queue("reports").enqueue("annual", DATA, id="a", if_exists="retry_failed")
    assert (again.id, again.created) == ("a", False)
    if state not in {"failed", "cancelled"}:
        assert job.info() == before
        return
    assert (again.info().state, again.info().attempts_made) == (JobState.WAITING, 0)
    assert again.info().history == before.history
    assert claimed(served).attempt == 1


@pytest.mark.parametrize("state", STATES)
def test_replace_by_state(served: Player, client: Client, state: str) -> None:
    """A job with the new options stands in place of any that is not active; there is one all the time."""
    job = bring(served, client, state)
    reports = client.queue("reports")
    again: dict[str, Any] = {"id": "a", "if_exists": "replace", "max_attempts": 7, "priority": 3}
    if state == "active":
        with pytest.raises(DuplicateJobError, match="still has a pod"):
            reports.enqueue("annual", DATA, **again)
        assert job.info().state is JobState.ACTIVE
        return
    made = reports.enqueue("annual", DATA, **again)
    info, counts = made.info(), reports.counts()
    assert made.created
    assert (info.state, info.max_attempts, info.priority, info.history) == (JobState.WAITING, 7, 3, ())
    assert (counts.waiting, counts.delayed, counts.completed, counts.failed, counts.cancelled) == (1, 0, 0, 0, 0)
    assert claimed(served).attempt == 1
    assert served.claim() is None


async def test_the_asynchronous_client_passes_each_option(
    served: Player, client: Client, redis_server: StoreServer
) -> None:
    """A job it enqueues differs in nothing from one of the other client, and meets ids and keys the same way."""
    served.serve("reports", allow={"labels": ["team"]})
    given: dict[str, Any] = {"priority": 4, "lifo": True, "key": "t", "delay": "1h", "expires": "2h",
                             "max_attempts": 3, "labels": {"team": "bi"}}  # fmt: skip
    one = client.queue("reports").enqueue("annual", DATA, id="one", dedupe="one", **given)
    async with AsyncClient(redis_server.url) as other:
        reports = other.queue("reports")
        two = await reports.enqueue("annual", DATA, id="two", dedupe="two", **given)
        same = await reports.enqueue("annual", DATA, id="two", if_exists="return")
        met = await reports.enqueue("annual", {}, dedupe="two")
        assert [(job.id, job.created) for job in (two, same, met)] == [("two", True), ("two", False), ("two", False)]
    ours, theirs = one.info(), client.job("two").info()
    times: dict[str, Any] = {
        "enqueued_at": ours.enqueued_at,
        "not_before": ours.not_before,
        "expires_at": ours.expires_at,
    }
    assert replace(theirs, id="one", dedupe="one", **times) == ours
    assert theirs.enqueued_at is not None
    assert theirs.expires_at is not None
    assert theirs.expires_at - theirs.enqueued_at == timedelta(hours=2)


# -- deduplication ----------------------------------------------------------------------------------------------------
def annual(client: Client, year: int, **options: Any) -> Job[Any]:
    """Enqueue the task ``annual`` with this year and the key ``annual``, unless told otherwise."""
    return client.queue("reports").enqueue("annual", {"year": year}, **{"dedupe": "annual", **options})


def test_a_cancel_frees_and_a_retry_takes_the_key(served: Player, client: Client) -> None:
    """A cancelled job's key is free; its retry takes it again, unless another job holds it by then."""
    first = annual(client, 1)
    assert first.cancel()
    second = annual(client, 2)
    assert second.created
    with pytest.raises(InvalidInputError, match=second.id):
        first.retry()
    assert first.info().state is JobState.CANCELLED
    assert second.cancel()
    first.retry()
    met = annual(client, 3)
    assert (met.id, met.created) == (first.id, False)
    assert data_of(claimed(served)) == {"year": 1}


def test_a_throttle_lets_one_start_in_its_time(served: Player, client: Client) -> None:
    """The first runs with its own data; later ones are dropped, after its end too, for exactly the ttl."""
    throttle = Dedupe("annual", ttl="250ms")
    first = annual(client, 1, dedupe=throttle)
    assert not annual(client, 2, dedupe=throttle).created
    claim = claimed(served)
    assert data_of(claim) == {"year": 1}
    served.complete(claim)

    def next_one() -> Job[Any] | None:
        job = annual(client, 3, dedupe=throttle)
        assert job.created or job.id == first.id
        return job if job.created else None

    second = until(next_one, "the throttle to be over", every=0.01)
    assert second is not None
    began, over = first.info().enqueued_at, second.info().enqueued_at
    assert began is not None
    assert over is not None
    assert over - began >= timedelta(milliseconds=250)


def test_rqs_own_cancel_ends_a_throttle(served: Player, client: Client) -> None:
    """What was cancelled never used its period, whoever cancelled it."""
    throttle = Dedupe("annual", ttl="1h")
    first = annual(client, 1, dedupe=throttle)
    RQJob.fetch(first.id, connection=served.store.redis, serializer=JSONSerializer).cancel()
    assert first.info().state is JobState.CANCELLED
    assert annual(client, 2, dedupe=throttle).created


def test_a_debounced_job_starts_after_the_last(served: Player, client: Client) -> None:
    """Each enqueue of the key moves the start and replaces the data; once it started, a new job is made."""
    calm = Dedupe("annual", mode="debounce", ttl="150ms")
    jobs = [annual(client, year, dedupe=calm) for year in (1, 2, 3)]
    assert [(job.id, job.created) for job in jobs] == [(jobs[0].id, True), (jobs[0].id, False), (jobs[0].id, False)]
    due = jobs[0].info().not_before
    claim = until(served.claim, "the debounced job", every=0.01)
    assert claim is not None
    assert due is not None
    assert claim.claimed_at >= round(due.timestamp() * 1000)
    assert data_of(claim) == {"year": 3}
    assert annual(client, 4, dedupe=calm).created


def test_a_changed_job_keeps_its_key(served: Player, client: Client) -> None:
    """Another priority, delay or data, and a promotion, leave the key with its job until its end."""
    job = annual(client, 1, delay="1h")
    job.change(priority=5, data={"year": 9})
    job.promote()
    job.change(delay="1h")
    assert annual(client, 2).id == job.id
    job.promote()
    claim = claimed(served)
    assert (data_of(claim), annual(client, 2).id) == ({"year": 9}, job.id)
    served.complete(claim)
    assert annual(client, 2).created


@pytest.mark.usefixtures("served")
def test_a_replaced_job_holds_its_new_key_only(client: Client) -> None:
    """The key of the job it stands in for is free."""
    annual(client, 1, id="a", dedupe="old")
    annual(client, 1, id="a", dedupe="new", if_exists="replace")
    assert annual(client, 2, dedupe="old").created
    assert annual(client, 2, dedupe="new").id == "a"


# -- batches ----------------------------------------------------------------------------------------------------------
def test_each_entry_of_a_batch_has_its_verdict(served: Player, client: Client) -> None:
    """The good ones are enqueued in order; the bad ones are told by their place, in order, whoever refused them."""
    reports = client.queue("reports")
    reports.enqueue("annual", DATA, id="taken")
    entries = [
        JobRequest("annual", {"year": 0}, id="a0"),
        JobRequest("annual", {"blob": "x" * 70_000}, id="a1"),
        JobRequest("annual", {"year": 2}, id="taken"),
        JobRequest("annual", {"year": float("nan")}, id="a3"),
        JobRequest("annual", {"year": 4}, id="a4", max_attempts=11),
        JobRequest("annual", {"year": 5}, id="a5"),
        JobRequest("annual", {"year": 5}, id="a5"),
        JobRequest("annual", {"year": 5}, id="a5", if_exists="return"),
    ]
    with pytest.raises(BatchError) as caught:
        reports.enqueue_many(entries)
    assert [(job.id, job.created) for job in caught.value.jobs] == [("a0", True), ("a5", True), ("a5", False)]
    wanted = {1: PayloadTooLargeError, 2: DuplicateJobError, 3: InvalidPayloadError, 4: InvalidInputError,
              6: DuplicateJobError}  # fmt: skip
    told = caught.value.exceptions
    assert [str(error).partition(":")[0] for error in told] == [f"entry {place}" for place in wanted]
    assert all(isinstance(error, kind) for error, kind in zip(told, wanted.values(), strict=True))
    assert [info.id for info in reports.jobs()] == ["taken", "a0", "a5"]
    assert reports.enqueue_many([]) == []
    assert claimed(served).job == "taken"


# -- bounds, exact ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("spec", "most"), [({}, 65_536), ({"maxSize": "1Ki"}, 1024), ({"maxSize": "100Ki"}, 102_400)])
def test_the_largest_payload(served: Player, client: Client, spec: dict[str, str], most: int) -> None:
    """Data of exactly the queue's bytes pass; one more is refused by each way in, and leaves nothing."""
    served.serve("reports", payload=spec)
    reports = client.queue("reports")
    room = most - len('{"x":""}')
    fits = {"x": "é" * (room // 2) + "a" * (room % 2)}
    large = {"x": fits["x"] + "a"}
    reports.enqueue("annual", fits, id="fits")
    with pytest.raises(PayloadTooLargeError, match="reference"):
        reports.enqueue("annual", large, id="large")
    with pytest.raises(BatchError):
        reports.enqueue_many([JobRequest("annual", large, id="large")])
    with pytest.raises(PayloadTooLargeError):
        client.job("fits").change(data=large)
    with pytest.raises(JobNotFoundError):
        client.job("large").info()
    assert data_of(claimed(served)) == fits
    assert served.claim() is None


def test_the_most_a_queue_allows(served: Player, client: Client) -> None:
    """What is exactly at a maximum passes, one beyond is refused by name and clamped by nobody."""
    allow = {"maxAttempts": 5, "delay": "1h", "minPriority": -3, "runTimeout": "48h"}
    served.serve("reports", allow=allow)
    reports = client.queue("reports")
    job = reports.enqueue("annual", DATA, priority=-3, max_attempts=5, timeouts=Timeouts(run="48h"), delay="1h")
    assert (job.info().priority, job.info().max_attempts) == (-3, 5)
    refused: dict[str, dict[str, Any]] = {
        "priority": {"priority": -4},
        "max_attempts": {"max_attempts": 6},
        "timeouts.run": {"timeouts": Timeouts(run="48h1ms")},
        "delay": {"delay": 3600.001},
    }
    for name, options in refused.items():
        with pytest.raises(InvalidInputError, match=name):
            reports.enqueue("annual", DATA, **options)
    assert (reports.counts().delayed, reports.counts().waiting) == (1, 0)


# -- bad input, by hostile or by careless hands -----------------------------------------------------------------------
LONE = "a\ud800b"
BAD: dict[str, Callable[[Client, Queue], object]] = {
    "queue name is 5": lambda client, _: client.queue(cast("str", 5)),
    "job id is None": lambda client, _: client.job(cast("str", None)),
    "lone surrogate in env": lambda _, reports: reports.enqueue("annual", env={"LEVEL": LONE}),
    "lone surrogate in a key": lambda _, reports: reports.enqueue("annual", key=LONE),
    "lone surrogate in a key asked for": lambda _, reports: reports.deduplicated(LONE),
    "lone surrogate in a key to free": lambda _, reports: reports.release_key(LONE),
    "delay of 5000 digits": lambda _, reports: reports.enqueue("annual", delay="9" * 5000 + "h"),
    "delay of as many seconds": lambda _, reports: reports.enqueue("annual", delay=10**5000),
    "negative delay": lambda _, reports: reports.enqueue("annual", delay=-(10**5000)),
    "expires in the far future": lambda _, reports: reports.enqueue("annual", expires="876001h"),
    "expires beyond floats": lambda _, reports: reports.enqueue("annual", expires=1e306),
    "throttle for ever": lambda _, reports: reports.enqueue("annual", dedupe=Dedupe("a", ttl=timedelta.max)),
    "events after no id": lambda _, reports: next(reports.events(after="yesterday")),
    "events after a lone surrogate": lambda _, reports: next(reports.events(after=LONE)),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_an_error_of_ours(served: Player, client: Client, what: str) -> None:
    """It names what to write instead, and nothing is enqueued."""
    served.serve("reports", allow={"env": ["LEVEL"]})
    with pytest.raises(InvalidInputError, match=":"):
        BAD[what](client, client.queue("reports"))
    assert client.queue("reports").counts().waiting == 0


def test_what_is_no_request_is_told_by_its_place(served: Player, client: Client) -> None:
    """The entries beside it are enqueued."""
    with pytest.raises(BatchError) as caught:
        client.queue("reports").enqueue_many([JobRequest("annual", id="a"), cast("JobRequest", ("annual", {}))])
    (told,) = caught.value.exceptions
    assert str(told).startswith("entry 1: it is a tuple")
    assert claimed(served).job == "a"


def test_reasons_of_any_text_are_taken(served: Player, client: Client) -> None:
    """A reason is for people: what is no Unicode, too long or missing stops neither pause nor cancel."""
    reports = client.queue("reports")
    for reason in (LONE, "x" * 1_000_000, "", cast("str", None)):
        reports.pause(reason)
        assert served.claim() is None
        reports.resume()
        assert reports.enqueue("annual").cancel(reason)
