"""``jobs why``: one sentence per reason, from a job and its surroundings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from heavylift.cli.why import Surroundings, why
from heavylift.contract.states import JobState, Phase
from heavylift.jobs import Attempt, JobInfo, Outcome
from heavylift.store.model import QueueGauges
from heavylift.store.ops import KeyStanding

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
JOB = JobInfo(
    id="a",
    queue="reports",
    task="annual",
    state=JobState.WAITING,
    phase=None,
    reason="",
    attempt=0,
    max_attempts=3,
    priority=0,
    position=0,
)
COUNTS = QueueGauges(
    waiting=1, delayed=0, active=2, waiting_children=0, completed=0, failed=0, cancelled=0, demand=3, startable=1,
    aside=0, held="", cap=None, rate_left=None, rate_next=None, install="prod", counters={},
)  # fmt: skip
LIMITED = replace(COUNTS, rate_left=0, rate_next=12_000)
SLOWED = replace(LIMITED, slowed=7_000, slowed_by="b")
AROUND = Surroundings(now=NOW, settings={"paused": False, "concurrencyMax": None}, counts=COUNTS, dispatchers=1)
OOM = Attempt(
    seq=1,
    attempt=1,
    execution="e-1",
    outcome=Outcome(cls="oom", message="needed more than 64Mi"),
    started_at=None,
    ended_at=None,
    next="retry",
)

BETWEEN = replace(OOM, seq=0, attempt=0, execution="", outcome=Outcome(cls="cancelled", message="cancelled by ada"))
LATER = NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("job", "around", "want"),
    [
        pytest.param(JOB, AROUND, ["0 jobs are ahead", "It is next"], id="next"),
        pytest.param(replace(JOB, position=1), AROUND, ["1 job is ahead"], id="one ahead"),
        pytest.param(
            replace(JOB, position=None),
            replace(AROUND, counts=replace(COUNTS, waiting=1001)),
            ["behind more than 1,000"],
            id="far back",
        ),
        pytest.param(
            replace(JOB, position=None), AROUND, ["in no list of queue reports", "then jobs retry a."], id="taken by RQ"
        ),
        pytest.param(JOB, replace(AROUND, settings=None), ["No HeavyQueue serves queue reports"], id="not served"),
        pytest.param(JOB, replace(AROUND, settings={"paused": True}), ["spec.paused: true"], id="paused by spec"),
        pytest.param(
            JOB,
            replace(AROUND, paused={"by": "ada", "at": 1795341600000, "reason": "upgrade"}),
            ["paused by ada since 2026-11-22T10:00:00Z: upgrade."],
            id="paused by a client",
        ),
        pytest.param(
            JOB,
            replace(AROUND, settings={"concurrencyMax": 2}),
            ["runs 2 jobs, the most it may (spec.concurrency.max: 2)"],
            id="cap",
        ),
        pytest.param(
            JOB,
            replace(AROUND, counts=LIMITED, settings={"rateLimit": {"limit": 100, "period": 60_000}}),
            ["may start 100 jobs in 1m (spec.rateLimit), and did; the next may start in 12s."],
            id="rate",
        ),
        pytest.param(
            JOB,
            replace(AROUND, counts=SLOWED, settings={"rateLimit": {"limit": 100, "period": 60_000}}),
            ["Queue reports is held back: Job b raised RateLimited; the next may start in 12s."],
            id="held back",
        ),
        pytest.param(
            JOB,
            replace(AROUND, counts=replace(SLOWED, slowed_by="")),
            ["held back: A job of it raised RateLimited"],
            id="held back, nobody knows by whom",
        ),
        pytest.param(
            replace(JOB, key="acme"),
            replace(AROUND, key=KeyStanding(running=2, waiting=7, cap=2, fair=False)),
            ["Its key 'acme' runs 2 jobs, the most it may (spec.concurrency.perKey: 2); 7 wait."],
            id="key at its cap",
        ),
        pytest.param(
            replace(JOB, key="acme"),
            replace(
                AROUND,
                key=KeyStanding(running=1, waiting=7, cap=2, fair=False),
                settings={"concurrencyPerKey": 2, "concurrencyOrder": "Fifo"},
            ),
            ["0 jobs of its key 'acme' are ahead of it.", "It is the first of those of its key 'acme'; others may"],
            id="key with room",
        ),
        pytest.param(
            replace(JOB, position=1),
            replace(AROUND, settings={"concurrencyPerKey": None, "concurrencyOrder": "RoundRobin"}),
            ["1 job without a key is ahead of it."],
            id="without a key where keys take turns",
        ),
        pytest.param(
            JOB,
            replace(AROUND, troubles={"Forbidden": {"message": "may not create Jobs"}, "Odd": {}}),
            ["reports Forbidden: may not create Jobs.", "reports Odd: no details."],
            id="troubles",
        ),
        pytest.param(JOB, replace(AROUND, dispatchers=0), ["No dispatcher is running"], id="no dispatcher"),
        pytest.param(
            JOB,
            replace(AROUND, dispatchers=2, inflight=20),
            ["2 dispatchers have 20 executions in flight: a job starts when a slot is free"],
            id="width",
        ),
        pytest.param(
            JOB,
            replace(AROUND, inflight=1),
            ["1 dispatcher has 1 execution in flight: a job starts when a slot is free"],
            id="width of one",
        ),
        pytest.param(
            JOB,
            replace(AROUND, breaker=NOW + timedelta(seconds=40)),
            ["The breaker of queue reports is open (spec.breaker)", "the next in 40s."],
            id="breaker",
        ),
        pytest.param(
            JOB,
            replace(AROUND, counts=replace(COUNTS, held="suspended")),
            ["are suspended (rq suspend)"],
            id="suspended",
        ),
        pytest.param(
            JOB, replace(AROUND, counts=replace(COUNTS, held="corrupt")), ["cannot be read"], id="corrupt settings"
        ),
        pytest.param(
            JOB,
            replace(AROUND, schedule="daily"),
            ["Schedule daily enqueued it (heavylift schedules show daily)."],
            id="tick of a schedule",
        ),
        pytest.param(
            replace(JOB, reason="quota", history=(OOM,)),
            AROUND,
            ["put back last because of: quota.", "Attempt 1 (start 1) ended as oom: needed more than 64Mi."],
            id="put back",
        ),
        pytest.param(
            replace(JOB, history=(OOM,), memory=144 * 1024**2, checkpoint={"page": 3}, total_due=LATER),
            AROUND,
            ["grown to 144Mi", "from a checkpoint", "together may take until 2026-11-22T10:05:00Z (timeouts.total)"],
            id="what it inherits",
        ),
        pytest.param(
            replace(JOB, history=(OOM,), total_due=NOW),
            AROUND,
            ["Its total time was over at 2026-11-22T10:00:00Z (timeouts.total): it fails when its turn comes."],
            id="past its total time",
        ),
        pytest.param(
            replace(JOB, state=JobState.FAILED, starts=7, attempts_made=3, attempt=3, outcome=OOM.outcome),
            AROUND,
            ["It was attempt 3 of 3.", "It was started 7 times"],
            id="failed after more starts than attempts",
        ),
        pytest.param(
            replace(JOB, expires_at=NOW + timedelta(minutes=1)),
            AROUND,
            ["It expires at 2026-11-22T10:01:00Z if it has not started by then."],
            id="expires",
        ),
        pytest.param(
            replace(JOB, expires_at=NOW),
            AROUND,
            ["It expired at 2026-11-22T10:00:00Z: it never starts, and ends as failed when its turn comes."],
            id="expired, and its turn has not come",
        ),
        pytest.param(
            replace(JOB, state=JobState.DELAYED, not_before=LATER, expires_at=LATER + timedelta(minutes=5)),
            AROUND,
            ["delayed until 2026-11-22T10:05:00Z", "It expires at 2026-11-22T10:10:00Z if it has not started by then."],
            id="delayed, expires later",
        ),
        pytest.param(
            replace(JOB, state=JobState.DELAYED, not_before=LATER, expires_at=LATER),
            AROUND,
            ["It expires at 2026-11-22T10:05:00Z, before its delay is over: it never starts."],
            id="delayed beyond its expiry",
        ),
        pytest.param(
            replace(JOB, history=(BETWEEN,)),
            AROUND,
            ["It had ended as cancelled: cancelled by ada."],
            id="retried after a cancel between two attempts",
        ),
        pytest.param(
            replace(JOB, state=JobState.DELAYED, not_before=NOW + timedelta(minutes=5), history=(OOM,)),
            AROUND,
            ["delayed until 2026-11-22T10:05:00Z (in 5m)", "ended as oom"],
            id="delayed after a failure",
        ),
        pytest.param(
            replace(JOB, state=JobState.DELAYED, expires_at=datetime(2026, 11, 22, 10, 5, tzinfo=UTC)),
            AROUND,
            ["It expires at 2026-11-22T10:05:00Z if it has not started by then."],
            id="delayed and to expire",
        ),
        pytest.param(
            replace(JOB, state=JobState.WAITING_CHILDREN),
            replace(
                AROUND,
                dependencies={
                    "b": JobState.ACTIVE,
                    "c": JobState.FAILED,
                    "d": None,
                    "e": JobState.CANCELLED,
                    "f": JobState.WAITING_CHILDREN,
                },
            ),
            [
                "job b, which is active.",
                "job c, which failed: retry that one",
                "job d, which is gone",
                "job e, which was cancelled: retry that one (heavylift jobs retry e).",
                "job f, which waits for others itself.",
            ],
            id="dependencies",
        ),
        pytest.param(
            replace(JOB, state=JobState.WAITING_CHILDREN, reason="follows b", dedupe="annual"),
            AROUND,
            ["It waits for the end of job b, which has the same deduplication key, 'annual'."],
            id="follower",
        ),
        pytest.param(
            replace(JOB, state=JobState.ACTIVE, phase=Phase.CLAIMED, attempt=1), AROUND, ["being created"], id="claimed"
        ),
        pytest.param(
            replace(
                JOB,
                state=JobState.ACTIVE,
                phase=Phase.PENDING,
                attempt=2,
                reason="Unschedulable",
                history=(OOM,),
                evidence={"refused": "quota", "pod": {"unscheduled_message": "0/1 nodes.", "message": "0/1 nodes"}},
                namespace="analytics",
                job_name="reports-x-2",
            ),
            AROUND,
            [
                "pending as Job analytics/reports-x-2: Unschedulable",
                "Kubernetes says: 0/1 nodes.",
                "Kubernetes says: quota.",
                "This is attempt 2 of 3",
            ],
            id="pending",
        ),
        pytest.param(
            replace(
                JOB,
                state=JobState.ACTIVE,
                phase=Phase.RUNNING,
                attempt=1,
                started_at=NOW,
                cancel={"by": "ada", "reason": "obsolete."},
            ),
            AROUND,
            ["It runs since 2026-11-22T10:00:00Z.", "A cancel by ada is under way: obsolete."],
            id="running, cancel requested",
        ),
        pytest.param(
            replace(JOB, state=JobState.COMPLETED, ended_at=NOW, attempt=1),
            AROUND,
            ["completed at 2026-11-22T10:00:00Z"],
            id="completed",
        ),
        pytest.param(
            replace(
                JOB,
                state=JobState.COMPLETED,
                attempt=1,
                outcome=Outcome(cls="succeeded", message="", evidence={"warning": "what the program left is not JSON"}),
            ),
            AROUND,
            ["What the program left is not JSON."],
            id="completed, its result dropped",
        ),
        pytest.param(
            replace(
                JOB, state=JobState.FAILED, attempt=3, outcome=Outcome(cls="error", message="no such year", exit_code=3)
            ),
            AROUND,
            ["failed: error: no such year.", "attempt 3 of 3", "heavylift jobs retry a"],
            id="failed",
        ),
        pytest.param(
            replace(JOB, state=JobState.FAILED), AROUND, ["nothing is recorded about why"], id="failed, no word"
        ),
        pytest.param(
            replace(JOB, state=JobState.CANCELLED, cancel={"by": "ada"}, ended_at=NOW),
            AROUND,
            ["cancelled by ada at 2026-11-22T10:00:00Z."],
            id="cancelled",
        ),
        pytest.param(
            replace(JOB, state=JobState.CANCELLED, outcome=Outcome(cls="job-deleted", message="kubectl deleted it.")),
            AROUND,
            ["It was cancelled: kubectl deleted it."],
            id="cancelled by a rule",
        ),
    ],
)
def test_each_reason_has_its_sentence(job: JobInfo, around: Surroundings, want: list[str]) -> None:
    """What holds a job, or ended it, is said in sentences a person understands."""
    said = why(job, around)

    for words in want:
        assert any(words in sentence for sentence in said), said
    assert len(said) == len({sentence.rstrip(".") for sentence in said})


@pytest.mark.parametrize(
    "blocked",
    [
        pytest.param(replace(AROUND, settings=None), id="not served"),
        pytest.param(replace(AROUND, breaker=NOW), id="breaker"),
        pytest.param(replace(AROUND, counts=replace(COUNTS, held="suspended")), id="suspended"),
        pytest.param(
            replace(AROUND, counts=LIMITED, settings={"rateLimit": {"limit": 1, "period": 60_000}}), id="rate"
        ),
        pytest.param(replace(AROUND, counts=SLOWED), id="held back"),
    ],
)
def test_no_false_comfort(blocked: Surroundings) -> None:
    """A blocked job is never said to start within seconds."""
    said = why(JOB, replace(blocked, inflight=5))

    assert not any("within seconds" in sentence or "slots" in sentence for sentence in said)
