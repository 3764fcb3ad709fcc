"""The reconciler: what a dead process, a lost write or somebody's hand left behind is put right."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.spec import HeavyQueue
from heavylift.store import ops
from heavylift.store.model import Fence, FinishRequest, Next, Outcome, Spend
from tests.integration.operator.bench import Bench, Started
from tests.proofs.kube import batch
from tests.proofs.waiting import until


def repairs(bench: Bench, case: str) -> float:
    """Return how often a case was mended."""
    return bench.operators[0].metric("heavylift_repairs_total", case=case)


def let_go(bench: Bench, started: Started) -> None:
    """Delete a Job together with its finalizer: nothing is left to learn from."""
    path = batch(started.claim.namespace, started.name)
    bench.kube.merge(path, {"metadata": {"finalizers": None}})
    bench.kube.delete(path, propagationPolicy="Background")


def test_a_silent_claim_goes_back_to_the_front(bench: Bench, reports: HeavyQueue) -> None:
    """No Job by a live GET after the deadline: the next claim has the same execution, no attempt is spent."""
    job = bench.enqueue("reports")
    first = bench.claim("reports", job, deadline_ms=300)
    second = bench.claim("reports", job)  # waits until it is back
    assert (second.execution, second.attempt) == (first.execution, 1)
    assert repairs(bench, "claim-silent") == 1
    bench.ended(bench.create(bench.prepare(reports, second)))


def test_a_created_job_that_nobody_recorded_is_adopted(bench: Bench, reports: HeavyQueue) -> None:
    """The dispatcher died in between: the UID comes from the Job itself, the attempt goes on."""
    job = bench.enqueue("reports", {"hold": "true"})
    started = bench.create(bench.prepare(reports, bench.claim("reports", job, deadline_ms=500)), record=False)
    until(lambda: bench.record(started).job_uid == started.uid, "the UID in Redis")
    assert bench.record(started).state is JobState.ACTIVE
    let_go(bench, started)
    bench.ended(started)


def test_a_job_gone_without_a_trace_is_lost(bench: Bench, reports: HeavyQueue) -> None:
    """Missing for more than two intervals: its own budget, no attempt."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    let_go(bench, started)
    record = bench.ended(started)
    assert (record.outcome["class"], record.attempts_made, record.budgets) == ("lost", 0, {"lost": 1})
    assert repairs(bench, "job-missing") >= 1


def test_a_job_of_an_execution_that_moved_on_is_deleted_after_a_grace(bench: Bench, reports: HeavyQueue) -> None:
    """A zombie dispatcher's late create: deleted by UID, the current one is left alone."""
    current = bench.start(reports, {"hold": "true"})
    bench.running(current)
    stale = replace(current.claim, incarnation="zombiezombiezomb", execution="zombiezombiezomb-1")
    zombie = bench.create(bench.prepare(reports, stale), record=False)
    assert zombie.name != current.name
    bench.gone(zombie)
    assert bench.record(current).state is JobState.ACTIVE
    assert repairs(bench, "superseded") >= 1
    bench.store.run(ops.cancel(current.claim.job, by="test"))
    bench.gone(current)


DECIDED = Outcome(cls=OutcomeClass.ERROR, message="as it was decided", exit_code=9)


def test_a_finish_without_its_patch_is_patched(bench: Bench, reports: HeavyQueue) -> None:
    """Written by an operator that died before the PATCH: the outcome in Redis becomes the annotation."""
    bench.operators[0].stop()
    started = bench.start(reports)
    until(lambda: (bench.job(started) or {})["status"].get("conditions"), "the end of the Job")
    bench.store.run(
        ops.finish(FinishRequest(fence=started.fence, outcome=DECIDED, next=Next.FAIL, spend=Spend.ATTEMPT))
    )
    bench.operators[0].start().wait_ready()
    annotation = json.loads(bench.finalized(started)["metadata"]["annotations"]["heavylift.dev/outcome"])
    assert (annotation["message"], annotation["exitCode"]) == ("as it was decided", 9)
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "nothing left to patch")


def test_an_owed_patch_of_a_job_long_gone_is_struck_off(bench: Bench, reports: HeavyQueue) -> None:
    """Noted before the operator died and the hash expired: looked at once, then never again."""
    started = bench.start(reports)
    bench.ended(started)
    bench.finalized(started)
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "nothing left to patch")
    job, place = started.claim.job, f"{started.claim.namespace}/{started.name}"
    with bench.server.client() as raw:
        raw.delete(f"rq:job:{job}")
        raw.hset(f"heavylift:unfinalized-jobs:{bench.install}", place, f"{job}:{started.claim.execution}")
        raw.zadd(f"heavylift:unfinalized:{bench.install}", {place: 1})
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "the entry to be struck off")
    assert "heavylift.dev/finalized" in (bench.job(started) or {})["metadata"]["labels"]


