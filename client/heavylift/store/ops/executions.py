"""The current execution of a job: record, check, release, observe, finish. Each is fenced."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any

from heavylift.contract import ids, limits
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import InvalidInputError, StoreCorruptError
from heavylift.store import bodies, decode
from heavylift.store.merge import merge
from heavylift.store.model import (
    Claim,
    Fence,
    FinishReply,
    FinishRequest,
    JobRecord,
    Json,
    Next,
    Observation,
    Outcome,
    Reply,
    Verdict,
)
from heavylift.store.ops.replies import reply, verdict
from heavylift.store.steps import Arg, Call, Op

_OBSERVE_TRIES = 20
_KNOWN_MAX = 2048
"""Bytes of evidence that an observer remembers of one execution."""
_PHASES = [phase.value for phase in Phase]
"""In their order."""
RESULT_MAX = 4096
_ANSWERED = 4
"""Parts of an end's answer where nothing is left to do."""

RELEASE_ENDS = {
    "cancelled": Outcome(cls=OutcomeClass.CANCELLED, message="cancelled before its pod was created"),
    "silent": Outcome(
        cls=OutcomeClass.INVALID,
        message=f"{limits.SILENT_CLAIMS_MAX} claims in a row passed their deadline without a word from the dispatcher: "
        "something in this job stops it",
    ),
}
_ENDS = bodies.ends(RELEASE_ENDS)


def _fence(fence: Fence) -> tuple[Arg, ...]:
    return (fence.job, fence.execution, fence.worker or "", fence.uid or "")


def record(fence: Fence, *, job_name: str, uid: str, namespace: str) -> Op[Reply]:
    """Remember the Job created for an execution; filled in once, another UID is REFUSED.

    CANCELLED = recorded (now or before), and a cancel is requested: delete the Job.
    """
    answer = yield Call("record", (fence.job, fence.execution, fence.worker or "", uid, job_name, namespace))
    return reply(answer)


def attend(fence: Fence) -> Op[Reply]:
    """Say that the dispatcher takes up a suspect: a job whose claim before went silent (``Claim.silent`` > 0)."""
    answer = yield Call("attend", _fence(fence))
    return reply(answer)


def check(fence: Fence) -> Op[Reply]:
    """Tell whether the caller may still act: APPLIED = go on, CANCELLED = a cancel is requested.

    It takes back what ``attend`` said and changes nothing else.
    """
    answer = yield Call("check", _fence(fence))
    return reply(answer)


def release(fence: Fence, *, reason: str, delay_ms: int = 0, silent: bool = False) -> Op[Reply]:
    """Give an execution back to the front of its queue, or among the delayed; no attempt is spent.

    Args:
        fence: whose it is.
        reason: why, for people; also shown as the job's reason.
        delay_ms: not again before; 0 = at once.
        silent: the reconciler's: its claim deadline passed without a Job (else REFUSED). The first time makes the job
            a suspect; at the third that counts (the dispatcher had said ``attend`` and nothing since) it ends as
            ``invalid``. Jobs that a dying dispatcher merely held do not count.

    CANCELLED = a cancel was requested: the job has ended as cancelled instead.
    """
    answer = yield Call(
        "release",
        (
            *_fence(fence),
            bodies.clip(reason, 1000),
            delay_ms,
            "1" if silent else "0",
            secrets.token_hex(8),
            _ENDS,
            limits.SILENT_CLAIMS_MAX,
        ),
    )
    done = reply(answer)
    return Reply(verdict=Verdict.APPLIED, message=done.message) if done.verdict is Verdict.ALREADY else done


def observe(
    fence: Fence, obs: Observation, known: MutableMapping[str, bytes] | None = None
) -> Op[tuple[Verdict, JobRecord | None]]:
    """Merge what was seen into the stored evidence; APPLIED or CANCELLED (a cancel is requested), else unchanged.

    The record is what stands in Redis afterwards; None when there is no job hash.

    Args:
        fence: whose it is.
        obs: what was seen.
        known: execution -> evidence as this observer left it, if it is short: its next observation then need not ask
            twice. With it, what another observer wrote before is not written again: ALREADY. The caller bounds it.
    """
    expected = b"" if known is None else known.get(fence.execution, b"")
    stored = decode.obj(expected)
    for _ in range(_OBSERVE_TRIES):
        merged = merge(stored, obs.evidence, terminal=obs.terminal)
        text = bodies.compact(bodies.bounded(merged, limits.OBSERVED_MAX)) if merged else expected
        answer = yield Call(
            "observe",
            (
                *_fence(fence),
                obs.phase.value,
                bodies.clip(obs.reason, 1000),
                "" if obs.running_at is None else obs.running_at,
                text,
                expected,
            ),
        )
        fields = decode.pairs(answer[2])
        if decode.text(answer[0]) != "conflict":
            done = verdict(answer[0])
            if known is not None and done is Verdict.APPLIED and len(text) <= _KNOWN_MAX:
                known[fence.execution] = decode.raw(text)
            return done, decode.record(fence.job, fields) if fields else None
        expected = decode.raw(fields.get("hl:evidence"))
        stored = decode.obj(expected)
        if known is not None and _stands(fence, obs, fields, stored):
            return Verdict.ALREADY, decode.record(fence.job, fields)
    raise StoreCorruptError(f"the evidence of job {fence.job} changes faster than it can be merged")


