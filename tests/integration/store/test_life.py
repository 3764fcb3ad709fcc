"""A job's life, step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from heavylift.contract import payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import InvalidInputError
from heavylift.store import Fence, Next, Observation, Outcome, Spend, Verdict, ops
from heavylift.store.model import Change
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, name_of, request


def test_success_from_enqueue_to_result(w: World) -> None:
    """A job goes waiting, active, completed; its result is read by us and nothing of it stays in flight."""
    job = w.enqueue(value={"year": 1999}, options={"maxAttempts": 3}).id
    assert w.job(job).state is JobState.WAITING
    claim = w.claim()
    assert (claim.job, claim.seq, claim.attempt, claim.namespace, claim.worker) == (job, 1, 1, NAMESPACE, WORKER)
    assert payload.decode(claim.data).data_json == '{"year":1999}'
    assert claim.frozen["maxAttempts"] == 3
    assert claim.deadline - claim.claimed_at == 60_000
    w.record(claim)
    assert w.job(job).phase is Phase.PENDING
    begun, over = claim.claimed_at + 1000, claim.claimed_at + 2000
    done = w.finish(claim, result='{"pages": 12, "empty": [], "none": {}}', started_at=begun, ended_at=over)
    assert (done.verdict, done.state) == (Verdict.APPLIED, JobState.COMPLETED)
    record = w.job(job)
    assert record.result == '{"pages": 12, "empty": [], "none": {}}'
    assert (record.attempts_made, record.starts, record.execution, record.phase) == (1, 1, "", None)
    assert record.outcome["class"] == "succeeded"
    assert record.history[0]["execution"] == claim.execution
    assert (record.history[0]["startedAt"], record.history[0]["endedAt"]) == (begun, over)
    assert w.idle()
    assert w.names(job) == ["added", "active", "recorded", "completed"]
    assert w.finals(job) == ["completed"]


def test_nothing_ends_before_it_started(w: World) -> None:
    """Kubernetes cuts its times to whole seconds, and a node's clock may be slow: the claim came first all the same."""
    claim = w.active()
    w.finish(claim, started_at=claim.claimed_at - 900, ended_at=claim.claimed_at - 100)
    entry = w.job(claim.job).history[0]
    assert (entry["startedAt"], entry["endedAt"]) == (claim.claimed_at, claim.claimed_at)
    fetched = Job.fetch(claim.job, connection=w.redis, serializer=JSONSerializer)
    assert fetched.started_at is not None
    assert fetched.ended_at is not None
    assert fetched.started_at <= fetched.ended_at


def test_first_in_first_out(w: World) -> None:
    """Jobs are claimed in the order they came, over several calls."""
    jobs = [w.enqueue().id for _ in range(45)]
    got: list[str] = []
    while len(got) < 45:
        got += [claim.job for claim in w.ask(max=7).claims]
    assert got == jobs


def test_claim_takes_at_most_twenty(w: World) -> None:
    """One call returns no more than the bound, whatever is asked."""
    for _ in range(25):
        w.enqueue()
    assert len(w.ask(max=1000).claims) == 20


def test_claim_is_bounded_in_bytes(w: World) -> None:
    """One call returns about 256 KiB at most, and the rest next time, in order."""
    jobs = [w.enqueue(value={"x": str(i) * 50, "y": _noise(i, 45_000)}).id for i in range(12)]
    first = w.ask()
    assert 0 < len(first.claims) < 12
    assert sum(len(claim.data) for claim in first.claims) <= 256 * 1024
    rest = [claim.job for claim in (*w.ask().claims, *w.ask().claims)]
    assert [claim.job for claim in first.claims] + rest == jobs