def test_a_job_that_runs_on_after_its_outcome_is_deleted(bench: Bench, reports: HeavyQueue) -> None:
    """Finished as lost or replaced, then found: its program is stopped."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    bench.store.run(ops.finish(FinishRequest(fence=started.fence, outcome=DECIDED, next=Next.FAIL)))
    bench.gone(started)
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "nothing left to patch")


def test_an_outcome_that_redis_lost_is_written_again_the_same(bench: Bench, reports: HeavyQueue) -> None:
    """Redis as it was a second before the finish: the Job's annotation has it all."""
    started = bench.start(reports, {"run-ms": 1500, "exit-code": 3, "message": "Boom!"})
    bench.running(started)
    member = f"{started.claim.job}:{started.claim.execution}"
    with bench.server.client() as raw:
        before = raw.hgetall(f"rq:job:{started.claim.job}")
        first = bench.ended(started)
        bench.finalized(started)
        raw.delete(f"rq:job:{started.claim.job}")
        raw.hset(f"rq:job:{started.claim.job}", mapping=before)
        raw.zadd(f"heavylift:inflight:{bench.install}", {member: 1})
        raw.zrem("rq:scheduled:reports", started.claim.job)
        raw.zrem("heavylift:delayed:reports", started.claim.job)
        raw.lrem("rq:queue:reports", 0, started.claim.job)
    again = bench.ended(started)
    ours = {"class", "message", "exitCode", "execution", "seq", "attempt", "next"}
    assert {key: again.outcome[key] for key in ours} == {key: first.outcome[key] for key in ours}
    assert (again.attempts_made, again.state) == (1, first.state)
    assert repairs(bench, "rolled-back") >= 1


def test_edited_annotations_are_never_believed(bench: Bench, reports: HeavyQueue) -> None:
    """Another execution's name on our Job: said, counted, not finished from it."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    path = batch(started.claim.namespace, started.name)
    bench.kube.merge(path, {"metadata": {"annotations": {"heavylift.dev/execution": "forged-1"}}})
    until(lambda: repairs(bench, "job-edited") >= 1, "the edit to be seen")
    assert bench.record(started).state is JobState.ACTIVE
    bench.kube.merge(path, {"metadata": {"annotations": {"heavylift.dev/execution": started.claim.execution}}})
    bench.store.run(ops.cancel(started.claim.job, by="test"))
    assert bench.ended(started).state is JobState.CANCELLED


def test_a_job_of_another_uid_under_our_name_is_not_ours(bench: Bench, reports: HeavyQueue) -> None:
    """Deleted with its finalizer and made anew by somebody: ours is lost, theirs is not finished from."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    let_go(bench, started)
    until(lambda: bench.job(started) is None, "the Job to be gone")
    other = bench.create(Started(claim=started.claim, manifest=started.manifest), record=False)
    assert bench.ended(started).outcome["class"] == "lost"
    bench.gone(other)  # superseded by then: discarded


def test_an_operator_that_was_away_finishes_all_once(bench: Bench, reports: HeavyQueue) -> None:
    """Jobs end while none runs; two start at once; every execution has one outcome."""
    bench.operators[0].stop()
    started = [bench.start(reports, {"exit-code": number % 2 * 64}) for number in range(12)]
    until(lambda: all((bench.job(one) or {})["status"].get("conditions") for one in started), "the ends of all Jobs")
    bench.operators[0].start()
    bench.operator()
    states = Counter(bench.ended(one).state for one in started)
    assert states == {JobState.COMPLETED: 6, JobState.FAILED: 6}
    for one in started:
        bench.finalized(one)
    mine = {one.claim.job for one in started}
    final = Counter(
        event.job
        for event in bench.store.run(ops.events("reports", count=10_000))
        if event.job in mine and event.fields.get("final") == "1"
    )
    assert set(final.values()) == {1}
    assert len(final) == len(mine)
    bench.operators[0].wait_ready()
    bench.operators[1].stop()


def test_two_replicas_side_by_side_do_no_harm(bench: Bench, reports: HeavyQueue) -> None:
    """Short jobs, seen by both at different moments: each ends once, and no finished Job goes before its time."""
    second = bench.operator()
    started = [bench.start(reports) for _ in range(30)]
    for one in started:
        assert bench.ended(one).state is JobState.COMPLETED
    until(lambda: bench.store.run(ops.unfinalized(bench.install)) == [], "nothing left to patch")
    before = second.metric("heavylift_reconcile_last_success_timestamp_seconds")
    bench.operators[0].stop()  # the other takes over and looks at all of them again
    until(lambda: second.metric("heavylift_reconcile_last_success_timestamp_seconds") > before, "a pass of the other")
    assert all(bench.job(one) for one in started)
    bench.operators[0].start().wait_ready()
    second.stop()
    final = Counter(
        event.job for event in bench.store.run(ops.events("reports", count=10_000)) if event.fields.get("final") == "1"
    )
    assert {final[one.claim.job] for one in started} == {1}


