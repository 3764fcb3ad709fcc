"""Changing what waits and what ended: promote, change, retry, purge, find, sweep; each bounded step is one script."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from heavylift.contract import limits, payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState
from heavylift.store import bodies, decode
from heavylift.store.model import Change, JobRecord, Json, Outcome, Reply, Verdict
from heavylift.store.ops.replies import reply
from heavylift.store.steps import Arg, Call, Command, Op


def _applied(done: Reply) -> Reply:
    """Return the reply; a repeat of the same operation is a success."""
    return Reply(verdict=Verdict.APPLIED, message=done.message) if done.verdict is Verdict.ALREADY else done


def _data(task: str, change: Change) -> tuple[Arg, Arg]:
    """Return the stored payload and fingerprint of changed data for a job of this task; empty = unchanged."""
    if change.data_json is None or not task:
        return ("" if change.data_json is None else "?", "")
    return payload.wrap(task, change.data_json), payload.fingerprint(task, change.data_json)


def promote(job: str) -> Op[Reply]:
    """Let a delayed job wait now; ALREADY = it waits, REFUSED = it is neither. MISSING, CORRUPT."""
    answer = yield Call("promote", (job,))
    return reply(answer)


def remove(job: str) -> Op[Reply]:
    """Remove a job that is not active, and all that is kept of it. REFUSED says why not. MISSING, CORRUPT."""
    answer = yield Call("remove", (job,))
    return reply(answer)


def change(found: JobRecord, change: Change) -> Op[Reply]:
    """Change a job that has not ended: its priority at any time, its delay and data while nothing of it runs.

    A delay of 0 lets a delayed job wait now; a positive one makes a waiting job delayed. REFUSED says why.
    """
    data, fingerprint = _data(found.task, change)
    priority = "" if change.priority is None else change.priority
    delay = "" if change.delay_ms is None else change.delay_ms
    answer = yield Call("change", (found.id, secrets.token_hex(8), priority, delay, data, fingerprint))
    return _applied(reply(answer))


def retry(job: str, change: Change | None = None, *, by: str = "") -> Op[Reply]:
    """Let a failed or cancelled job wait again: attempts from zero, history kept, next seq.

    Args:
        job: its id.
        change: options that replace those of the same name, another priority, other data. Of resources, env, labels and
            timeouts each entry counts as one: ``{"resources": {"memory": "8Gi"}}`` leaves the cpu as it was.
        by: who, for the event.
    """
    found = None
    if change is not None:
        answer = yield Call("get_job", (job, "0"))
        found = decode.record(job, decode.pairs(answer[2]))
    (done,) = yield from _retry([(job, found)], change or Change(), by)
    return done


def retry_many(found: Sequence[JobRecord], change: Change | None = None, *, by: str = "") -> Op[list[Reply]]:
    """Retry up to ``limits.RETRY_STEP`` jobs in one step, each for itself; see ``retry``."""
    return (yield from _retry([(record.id, record) for record in found], change or Change(), by))


def _retry(jobs: Sequence[tuple[str, JobRecord | None]], change: Change, by: str) -> Op[list[Reply]]:
    arguments: list[Arg] = [
        secrets.token_hex(8),
        bodies.clip(by, 200),
        "" if change.priority is None else change.priority,
    ]
    for job, found in jobs:
        options = bodies.compact(_changed(found.options, change.options)) if found and change.options else ""
        arguments += [job, options, *_data(found.task if found else "", change)]
    rows = yield Call("retry", tuple(arguments))
    return [_applied(reply(row)) for row in rows]


_OF_ENTRIES = ("resources", "env", "labels", "timeouts")


def _changed(old: Json, new: Json) -> Json:
    """Return a job's options with what is set anew."""
    changed = {**old, **new}
    for name in _OF_ENTRIES:
        if name in new and isinstance(kept := old.get(name), dict):  # another producer may have written anything
            changed[name] = {**kept, **new[name]}
    return changed


