"""Attempts after the first: exact delays, checkpoints, memory, total time and held queues, by the real scripts."""

from __future__ import annotations

import random

import pytest

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import InvalidInputError
from heavylift.spec.following import Backoff, Case, Spent, Step, follow
from heavylift.spec.rules import default_rules
from heavylift.store import Fence, Next, Observation, Spend, Verdict, ops
from heavylift.store.model import Change
from tests.integration.store.kit import INSTALL, QUEUE, WORKER, World

HOUR = 3_600_000


def due_now(w: World, job: str) -> None:
    """Let a delayed job's time come."""
    w.redis.zadd(f"heavylift:delayed:{QUEUE}", {job: 1})
    w.redis.zadd(f"rq:scheduled:{QUEUE}", {job: 1})
    w.redis.hset(f"rq:job:{job}", "hl:due", "1")


def test_delays_are_exact_to_the_millisecond(w: World) -> None:
    """Five attempts with the operator's own decisions: the due time is that of the finish plus 1, 2, 4, 8 minutes."""
    claim, waits = w.active(options={"maxAttempts": 5}), []
    for _ in range(5):
        record = w.job(claim.job)
        spent = Spent(attempts=record.attempts_made, max_attempts=record.max_attempts or 0, starts=record.starts)
        case = Case(cls="error", now=claim.claimed_at)
        decision = follow(default_rules()[OutcomeClass.ERROR], case, spent, Backoff(jitter=0), random.Random(1))
        w.finish(claim, Next(decision.step.value), spend=Spend(decision.cost.value), delay_ms=decision.delay_ms)
        record = w.job(claim.job)
        if decision.step is Step.FAIL:
            break
        assert record.due == record.outcome["at"] + decision.delay_ms
        assert w.redis.zscore(f"heavylift:delayed:{QUEUE}", claim.job) == record.due
        waits.append(decision.delay_ms)
        due_now(w, claim.job)
        claim = w.claim()
        w.record(claim)
    assert waits == [60_000, 120_000, 240_000, 480_000]
    assert (record.state, record.attempts_made, record.starts) == (JobState.FAILED, 5, 5)
    assert [entry["delayMs"] for entry in record.history] == [*waits, 0]
    assert [entry["spend"] for entry in record.history] == ["attempt"] * 5


def test_snoozes_spend_no_attempt_and_every_end_is_kept_up_to_twenty(w: World) -> None:
    """Attempts made and started are told apart; the history keeps the last twenty."""
    claim = w.active(options={"maxAttempts": 2})
    for number in range(25):
        w.finish(claim, Next.RETRY, spend=Spend.NONE, message=f"snooze {number}")
        claim = w.claim()
        w.record(claim)
    record = w.job(claim.job)
    assert (record.attempts_made, record.starts, claim.attempt, claim.seq) == (0, 26, 1, 26)
    assert [entry["message"] for entry in record.history] == [f"snooze {n}" for n in range(5, 25)]


def test_checkpoint_and_memory_reach_the_next_claims(w: World) -> None:
    """Kept until replaced, over a failure and a person's retry; gone with success."""
    claim = w.active()
    assert (claim.checkpoint, claim.memory) == ("", None)
    w.finish(claim, Next.RETRY, checkpoint='{"page":1}', memory=144 * 1024**2)
    claim = w.claim()
    assert w.run(ops.own_claims(INSTALL, WORKER)) == (claim,)  # a dispatcher that asks again gets it all again
    w.record(claim)
    assert (claim.checkpoint, claim.memory) == ('{"page":1}', 144 * 1024**2)
    w.finish(claim, Next.RETRY, checkpoint='{"page":2,"note":"ü"}')
    assert w.job(claim.job).history[0]["memory"] == 144 * 1024**2
    claim = w.claim()
    w.record(claim)
    w.finish(claim, Next.FAIL)
    w.run(ops.retry(claim.job))
    claim = w.claim()
    w.record(claim)
    assert (claim.checkpoint, claim.memory) == ('{"page":2,"note":"ü"}', 144 * 1024**2)
    assert w.job(claim.job).checkpoint == claim.checkpoint
    w.finish(claim, Next.COMPLETE, checkpoint='{"page":9}')
    assert (w.job(claim.job).checkpoint, w.job(claim.job).memory) == ("", None)


@pytest.mark.parametrize(
    ("change", "memory", "checkpoint"),
    [
        (Change(), 7, '{"page":1}'),
        (Change(options={"maxAttempts": 3}), 7, '{"page":1}'),
        (Change(options={"resources": {"memory": "8Gi"}}), None, '{"page":1}'),
        (Change(data_json='{"year":1}'), 7, ""),
    ],
)
def test_a_retry_with_changes_drops_what_they_replace(
    w: World, change: Change, memory: int | None, checkpoint: str
) -> None:
    """Memory asked for anew is not what it grew to; a checkpoint of other data is none."""
    claim = w.active(options={"resources": {"memory": "4Gi"}})
    w.finish(claim, Next.FAIL, checkpoint='{"page":1}', memory=7)
    assert w.run(ops.retry(claim.job, change)).verdict is Verdict.APPLIED
    again = w.claim()
    assert (again.memory, again.checkpoint) == (memory, checkpoint)


