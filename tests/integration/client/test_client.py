"""The client against a real Redis: enqueue, look, wait, cancel, retry, events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import redis
from pydantic import BaseModel
from rq import Queue
from rq.serializers import JSONSerializer

import heavylift
from heavylift import (
    Backoff,
    BatchError,
    Client,
    Dedupe,
    DuplicateJobError,
    InvalidInputError,
    InvalidPayloadError,
    Job,
    JobRequest,
    JobState,
    PayloadTooLargeError,
    RedisUnavailableError,
    Timeouts,
    UnknownQueueError,
)
from heavylift.contract.payload import decode

if TYPE_CHECKING:
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer

YEAR = {"year": 2026}


def test_job_travels_from_enqueue_to_its_result(served: Player, client: Client) -> None:
    """What was enqueued is what the dispatcher gets, and what the pod returned is what wait returns."""
    job = client.queue("reports").enqueue("annual", YEAR)

    claim = served.claim()
    assert claim is not None
    payload = decode(claim.data)
    assert (claim.job, payload.task, payload.data_json) == (job.id, "annual", '{"year":2026}')
    served.complete(claim, '{"rows": [1, 2]}')

    assert job.created
    assert job.wait(timeout=5) == {"rows": [1, 2]}


def test_info_follows_the_jobs_life(served: Player, client: Client) -> None:
    """Info shows place, phase, attempt, Job and history as they change."""
    job = client.queue("reports").enqueue("annual", YEAR, max_attempts=2, labels={}, resources={})
    waiting = job.info()
    claim = served.claim()
    assert claim is not None
    served.running(claim)
    running = job.info()
    served.fail(claim, retry_ms=60_000)
    delayed = job.info()

    assert (waiting.state, waiting.position, waiting.attempt, waiting.max_attempts) == (JobState.WAITING, 0, 0, 2)
    assert (running.state, running.phase, running.attempt) == (JobState.ACTIVE, "running", 1)
    assert (running.namespace, running.job_name) == ("analytics", "reports-1")
    assert running.started_at is not None
    assert (delayed.state, delayed.attempt, len(delayed.history)) == (JobState.DELAYED, 1, 1)
    assert delayed.not_before is not None
    last = delayed.history[0]
    assert last.outcome is not None
    assert (last.attempt, last.outcome.cls, last.outcome.message, last.delay_ms) == (
        1,
        "error",
        "ValueError: no such year",
        60_000,
    )


def test_id_is_taken(served: Player, client: Client) -> None:
    """The same id is refused, returned or replaced, as asked; other data under it always raises."""
    queue = client.queue("reports")
    first = queue.enqueue("annual", YEAR, id="annual-2026")

    with pytest.raises(DuplicateJobError, match="annual-2026 exists already and is waiting"):
        queue.enqueue("annual", YEAR, id="annual-2026")
    same = queue.enqueue("annual", YEAR, id="annual-2026", if_exists="return")
    with pytest.raises(DuplicateJobError, match="other data"):
        queue.enqueue("annual", {"year": 2027}, id="annual-2026", if_exists="return")
    served.serve("other")
    with pytest.raises(DuplicateJobError, match="another queue"):
        client.queue("other").enqueue("annual", YEAR, id="annual-2026", if_exists="return")

    assert (first.created, same.created, same.id) == (True, False, first.id)
    assert queue.counts().waiting == 1


def test_retry_failed_enqueues_only_a_failed_job_again(served: Player, client: Client) -> None:
    """``if_exists="retry_failed"`` is a retry for a failed job and a return for any other."""
    queue = client.queue("reports")
    queue.enqueue("annual", YEAR, id="a", if_exists="retry_failed")
    assert not queue.enqueue("annual", YEAR, id="a", if_exists="retry_failed").created
    claim = served.claim()
    assert claim is not None
    served.fail(claim)

    queue.enqueue("annual", YEAR, id="a", if_exists="retry_failed")

    assert client.job("a").info().state is JobState.WAITING


def test_unknown_queue_is_refused_unless_the_client_is_lenient(redis_server: StoreServer) -> None:
    """A typing error in a queue's name is found at enqueue; strict=False accepts the job beforehand."""
    with Client(redis_server.url) as client, pytest.raises(UnknownQueueError, match="no HeavyQueue serves queue 'rep'"):
        client.queue("rep").enqueue("annual", YEAR)
    with Client(redis_server.url, strict=False) as client:
        assert client.queue("rep").enqueue("annual", YEAR).info().state is JobState.WAITING


