"""Operations are generators: driven here step by step, with the answers of a Redis that misbehaves."""

from __future__ import annotations

import json
from collections import UserDict
from typing import Any

import pytest
from typing_extensions import override

from heavylift import (
    BatchError,
    DuplicateJobError,
    HeavyliftError,
    InvalidInputError,
    JobRequest,
    StoreCorruptError,
    operations,
)
from heavylift.batches import Batch, enqueue_many
from heavylift.contract.states import JobState
from heavylift.errors import RedisUnavailableError
from heavylift.store.model import Enqueued
from heavylift.store.steps import Call, Op, in_steps


def drive(op: Op[Any], *answers: Any) -> Any:
    """Run an operation with these answers; an exception among them is raised at its step."""
    step = next(op)
    try:
        for answer in answers:
            step = op.throw(answer) if isinstance(answer, Exception) else op.send(answer)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"it asks for more: {step}")


def accepted(count: int) -> list[bytes]:
    """Return the script's rows for jobs that were accepted."""
    return [b"waiting"] * count


def test_batch_that_redis_leaves_half_way_names_what_is_not_confirmed() -> None:
    """What was accepted is kept; the rest is named as unconfirmed, not as refused."""
    requests = [JobRequest("annual", {"year": year}) for year in range(250)]
    settings = json.dumps({}).encode()

    batch = drive(
        in_steps(enqueue_many("reports", requests, strict=True)),
        settings,
        accepted(60),
        accepted(60),
        RedisUnavailableError("gone"),
    )

    assert isinstance(batch, Batch)
    assert len(batch.accepted) == 120
    refused = batch.refused(batch.accepted)
    assert refused is not None
    assert [str(error) for error in refused.exceptions] == ["entries 120 to 249 are not confirmed: gone"]
    assert refused.message == "of the jobs 130 not confirmed, 120 enqueued"


def test_bad_entries_are_refused_before_redis_is_asked_to_store_them() -> None:
    """Only the good entry is in the call."""
    op = in_steps(enqueue_many("reports", [JobRequest("annual", {"x": {1}}), JobRequest("fine")], strict=True))
    next(op)
    step = op.send(b"{}")

    assert isinstance(step, Call)
    header, *_ = step.args
    assert (step.script, str(header).splitlines()[2], len(step.args)) == ("enqueue", "fine", 2)


class Lazy(UserDict[str, int]):
    """Data that is looked up when it is asked for."""

    @override
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no connection to the database")


def test_data_that_cannot_be_read_costs_no_other_entry() -> None:
    """Parts before it are enqueued by then: whoever asked gets their handles, and what was raised with its place."""
    requests = [JobRequest("annual", {"n": n}) for n in range(119)]
    requests[100] = JobRequest("annual", Lazy(n=1))
    batch = drive(in_steps(enqueue_many("reports", requests, strict=True)), b"{}", accepted(60), accepted(58))
    assert isinstance(batch, Batch)
    assert len(batch.accepted) == 118
    ((place, error),) = batch.errors
    assert (place, str(error)) == (100, "entry 100: reading it failed: RuntimeError: no connection to the database")
    assert (type(error), type(error.__cause__)) == (InvalidInputError, RuntimeError)


def test_an_entry_is_judged_by_its_own_words() -> None:
    """What equals a neighbour's value is not the same: true is no number of processors."""
    requests = [JobRequest("annual", resources={"cpu": cpu}) for cpu in (1, True, 1)]
    batch = drive(in_steps(enqueue_many("reports", requests, strict=True)), b"{}", accepted(2))
    assert isinstance(batch, Batch)
    assert [str(error) for _, error in batch.errors] == [
        "entry 1: resources: cpu is True: give a quantity such as 500m, 2 or 4Gi"
    ]


@pytest.mark.parametrize(
    ("error", "want"),
    [
        ("exists", DuplicateJobError),
        ("conflict", DuplicateJobError),
        ("unknown-queue", HeavyliftError),
        ("corrupt", StoreCorruptError),
        ("something new", InvalidInputError),
    ],
)
def test_every_refusal_is_an_error(error: str, want: type[Exception]) -> None:
    """Whatever the script refuses, the producer hears of it; nothing is taken for accepted."""
    made = Enqueued(id="j", created=False, state=JobState.WAITING, error=error, message="words")

    assert isinstance(operations.refusal(made, "reports"), want)


def test_batch_error_keeps_its_jobs_when_split() -> None:
    """``except*`` and ``split`` make new groups; they still know the accepted jobs."""
    batch = Batch(errors=[(0, DuplicateJobError("a")), (1, InvalidInputError("b"))])
    error = batch.refused(["job"])

    assert error is not None
    duplicates = error.subgroup(DuplicateJobError)
    assert duplicates is not None
    assert isinstance(duplicates, BatchError)
    assert duplicates.jobs == ("job",)
