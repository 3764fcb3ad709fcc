"""Every field of a job's hash with every evil value: each operation answers, and what becomes of the job is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import Claim, Fence, FinishRequest, Next, Verdict, ops
from tests.integration.hostile.corpus import FIELDS, Evil, of_field
from tests.integration.store.hostilekit import (
    STEPS,
    all_claims,
    carried,
    ids_of,
    planned,
    reads,
    shown,
    side_by_side,
    tidying,
    told,
)
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World, outcome, request, world
from tests.servers import StoreServer

GROUPS = 8
OF_PEOPLE = ("ended", "retry by a person", "change by a person")
"""Steps that begin with a look as others do: enough where they mean something."""
Jobs = Mapping[str, Evil]
"""Job id -> what is wrong with it."""


@pytest.fixture(params=range(GROUPS))
def part(request: pytest.FixtureRequest) -> int:
    """Give the number of a part of all cases; together they are all."""
    return int(request.param)


@pytest.fixture
def w(part: int, request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a world on the one store or the other."""
    server: StoreServer = request.getfixturevalue("valkey_server" if part % 2 else "redis_server")
    with world(server) as made:
        yield made


@pytest.fixture
def jobs(part: int) -> Jobs:
    """Give the cases of a part."""
    mine = [evil for field in FIELDS[part::GROUPS] for evil in of_field(field)]
    return {f"evil-{number}": evil for number, evil in enumerate(mine)}


def _enqueue(w: World, jobs: Jobs) -> None:
    w.run(ops.enqueue_many([request(id=job, options={"dedupe": {"id": job, "mode": "first"}}) for job in jobs]))


def _poison(w: World, jobs: Jobs) -> None:
    with w.redis.pipeline(transaction=False) as pipeline:
        for job, evil in jobs.items():
            pipeline.hset(f"rq:job:{job}", evil.field, evil.value)
        pipeline.execute()


def _look(w: World, jobs: Jobs) -> None:
    """Have everybody look at the jobs, and at their queue."""
    found = side_by_side(w, {f"get_job: {job}: {evil}": ops.get_job(job, position=True) for job, evil in jobs.items()})
    for what, record in found.items():
        shown(what, record)
        planned(what, record)
    side_by_side(w, dict(reads()))


def _healthy(w: World) -> None:
    """Assert that a job enqueued now has its whole life."""
    good = w.enqueue().id
    for claim in all_claims(w):
        if claim.job == good:
            w.record(claim)
            assert w.finish(claim, result="1").verdict is Verdict.APPLIED
    assert w.job(good).state is JobState.COMPLETED


def test_an_active_job(w: World, jobs: Jobs) -> None:
    """Whatever stands in a field of a job that runs, each operation on it answers, and healthy jobs go on."""
    _enqueue(w, jobs)
    executions = {claim.job: claim.execution for claim in all_claims(w)}
    assert executions.keys() == jobs.keys()
    _poison(w, jobs)
    _look(w, jobs)
    for claim in w.run(ops.own_claims(INSTALL, WORKER)):
        carried(f"own_claims: {jobs[claim.job]}", claim)
    for name, step in STEPS.items():
        if name in OF_PEOPLE:
            continue
        steps = {f"{name}: {job}: {evil}": step(job, executions[job]) for job, evil in jobs.items()}
        side_by_side(w, steps, corrupt=True)
    side_by_side(w, dict(tidying()))
    _healthy(w)


def test_a_waiting_job(w: World, jobs: Jobs) -> None:
    """It is claimed and runs or ends as invalid, or it ends at once, is quarantined or dropped, with a message."""
    _enqueue(w, jobs)
    good = {w.enqueue(id=f"good-{number}", options={"priority": number % 2}).id for number in range(10)}
    _poison(w, jobs)
    _look(w, jobs)
    claims = {claim.job: claim for claim in all_claims(w)}
    assert good <= claims.keys()
    fates = _Fates(w)
    for job, evil in jobs.items():
        assert fates.told_of(job, claims.get(job), evil), f"nothing is told of {job}: {evil}"
    assert w.redis.llen(f"rq:queue:{QUEUE}") == 0
    counters = w.run(ops.counters(QUEUE))
    assert counters.get("quarantined", 0) == len(fates.quarantined)
    assert counters.get("dropped", 0) == sum(event.name == "dropped" for event in w.events())
    _look(w, jobs)
    side_by_side(w, dict(tidying()))
    _healthy(w)


class _Fates:
    """What became of jobs that waited."""

    def __init__(self, w: World) -> None:
        self._w = w
        self.quarantined = {note["id"]: note["message"] for note in w.run(ops.quarantine(QUEUE, 1000))}
        self.dropped = {event.job: event.fields["reason"] for event in w.events() if event.name == "dropped"}

    def told_of(self, job: str, claim: Claim | None, evil: Evil) -> bool:
        """Whether one of the ways out was taken and said; a claim is carried on and finished."""
        if claim is not None:
            why = carried(str(evil), claim)
            return self._finished(claim, why)
        if job in self.quarantined:
            return bool(self.quarantined[job])
        if job in self.dropped:
            return bool(self.dropped[job])
        record = self._w.job(job)
        ends = {OutcomeClass.INVALID.value, OutcomeClass.TIMEOUT.value}
        return record.state is JobState.FAILED and record.outcome["class"] in ends and bool(record.outcome["message"])

    def _finished(self, claim: Claim, why: str) -> bool:
        cls, next_ = (OutcomeClass.INVALID, Next.FAIL) if why else (OutcomeClass.SUCCEEDED, Next.COMPLETE)
        fence = Fence(job=claim.job, execution=claim.execution, worker=WORKER)
        done = self._w.run(ops.finish(FinishRequest(fence=fence, outcome=outcome(cls, why or "done"), next=next_)))
        stored = self._w.job(claim.job).outcome
        return done.verdict is Verdict.APPLIED and stored["class"] == cls.value and bool(stored["message"])


def test_an_ended_job(w: World, jobs: Jobs) -> None:
    """Whatever stands in a field of a failed job, it is shown, found, retried, trimmed and purged, and others go on."""
    _enqueue(w, jobs)
    claims = all_claims(w)
    assert ids_of(claims) == jobs.keys()
    ends: dict[str, Any] = {
        claim.job: ops.finish(
            FinishRequest(
                fence=Fence(job=claim.job, execution=claim.execution),
                outcome=outcome(OutcomeClass.ERROR),
                next=Next.FAIL,
                job_exists=False,
            )
        )
        for claim in claims
    }
    side_by_side(w, ends)
    _poison(w, jobs)
    _look(w, jobs)
    for name in (*OF_PEOPLE, "retry", "cancel", "enqueue retry"):
        steps = {f"{name}: {job}: {evil}": STEPS[name](job, "") for job, evil in jobs.items()}
        side_by_side(w, steps, corrupt=True)
    side_by_side(w, dict(tidying()))
    for state in (JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED, JobState.DELAYED, JobState.WAITING_CHILDREN):
        w.run(told(f"purge {state}", ops.purge(QUEUE, state, 10_000)))
    _healthy(w)
