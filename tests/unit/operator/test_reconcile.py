"""The reconcile table: complete, free of overlaps, and one test per row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from heavylift.contract.states import JobState
from heavylift_operator.core.evidence import Evidence, JobEvidence, Stop
from heavylift_operator.core.plan import (
    Action,
    Adopt,
    Again,
    Clear,
    Confirm,
    Delete,
    Finish,
    KeepStop,
    Patch,
    Release,
    Report,
    plan,
)
from heavylift_operator.core.reconcile import (
    ROWS,
    SKEW_MS,
    InCluster,
    InRedis,
    in_cluster,
    in_redis,
    reconcile,
    same_data,
)
from tests.unit.operator.objects import (
    COMPLETE,
    EXECUTION,
    FAILED,
    INSTALL,
    RUNNING,
    T0,
    FakeRecord,
    Middle,
    evidence,
    job,
    pod,
    terminated,
    view,
)

DOCS = Path(__file__).resolve().parents[3] / "docs/reference/reconcile.md"
LATE = T0 + 61_000
LIVE = evidence(job(), pod(main=RUNNING))
DONE = evidence(job(COMPLETE), pod("Succeeded", main=terminated(0, message="7")))
GONE = evidence(None)
ANNOTATION = (
    '{"class":"error","message":"exit code 3","exitCode":3,"execution":"inc-1","next":"retry","at":5,'
    '"spend":"attempt","delayMs":2000,"result":null}'
)
PATCHED = evidence(
    job(COMPLETE, labels={"heavylift.dev/finalized": "true"}, annotations={"heavylift.dev/outcome": ANNOTATION})
)
CLAIMED = FakeRecord(job_uid="")
CANCEL = FakeRecord(cancel={"by": "cli"})
ENDED = FakeRecord(
    state=JobState.COMPLETED, rq_status="finished", execution="", outcome={"execution": EXECUTION}, job_uid=""
)
BEHIND = FakeRecord(state=JobState.WAITING, rq_status="queued", execution="", seq=0, job_uid="")
NEWER = FakeRecord(execution="inc-2", seq=2, job_uid="uid-2")

# row -> (record, evidence, more of the view, kinds of actions in order)
CASES: dict[str, tuple[FakeRecord | None, Evidence, dict[str, Any], list[type[Action]]]] = {
    "claim-young": (CLAIMED, GONE, {}, []),
    "claim-silent": (CLAIMED, GONE, {"now": LATE}, [Release]),
    "claim-adopted": (CLAIMED, LIVE, {}, [Adopt]),
    "running": (FakeRecord(), LIVE, {}, [Again]),
    "ended": (FakeRecord(), DONE, {}, [Finish, Patch]),
    "deleted": (FakeRecord(), evidence(job(deleted=4), pod(main=RUNNING)), {}, [Finish, Patch]),
    "job-missing": (FakeRecord(), GONE, {"missing_since": T0, "now": T0 + 41_000}, [Finish]),
    "rolled-back": (FakeRecord(), PATCHED, {}, [Finish, Confirm]),
    "cancel-young": (replace(CANCEL, job_uid=""), GONE, {}, []),
    "cancel-asked": (CANCEL, LIVE, {}, [Delete]),
    "cancel-over": (CANCEL, DONE, {}, [Finish, Patch]),
    "cancel-stopping": (CANCEL, evidence(job(deleted=4)), {}, [Finish, Patch]),
    "cancel-gone": (CANCEL, GONE, {}, [Finish]),
    "job-edited": (
        FakeRecord(),
        evidence(job(annotations={"heavylift.dev/execution": "forged-1"})),
        {},
        [Report],
    ),
    "unconfirmed": (ENDED, GONE, {}, [Confirm]),
    "ended-live": (ENDED, LIVE, {}, [Delete, Patch]),
    "ended-unpatched": (ENDED, DONE, {}, [Patch]),
    "settled": (ENDED, PATCHED, {}, [Confirm]),
    "ahead": (BEHIND, LIVE, {}, []),
    "ahead-settled": (BEHIND, PATCHED, {}, []),
    "superseded": (NEWER, LIVE, {"missing_since": T0, "now": T0 + 41_000}, [Delete]),
    "past": (NEWER, GONE, {"listed": True}, [Clear]),
    "vanished-live": (None, LIVE, {"listed": True}, [Delete]),
    "vanished-gone": (None, GONE, {"listed": True}, [Clear]),
    "vanished-settled": (None, PATCHED, {}, []),
    "wiped": (None, LIVE, {"epoch": False}, [Report]),
    "wiped-deleting": (None, evidence(job(deleted=4)), {"epoch": False}, [Patch]),
    "wiped-settled": (None, GONE, {"epoch": False}, []),
}


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_each_row_does_what_it_says(name: str) -> None:
    """One case per row of the table: the combination is recognised, and these are its actions."""
    record, seen, more, expected = CASES[name]
    row, actions = plan(view(record, seen, **more), Middle())
    assert row.name == name
    assert [type(action) for action in actions] == expected


def test_every_combination_has_exactly_one_row() -> None:
    """The table is complete and free of overlaps."""
    for redis in InRedis:
        for cluster in InCluster:
            rows = [row.name for row in ROWS if redis in row.redis and cluster in row.cluster]
            assert rows == [reconcile(redis, cluster).name], (redis, cluster)


def test_row_names_are_unique() -> None:
    """They are metric labels and lines of the docs."""
    assert len({row.name for row in ROWS}) == len(ROWS)


def documented() -> list[list[str]]:
    """Return the cells of the docs' table of rows."""
    lines = iter(DOCS.read_text().splitlines())
    for line in lines:
        if line.startswith("| row |"):
            break
    next(lines)
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_docs_list_the_same_rows() -> None:
    """Names, combinations, actions and reasons, in the code's order."""

    def words(kind: type[StrEnum], members: Iterable[StrEnum]) -> str:
        return ", ".join(f"`{member.value}`" for member in kind if member in set(members))

    assert documented() == [
        [
            f"`{row.name}`",
            words(InRedis, row.redis),
            words(InCluster, row.cluster),
            row.act.value,
            row.why,
            "repair" if row.repair else "",
        ]
        for row in ROWS
    ]


