"""Our own deadlines beside Kubernetes' own: pending (Job created -> container running) and run (per attempt).

All from the cluster's timestamps; ``now`` must be the cluster's time too, so that a skewed clock kills nothing early.
"""

from __future__ import annotations

from heavylift.contract.durations import format_ms
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core.evidence import JobEvidence, Stop
from heavylift_operator.core.outcome import Underway


def pending_since(job: JobEvidence) -> int | None:
    """Return since when (ms) the Job waits for its container; None while it is suspended."""
    if job.suspended or job.created_at is None:
        return None
    return max(job.created_at, job.started_at or 0)


def due(job: JobEvidence, state: Underway, pending_ms: int | None, run_ms: int | None) -> int | None:
    """Return when (ms) the deadline that runs at the moment passes, or None."""
    if state.phase is Phase.RUNNING:
        return None if run_ms is None or state.running_at is None or state.reason else state.running_at + run_ms
    since = pending_since(job)
    return None if since is None or pending_ms is None or state.stuck is None else since + pending_ms


def expired(job: JobEvidence, state: Underway, *, pending_ms: int | None, run_ms: int | None, now: int) -> Stop | None:
    """Return our decision to end an attempt that passed its deadline or cannot start, or None.

    Args:
        job: the Job, alive.
        state: what it is doing.
        pending_ms: limit from the Job's creation (or resumption) to its container's start.
        run_ms: limit from the container's start.
        now: the cluster's time, ms.
    """
    if state.hopeless and state.stuck is not None:
        return Stop(cls=state.stuck.value, message=state.message, at=now, execution=job.execution)
    passed = due(job, state, pending_ms, run_ms)
    if passed is None or now <= passed:
        return None
    if state.phase is Phase.RUNNING:
        return Stop(
            cls=OutcomeClass.TIMEOUT.value,
            message=f"ran longer than its limit of {format_ms(run_ms or 0)}",
            at=now,
            execution=job.execution,
        )
    words = f": {state.message}" if state.message else " (no word from Kubernetes about why)"
    cls = state.stuck or OutcomeClass.UNSCHEDULABLE
    return Stop(
        cls=cls.value,
        message=f"did not start within {format_ms(pending_ms or 0)}{words}",
        at=now,
        execution=job.execution,
    )
