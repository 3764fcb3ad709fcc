"""What the API server's answers to a create mean: the answer table (architecture: "Dispatcher"), pure.

403 has four meanings and 409 two, so words and causes are read as well as the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from heavylift.contract.names import Annotation
from heavylift.runtime.kube import KubeReply


class Kind(StrEnum):
    """What to do about an answer."""

    CREATED = "created"
    """The Job exists and is ours: record it."""
    LOOK = "look"
    """A Job of this name exists: read it and compare."""
    NAME_TAKEN = "name-taken"
    """It is not ours: touch nothing, finish as rejected."""
    BUSY = "busy"
    """The server or the network: same name again with backoff, then release; counts for the namespace's breaker."""
    QUOTA = "quota"
    """The namespace's quota admits no more Jobs: as BUSY."""
    NAMESPACE = "namespace"
    """The namespace is terminating or gone: as BUSY."""
    FORBIDDEN = "forbidden"
    """RBAC: release at once, stop claiming the queue."""
    REJECTED = "rejected"
    """Admission refused the Job: finish as rejected with the server's words."""
    INVALID = "invalid"
    """The Job is not valid: finish as invalid with the server's words."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self in {Kind.BUSY, Kind.QUOTA, Kind.NAMESPACE}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, understood."""

    kind: Kind
    message: str = ""
    uid: str = ""
    """The Job's, when CREATED."""
    retry_after_s: float | None = None
    """What the server asks for."""
    adopted: bool = False
    """The Job was there already: an earlier create of the same execution had come through."""
    lost: bool = False
    """There was no answer: the Job may have been created."""


_RBAC: Final = re.compile(r"cannot (create|get) resource")
_DENIED: Final = re.compile(r"denied (the )?request|ValidatingAdmissionPolicy", re.IGNORECASE)
_GONE: Final = "NamespaceTerminating"


def of_create(reply: KubeReply) -> Answer:
    """Return what an answer to the POST of a Job means."""
    words = reply.message
    kind = _kind_of_create(reply)
    if kind is Kind.CREATED:
        uid = str((reply.object.get("metadata") or {}).get("uid") or "")
        # A success without a UID is a proxy's, not the API server's.
        return Answer(Kind.CREATED, uid=uid) if uid else Answer(Kind.BUSY, "the answer to a create holds no Job")
    return Answer(kind, words, retry_after_s=reply.retry_after_s)


def _kind_of_create(reply: KubeReply) -> Kind:
    denied = bool(_DENIED.search(reply.message))
    match reply.status:
        case status if reply.ok:
            return Kind.CREATED
        case 403:
            return _kind_of_refusal(reply, denied=denied)
        case 404:
            return Kind.NAMESPACE
        case 409:
            return Kind.LOOK if reply.reason == "AlreadyExists" else Kind.BUSY
        case 400 | 413 | 422 if not denied:
            return Kind.INVALID
        case 401 | 408 | 425 | 429:
            return Kind.BUSY
        case status if 400 <= status < 500:  # noqa: PLR2004 - the client's faults
            return Kind.REJECTED
        case _:
            return Kind.BUSY


def _kind_of_refusal(reply: KubeReply, *, denied: bool) -> Kind:
    """Tell the meanings of 403 apart."""
    if "exceeded quota" in reply.message or "failed quota" in reply.message:
        return Kind.QUOTA
    if _has_cause(reply.object, _GONE) or "because it is being terminated" in reply.message:
        return Kind.NAMESPACE
    if _RBAC.search(reply.message) and not denied:
        return Kind.FORBIDDEN
    return Kind.REJECTED


def of_look(reply: KubeReply, execution: str) -> Answer:
    """Return what the answer to the GET of an existing Job of our name means for this execution."""
    if reply.ok:
        metadata = reply.object.get("metadata") or {}
        theirs = (metadata.get("annotations") or {}).get(Annotation.EXECUTION)
        uid = str(metadata.get("uid") or "")
        if theirs == execution and uid:
            return Answer(Kind.CREATED, uid=uid, adopted=True)
        whose = f"it belongs to the execution {theirs!r:.80}" if theirs else "it is none of Heavylift's"
        return Answer(Kind.NAME_TAKEN, f"a Job of the name {metadata.get('name')} exists and {whose}")
    if reply.status == 403 and _RBAC.search(reply.message):  # noqa: PLR2004 - forbidden
        return Answer(Kind.FORBIDDEN, reply.message)
    # Gone again (404) or not readable now: the next create tells.
    return Answer(Kind.BUSY, reply.message, retry_after_s=reply.retry_after_s)


def _has_cause(status: Mapping[str, Any], reason: str) -> bool:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return isinstance(causes, list) and any(isinstance(c, Mapping) and c.get("reason") == reason for c in causes)
