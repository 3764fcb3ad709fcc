"""The reconcile table: {execution in Redis} x {Kubernetes Job} x {finalized} -> what to do.

Every combination belongs to exactly one row; ``docs/reference/reconcile.md`` lists the same rows and a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from heavylift.contract.states import JobState
from heavylift_operator.core.evidence import JobEvidence


class Record(Protocol):
    """What the core reads of a job in Redis (``heavylift.store.model.JobRecord`` has it all)."""

    @property
    def state(self) -> JobState: ...  # noqa: D102 - the fields of JobRecord, documented there
    @property
    def rq_status(self) -> str: ...  # noqa: D102
    @property
    def incarnation(self) -> str: ...  # noqa: D102
    @property
    def seq(self) -> int: ...  # noqa: D102
    @property
    def execution(self) -> str: ...  # noqa: D102
    @property
    def install(self) -> str: ...  # noqa: D102
    @property
    def job_uid(self) -> str: ...  # noqa: D102
    @property
    def deadline(self) -> int | None: ...  # noqa: D102
    @property
    def cancel(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def outcome(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def history(self) -> tuple[Mapping[str, Any], ...]: ...  # noqa: D102


class InRedis(StrEnum):
    """How one execution stands in Redis."""

    CLAIMED = "claimed"
    """Current, no Job recorded, the claim deadline has not passed."""
    OVERDUE = "overdue"
    """Current, no Job recorded, the claim deadline has passed."""
    RECORDED = "recorded"
    """Current, its Job is recorded."""
    CANCEL_YOUNG = "cancel-young"
    """Cancel requested, no Job recorded, the claim deadline has not passed: one may be on its way."""
    CANCELLING = "cancelling"
    """Cancel requested (by us or by RQ's own commands)."""
    ENDED = "ended"
    """Its outcome stands."""
    BEHIND = "behind"
    """Redis knows the job, unfinished, but only an earlier seq: a claim was released late, or Redis was rolled back."""
    MOVED_ON = "moved-on"
    """Another execution is the current or last one."""
    VANISHED = "vanished"
    """No such job; Redis still has the data that the Job came from (the epoch stands), so somebody deleted it."""
    WIPED = "wiped"
    """No such job, and Redis' data is not what the Job came from: Redis lost it, or is another one."""


class InCluster(StrEnum):
    """How the execution's Job stands in Kubernetes."""

    ABSENT = "absent"
    """A live GET found none, or one of another UID."""
    LIVE = "live"
    OVER = "over"
    """Complete or Failed."""
    DELETING = "deleting"
    EDITED = "edited"
    """Our UID, but its annotations name another execution: somebody edited them."""
    FINALIZED = "finalized"
    """Carries the label ``finalized``."""


class Act(StrEnum):
    """What a row asks for."""

    NOTHING = "nothing"
    ADOPT = "adopt"
    """Record the Job's UID, then look again."""
    RELEASE = "release"
    """Give the claim back to the front of its queue."""
    WATCH = "watch"
    """Keep evidence, mind the deadlines."""
    FINISH = "finish"
    """Classify, write the outcome, PATCH the Job."""
    WAIT = "wait"
    """Wait two intervals; then finish."""
    REFINISH = "refinish"
    """Write the outcome again from the Job's annotation."""
    DELETE = "delete"
    """Delete the Job by UID; finish when its pod is gone."""
    PATCH = "patch"
    """Send the finishing PATCH."""
    PATCH_DELETE = "patch-delete"
    """Delete the Job by UID and send the finishing PATCH, which lets go of it."""
    CONFIRM = "confirm"
    """Note in Redis that nothing is left to PATCH."""
    DISCARD = "discard"
    """After a grace: let go of the Job's finalizer and delete it by UID."""
    CLEAR = "clear"
    """Drop what Redis still lists of the execution."""
    REPORT = "report"
    """Say so, count it, touch nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    name: str
    redis: frozenset[InRedis]
    cluster: frozenset[InCluster]
    act: Act
    why: str
    repair: bool = False
    """Counted in ``heavylift_repairs_total{case=name}``: something had gone wrong."""


_PRESENT = (InCluster.LIVE, InCluster.OVER, InCluster.DELETING)


def _row(
    name: str,
    redis: InRedis | tuple[InRedis, ...],
    cluster: InCluster | tuple[InCluster, ...],
    act: Act,
    why: str,
) -> Row:
    return Row(
        name=name,
        redis=frozenset((redis,) if isinstance(redis, InRedis) else redis),
        cluster=frozenset((cluster,) if isinstance(cluster, InCluster) else cluster),
        act=act,
        why=why,
        repair=name in _REPAIRS,
    )


_REPAIRS = frozenset(
    {
        "claim-silent",
        "claim-adopted",
        "job-missing",
        "rolled-back",
        "job-edited",
        "unconfirmed",
        "ended-live",
        "ended-unpatched",
        "superseded",
        "vanished-live",
        "vanished-gone",
        "wiped",
    }
)

_I, _C = InRedis, InCluster
ROWS: tuple[Row, ...] = (
    _row("claim-young", _I.CLAIMED, _C.ABSENT, Act.NOTHING, "its dispatcher is about to create the Job"),
    _row(
        "claim-silent",
        _I.OVERDUE,
        _C.ABSENT,
        Act.RELEASE,
        "its dispatcher died or lost the claim's reply: back to the front, no attempt spent",
    ),
    _row(
        "claim-adopted",
        (_I.CLAIMED, _I.OVERDUE),
        (*_PRESENT, _C.FINALIZED),
        Act.ADOPT,
        "created, but the dispatcher did not record it: its UID is recorded from here",
    ),
    _row("running", _I.RECORDED, _C.LIVE, Act.WATCH, "evidence is kept and the deadlines are minded"),
    _row("ended", _I.RECORDED, _C.OVER, Act.FINISH, "the Job reached its condition"),
    _row(
        "deleted",
        _I.RECORDED,
        _C.DELETING,
        Act.FINISH,
        "somebody deleted the Job (job-deleted), or we did at a deadline (its class, once the pod is gone)",
    ),
    _row(
        "job-missing",
        _I.RECORDED,
        _C.ABSENT,
        Act.WAIT,
        "gone although our finalizer held it: lost, once missing for two intervals",
    ),
    _row(
        "rolled-back",
        (_I.RECORDED, _I.CANCELLING, _I.CANCEL_YOUNG),
        _C.FINALIZED,
        Act.REFINISH,
        "Redis lost the outcome that the Job's annotation still has: written again, the same",
    ),
    _row("cancel-young", _I.CANCEL_YOUNG, _C.ABSENT, Act.NOTHING, "a Job may be on its way until the claim deadline"),
    _row(
        "cancel-asked",
        (_I.CANCELLING, _I.CANCEL_YOUNG),
        _C.LIVE,
        Act.DELETE,
        "the Job is deleted by UID, its pod gets SIGTERM",
    ),
    _row(
        "cancel-over",
        (_I.CANCELLING, _I.CANCEL_YOUNG),
        _C.OVER,
        Act.FINISH,
        "it ended before the cancel took hold: a success stays one, anything else is cancelled",
    ),
    _row(
        "cancel-stopping",
        (_I.CANCELLING, _I.CANCEL_YOUNG),
        _C.DELETING,
        Act.FINISH,
        "cancelled, once its pod is gone",
    ),
    _row("cancel-gone", _I.CANCELLING, _C.ABSENT, Act.FINISH, "no Job is left: cancelled"),
    _row(
        "job-edited",
        (_I.RECORDED, _I.CANCELLING, _I.CANCEL_YOUNG, _I.CLAIMED, _I.OVERDUE, _I.ENDED, _I.BEHIND, _I.MOVED_ON),
        _C.EDITED,
        Act.REPORT,
        "its annotations name another execution: never finished from them",
    ),
    _row("unconfirmed", _I.ENDED, _C.ABSENT, Act.CONFIRM, "the finished Job is gone: nothing is left to PATCH"),
    _row(
        "ended-live",
        _I.ENDED,
        _C.LIVE,
        Act.PATCH_DELETE,
        "finished although the Job had not ended (replaced, lost and found): deleted and let go",
    ),
    _row(
        "ended-unpatched",
        _I.ENDED,
        (_C.OVER, _C.DELETING),
        Act.PATCH,
        "finished, but the operator died before the PATCH",
    ),
    _row("settled", _I.ENDED, _C.FINALIZED, Act.CONFIRM, "finished and patched"),
    _row(
        "ahead",
        _I.BEHIND,
        _PRESENT,
        Act.NOTHING,
        "the next claim has this execution id and adopts the Job",
    ),
    _row("ahead-settled", _I.BEHIND, (_C.FINALIZED, _C.ABSENT), Act.NOTHING, "the next claim finds what is there"),
    _row(
        "superseded",
        _I.MOVED_ON,
        _PRESENT,
        Act.DISCARD,
        "a late create of a zombie dispatcher, or the job was enqueued anew: deleted by UID after a grace",
    ),
    _row(
        "past",
        _I.MOVED_ON,
        (_C.FINALIZED, _C.ABSENT),
        Act.CLEAR,
        "an earlier execution, done with: what still lists it is dropped",
    ),
    _row(
        "vanished-live",
        _I.VANISHED,
        (*_PRESENT, _C.EDITED),
        Act.DISCARD,
        "somebody deleted the job from Redis: its Job is deleted by UID (at once if Redis still lists it, else after "
        "a grace)",
    ),
    _row("vanished-gone", _I.VANISHED, _C.ABSENT, Act.CLEAR, "job and Job are gone: what still lists it is dropped"),
    _row("vanished-settled", _I.VANISHED, _C.FINALIZED, Act.NOTHING, "past its retention in Redis; the TTL deletes it"),
    _row(
        "wiped",
        _I.WIPED,
        (_C.LIVE, _C.OVER, _C.EDITED),
        Act.REPORT,
        "Redis lost its data, or is another one: nothing is deleted on its word",
    ),
    _row("wiped-deleting", _I.WIPED, _C.DELETING, Act.PATCH, "somebody deletes the Job: our finalizer lets go of it"),
    _row("wiped-settled", _I.WIPED, (_C.FINALIZED, _C.ABSENT), Act.NOTHING, "nothing is left to do"),
)
"""The table, in the order of the docs."""

_BY_STATES: dict[tuple[InRedis, InCluster], Row] = {
    (redis, cluster): row for row in ROWS for redis in row.redis for cluster in row.cluster
}


def reconcile(redis: InRedis, cluster: InCluster) -> Row:
    """Return the row of a combination; the table is complete."""
    return _BY_STATES[redis, cluster]


def in_redis(record: Record | None, execution: str, install: str, *, now: int, epoch: bool) -> InRedis:
    """Return how an execution stands in Redis.

    Args:
        record: the job's record, None if there is no such hash.
        execution: the execution asked about, ``<incarnation>-<seq>``.
        install: our install id.
        now: Redis' or the cluster's time, ms.
        epoch: whether Redis' data is what the Job came from (``same_data``).
    """
    if record is None:
        return InRedis.VANISHED if epoch else InRedis.WIPED
    current = record.execution == execution and record.install == install
    by_rq = record.rq_status in {"canceled", "stopped"}
    if current and (record.state is JobState.ACTIVE or by_rq):
        return _current(record, now, cancelled=by_rq or bool(record.cancel))
    if has_ended(record, execution):
        return InRedis.ENDED
    incarnation, _, seq = execution.rpartition("-")
    ahead = incarnation == record.incarnation and seq.isdecimal() and int(seq) > record.seq
    return InRedis.BEHIND if ahead and not record.state.terminal else InRedis.MOVED_ON


SKEW_MS = 600_000
"""Redis' and the API server's clocks may differ by this much."""


def same_data(epoch: str, job: JobEvidence | None, *, listed: bool) -> bool:
    """Return whether Redis' data is surely what a Job came from that Redis has no record of.

    Args:
        epoch: of Redis' data, ``<ms it began>-<random>``; empty if it has none.
        job: the Job, None if there is none.
        listed: Redis lists the execution as in flight.
    """
    if job is not None and job.epoch:
        return job.epoch == epoch
    if listed:
        return True
    began = epoch.partition("-")[0]
    if job is None or job.created_at is None or len(began) > _MS_DIGITS or not (began.isascii() and began.isdigit()):
        return False
    return job.created_at > int(began) + SKEW_MS


_MS_DIGITS = 16


def _current(record: Record, now: int, *, cancelled: bool) -> InRedis:
    young = not record.job_uid and (record.deadline is None or now <= record.deadline)
    if cancelled:
        return InRedis.CANCEL_YOUNG if young else InRedis.CANCELLING
    if record.job_uid:
        return InRedis.RECORDED
    return InRedis.CLAIMED if young else InRedis.OVERDUE


def has_ended(record: Record, execution: str) -> bool:
    """Return whether Redis holds this execution's outcome, as the last one or in the history."""
    if record.outcome.get("execution") == execution:
        return True
    return any(entry.get("execution") == execution for entry in record.history)


def in_cluster(job: JobEvidence | None, execution: str, uid: str) -> InCluster:
    """Return how an execution's Job stands in Kubernetes.

    Args:
        job: the Job of that name, None after a live GET answered 404.
        execution: the execution asked about.
        uid: the UID recorded in Redis, empty if none.
    """
    if job is None or (uid and job.uid != uid):
        return InCluster.ABSENT
    if job.execution != execution:
        return InCluster.EDITED if uid else InCluster.ABSENT
    if job.finalized:
        return InCluster.FINALIZED
    if job.over:
        return InCluster.OVER
    return InCluster.LIVE if job.deleted_at is None else InCluster.DELETING