def test_a_repeated_finish_changes_nothing_of_it(w: World) -> None:
    """The first report of an execution counts, its checkpoint too."""
    claim = w.active()
    w.finish(claim, Next.RETRY, checkpoint='{"page":1}')
    w.finish(claim, Next.RETRY, checkpoint='{"page":2}', memory=5, hold_ms=60_000)
    assert (w.job(claim.job).checkpoint, w.job(claim.job).memory) == ('{"page":1}', None)
    assert w.claim().job == claim.job


def test_a_job_enqueued_anew_inherits_nothing(w: World) -> None:
    """Another job under the same id starts without checkpoint, memory and first claim."""
    claim = w.active(options={"timeouts": {"total": HOUR}})
    w.finish(claim, Next.FAIL, checkpoint='{"page":1}', memory=7)
    w.enqueue(id=claim.job, if_exists="replace")
    again = w.claim()
    assert (again.job, again.checkpoint, again.memory, again.frozen.get("totalDue")) == (claim.job, "", None, None)


def test_a_checkpoint_is_bounded(w: World) -> None:
    """The store refuses what no pod could have kept, before anything is written."""
    claim = w.active()
    with pytest.raises(InvalidInputError, match="2048 bytes"):
        w.finish(claim, Next.RETRY, checkpoint='{"x":"' + "y" * limits.CHECKPOINT_MAX + '"}')
    assert w.job(claim.job).state is JobState.ACTIVE


@pytest.mark.parametrize("character", ["x", "ü", "\N{SNOWMAN}", '"', "\x01"])
def test_the_longest_last_words_are_kept_whole(w: World, character: str) -> None:
    """4,096 bytes of any text: a result or checkpoint that is cut in the evidence would be lost with its pod."""
    claim = w.active()
    words = character * (4096 // len(character.encode()))
    pod = {"end_message": words, "message": "m" * 1000, "disruption_message": "d" * 1000, "waiting_message": "w" * 1000}
    seen = Observation(phase=Phase.RUNNING, reason="r" * 900, evidence={"pod": pod}, terminal=True)
    w.run(ops.observe(Fence(job=claim.job, execution=claim.execution), seen))
    assert w.job(claim.job).evidence["pod"]["end_message"] == words


@pytest.mark.parametrize("where", ["queue", "job"])
def test_total_time_counts_from_the_first_claim(w: World, where: str) -> None:
    """Later attempts keep the first one's end; past it the job fails as timeout instead of being claimed."""
    if where == "queue":
        w.serve(timeouts={"pending": HOUR, "run": HOUR, "total": 2 * HOUR})
    first = w.active(options={"timeouts": {"total": HOUR}} if where == "job" else {})
    total = HOUR if where == "job" else 2 * HOUR
    assert first.frozen["totalDue"] == first.claimed_at + total
    w.finish(first, Next.RETRY)
    second = w.claim()
    assert second.frozen["totalDue"] == first.frozen["totalDue"]
    assert w.job(second.job).first_claimed_at == first.claimed_at
    w.record(second)
    w.finish(second, Next.RETRY)
    w.redis.hset(f"rq:job:{second.job}", "hl:first", str(first.claimed_at - total))
    assert w.ask().claims == ()
    record = w.job(second.job)
    assert (record.state, record.outcome["class"]) == (JobState.FAILED, "timeout")
    assert "total time" in record.outcome["message"]
    assert w.finals(second.job) == ["failed"]
    w.run(ops.retry(second.job))
    third = w.claim()
    assert third.frozen["totalDue"] == third.claimed_at + total


def test_a_held_queue_starts_nothing_until_its_time(w: World) -> None:
    """Other jobs of the queue wait too, jobs that run go on; the longest hold wins, an hour is the most."""
    claims = [w.active(), w.active(), w.active()]
    waits = w.enqueue().id
    w.finish(claims[0], Next.RETRY, spend=Spend.NONE, hold_ms=90_000)
    w.finish(claims[1], Next.RETRY, spend=Spend.NONE, hold_ms=30_000)
    reply = w.ask()
    assert (reply.claims, reply.blocked[QUEUE]) == ((), "rate")
    assert reply.next_due_ms is not None
    assert 60_000 < reply.next_due_ms <= 90_000
    assert w.finish(claims[2]).state is JobState.COMPLETED
    assert "rate-limited" in w.names(claims[0].job)
    w.redis.delete(f"heavylift:hold:{QUEUE}")
    assert {claim.job for claim in w.ask().claims} == {claims[0].job, claims[1].job, waits}
    claim = w.active()
    w.finish(claim, Next.RETRY, spend=Spend.NONE, hold_ms=10**12)
    assert 0 < w.redis.pttl(f"heavylift:hold:{QUEUE}") <= limits.HOLD_MAX_MS
