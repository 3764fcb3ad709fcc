"""Jobs from outside: enqueue, claim, cancel, retry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import InvalidInputError
from heavylift.store import bodies, decode
from heavylift.store.model import ClaimReply, ClaimRequest, Enqueued, EnqueueRequest, Outcome, Reply
from heavylift.store.ops.replies import reply
from heavylift.store.steps import Arg, Call, Op

_BATCH_BYTES = 4 * 1024 * 1024
_WORK, _WORK_MORE = 2, {"key": 2, "dedupe": 1}
"""What accepting an entry costs, and what options add to it, as measured."""

CLAIM_ENDS = {
    "expired": Outcome(
        cls=OutcomeClass.TIMEOUT,
        message="expired: it was not started before its expiry (`expires`, or RQ's ttl)",
        evidence={"reason": "expired"},
    ),
    "nodata": Outcome(cls=OutcomeClass.INVALID, message="the job has no data: enqueue it again"),
    "toolarge": Outcome(
        cls=OutcomeClass.INVALID,
        message=f"the stored payload is larger than {limits.STORED_MAX:,} bytes: store the data elsewhere and pass a "
        "reference (URL, object key, path)",
    ),
    "starts": Outcome(
        cls=OutcomeClass.INVALID,
        message=f"started {limits.STARTS_MAX} times without coming to an end: not started again",
    ),
    "corrupt": Outcome(
        cls=OutcomeClass.INVALID,
        message="a key of this job in Redis has the wrong type; the queue's quarantine names it",
    ),
    "key": Outcome(
        cls=OutcomeClass.INVALID,
        message=f"its concurrency key cannot be used: 1 to {limits.KEY_MAX} bytes without control characters",
    ),
    "options": Outcome(cls=OutcomeClass.INVALID, message="the job's options are not a JSON object: enqueue it again"),
    "total": Outcome(
        cls=OutcomeClass.TIMEOUT,
        message="not started again: its total time (timeouts.total, from its first claim) is over",
        evidence={"reason": "total"},
    ),
}
"""What claim itself may find; the payload's content is judged by the dispatcher."""


_OWN_FIELDS = frozenset({"priority", "lifo", "key", "dedupe"})
"""Options that stand in fields of their own in the job's hash: scripts act on them."""


_HEADER_LINES, _OWN_LINES = 16, 4


def entry_arguments(*reqs: EnqueueRequest) -> tuple[Arg, ...]:
    """Return entries as scripts take them (L.entry in _accept.lua): of each a header of lines, own lines, and the data.

    A header is empty when it is the one of the entry before.

    Raises:
        InvalidInputError: a part holds a line break.
    """
    arguments: list[Arg] = []
    before: tuple[Any, ...] = ()
    for req in reqs:
        shared = (
            *(req.queue, req.task, req.if_exists, req.delay_ms, req.expires_ms, req.options, req.description),
            *(req.strict, req.depends_on, req.settings_tag),
        )
        header = "" if shared == before else _header(req)
        own = f"{req.id}\n{req.incarnation}\n{req.fingerprint}\n{req.origin_trace}"
        if own.count("\n") != _OWN_LINES - 1:
            raise _broken(req)
        arguments += (header, own, req.data)
        before = shared
    return tuple(arguments)


def _header(req: EnqueueRequest) -> str:
    dedupe = decode.mapping(req.options.get("dedupe"))
    ttl, delay = dedupe.get("ttl"), req.delay_ms
    if dedupe.get("mode") == "debounce":
        delay = ttl or delay
    options = {name: value for name, value in req.options.items() if name not in _OWN_FIELDS}
    lines = (
        *(req.queue, req.task, req.if_exists, str(delay)),
        "" if req.expires_ms is None else str(req.expires_ms),
        bodies.compact(options) if options else "",
        (req.description or req.task).replace("\n", " "),
        *("1" if req.strict else "0", str(req.options.get("priority") or 0)),
        "1" if req.options.get("lifo") else "0",
        *(req.options.get("key") or "", dedupe.get("id") or "", dedupe.get("mode") or "first"),
        "" if ttl is None else str(ttl),
        ",".join(req.depends_on),
        req.settings_tag,
    )
    text = "\n".join(lines)
    if text.count("\n") != _HEADER_LINES - 1:
        raise _broken(req)
    return text