def find_ended(
    queue: str, state: JobState, *, cls: str = "", since: int = 0, start: int = 0
) -> Op[tuple[list[JobRecord], int, bool]]:
    """Return a page of ended jobs, newest first, how many entries were looked at, and whether more may follow.

    Args:
        queue: the queue.
        state: completed, failed or cancelled.
        cls: an outcome class, for example ``oom``; empty = any.
        since: ended at this time (ms) or later.
        start: entries to pass over.
    """
    looked, more, *flat = yield Call("find_ended", (queue, state.value, cls, since, start, limits.FIND_STEP))
    page = [decode.record(job, decode.pairs(fields)) for job, fields in decode.pairs(flat).items()]
    return page, int(looked), decode.text(more) == "1"


def purge(queue: str, state: JobState, limit: int) -> Op[int]:
    """Remove up to ``limit`` jobs of a state, in bounded steps; returns how many went.

    Ended jobs whose Kubernetes Job is not let go yet stay. Removing jobs is no cancel: whoever waits for one gets
    JobNotFoundError; what depends on one that never completed is cancelled by the next sweep (``sweep_dependents``).
    """
    removed = skip = 0
    while removed < limit:
        step = min(limits.PURGE_STEP, limit - removed)
        gone, kept, more = yield Call("purge", (queue, state.value, step, skip))
        removed, skip = removed + int(gone), skip + int(kept)
        if decode.text(more) != "1":
            break
    return removed


def sweep_dedupe(queue: str, cursor: int = 0) -> Op[tuple[int, int]]:
    """Take one step of a sweep over the deduplication keys; returns the next cursor (0 = done) and how many went."""
    following, flat = yield Command(lambda keys: ("HSCAN", keys.dedup(queue), cursor, "COUNT", limits.SWEEP_STEP))
    found = [decode.raw(key) for key in (flat if isinstance(flat, dict) else flat[::2])]
    stale = 0
    for start in range(0, len(found), limits.SWEEP_STEP):
        stale += int((yield Call("sweep_dedupe", (queue, *found[start : start + limits.SWEEP_STEP]))))
    return int(following), stale


def sweep_dependents(queue: str, cursor: int = 0) -> Op[tuple[int | None, int]]:
    """Take one step of a sweep over the jobs that wait for others.

    One whose dependencies are all met waits; one that waits for nothing but dependencies that are gone, and so never
    completed, ends as cancelled. Returns the next cursor (None = done) and how many were mended
    (``repaired:dependents``).
    """
    message = "the job <job>, which it depends on, was removed before it completed"  # the script knows which
    end = Outcome(cls=OutcomeClass.CANCELLED, message=message)
    ended = bodies.compact({"class": end.cls.value, "body": bodies.body(end)})
    following, mended = yield Call("sweep_dependents", (queue, cursor, limits.DEPENDENTS_SWEEP_STEP, ended))
    return (None if int(following) < 0 else int(following)), int(mended)


def sweep_ended(queue: str, cursor: int = 0) -> Op[tuple[int | None, int]]:
    """Take one step of a sweep over RQ's registries of ended jobs.

    A job that RQ ended by itself (a worker of RQ took it, ``Job.cancel``) is listed, retried, purged and trimmed from
    then on as others are. Returns the next cursor (None = done) and how many came in (``repaired:ended``).
    """
    following, mended = yield Call("sweep_ended", (queue, cursor, limits.ENDED_SWEEP_STEP))
    return (None if int(following) < 0 else int(following)), int(mended)


def dedupe_holder(queue: str, key: str) -> Op[str | None]:
    """Return the id of the job that holds a deduplication key, None when it is free."""
    answer = yield Call("dedupe_holder", (queue, key, "0"))
    return decode.text(answer) or None


def release_dedupe(queue: str, key: str) -> Op[bool]:
    """Free a deduplication key; its job goes on, a follower goes next. False = nothing held it."""
    answer = yield Call("dedupe_holder", (queue, key, "1"))
    return bool(decode.text(answer))