# -- what Redis says --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("record", "epoch", "standing"),
    [
        (CLAIMED, True, InRedis.CLAIMED),
        (replace(CLAIMED, deadline=T0 - 1), True, InRedis.OVERDUE),
        (FakeRecord(), True, InRedis.RECORDED),
        (CANCEL, True, InRedis.CANCELLING),
        (FakeRecord(state=JobState.CANCELLED, rq_status="canceled"), True, InRedis.CANCELLING),
        (FakeRecord(state=JobState.CANCELLED, rq_status="stopped"), True, InRedis.CANCELLING),
        (replace(CANCEL, job_uid=""), True, InRedis.CANCEL_YOUNG),
        (replace(CANCEL, job_uid="", deadline=T0 - 1), True, InRedis.CANCELLING),
        (ENDED, True, InRedis.ENDED),
        (replace(NEWER, history=({"execution": EXECUTION},)), True, InRedis.ENDED),
        (BEHIND, True, InRedis.BEHIND),
        (replace(BEHIND, state=JobState.CANCELLED), True, InRedis.MOVED_ON),
        (NEWER, True, InRedis.MOVED_ON),
        (replace(BEHIND, incarnation="other"), True, InRedis.MOVED_ON),
        (replace(FakeRecord(), install="ns/other"), True, InRedis.MOVED_ON),
        (None, True, InRedis.VANISHED),
        (None, False, InRedis.WIPED),
    ],
)
def test_how_an_execution_stands_in_redis(record: FakeRecord | None, epoch: bool, standing: InRedis) -> None:
    """Each standing from the record that stands for it."""
    assert in_redis(record, EXECUTION, INSTALL, now=T0, epoch=epoch) is standing


MADE_HERE, ELSEWHERE = f"{T0 - 1}-aaaa", f"{T0 - 10**9}-bbbb"


