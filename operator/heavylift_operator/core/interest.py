"""What an event is worth: who must look at it, and when. Most say nothing that anybody needs to act on. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from heavylift.contract.names import Label
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


# -- before anything is parsed ----------------------------------------------------------------------------------------
# A watch's line is JSON as the API server writes it: no spaces, keys and constants as they are, quotes inside texts
# escaped. So what is nowhere among its bytes is not said; what somebody wrote into an annotation can only make a line
# be read that need not be.
_MODIFIED: Final = b'{"type":"MODIFIED","object":{"'
_ADDED: Final = b'{"type":"ADDED","object":{"'
_CREATED: Final = b'"creationTimestamp":"'
_STAMP: Final = len("2026-01-01T00:00:00Z")
_LEFT: Final = re.compile(
    rb'{"type":"DELETED","object":{"kind":"Job","apiVersion":"batch/v1","metadata":'
    rb'{"name":"([a-z0-9.-]+)","namespace":"([a-z0-9-]+)"'
)
_STATUS: Final = b',"status":{'
_DELETED: Final = b'"deletionTimestamp"'
_FINALIZED: Final = f'"{Label.FINALIZED}"'.encode()
_OF_JOBS: Final = (b'"type":"Complete"', b'"type":"Failed"')
_OF_PODS: Final = (
    b'"phase":"Running"', b'"phase":"Succeeded"', b'"phase":"Failed"', b'"reason"', b'"message"',
    b'"containerStatuses"', b'"initContainerStatuses"', b'"DisruptionTarget"',
)  # fmt: skip
"""All of these stand in the status, which comes last and is short."""


def is_dull_job(line: bytes) -> bool:
    """Return whether a watch's line can only say of a Job, which was added before, that it is on its way."""
    if not line.startswith(_MODIFIED) or _DELETED in line or _FINALIZED in line:
        return False
    return not _says(_OF_JOBS, line)


def _says(words: tuple[bytes, ...], line: bytes) -> bool:
    """Return whether one of the words stands in the status, or no status is found."""
    at = line.find(_STATUS)
    status = line[at:]
    for word in words:  # any() of a generator takes twice as long
        if word in status:
            return True
    return at < 0


def left(line: bytes) -> tuple[str, str] | None:
    """Return namespace and name of a Job whose line says that it left the watch, None for any other line."""
    found = _LEFT.match(line)
    return (found[2].decode(), found[1].decode()) if found else None


def is_dull_pod(line: bytes, now: int) -> bool:
    """Return whether a watch's line can only say of a pod that it starts up, and is young.

    Args:
        line: one event as it was sent.
        now: the cluster's time, ms.
    """
    if not line.startswith((_ADDED, _MODIFIED)) or _says(_OF_PODS, line) or _DELETED in line:
        return False
    at = line.find(_CREATED) + len(_CREATED)
    try:
        created = datetime.fromisoformat(line[at : at + _STAMP].decode())
        return 0 <= now / 1000 - created.timestamp() < STARTING_MS / 1000
    except (ValueError, OverflowError):
        return False
