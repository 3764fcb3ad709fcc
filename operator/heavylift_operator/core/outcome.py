"""What classification answers: an ended attempt with its class and evidence, or one still under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core.reading import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that ended, or (``node-lost``) one nobody can know more about."""

    cls: OutcomeClass
    message: str
    """One sentence for a person."""
    exit_code: int | None = None
    evidence: Json = field(default_factory=dict)
    result: str | None = None
    """JSON text of the result; None = null."""
    error_type: str = ""
    """Name of a typed error, for ``noRetry.errors``."""
    no_retry: bool = False
    """The program or its exit code says that another attempt would end the same way."""
    snooze: bool = False
    """The program asked to be run again later; no attempt is spent."""
    delay_ms: int | None = None
    """The delay the program asked for; None = the backoff."""
    hold_ms: int = 0
    """How long the program asked its whole queue to be held back."""
    memory_limit: str = ""
    """``oom``: the limit that its own container was killed at, as a quantity."""
    checkpoint: str | None = None
    """JSON text left for the next attempt; None = none."""
    since: int | None = None
    """``node-lost``: when it was first overdue, ms."""
    started_at: int | None = None
    ended_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """An attempt that may still end well."""

    phase: Phase
    reason: str = ""
    """``suspended`` | ``no-pod`` | ``unschedulable`` | ``gated`` | ``image`` | ``starting`` | ``stopping`` |
    ``ending`` | empty while it simply runs."""
    message: str = ""
    """Kubernetes' own words."""
    running_at: int | None = None
    stuck: OutcomeClass | None = None
    """What it ends as when the pending limit passes; None while nothing is wrong with waiting."""
    hopeless: bool = False
    """Waiting longer cannot help: end it now."""