@pytest.mark.parametrize(
    ("epoch", "annotated", "listed", "row"),
    [
        (MADE_HERE, MADE_HERE, False, "vanished-live"),
        (MADE_HERE, MADE_HERE, True, "vanished-live"),
        (MADE_HERE, ELSEWHERE, False, "wiped"),
        (MADE_HERE, ELSEWHERE, True, "wiped"),
        (ELSEWHERE, MADE_HERE, False, "wiped"),  # older than the Job, and yet not its data
        ("", MADE_HERE, False, "wiped"),
        ("", MADE_HERE, True, "wiped"),
        # without the annotation: by age
        (f"{T0 - SKEW_MS - 1}-aaaa", "", False, "vanished-live"),
        (f"{T0 - SKEW_MS}-aaaa", "", False, "wiped"),
        (f"{T0}-aaaa", "", True, "vanished-live"),
        ("", "", False, "wiped"),
        ("", "", True, "vanished-live"),
        ("x-aaaa", "", False, "wiped"),
        ("\u0661-aaaa", "", False, "wiped"),
        ("-aaaa", "", False, "wiped"),
        ("0" * 5000, "", False, "wiped"),
    ],
)
def test_an_unknown_job_is_condemned_only_by_the_data_it_came_from(
    epoch: str, annotated: str, listed: bool, row: str
) -> None:
    """Another Redis, or one that was emptied, says nothing about it: reported, never deleted, however long."""
    seen = evidence(job(annotations={"heavylift.dev/epoch": annotated} if annotated else {}), pod(main=RUNNING))
    known = same_data(epoch, seen.job, listed=listed)
    found, actions = plan(view(None, seen, epoch=known, listed=listed, missing_since=T0, now=T0 + 10**9), Middle())
    assert found.name == row
    assert [type(action) for action in actions] == [Delete if row == "vanished-live" else Report]


@pytest.mark.parametrize("listed", [True, False])
def test_without_a_job_only_what_redis_lists_is_its_own(listed: bool) -> None:
    """Nothing else says where the execution came from."""
    assert same_data(MADE_HERE, None, listed=listed) is listed


def seen_job(**more: Any) -> JobEvidence | None:
    """Return a live Job's evidence, changed."""
    return replace(LIVE.job, **more) if LIVE.job else None


@pytest.mark.parametrize(
    ("seen", "uid", "standing"),
    [
        (None, "uid-1", InCluster.ABSENT),
        (seen_job(), "uid-1", InCluster.LIVE),
        (seen_job(), "", InCluster.LIVE),
        (seen_job(uid="uid-9"), "uid-1", InCluster.ABSENT),
        (seen_job(execution="x-1"), "uid-1", InCluster.EDITED),
        (seen_job(execution="x-1"), "", InCluster.ABSENT),
        (seen_job(condition="Failed", deleted_at=T0), "uid-1", InCluster.OVER),
        (seen_job(deleted_at=T0), "uid-1", InCluster.DELETING),
        (seen_job(condition="Failed", finalized=True), "uid-1", InCluster.FINALIZED),
    ],
)
def test_how_a_job_stands_in_the_cluster(seen: JobEvidence | None, uid: str, standing: InCluster) -> None:
    """A Job of another UID is not ours, whatever it says."""
    assert in_cluster(seen, EXECUTION, uid) is standing


# -- plans beyond one line --------------------------------------------------------------------------------------------
def test_a_job_is_not_lost_at_first_sight() -> None:
    """Missing once is a moment, not a fact."""
    assert plan(view(FakeRecord(), GONE, missing_since=T0), Middle())[1] == []
    assert plan(view(FakeRecord(), GONE, missing_since=None, now=T0 + 10**6), Middle())[1] == []


def test_a_lost_job_is_finished_without_a_job_to_patch() -> None:
    """And retried on its own budget."""
    actions = plan(view(FakeRecord(), GONE, missing_since=T0, now=T0 + 41_000), Middle())[1]
    assert isinstance(actions[0], Finish)
    assert (actions[0].ended.cls.value, actions[0].decision.step.value, actions[0].job_exists) == (
        "lost",
        "retry",
        False,
    )


def test_a_replaced_node_keeps_no_job() -> None:
    """A Job of another UID under our name is left alone; ours is missing."""
    other = replace(LIVE, job=seen_job(uid="uid-9"))
    row, actions = plan(view(FakeRecord(), other, missing_since=T0, now=T0 + 41_000), Middle())
    assert row.name == "job-missing"
    assert [type(action) for action in actions] == [Finish]


def test_an_unknown_job_has_a_grace_unless_redis_lists_it() -> None:
    """Redis knew the execution: its hash was deleted on purpose. Otherwise wait and see."""
    assert plan(view(None, LIVE, listed=False, missing_since=T0), Middle())[1] == []
    actions = plan(view(None, LIVE, listed=False, missing_since=T0, now=T0 + 41_000), Middle())[1]
    assert actions == [Delete()]


