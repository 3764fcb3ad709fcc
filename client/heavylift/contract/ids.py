"""Ids: job ids, incarnations, execution ids and the names of Kubernetes Jobs."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from functools import lru_cache

from heavylift.contract import limits
from heavylift.errors import InvalidJobIdError, InvalidQueueNameError

_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SLUG = re.compile(r"[^a-z0-9]+")


def check_job_id(job: object) -> str:
    """Return the id if RQ's tools can carry it: ``A-Za-z0-9_-``, at most 200 characters.

    Raises:
        InvalidJobIdError: it cannot; the message says what to use.
    """
    if not isinstance(job, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", job) or len(job) > limits.JOB_ID_MAX:
        raise InvalidJobIdError(
            f"job id {str(job)[:60]!r} is not usable: use 1 to {limits.JOB_ID_MAX} letters, digits, '-' and '_'"
        )
    return job


def check_queue_name(queue: object) -> str:
    """Return the queue's name if it is usable; ``@`` is refused because priority levels use it.

    Raises:
        InvalidQueueNameError: it is not; the message says what to use.
    """
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue) or len(queue) > limits.QUEUE_NAME_MAX:
        raise InvalidQueueNameError(
            f"queue name {str(queue)[:60]!r} is not usable: start with a letter or digit, go on with letters, digits, "
            f"'-', '_', '.' and ':', at most {limits.QUEUE_NAME_MAX} characters"
        )
    return queue


def new_job_id() -> str:
    """Return a random job id (128 bits, hex)."""
    return secrets.token_hex(16)


def job_ids() -> Iterator[str]:
    """Yield random job ids without end, drawn some at a time."""
    while True:
        drawn = secrets.token_hex(16 * 64)
        yield from (drawn[at : at + 32] for at in range(0, len(drawn), 32))


def new_incarnation() -> str:
    """Return a random incarnation (64 bits, hex, 16 characters)."""
    return secrets.token_hex(8)


def plain_source(job: str, created_at: str) -> str:
    """Return what a plain RQ job's incarnation comes from: sha1 over id and RQ's ``created_at``, hex."""
    return hashlib.sha1(f"{job}\n{created_at}".encode(), usedforsecurity=False).hexdigest()


def execution_id(incarnation: str, seq: int) -> str:
    """Return ``<incarnation>-<seq>``: determined by the job, not drawn at claim."""
    return f"{incarnation}-{seq}"


@lru_cache(maxsize=4096)
def short_hash(*parts: str, length: int = 20) -> str:
    """Return ``length`` characters of lower-case base32 sha256 over the parts, each length-prefixed."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return base64.b32encode(digest.digest()).decode().lower()[:length]


def queue_slug(queue: str, limit: int = 28) -> str:
    """Return the queue's name as part of a Kubernetes name: ``[a-z0-9-]``, at most ``limit`` characters."""
    return _SLUG.sub("-", queue.lower()).strip("-")[:limit].strip("-") or "q"


def job_name(install: str, queue: str, job: str, incarnation: str, seq: int) -> str:
    """Return the Kubernetes Job's name, at most 57 characters: ``<slug>-<hash, 20>-<seq>``."""
    return f"{queue_slug(queue)}-{short_hash(install, queue, job, incarnation)}-{seq}"


def printable(text: str, limit: int = 200) -> str:
    """Return text fit for one log line: control characters replaced, cut to ``limit`` characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)[:limit]