def _stands(fence: Fence, obs: Observation, fields: Mapping[str, Any], stored: Json) -> bool:
    """Return whether a job's hash says all that was seen; of words for people, the first stand."""
    if not obs.evidence or merge(stored, obs.evidence, terminal=obs.terminal) != stored:
        return False
    phase = decode.text(fields.get("hl:phase"))
    if phase not in _PHASES or _PHASES.index(phase) < _PHASES.index(obs.phase.value):
        return False
    running = obs.running_at is None or bool(fields.get("hl:running"))
    return running and bool(fence.uid) and decode.text(fields.get("hl:uid")) == fence.uid


def _finish_arguments(req: FinishRequest) -> tuple[Arg, ...]:
    outcome = req.outcome
    body, small, instead, instead_small = bodies.of_end(outcome)
    further: dict[str, Arg | None] = {
        "small": small,
        "instead": instead,
        "instead_small": instead_small,
        "memory": req.memory,
        "checkpoint": req.checkpoint,
        "hold": min(max(req.hold_ms, 0), limits.HOLD_MAX_MS),
    }
    named = {name: word for name, word in further.items() if word}
    return (
        *_fence(req.fence),
        f"{req.next} {req.spend} {outcome.cls} {req.delay_ms} {int(req.job_exists)}",
        body,
        bodies.exception_text(outcome) if req.next is Next.FAIL else "",
        req.result or "",
        bodies.return_value(req.result),
        "" if req.started_at is None else req.started_at,
        "" if req.ended_at is None else req.ended_at,
        " ".join(named),
        *named.values(),
    )


_STATES: dict[bytes, JobState] = {state.value.encode(): state for state in JobState}


def _finish_reply(answer: Any) -> FinishReply:
    state = answer[1]
    return FinishReply(
        verdict=verdict(answer[0]),
        state=_STATES.get(state) or decode.member(JobState, state, JobState.FAILED) if state else None,
        stored=decode.obj(answer[2]),
        message=decode.text(answer[3]),
    )


def finish(req: FinishRequest) -> Op[FinishReply]:
    """Write one outcome, once per execution; ALREADY carries what was written before.

    A requested cancel turns a failure or a retry into ``cancelled``; so does RQ's own cancel, for a success too.
    MISSING: the hash is gone (what was left of the execution is cleaned up). REFUSED: another execution is current.

    Raises:
        InvalidInputError: the result is larger than 4 KiB, or the checkpoint than limits.CHECKPOINT_MAX.
    """
    if req.result is not None and bodies.size(req.result) > RESULT_MAX:
        raise InvalidInputError(f"a result has at most {RESULT_MAX} bytes of JSON: return a reference")
    if req.checkpoint is not None and bodies.size(req.checkpoint) > limits.CHECKPOINT_MAX:
        raise InvalidInputError(f"a checkpoint has at most {limits.CHECKPOINT_MAX} bytes of JSON: keep a reference")
    answer = yield Call("finish", _finish_arguments(req), limits.ENDS_MAX)
    done = _finish_reply(answer)
    if len(answer) > _ANSWERED:  # it has a Job, and nobody said its name
        install, namespace, queue, incarnation, seq = (decode.text(part) for part in answer[_ANSWERED:])
        last = decode.number(req.fence.execution.rpartition("-")[2])
        number = (decode.number(seq) or 0) if last is None else last
        name = ids.job_name(install, queue, req.fence.job, incarnation, number)
        owner = f"{req.fence.job}:{req.fence.execution}"
        yield Call("finalized", (install, f"{namespace}/{name}", owner, "1"))
    return done


def finalized(install: str, namespace: str, job_name: str) -> Op[bool]:
    """Note that a Job's finishing PATCH is confirmed; False = it was not open."""
    changed = yield Call("finalized", (install, f"{namespace}/{job_name}", "", "0"))
    return bool(changed)


def unfinalized(install: str, limit: int = 100, older_than_ms: int = 0) -> Op[list[tuple[str, str, str, str]]]:
    """Return (namespace, Job name, job, execution) of Jobs finished here whose PATCH is not confirmed, oldest first."""
    answer = yield Call("unfinalized", (install, limit, older_than_ms))
    found = []
    for member, owner in decode.pairs(answer).items():
        namespace, _, name = member.partition("/")
        job, _, execution = decode.text(owner).partition(":")
        found.append((namespace, name, job, execution))
    return found


def own_claims(install: str, worker: str) -> Op[tuple[Claim, ...]]:
    """Return what this worker claimed and has no Job recorded for: to be resumed after an unknown outcome."""
    rows = yield Call("own_claims", (install, worker, limits.STORED_MAX))
    return decode.claims(rows, install=install, worker=worker)