def test_a_discarded_job_is_let_go_when_its_pod_is_gone() -> None:
    """First its pods, then our finalizer."""
    held = ["foregroundDeletion", "heavylift.dev/outcome"]
    stopping = evidence(job(deleted=4, finalizers=held), pod(deleted=4, main=RUNNING))
    assert plan(view(None, stopping), Middle())[1] == []
    stopped = evidence(job(deleted=4, finalizers=held))
    assert plan(view(None, stopped), Middle())[1] == [Delete(pods_first=False), Patch()]


@pytest.mark.parametrize(
    ("record", "epoch", "cluster", "row"),
    [
        (NEWER, True, GONE, "past"),
        (NEWER, True, PATCHED, "past"),
        (None, True, GONE, "vanished-gone"),
        (None, True, PATCHED, "vanished-settled"),
        (None, False, GONE, "wiped-settled"),
        (None, False, PATCHED, "wiped-settled"),
    ],
)
def test_a_patch_that_nobody_can_owe_any_more_is_struck_off(
    record: FakeRecord | None, epoch: bool, cluster: Evidence, row: str
) -> None:
    """The operator died right after it, then the hash went: no pass must look for that Job again."""
    found, actions = plan(view(record, cluster, epoch=epoch, listed=False, owed=True), Middle())
    assert (found.name, actions) == (row, [Confirm()])
    assert plan(view(record, cluster, epoch=epoch, listed=False), Middle())[1] == []


@pytest.mark.parametrize("record", [NEWER, None])
def test_a_patch_is_owed_while_its_job_stands_unfinalized(record: FakeRecord | None) -> None:
    """Its end is still to be seen through."""
    assert Confirm() not in plan(view(record, DONE, listed=False, owed=True), Middle())[1]


def test_a_deadline_is_written_down_before_the_job_is_deleted() -> None:
    """A crash in between must not turn a timeout into a job-deleted."""
    actions = plan(view(FakeRecord(), LIVE, now=T0 + 606_000), Middle())[1]
    assert [type(action) for action in actions] == [KeepStop, Delete]
    assert isinstance(actions[0], KeepStop)
    assert actions[0].stop.cls == "timeout"


def test_a_stop_that_was_decided_is_carried_out_again() -> None:
    """The process died between the two."""
    stop = Stop(cls="timeout", message="too long", at=T0, execution=EXECUTION)
    assert plan(view(FakeRecord(), replace(LIVE, stop=stop)), Middle())[1] == [Delete()]


def test_a_lost_node_waits_by_default() -> None:
    """Nothing is written, nothing is deleted."""
    seen = evidence(job(), pod(deleted=10, main=RUNNING))
    assert plan(view(FakeRecord(), seen, now=T0 + 200_000), Middle())[1] == []


def test_a_finish_is_repeated_from_the_annotation_word_for_word() -> None:
    """Redis was rolled back: the same outcome, the same next step, the same delay."""
    actions = plan(view(FakeRecord(), PATCHED), Middle())[1]
    first = actions[0]
    assert isinstance(first, Finish)
    assert (first.ended.cls.value, first.ended.exit_code, first.ended.message) == ("error", 3, "exit code 3")
    assert (first.decision.step.value, first.decision.cost.value, first.decision.delay_ms) == ("retry", "attempt", 2000)


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"class":"error","next":"retry","execution":"inc-9"}', "[" * 9999])
def test_an_unreadable_annotation_is_reported(broken: str) -> None:
    """Somebody edited it: never guessed."""
    labels = {"heavylift.dev/finalized": "true"}
    seen = evidence(job(COMPLETE, labels=labels, annotations={"heavylift.dev/outcome": broken}))
    assert [type(action) for action in plan(view(FakeRecord(), seen), Middle())[1]] == [Report]


def test_what_ended_the_retries_is_in_the_message() -> None:
    """A person sees that it was the last of its class."""
    done = evidence(job(FAILED), pod("Failed", main=terminated(64)))
    first = plan(view(FakeRecord(), done), Middle())[1][0]
    assert isinstance(first, Finish)
    assert first.ended.message.endswith("(not to be retried)")
