"""Jobs from outside: enqueue, claim, cancel, retry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from heavylift.contract import limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.errors import InvalidInputError
from heavylift.store import bodies, decode
from heavylift.store.model import ClaimReply, ClaimRequest, Enqueued, EnqueueRequest, Outcome, Reply
from heavylift.store.ops.replies import reply
from heavylift.store.steps import Arg, Call, Op

_BATCH_BYTES = 4 * 1024 * 1024
_WORK, _WORK_KEY = 2, 1
"""What accepting an entry costs, and what a concurrency key adds to it, as measured."""

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


_HEADER_LINES, _OWN_PARTS = 12, 8


def header(req: EnqueueRequest) -> str:
    """Return what entries share, as scripts take it (L.entry in _accept.lua): all but what ``own_parts`` holds.

    Raises:
        InvalidInputError: a part holds a line break.
    """
    dedupe = decode.mapping(req.options.get("dedupe"))
    ttl, delay = dedupe.get("ttl"), req.delay_ms
    if dedupe.get("mode") == "debounce":
        delay = ttl or delay
    options = {name: value for name, value in req.options.items() if name not in OWN_FIELDS}
    lines = (
        *(req.queue, req.task, req.if_exists, str(delay)),
        "" if req.expires_ms is None else str(req.expires_ms),
        bodies.compact(options) if options else "",
        (req.description or req.task).replace("\n", " "),
        *("1" if req.strict else "0", dedupe.get("mode") or "first", "" if ttl is None else str(ttl)),
        *(",".join(req.depends_on), req.settings_tag),
    )
    text = "\n".join(lines)
    if text.count("\n") != _HEADER_LINES - 1:
        raise _broken(req.id)
    return f"\n{text}"


OWN_FIELDS = frozenset({"priority", "lifo", "key", "dedupe"})
"""Options that stand in fields of their own in the job's hash: scripts act on them."""


def own_parts(job: str, incarnation: str, fingerprint: str, trace: str, order: tuple[int, bool, str, str]) -> bytes:
    """Return what an entry has of its own in front of its data, each part with a NUL at its end.

    ``order`` = its priority, whether it is lifo, its key and deduplication key.

    Raises:
        InvalidInputError: a part holds a line break or a NUL.
    """
    priority, lifo, key, dedupe = order
    text = f"{job}\0{incarnation}\0{fingerprint}\0{trace}\0{priority or ''}\0{'1' if lifo else ''}\0{key}\0{dedupe}\0"
    if text.count("\0") != _OWN_PARTS or "\n" in text:
        raise _broken(job)
    return text.encode()


def _broken(job: str) -> InvalidInputError:
    return InvalidInputError(f"job {job[:60]!r}: queue, id, task, keys and options are one line each")


class Entry(NamedTuple):
    """One entry of a batch, written down."""

    id: str
    header: str
    """Entries of one batch share the object, not only its text, where they can."""
    own: bytes
    """What ``own_parts`` gives, and its data."""
    work: int
    """What accepting it costs, of ``limits.BATCH_WORK``."""


def entry(req: EnqueueRequest) -> Entry:
    """Return a request as an entry.

    Raises:
        InvalidInputError: a part holds a line break or a NUL.
    """
    options, dedupe = req.options, decode.mapping(req.options.get("dedupe"))
    key, held = options.get("key") or "", dedupe.get("id") or ""
    order = (options.get("priority") or 0, bool(options.get("lifo")), key, held)
    own = own_parts(req.id, req.incarnation, req.fingerprint, req.origin_trace, order)
    return Entry(req.id, header(req), own + req.data, work_of(key))


def work_of(key: str) -> int:
    """Return what accepting an entry with this concurrency key (empty = none) costs."""
    return _WORK + (_WORK_KEY if key else 0)


def arguments(entries: Iterable[Entry]) -> tuple[Arg, ...]:
    """Return entries as scripts take them: of each its header, where that is another than before, and its own."""
    found: list[Arg] = []
    before = ""
    for each in entries:
        if each.header != before:
            before = each.header
            found.append(before)
        found.append(each.own)
    return tuple(found)


def entry_arguments(*reqs: EnqueueRequest) -> tuple[Arg, ...]:
    """Return requests as scripts take them; raises as ``entry``."""
    return arguments(entry(req) for req in reqs)


_STATES = {state.value.encode(): state for state in JobState}


def _enqueued(row: Any, job: str) -> Enqueued:
    if not isinstance(row, list | tuple):
        return Enqueued(id=job, created=True, state=_STATES.get(row) or decode.member(JobState, row, JobState.WAITING))
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
    return _enqueued(rows[0], req.id)


def enqueue_many(reqs: Sequence[EnqueueRequest]) -> Op[list[Enqueued]]:
    """Accept many jobs, each on its own, in as few calls as their size allows."""
    accepted: list[Enqueued] = []
    for batch in batches(entry(req) for req in reqs):
        rows = yield enqueue_call(batch)
        accepted += [enqueued(each, row) for row, each in zip(rows, batch, strict=True)]
    return accepted


def enqueue_call(batch: Sequence[Entry]) -> Call:
    """Return the call that accepts the entries of one batch (see ``batches``)."""
    return Call("enqueue", arguments(batch))


def enqueued(entry: Entry, row: Any) -> Enqueued:
    """Return what became of an entry, from its row in the answer to the call it was in."""
    return _enqueued(row, entry.id)


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries in parts of which each fits into one call; takes none before it is due."""
    batch: list[Entry] = []
    size = work = 0
    for each in entries:
        if batch and (work + each.work > limits.BATCH_WORK or size + len(each.own) > _BATCH_BYTES):
            yield batch
            batch, size, work = [], 0, 0
        batch.append(each)
        size += len(each.own)
        work += each.work
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
