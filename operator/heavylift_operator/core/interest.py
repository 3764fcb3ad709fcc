"""What an event is worth: who must look at it, and when. Most say nothing that anybody needs to act on. Pure."""

from __future__ import annotations

from typing import Final

from heavylift_operator.core.classify import sighting
from heavylift_operator.core.evidence import JobEvidence, PodEvidence

STARTING_MS: Final = 5_000
"""A pod this young that starts up as pods do is not worth a note: its next event follows, or what holds it shows."""


def on_its_way(job: JobEvidence) -> bool:
    """Return whether a Job neither ended nor is being deleted: its pod's events and the reconciler tell the rest."""
    return not (job.over or job.finalized or job.deleted_at is not None)


def starting_up(pod: PodEvidence, now: int) -> bool:
    """Return whether a pod is young, held up by nothing, and has not started yet."""
    if irreplaceable(pod) or pod.started_at is not None or pod.created_at is None:
        return False
    seen = sighting(pod)
    return seen.reason == "starting" and not seen.message and now - pod.created_at < STARTING_MS


def irreplaceable(pod: PodEvidence) -> bool:
    """Return whether this may be the only copy of what a pod says of its end: its object may be gone any moment."""
    return pod.ended or pod.over or pod.deleted_at is not None or bool(pod.disruption)
