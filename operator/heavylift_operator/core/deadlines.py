"""Our own deadlines beside Kubernetes' own: pending (Job created -> container running), run (per attempt) and total.

All from the cluster's timestamps; ``now`` must be the cluster's time too, so that a skewed clock kills nothing early.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.contract.durations import format_ms
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core.evidence import JobEvidence, Stop
from heavylift_operator.core.outcome import Underway


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an attempt may take; None = as long as it likes."""

    pending_ms: int | None = None
    """From the Job's creation (or resumption) to its container's start."""
    run_ms: int | None = None
    """From the container's start."""
    total_ms: int | None = None
    """From the job's first claim, over all attempts."""
    total_due: int | None = None
    """When that passes, ms since the epoch."""


def pending_since(job: JobEvidence) -> int | None:
    """Return since when (ms) the Job waits for its container; None while it is suspended."""
    if job.suspended or job.created_at is None:
        return None
    return max(job.created_at, job.started_at or 0)


def due(job: JobEvidence, state: Underway, limits: Limits) -> int | None:
    """Return when (ms) the first deadline passes that runs at the moment, or None."""
    if state.phase is Phase.RUNNING and state.reason:  # ending or stopping already
        return None
    own = _own_due(job, state, limits)
    return min((moment for moment in (own, limits.total_due) if moment is not None), default=None)


def _own_due(job: JobEvidence, state: Underway, limits: Limits) -> int | None:
    """Return when this attempt's own deadline passes."""
    if state.phase is Phase.RUNNING:
        return None if limits.run_ms is None or state.running_at is None else state.running_at + limits.run_ms
    since = pending_since(job)
    return None if since is None or limits.pending_ms is None or state.stuck is None else since + limits.pending_ms


def expired(job: JobEvidence, state: Underway, limits: Limits, *, now: int) -> Stop | None:
    """Return our decision to end an attempt that passed a deadline or cannot start, or None.

    Args:
        job: the Job, alive.
        state: what it is doing.
        limits: its deadlines; the total one wins, since no attempt follows it.
        now: the cluster's time, ms.
    """
    if state.hopeless and state.stuck is not None:
        return Stop(cls=state.stuck.value, message=state.message, at=now, execution=job.execution)
    passed = due(job, state, limits)
    if passed is None or now <= passed:
        return None
    cls, message = _words(state, limits, over=limits.total_due is not None and now > limits.total_due)
    return Stop(cls=cls.value, message=message, at=now, execution=job.execution)


def _words(state: Underway, limits: Limits, *, over: bool) -> tuple[OutcomeClass, str]:
    if over:
        total = f" of {format_ms(limits.total_ms)}" if limits.total_ms else ""
        return OutcomeClass.TIMEOUT, f"stopped at the end of its total time{total}, counted from its first claim"
    if state.phase is Phase.RUNNING:
        return OutcomeClass.TIMEOUT, f"ran longer than its limit of {format_ms(limits.run_ms or 0)}"
    words = f": {state.message}" if state.message else " (no word from Kubernetes about why)"
    return state.stuck or OutcomeClass.UNSCHEDULABLE, f"did not start within {format_ms(limits.pending_ms or 0)}{words}"
