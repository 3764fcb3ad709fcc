"""The store's pure parts: merging, bounding, telling faults apart, patience."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import RedisUnavailableError, StoreCorruptError
from heavylift.store import bodies, decode
from heavylift.store.faults import Patience, transient, translate
from heavylift.store.merge import merge, without_marker
from heavylift.store.model import Outcome

_TEXT = st.text(max_size=5)
_EVIDENCE = st.dictionaries(
    st.sampled_from(["pod", "job", "stop"]), st.dictionaries(_TEXT, _TEXT | st.integers(), max_size=3), max_size=3
)


@given(end=_EVIDENCE, later=st.lists(_EVIDENCE, max_size=4))
def test_an_end_survives_all_later_sightings(end: dict[str, Any], later: list[dict[str, Any]]) -> None:
    """What a terminal observation wrote is what remains, whatever others see afterwards."""
    found = merge({}, end, terminal=True)
    for seen in later:
        found = merge(found, seen, terminal=False)
    assert {key: without_marker(found)[key] for key in end} == end


@given(first=_EVIDENCE, second=_EVIDENCE, terminal=st.booleans())
def test_merging_twice_is_merging_once(first: dict[str, Any], second: dict[str, Any], terminal: bool) -> None:
    """Seeing the same again changes nothing."""
    once = merge(merge({}, first, terminal=False), second, terminal=terminal)
    assert merge(once, second, terminal=terminal) == once


@given(st.dictionaries(_TEXT, st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=10)))
def test_bounded_keeps_its_limit(value: dict[str, Any]) -> None:
    """Whatever comes in, at most the limit comes out, as JSON in one line."""
    text = bodies.compact(bodies.bounded(value, 200))
    assert len(text) <= 200
    assert "\n" not in text
    json.loads(text)


def test_bounded_cuts_the_longest_first() -> None:
    """Short parts stay whole."""
    found = bodies.bounded({"log": "x" * 100_000, "exit": 3, "words": ["short", {"a": "b"}]}, 1000)
    assert (found["exit"], found["words"]) == (3, ["short", {"a": "b"}])
    assert 100 < len(found["log"]) < 1000


def test_exception_text_is_rqs() -> None:
    """RQ's tools inflate it to class and message."""
    text = bodies.exception_text(Outcome(cls=OutcomeClass.OOM, message="é \ud800"))
    assert zlib.decompress(base64.b64decode(text)).decode().startswith("oom: é")


@pytest.mark.parametrize(
    ("error", "again", "words"),
    [
        (redis_errors.ConnectionError("Error 111 connecting"), True, "cannot be reached"),
        (redis_errors.TimeoutError("Timeout reading"), True, "in time"),
        (redis_errors.BusyLoadingError("Redis is loading"), True, "loading"),
        (redis_errors.ReadOnlyError("You can't write"), True, "read-only"),
        (redis_errors.MasterDownError("Link with MASTER"), True, "primary"),
        (redis_errors.ResponseError("BUSY Redis is busy"), True, "busy"),
        (redis_errors.AuthenticationError("invalid username-password pair"), False, "credentials"),
        (redis_errors.NoPermissionError("this user"), False, "ACL"),
        (redis_errors.OutOfMemoryError("command not allowed"), False, "out of memory"),
        (redis_errors.ResponseError("MISCONF Redis is configured to save"), False, "save to disk"),
        (redis_errors.ResponseError("ERR something else"), False, "something else"),
        (ConnectionResetError("reset"), True, "cannot be reached"),
    ],
)
def test_faults_are_told_apart(error: Exception, again: bool, words: str) -> None:
    """Each kind of fault has its own sentence, and only passing ones are tried again."""
    assert transient(error) is again
    told = translate(error, "h:1/0")
    assert isinstance(told, RedisUnavailableError)
    assert words in str(told)
    assert "h:1/0" in str(told)


def test_wrong_type_is_corruption() -> None:
    """A key of the wrong type is not "Redis is unavailable"."""
    assert isinstance(translate(redis_errors.ResponseError("WRONGTYPE Operation against"), "h"), StoreCorruptError)


def test_patience_waits_longer_and_ends() -> None:
    """Waits grow with jitter up to a second; the sum stays within the limit; a final fault is not waited for."""
    patience, now, waits = Patience(5.0, random.Random(1)), 100.0, []
    while (wait := patience.wait(redis_errors.ConnectionError("x"), now)) is not None:
        waits.append(wait)
        now += wait
    assert 4.0 <= sum(waits) <= 5.0
    assert max(waits) <= 1.0
    assert waits[0] <= 0.05
    assert Patience(5.0).wait(redis_errors.AuthenticationError("x"), 0.0) is None
    assert Patience(0.0).wait(redis_errors.ConnectionError("x"), 0.0) is None


@given(
    st.dictionaries(st.sampled_from(["status", "origin", "hl:seq", "hl:history", "hl:frozen", "hl:due"]), st.binary())
)
def test_any_bytes_make_a_record(fields: dict[str, bytes]) -> None:
    """A job's hash of any bytes is decoded to a value, never an error."""
    record = decode.record("j", fields)
    assert isinstance(record.state, JobState)
    assert all(isinstance(entry, dict) for entry in record.history)


def test_a_row_of_another_version_is_not_a_claim() -> None:
    """A claim of another shape is refused rather than misread."""
    with pytest.raises(ValueError, match="not a claim"):
        decode.claims([[1, 2]], install="i", worker="w")


def test_rqs_times_are_whole_milliseconds_never_ahead() -> None:
    """Cut like the scripts' clock: a job is never enqueued after it was claimed in the same millisecond."""
    assert decode.rq_time(b"1970-01-01T00:00:01.000999Z") == 1000
    assert decode.rq_time("9999-12-31T23:59:59.999999Z") == 253_402_300_799_999
    assert decode.rq_time("yesterday") is None
