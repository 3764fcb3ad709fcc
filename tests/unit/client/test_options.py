"""Options, allowances and waits: pure parts of the client."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue

from heavylift import (
    Backoff,
    Client,
    ConfigurationError,
    Dedupe,
    InvalidDurationError,
    InvalidInputError,
    JobRequest,
    Timeouts,
    WaitTimeoutError,
)
from heavylift.administration import BulkRetry, Filter, jobs, retry
from heavylift.allowed import check_allowed, payload_limit
from heavylift.errors import RedisUnavailableError
from heavylift.jobs import Attempt, moment
from heavylift.operations import OUTAGE_S, POLL_S, Patience
from heavylift.options import EnqueueOptions, check_env, check_labels, check_resources, stored_options
from heavylift.requests import draft
from heavylift.schedules import define


def test_backoff_is_stored_in_the_wires_units() -> None:
    """Durations become ms, the jitter a percentage, what was left out stays out."""
    assert Backoff.exponential("2s", max=timedelta(minutes=10), jitter=0.25).to_json() == {
        "type": "Exponential",
        "delay": 2000,
        "max": 600_000,
        "jitterPercent": 25,
    }
    assert Backoff.fixed(3).to_json() == {"type": "Fixed", "delay": 3000, "jitterPercent": 0}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"delay": "2 s"}, InvalidDurationError),
        ({"delay": None}, InvalidDurationError),
        ({"delay": "2s", "max": "1s"}, InvalidInputError),
        ({"delay": "2s", "jitter": 1.5}, InvalidInputError),
        ({"delay": "2s", "jitter": float("nan")}, InvalidInputError),
        ({"delay": "2s", "jitter": True}, InvalidInputError),
    ],
)
def test_bad_backoff(arguments: dict[str, Any], error: type[Exception]) -> None:
    """What is no backoff is refused where it is made."""
    with pytest.raises(error):
        Backoff.exponential(**arguments)


def test_timeouts_are_checked_where_they_are_made() -> None:
    """A wrong or zero timeout never waits for its enqueue."""
    assert Timeouts(run="1h30m", pending=5).to_json() == {"pending": 5000, "run": 5_400_000}
    with pytest.raises(InvalidDurationError, match="timeouts run"):
        Timeouts(run="1 hour")
    with pytest.raises(InvalidInputError, match="run is 0"):
        Timeouts(run=0)


@pytest.mark.parametrize(
    ("check", "value", "want"),
    [
        (check_resources, "4Gi", "resources is not a mapping"),
        (check_resources, {"memory": True}, "give a quantity"),
        (check_resources, {"memory": "4GiB"}, "give a quantity"),
        (check_resources, {"": "1"}, "no resource name"),
        (check_env, {"1A": "x"}, "no variable name"),
        (check_env, {"A": 1}, "must be text"),
        (check_env, {"A": "x\0"}, "must be text"),
        (check_env, {f"A{i}": "" for i in range(65)}, "more than 64"),
        (check_labels, {"a b": "x"}, "no label key"),
        (check_labels, {"team": "x" * 64}, "at most 63"),
        (check_labels, {1: "x"}, "text keys"),
    ],
)
def test_bad_mappings_name_their_entry(check: Any, value: object, want: str) -> None:
    """The first bad entry is named, with the form it should have."""
    with pytest.raises(InvalidInputError, match=want):
        check(value)


def test_good_mappings_are_kept() -> None:
    """Numbers become quantities; empty options are not stored at all."""
    assert check_resources({"cpu": 2, "memory": "1.5Gi", "nvidia.com/gpu": "1"}) == {
        "cpu": "2",
        "memory": "1.5Gi",
        "nvidia.com/gpu": "1",
    }
    assert stored_options({"env": {}, "labels": {}, "resources": {}, "lifo": False, "timeouts": Timeouts()}) == {}


def test_settings_that_are_missing_or_odd_decide_nothing() -> None:
    """Without settings the built-in limits hold; hostile ones raise nothing."""
    check_allowed({"maxAttempts": 50}, 10**9, None)
    check_allowed({"maxAttempts": 50}, 0, {"allow": "all", "defaults": 3, "timeouts": None})
    assert payload_limit(None) == 65_536
    assert payload_limit({"payload": {"maxSize": 1024}}) == 1024
    assert payload_limit({"payload": {"maxSize": 10**9}}) == 102_400
    assert payload_limit({"payload": {"maxSize": "1Ki"}}) == 65_536


def test_queues_own_values_are_always_allowed() -> None:
    """What the queue does by default may be asked for, whatever ``allow`` says."""
    settings = {
        "allow": {"maxAttempts": 2, "runTimeout": 1000, "resources": {"memory": "4Gi"}},
        "defaults": {"maxAttempts": 5},
        "timeouts": {"run": 60_000, "pending": 1000},
    }
    check_allowed({"maxAttempts": 5, "timeouts": {"run": 60_000}, "resources": {"memory": "4096Mi"}}, 0, settings)

    for options, want in (
        ({"maxAttempts": 6}, "more than the 5"),
        ({"timeouts": {"run": 60_001}}, "more than the 1m"),
        ({"timeouts": {"pending": 2000}}, "more than the 1s"),
        ({"resources": {"memory": "4097Mi"}}, "more than the 4Gi"),
        ({"resources": {"cpu": "1"}}, "resources.cpu is not allowed"),
    ):
        with pytest.raises(InvalidInputError, match=want):
            check_allowed(options, 0, settings)


def test_patience_ends_at_its_deadline() -> None:
    """A wait listens in short turns and ends when its time is over."""
    patience = Patience.until("j", "2500ms", now=100.0)

    assert patience.pause(100.0) == POLL_S
    assert patience.pause(102.0) == pytest.approx(0.5)
    with pytest.raises(WaitTimeoutError):
        patience.pause(102.5)
    assert Patience.until("j", None, now=0).pause(10**9) == POLL_S


def test_patience_gives_up_on_a_redis_that_stays_away() -> None:
    """An outage is sat out for a minute, counted anew after each answer."""
    gone = RedisUnavailableError("gone")
    patience = Patience.until("j", None, now=0)

    assert patience.after_outage(gone, 10.0) == POLL_S
    assert patience.after_outage(gone, 10.0 + OUTAGE_S) == POLL_S
    with pytest.raises(RedisUnavailableError):
        patience.after_outage(gone, 10.1 + OUTAGE_S)
    patience.pause(80.0)
    assert patience.after_outage(gone, 100.0) == POLL_S


def test_history_of_odd_bytes_is_still_readable() -> None:
    """Entries from Redis are hostile: what is missing or odd becomes empty, nothing raises."""
    odd = {"seq": "x", "attempt": 2.0, "execution": 7, "class": 7, "startedAt": 10**30, "endedAt": None, "evidence": []}
    read = Attempt.read(odd)

    assert (read.seq, read.attempt, read.started_at, read.ended_at) == (0, 2, None, None)
    assert read.outcome is not None
    assert (read.outcome.cls, read.outcome.evidence) == ("7", {})
    assert moment(-(10**20)) is None


def test_an_option_of_rq_names_ours() -> None:
    """Whatever RQ's ``enqueue`` takes and ours does not: the error says what says the same here."""
    rqs = {*inspect.signature(Queue.enqueue_call).parameters, "job_timeout"}
    for name in sorted(rqs - {"self", "func", *EnqueueOptions.__annotations__}):
        with pytest.raises(InvalidInputError, match=f"^{name} is an option of RQ: here it is ") as told:
            stored_options({name: 1})
        used = set(re.findall(r"([a-z_]+)=", str(told.value).partition(";")[0])) - {"run", "every"}
        assert used <= set(EnqueueOptions.__annotations__)