def _broken(req: EnqueueRequest) -> InvalidInputError:
    return InvalidInputError(f"job {req.id[:60]!r}: queue, id, task, keys and options are one line each")


def _enqueued(row: Any, req: EnqueueRequest) -> Enqueued:
    if not isinstance(row, list | tuple):
        return Enqueued(id=req.id, created=True, state=decode.member(JobState, row, JobState.WAITING))
    job, created, state, error, message = (decode.text(part) for part in row)
    return Enqueued(
        id=job,
        created=created == "1",
        state=decode.member(JobState, state, JobState.FAILED),
        error=error,
        message=message,
    )


def enqueue(req: EnqueueRequest) -> Op[Enqueued]:
    """Accept one job. A refusal is in the value's ``error``, not raised."""
    rows = yield Call("enqueue", entry_arguments(req))
    return _enqueued(rows[0], req)


def enqueue_many(reqs: Sequence[EnqueueRequest]) -> Op[list[Enqueued]]:
    """Accept many jobs, each on its own, in as few calls as their size allows."""
    accepted: list[Enqueued] = []
    for batch in batches(reqs):
        accepted += yield from enqueue_batch(batch)
    return accepted


def enqueue_batch(reqs: Sequence[EnqueueRequest]) -> Op[list[Enqueued]]:
    """Accept the jobs of one call (see ``batches``)."""
    rows = yield Call("enqueue", entry_arguments(*reqs))
    return [_enqueued(row, req) for row, req in zip(rows, reqs, strict=True)]


def batches(reqs: Sequence[EnqueueRequest]) -> Iterator[list[EnqueueRequest]]:
    """Yield the requests in parts of which each fits into one call."""
    batch: list[EnqueueRequest] = []
    size = work = 0
    for req in reqs:
        needs = _WORK + sum(more for name, more in _WORK_MORE.items() if name in req.options)
        if batch and (work + needs > limits.BATCH_WORK or size + len(req.data) > _BATCH_BYTES):
            yield batch
            batch, size, work = [], 0, 0
        batch.append(req)
        size += len(req.data)
        work += needs
    if batch:
        yield batch


_LIMITS = bodies.compact(
    {
        "max": limits.CLAIM_MAX,
        "looked": limits.CLAIM_LOOKED_AT,
        "bytes": limits.CLAIM_BYTES,
        "promote": limits.CLAIM_PROMOTIONS,
        "stored": limits.STORED_MAX,
        "id": limits.JOB_ID_MAX,
        "starts": limits.STARTS_MAX,
    }
)
_ENDS = bodies.ends(CLAIM_ENDS)


def claim(req: ClaimRequest) -> Op[ClaimReply]:
    """Take up to ``max`` jobs (at most 20 a call), and learn why there are not more.

    Bad entries never stop a queue: what is no job of ours goes to the quarantine, ghosts are dropped and counted, jobs
    that are expired, without data, too large or with broken options end as failed. A queue with a corrupt key of its
    own answers ``corrupt`` and keeps a trouble note until it is mended; the others go on.
    """
    answer = yield Call(
        "claim",
        (req.worker, req.request, req.install, req.max, req.slots, req.deadline_ms, _LIMITS, _ENDS, *req.queues),
    )
    rows, blocked, due = answer
    return ClaimReply(
        claims=decode.claims(rows, install=req.install, worker=req.worker),
        blocked={queue: decode.text(reason) for queue, reason in decode.pairs(blocked).items()},
        next_due_ms=None if int(due) < 0 else int(due),
    )


def cancel(job: str, *, by: str, reason: str = "") -> Op[Reply]:
    """Cancel a job.

    APPLIED: it waited and is cancelled. CANCELLED: it is active; the request is stored and the operator woken.
    ALREADY: it was cancelled before. REFUSED: too late, it has ended. MISSING, CORRUPT.
    """
    by, reason = bodies.clip(by, 200), bodies.clip(reason, 500)
    message = f"cancelled by {by}" + (f": {reason}" if reason else "")
    end = Outcome(cls=OutcomeClass.CANCELLED, message=message)
    answer = yield Call(
        "cancel",
        (
            job,
            bodies.compact({"by": by, "reason": reason}),
            bodies.compact({"class": end.cls.value, "body": bodies.body(end), "exc": ""}),
        ),
    )
    return reply(answer)