@dataclass
class _Order:
    year: int
    rows: list[str]


class _Model(BaseModel):
    year: int


@pytest.mark.parametrize("data", [_Order(2026, ["a"]), _Model(year=2026), {"year": 2026}, None])
def test_data_may_be_a_structure(served: Player, client: Client, data: object) -> None:
    """Dataclasses and models become the mapping they describe; no data is an empty mapping."""
    client.queue("reports").enqueue("annual", data)
    claim = served.claim()

    assert claim is not None
    want = {
        _Order: '{"year":2026,"rows":["a"]}',
        _Model: '{"year":2026}',
        dict: '{"year":2026}',
        type(None): "{}",
    }
    assert decode(claim.data).data_json == want[type(data)]


@pytest.mark.parametrize(
    ("task", "data", "options", "error", "want"),
    [
        ("annual", {"a": [float("nan")]}, {}, InvalidPayloadError, "data.a[0] is nan"),
        ("annual", [1], {}, InvalidPayloadError, "data is a list: pass a mapping"),
        ("annual", {"x": "y" * 70_000}, {}, PayloadTooLargeError, "more than the 65,536"),
        ("annual", {"x": "y" * 200_000}, {}, PayloadTooLargeError, "pass a reference"),
        ("an nual", {}, {}, InvalidPayloadError, "task name"),
        ("annual", {}, {"id": "a b"}, heavylift.InvalidJobIdError, "job id"),
        ("annual", {}, {"id": 7}, InvalidInputError, "a job id is text"),
        ("annual", {}, {"if_exists": "maybe"}, InvalidInputError, "if_exists is 'maybe'"),
        ("annual", {}, {"delay": "5 minutes"}, heavylift.InvalidDurationError, "delay: '5 minutes'"),
        ("annual", {}, {"delay": [1]}, heavylift.InvalidDurationError, "delay is [1]"),
        ("annual", {}, {"delay": "721h"}, InvalidInputError, "delay is 721h, more than the 720h that spec.allow.delay"),
        ("annual", {}, {"expires": 0}, InvalidInputError, "expires is 0"),
        ("annual", {}, {"max_attempts": 0}, InvalidInputError, "max_attempts is 0"),
        ("annual", {}, {"max_attempts": 11}, InvalidInputError, "max_attempts is 11, more than the 10"),
        ("annual", {}, {"backoff": "2s"}, InvalidInputError, "Backoff.exponential"),
        ("annual", {}, {"timeouts": Timeouts(run="25h")}, InvalidInputError, "timeouts.run is 25h"),
        ("annual", {}, {"timeouts": Timeouts(heartbeat="5m")}, InvalidInputError, "not available yet"),
        ("annual", {}, {"resources": {"memory": "8Gi"}}, InvalidInputError, "resources.memory is not allowed"),
        ("annual", {}, {"resources": {"memory": "lots"}}, InvalidInputError, "give a quantity"),
        ("annual", {}, {"env": {"LOG_LEVEL": "debug"}}, InvalidInputError, "env.LOG_LEVEL is not allowed"),
        ("annual", {}, {"env": {"HEAVYLIFT_JOB_ID": "x"}}, InvalidInputError, "set by Heavylift itself"),
        ("annual", {}, {"labels": {"team": "bi"}}, InvalidInputError, "labels.team is not allowed"),
        ("annual", {}, {"labels": {"heavylift.dev/job": "x"}}, InvalidInputError, "set by Heavylift itself"),
        (
            "annual",
            {},
            {"priority": -10},
            InvalidInputError,
            "priority is -10, more urgent than the 0 that spec.allow.min",
        ),
        ("annual", {}, {"priority": 1001}, InvalidInputError, "give a whole number from -1000 to 1000"),
        ("annual", {}, {"lifo": 1}, InvalidInputError, "lifo is 1: use True or False"),
        ("annual", {}, {"key": "a\nb"}, InvalidInputError, "give 1 to 200 bytes of printable text"),
        ("annual", {}, {"dedupe": ""}, InvalidInputError, "dedupe: the key is '': give 1 to 200 bytes of printable"),
        ("annual", {}, {"dedupe": 7}, InvalidInputError, "dedupe is 7: give the key as text, or Dedupe"),
        (
            *("annual", {}, {"dedupe": Dedupe("a", mode="debounce", ttl="1m"), "delay": "1m"}),
            *(InvalidInputError, "a debounced job is delayed by the ttl"),
        ),
        (
            *("annual", {}, {"dedupe": Dedupe("a", mode="keep_last"), "depends_on": "x"}),
            *(InvalidInputError, "keep_last cannot be combined with depends_on"),
        ),
        ("annual", {}, {"max_tries": 3}, InvalidInputError, "there is no option 'max_tries'"),
        ("annual", {}, {"depends_on": [7]}, InvalidInputError, "pass jobs or their ids"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(  # noqa: PLR0913, PLR0917 - a table
    served: Player,
    client: Client,
    task: str,
    data: object,
    options: dict[str, object],
    error: type[Exception],
    want: str,
) -> None:
    """What cannot be used is named, and nothing of it reaches Redis."""
    with pytest.raises(error) as refused:
        client.queue("reports").enqueue(task, data, **options)  # type: ignore[arg-type]  # bad on purpose

    assert want in str(refused.value)
    assert client.queue("reports").counts().waiting == 0
    assert served.claim() is None


def test_explicit_options_reach_the_claim(served: Player, client: Client) -> None:
    """What the producer set is stored in the wire's own units, and claim resolves it."""
    allow = {"env": ["LOG_LEVEL"], "labels": ["team"], "resources": {"memory": "8Gi"}}
    served.serve("reports", allow=allow)
    client.queue("reports").enqueue(
        "annual",
        YEAR,
        priority=0,
        max_attempts=3,
        backoff=Backoff.exponential("2s", max="10m", jitter=0.5),
        timeouts=Timeouts(run="30m"),
        resources={"memory": "4Gi"},
        env={"LOG_LEVEL": "debug"},
        labels={"team": "bi"},
    )
    claim = served.claim()

    assert claim is not None
    assert claim.options == {
        "maxAttempts": 3,
        "backoff": {"type": "Exponential", "delay": 2000, "max": 600_000, "jitterPercent": 50},
        "timeouts": {"run": 1_800_000},
        "resources": {"memory": "4Gi"},
        "env": {"LOG_LEVEL": "debug"},
        "labels": {"team": "bi"},
    }
    assert claim.frozen["maxAttempts"] == 3
    assert claim.frozen["timeouts"]["run"] == 1_800_000


def test_delayed_job_is_not_claimed_yet(served: Player, client: Client) -> None:
    """A delay keeps the job back; info says until when."""
    job = client.queue("reports").enqueue("annual", YEAR, delay="1h")

    info = job.info()

    assert info.state is JobState.DELAYED
    assert info.not_before is not None
    assert info.enqueued_at is not None
    assert (info.not_before - info.enqueued_at).total_seconds() == pytest.approx(3600, abs=1)
    assert served.claim() is None


def test_dependent_waits_for_its_dependency(served: Player, client: Client) -> None:
    """``depends_on`` takes jobs or ids; the dependent runs after its dependency completed."""
    queue = client.queue("reports")
    first: Job[object] = queue.enqueue("extract", YEAR)
    second = queue.enqueue("load", YEAR, depends_on=[first])

    assert second.info().state is JobState.WAITING_CHILDREN
    assert second.info().depends_on == (first.id,)
    served.run_one()
    claim = served.claim()

    assert claim is not None
    assert claim.job == second.id


def test_batch_keeps_order_and_names_what_it_refuses(served: Player, client: Client) -> None:
    """Accepted entries are enqueued in order; refused ones are named by index and keep nobody out."""
    queue = client.queue("reports")
    requests = [JobRequest("annual", {"year": year}, id=f"y{year}") for year in range(1990, 1996)]
    requests[2] = JobRequest("annual", {"year": float("nan")})
    requests[4] = JobRequest("annual", {"year": 1}, id="y1990")

    with pytest.raises(BatchError) as refused:
        queue.enqueue_many(requests)

    messages = sorted(str(error) for error in refused.value.exceptions)
    assert messages[0].startswith("entry 2: data.year is nan")
    assert messages[1].startswith("entry 4: job y1990 exists already")
    assert [job.id for job in refused.value.jobs] == ["y1990", "y1991", "y1993", "y1995"]
    assert [info.id for info in queue.jobs("waiting")] == ["y1990", "y1991", "y1993", "y1995"]
    assert served.claim() is not None


def test_large_batch_goes_in_whole(served: Player, client: Client) -> None:
    """More entries than one call takes are split and all accepted."""
    queue = client.queue("reports")

    jobs = queue.enqueue_many([JobRequest("annual", {"year": year}) for year in range(2500)])

    assert len({job.id for job in jobs}) == 2500
    assert queue.counts().waiting == 2500
    claim = served.claim()
    assert claim is not None
    assert claim.job == jobs[0].id


def test_jobs_are_listed_by_state_and_label(served: Player, client: Client) -> None:
    """Jobs of one state, with these labels, at most so many."""
    served.serve("reports", allow={"labels": ["team"]})
    queue = client.queue("reports")
    queue.enqueue_many([JobRequest("annual", {"i": i}, id=f"j{i}", labels={"team": "ab"[i % 2]}) for i in range(250)])

    assert [info.id for info in queue.jobs("waiting", limit=3)] == ["j0", "j1", "j2"]
    assert len(queue.jobs("waiting", labels={"team": "b"}, limit=1000)) == 125
    assert queue.jobs("failed") == []
    with pytest.raises(InvalidInputError, match="there is no state 'broken'"):
        queue.jobs("broken")


def test_pause_stops_claims_until_resume(served: Player, client: Client) -> None:
    """A paused queue accepts jobs and starts none."""
    queue = client.queue("reports")
    queue.pause(reason="upgrade")
    queue.enqueue("annual", YEAR)

    assert served.claim() is None
    queue.resume()
    assert served.claim() is not None


def test_events_tell_the_jobs_story(served: Player, client: Client) -> None:
    """A job's events come in order and end with its end; the queue's can be followed from an id."""
    queue = client.queue("reports")
    job = queue.enqueue("annual", YEAR)
    queue.enqueue("annual", YEAR)
    served.run_one()

    names = [event.name for event in job.events()]
    every = list(queue.events(follow=False))

    assert names[0] == "added"
    assert names[-1] == "completed"
    assert names.index("active") < names.index("running") < names.index("completed")
    assert len(every) > len(names)
    assert [event.id for event in queue.events(after=every[2].id, follow=False)] == [event.id for event in every[3:]]


def test_existing_redis_client_is_used_and_left_open(served: Player, redis_server: StoreServer) -> None:
    """A given redis.Redis stays its owner's to close; one that decodes is refused with the remedy."""
    del served
    own = redis_server.client()
    with Client(redis=own) as client:
        client.queue("reports").enqueue("annual", YEAR)

    assert own.ping()
    own.close()
    with pytest.raises(heavylift.ConfigurationError, match="decode_responses=False"):
        Client(redis=redis.Redis(port=redis_server.port, decode_responses=True))


def test_no_redis_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without URL and variable, the error says how to name one."""
    monkeypatch.delenv("HEAVYLIFT_REDIS_URL", raising=False)

    with pytest.raises(heavylift.ConfigurationError, match="set HEAVYLIFT_REDIS_URL"):
        Client()


def test_redis_is_down() -> None:
    """Nothing listens: the error says what to check."""
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(RedisUnavailableError, match="cannot be reached"):
        client.queue("reports").enqueue("annual", YEAR)


def test_plain_rq_jobs_are_seen_and_steered_too(served: Player, client: Client, redis_server: StoreServer) -> None:
    """A job that RQ's own client enqueued is listed, cancelled and waited for like any other."""
    with redis_server.client() as connection:
        queue = Queue("reports", connection=connection, serializer=JSONSerializer)
        first, second = queue.enqueue("myapp.build", 2026), queue.enqueue("myapp.build", 2027)
    served.run_one('"built"')

    done, waiting = client.job(first.id), client.job(second.id)

    assert done.wait(timeout=5) == "built"
    assert done.info().task == "myapp.build"
    assert [info.id for info in client.queue("reports").jobs("waiting")] == [second.id]
    assert waiting.cancel()
    assert served.claim() is None