def _noise(seed: int, size: int) -> str:
    import hashlib  # noqa: PLC0415 - only to make text that does not compress

    return "".join(hashlib.sha256(f"{seed}-{i}".encode()).hexdigest() for i in range(size // 64))


def test_retry_with_delay_spends_an_attempt(w: World) -> None:
    """A retried job waits its delay, comes back with the next seq and attempt, and keeps its history."""
    claim = w.active(options={"maxAttempts": 3})
    done = w.finish(claim, Next.RETRY, delay_ms=40, message="exit 3")
    assert done.state is JobState.DELAYED
    record = w.job(claim.job)
    assert record.due is not None
    assert w.idle()
    again = _claim_when_due(w)
    assert (again.seq, again.attempt, again.execution) == (2, 2, f"{claim.incarnation}-2")
    w.record(again)
    w.finish(again, Next.RETRY, delay_ms=0)
    third = w.claim()
    assert (third.seq, third.attempt) == (3, 3)
    w.finish(third, Next.FAIL, message="exit 3, the last")
    record = w.job(claim.job)
    assert [(entry["seq"], entry["attempt"], entry["next"]) for entry in record.history] == [
        (1, 1, "retry"),
        (2, 2, "retry"),
        (3, 3, "fail"),
    ]
    assert record.history[0]["delayMs"] == 40
    assert record.state is JobState.FAILED
    assert w.finals(claim.job) == ["failed"]


def _claim_when_due(w: World) -> Any:
    while True:  # bounded by the test's timeout; Redis' clock decides
        reply = w.ask(max=1)
        if reply.claims:
            return reply.claims[0]
        assert reply.next_due_ms is not None


def test_budget_is_apart_from_attempts(w: World) -> None:
    """A retry on the class's own budget spends no attempt."""
    claim = w.active()
    w.finish(claim, Next.RETRY, cls=OutcomeClass.DISRUPTED, spend=Spend.BUDGET)
    again = w.claim()
    assert (again.attempt, again.seq) == (1, 2)
    w.finish(again, Next.RETRY, cls=OutcomeClass.DISRUPTED, spend=Spend.BUDGET)
    record = w.job(claim.job)
    assert (dict(record.budgets), record.attempts_made) == ({"disrupted": 2}, 0)


def test_delayed_job_is_not_claimed_early(w: World) -> None:
    """A delay holds a job back, the reply says for how long, and then it is claimed."""
    job = w.enqueue(delay_ms=60_000).id
    reply = w.ask()
    assert not reply.claims
    assert reply.next_due_ms is not None
    assert 0 < reply.next_due_ms <= 60_000
    assert w.job(job).state is JobState.DELAYED
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {job: 1})
    w.redis.zadd(f"rq:scheduled:{QUEUE}", {job: 1})
    assert w.run(ops.counts(QUEUE)).waiting == 1  # due, though not promoted yet
    assert [claim.job for claim in w.ask().claims] == [job]
    assert not w.redis.exists(f"heavylift:delayed:{QUEUE}", f"rq:scheduled:{QUEUE}")


def test_promotions_are_bounded(w: World) -> None:
    """One call promotes at most fifty due jobs."""
    jobs = [w.enqueue(delay_ms=60_000).id for _ in range(60)]
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", dict.fromkeys(jobs, 1))
    w.ask(max=1)
    assert w.redis.zcard(f"heavylift:delayed:{QUEUE}") == 10


def test_expired_job_fails_unstarted(w: World) -> None:
    """A job that was not started in time ends as failed, saying so; it is never handed out."""
    job = w.enqueue(expires_ms=60_000).id
    w.redis.hset(f"rq:job:{job}", "hl:expires", 1)
    assert not w.ask().claims
    record = w.job(job)
    assert record.state is JobState.FAILED
    assert record.outcome["class"] == "timeout"
    assert "expired" in record.outcome["message"]
    assert w.finals(job) == ["failed"]


def test_release_goes_to_the_front_and_gives_seq_back(w: World) -> None:
    """A released job is the next one, under the same execution id, and costs nothing."""
    first, second = w.enqueue().id, w.enqueue().id
    claim = w.claim()
    fence = Fence(job=first, execution=claim.execution, worker=WORKER)
    assert w.run(ops.release(fence, reason="quota exceeded")).verdict is Verdict.APPLIED
    assert w.waiting() == [first, second]
    assert w.idle()
    assert w.job(first).reason == "quota exceeded"
    again = w.claim()
    assert (again.execution, again.attempt, again.seq) == (claim.execution, 1, 1)


def test_release_with_delay(w: World) -> None:
    """A release may hold the job back for a while."""
    claim_job = w.enqueue().id
    claim = w.claim()
    w.run(ops.release(Fence(job=claim_job, execution=claim.execution, worker=WORKER), reason="429", delay_ms=50))
    assert w.job(claim_job).state is JobState.DELAYED
    assert _claim_when_due(w).execution == claim.execution


def test_release_after_a_recorded_job_moves_seq_on(w: World) -> None:
    """Once a Job existed its seq is used up."""
    claim = w.active()
    w.run(ops.release(Fence(job=claim.job, execution=claim.execution, uid=f"uid-{claim.execution}"), reason="gone"))
    assert w.claim().seq == 2


def test_seq_moves_on_for_another_install(w: World) -> None:
    """A seq that was given back is not used again by another install: its Job would be another one."""
    job = w.enqueue().id
    claim = w.claim()
    w.run(ops.release(Fence(job=job, execution=claim.execution, worker=WORKER), reason="handing over"))
    w.redis.delete(f"heavylift:settings:{QUEUE}")
    w.serve(install="other", namespace="elsewhere")
    (moved,) = w.ask(install="other").claims
    assert (moved.seq, moved.namespace) == (2, "elsewhere")


def test_evidence_and_messages_are_bounded(w: World) -> None:
    """Whatever a pod says, the stored outcome and evidence keep their size and stay valid JSON."""
    claim = w.active()
    w.run(
        ops.observe(
            Fence(job=claim.job, execution=claim.execution),
            Observation(
                phase=Phase.RUNNING, evidence={"pod": {"log": "\x00\ud800é" * 20_000, "exit": 1}}, terminal=True
            ),
        )
    )
    assert w.job(claim.job).evidence["pod"]["exit"] == 1
    w.finish(
        claim,
        Next.FAIL,
        outcome=Outcome(cls=OutcomeClass.ERROR, message="é\n" * 9000, exit_code=1, evidence={"log": "x" * 90_000}),
    )
    record = w.job(claim.job)
    assert len(record.outcome["message"].encode()) <= 2048
    assert 5000 < len(json.dumps(record.outcome["evidence"])) <= 8192 + 100
    assert len(json.dumps(record.history[0]["evidence"])) <= 1100
    assert w.redis.hstrlen(f"rq:job:{claim.job}", "hl:outcome") < 20_000


def test_history_keeps_twenty_attempts(w: World) -> None:
    """History is cut at its old end and stays a JSON list."""
    w.enqueue(options={"maxAttempts": 100})
    for turn in range(25):
        claim = w.claim()
        w.finish(claim, Next.RETRY, message=f'turn {turn}\nwith [brackets], {{braces}} and "quotes",')
    history = w.job(claim.job).history
    assert [entry["seq"] for entry in history] == list(range(6, 26))
    assert history[-1]["message"].startswith("turn 24\n")


def test_starts_are_limited(w: World) -> None:
    """A job that was started a hundred times is not started again."""
    job = w.enqueue().id
    w.redis.hset(f"rq:job:{job}", "hl:starts", 100)
    assert not w.ask().claims
    assert w.job(job).outcome["class"] == "invalid"


def test_result_is_limited(w: World) -> None:
    """A result of more than 4 KiB is refused before anything is written."""
    claim = w.active()
    with pytest.raises(InvalidInputError, match="reference"):
        w.finish(claim, result=json.dumps("x" * 5000))
    assert w.job(claim.job).state is JobState.ACTIVE


def test_unfinalized_until_confirmed(w: World) -> None:
    """A finished Job is remembered, with whose it is, until its PATCH is confirmed; one without a Job is not."""
    claim = w.active()
    w.enqueue()
    other = w.claim()
    held = Fence(job=other.job, execution=other.execution, worker=WORKER)
    w.finish(other, Next.FAIL, cls=OutcomeClass.INVALID, job_exists=False, fence=held)
    w.finish(claim)
    open_ = w.run(ops.unfinalized(INSTALL))
    assert open_ == [(NAMESPACE, name_of(claim), claim.job, claim.execution)]
    assert w.run(ops.unfinalized(INSTALL, older_than_ms=60_000)) == []
    assert w.run(ops.finalized(INSTALL, NAMESPACE, name_of(claim)))
    assert w.run(ops.unfinalized(INSTALL)) == []
    assert not w.run(ops.finalized(INSTALL, NAMESPACE, name_of(claim)))


def test_unfinalized_knows_a_job_that_was_never_recorded(w: World) -> None:
    """A Job whose name Redis never learnt is remembered under its computed name."""
    w.enqueue()
    claim = w.claim()
    w.finish(claim)
    assert w.run(ops.unfinalized(INSTALL)) == [(NAMESPACE, name_of(claim), claim.job, claim.execution)]


def test_own_claims_are_those_without_a_job(w: World) -> None:
    """After an unknown outcome a dispatcher finds what it claimed and has no Job for."""
    recorded = w.active()
    w.enqueue()
    open_ = w.claim()
    w.enqueue()
    w.claim(worker="other")
    assert recorded.job != open_.job
    assert w.run(ops.own_claims(INSTALL, WORKER)) == (open_,)


def test_retry_by_a_person(w: World) -> None:
    """A failed job waits again with attempts from zero, the next seq, new options and its history."""
    claim = w.active(options={"maxAttempts": 1, "labels": {"team": "bi"}})
    w.finish(claim, Next.FAIL)
    done = w.run(ops.retry(claim.job, Change(options={"resources": {"memory": "8Gi"}}), by="ann"))
    assert done.verdict is Verdict.APPLIED
    record = w.job(claim.job)
    assert (record.state, record.attempts_made, record.outcome, record.ended_at) == (JobState.WAITING, 0, {}, None)
    assert record.options == {"maxAttempts": 1, "labels": {"team": "bi"}, "resources": {"memory": "8Gi"}}
    assert len(record.history) == 1
    again = w.claim()
    assert (again.seq, again.attempt) == (2, 1)
    assert w.run(ops.retry(claim.job)).verdict is Verdict.REFUSED
    w.finish(again)
    assert w.run(ops.retry(claim.job)).verdict is Verdict.REFUSED
    assert w.run(ops.retry("nobody")).verdict is Verdict.MISSING
    assert w.redis.ttl(f"rq:job:{claim.job}") > 0


def test_position_of_a_waiting_job(w: World) -> None:
    """A waiting job's place is counted from zero."""
    jobs = [w.enqueue().id for _ in range(3)]
    found = [w.run(ops.get_job(job, position=True)) for job in jobs]
    assert [record.position for record in found if record] == [0, 1, 2]


def test_a_position_counts_sooner_priorities(w: World) -> None:
    """All of the priorities that go first are ahead of a waiting job."""
    jobs = [w.enqueue(options={"priority": priority}).id for priority in (0, 7, -3, 7, 0, -3, -1000)]
    found = [w.run(ops.get_job(job, position=True)) for job in jobs]
    assert [record.position for record in found if record] == [3, 5, 1, 6, 4, 2, 0]


def test_events_can_be_followed(w: World) -> None:
    """Events come in order, from an id on, and a wait ends empty when nothing happens."""
    w.enqueue(id="a")
    (first,) = w.run(ops.events(QUEUE))
    assert w.run(ops.events(QUEUE, after=first.id, block_ms=30)) == []
    w.enqueue(id="b")
    assert [event.job for event in w.run(ops.events(QUEUE, after=first.id, block_ms=30))] == ["b"]


def test_request_defaults_are_usable() -> None:
    """The kit's request is a sound one."""
    assert payload.decode(request().data).task == "annual"