@pytest.mark.parametrize(
    ("name", "system", "ours"),
    [
        ("attempts", "BullMQ", "max_attempts="),
        ("jobId", "BullMQ", "id="),
        ("countdown", "Celery", "delay="),
        ("max_retries", "Celery", "max_attempts= "),
        ("unique_for", "Sidekiq", "dedupe="),
    ],
)
def test_an_option_of_another_queue_names_ours(name: str, system: str, ours: str) -> None:
    """Those who come from elsewhere are told what it is called here."""
    with pytest.raises(InvalidInputError, match=f"^{name} is an option of {system}: here it is {ours}"):
        draft("annual", {}, {name: 1})


def test_an_unknown_option_names_all_there_are() -> None:
    """Of an enqueue, of a retry, of a schedule: what may be given there, and nothing else."""
    with pytest.raises(InvalidInputError) as told:
        draft("annual", {}, {"dely": 1})
    assert (
        str(told.value) == f"there is no option 'dely'; options are {', '.join(sorted(EnqueueOptions.__annotations__))}"
    )
    with pytest.raises(InvalidInputError, match=r"priority, resources, timeouts$"):
        next(retry("j", "ann", {"dely": 1}))
    with pytest.raises(InvalidInputError, match=r"^tz is an option of BullMQ: here it is timezone= ") as told:
        define("reports", "annual", {}, {"cron": "@daily", "tz": "UTC"})
    assert "cron, delay, end" in str(told.value)
    assert "dedupe" not in str(told.value)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "2h", "expires": "1h"},
        {"delay": "1h", "expires": "1h"},
        {"dedupe": Dedupe("k", mode="debounce", ttl="2h"), "expires": "1h"},
    ],
    ids=str,
)
def test_what_would_expire_before_it_may_start_is_refused(options: dict[str, Any]) -> None:
    """Such a job could never start: whoever asks for it is told so, at the enqueue and of a schedule's jobs."""
    with pytest.raises(InvalidInputError, match=r"^expires is 1h, but the job may start only [12]h from now"):
        draft("annual", {}, options)
    if "dedupe" not in options:
        with pytest.raises(InvalidInputError, match=r"^expires is 1h"):
            define("reports", "annual", {}, {"every": "1h", **options})
    assert draft("annual", {}, {**options, "expires": "2h1ms"}).expires_ms == 7_200_001


@pytest.mark.parametrize("limit", [0, -1, "9", True, 1.5])
def test_a_limit_is_a_whole_number_of_one_or_more(limit: Any) -> None:
    """A negative one must not mean all but the last ones, to a listing or to a bulk retry."""
    bulk = BulkRetry(queue="reports", wanted=Filter(), changes={}, limit=limit)
    for act in (jobs("reports", Filter(), limit), bulk.run("ann")):
        with pytest.raises(InvalidInputError, match=r"^limit is .*: give a whole number of 1 or more"):
            next(act)


def test_a_client_given_as_the_url_is_told_apart() -> None:
    """The first argument is text; a client of redis-py goes by name."""
    with pytest.raises(ConfigurationError, match=r"the URL is a Redis: .* existing client as redis="):
        Client(redis.Redis())  # type: ignore[arg-type]  # that is the mistake


def test_job_request_shows_what_it_is() -> None:
    """A request prints as it was written."""
    assert repr(JobRequest("annual", {"year": 1}, id="a")) == "JobRequest('annual', {'year': 1}, id='a')"