def test_the_one_that_stood_by_takes_over_from_one_killed(bench: Bench, reports: HeavyQueue) -> None:
    """It heard no Jobs so far: those that end when the leading one is dead have their outcome all the same, once."""
    second = bench.operator().wait_ready()
    heard = "heavylift_watch_last_event_timestamp_seconds"
    assert second.metric(heard, kind="Job") == 0
    bench.operators[0].kill()
    started = [bench.start(reports, {"exit-code": number % 2 * 64}) for number in range(6)]
    states = Counter(bench.ended(one).state for one in started)
    assert states == {JobState.COMPLETED: 3, JobState.FAILED: 3}
    assert bench.ended(bench.start(reports)).state is JobState.COMPLETED
    until(lambda: second.metric(heard, kind="Job") > 0, "the other to hear Jobs")
    bench.operators[0].start().wait_ready()
    second.stop()
    final = Counter(
        event.job for event in bench.store.run(ops.events("reports", count=10_000)) if event.fields.get("final") == "1"
    )
    assert {final[one.claim.job] for one in started} == {1}


def test_a_late_report_changes_nothing(bench: Bench, reports: HeavyQueue) -> None:
    """The outcome of an execution is immutable: a second one is a counted no-op."""
    started = bench.start(reports)
    record = bench.ended(started)
    late = FinishRequest(
        fence=Fence(job=started.claim.job, execution=started.claim.execution, uid=started.uid),
        outcome=Outcome(cls=OutcomeClass.UNKNOWN, message="late"),
        next=Next.FAIL,
    )
    reply = bench.store.run(ops.finish(late))
    assert (reply.verdict.value, reply.stored["class"]) == ("already", "succeeded")
    assert bench.record(started).outcome == record.outcome


def test_a_redis_that_lost_its_data_loses_no_job(bench: Bench, reports: HeavyQueue) -> None:
    """Everything gone, then new data: the running Job is reported and left alone."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    with bench.server.client() as raw:
        raw.flushall()
    bench.store.run(ops.ensure_epoch())
    until(lambda: repairs(bench, "wiped") >= 1, "the loss to be seen")
    seen = repairs(bench, "wiped")
    until(lambda: repairs(bench, "wiped") >= seen + 4, "more passes than the grace has")
    job = bench.job(started)
    assert job is not None
    assert "deletionTimestamp" not in job["metadata"]
    assert any(pod["status"]["phase"] == "Running" for pod in bench.pods(started))
    until(lambda: bench.store.run(ops.get_settings("reports")), "the settings to be written anew")
    bench.kube.delete(batch(started.claim.namespace, started.name), propagationPolicy="Background")
    bench.gone(started)  # our finalizer does not hold what somebody deletes


def test_the_data_of_another_redis_condemns_no_job(bench: Bench, reports: HeavyQueue) -> None:
    """A wrong URL, here for once with data older than the Job: it knows nothing of the Job and must not delete it."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    with bench.server.client() as raw:
        raw.flushall()
        raw.set("heavylift:epoch", "1000000000000-elsewhere")
    seen = repairs(bench, "wiped")
    until(lambda: repairs(bench, "wiped") >= seen + 4, "more passes than the grace has")
    job = bench.job(started)
    assert job is not None
    assert "deletionTimestamp" not in job["metadata"]
    until(lambda: bench.store.run(ops.get_settings("reports")), "the settings to be written anew")
    bench.kube.delete(batch(started.claim.namespace, started.name), propagationPolicy="Background")
    bench.gone(started)


def test_a_job_deleted_from_its_own_redis_is_stopped(bench: Bench, reports: HeavyQueue) -> None:
    """Redis' data is what the Job came from, so somebody deleted the job on purpose, listed or not."""
    started = bench.start(reports, {"hold": "true"})
    bench.running(started)
    with bench.server.client() as raw:
        raw.zrem(f"heavylift:inflight:{bench.install}", f"{started.claim.job}:{started.claim.execution}")
        raw.delete(f"rq:job:{started.claim.job}")
    bench.gone(started)
    assert repairs(bench, "vanished-live") >= 1


def test_no_job_is_left_behind(bench: Bench) -> None:
    """After all of the above: nothing in flight, nothing owed."""
    until(lambda: bench.store.run(ops.inflight_count(bench.install)) == 0, "nothing in flight")
    assert bench.store.run(ops.unfinalized(bench.install)) == []
