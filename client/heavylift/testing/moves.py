"""How jobs move between states in the model: ends, retention, fences."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract.states import JobState
from heavylift.testing.places import Places
from heavylift.testing.state import ENDED, KEEP, Fields, number, state_of, without

STATUS: Final = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}
NEXT: Final = {JobState.COMPLETED: "complete", JobState.FAILED: "fail", JobState.CANCELLED: "cancel"}
EXECUTION: Final = ("hl:exec", "hl:phase", "hl:deadline", "hl:worker")
_HISTORY: Final = 20
TRIM: Final = 20
_FREED: Final = 50
_HELD: Final = 3_600_000
"""ms that an ended job stays longer while its Kubernetes Job is not let go."""
_REVIVED: Final = (
    "hl:ended", "hl:outcome", "hl:result", "hl:cancel", "hl:expires", "hl:due", "hl:reason", "hl:evidence",
    "hl:running", "hl:job", "hl:uid", "hl:claimed", "hl:first", *EXECUTION,
)  # fmt: skip


def sha1(text: str) -> str:
    """Return the hash that ids are made of."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, kw_only=True)
class End:
    """A terminal state to write."""

    state: JobState
    cls: str
    body: str
    small: str = ""
    """The body as the history keeps it; empty = the same."""
    result: str | None = None
    execution: str = ""
    seq: int = 0
    attempt: int = 1
    started: int | None = None
    ended: int | None = None
    spend: str = "none"
    worker: str = ""
    fields: Fields = field(default_factory=dict)


def outcome_text(now: int, end: End, next_: str, body: str, *, delay: int = 0, memory: int | None = None) -> str:
    """Return one outcome as it is stored."""
    known: dict[str, Any] = {
        "seq": end.seq,
        "attempt": end.attempt,
        "execution": end.execution,
        "next": next_,
        "at": now,
        "startedAt": end.started,
        "endedAt": now if end.ended is None else end.ended,
        "delayMs": delay,
        "spend": end.spend,
    }
    if memory is not None:
        known["memory"] = memory
    return json.dumps({**known, **json.loads(body)}, separators=(",", ":"))


def history_lines(text: object) -> list[str]:
    """Return the entries of a stored history."""
    return [line.removesuffix(",") for line in str(text or "").split("\n") if line.startswith("{")]


def with_entry(text: object, entry: str) -> str:
    """Return a stored history with one entry more."""
    lines = [*history_lines(text), entry][-_HISTORY:]
    return "[\n" + ",\n".join(lines) + "\n]"


def sound(job: str, fields: Fields) -> bool:
    """Whether the fields are of this incarnation: RQ may have enqueued the id anew over ours."""
    source = sha1(f"{job}\n{fields.get('created_at', '')}")
    if "hl:src" in fields:
        return bool(fields["hl:src"] == source)
    return bool(fields.get("hl:inc") == source[:16])


def cancelled(fields: Fields) -> bool:
    """Whether somebody wants this active job to end: our cancel, or a status that RQ's own cancel and stop leave."""
    return "hl:cancel" in fields or fields["status"] in {"canceled", "stopped"}


class Moves(Places):
    """What several operations share."""

    # -- ends ---------------------------------------------------------------------------------------------------------
    def keep(self, queue: str, state: JobState) -> tuple[int, int]:
        """Return how many ended jobs are kept, and for how long (ms)."""
        settings = self.state.queue(queue).settings or {}
        name = "completed" if state is JobState.COMPLETED else "failed"
        own = (settings.get("retention") or {}).get(name) or {}
        count, age = (own.get(part, default) for part, default in zip(("count", "age"), KEEP[state], strict=True))
        return int(count), max(int(age), 60_000)

    def finish(self, queue: str, job: str, fields: Fields, end: End) -> str:
        """Write a terminal state, with all that follows from it; returns the stored outcome."""
        text = self.end_job(queue, job, fields, end)
        self.trim(queue, end.state, TRIM)
        return text

    def end_job(self, queue: str, job: str, fields: Fields, end: End) -> str:
        """Write a terminal state; retention follows when the attempt's end is settled."""
        now, there = self.state.now, self.state.queue(queue)
        ours = fields["status"] == "started" and "hl:task" in fields  # every state before let go of it
        text = outcome_text(now, end, NEXT[end.state], end.body)
        small = outcome_text(now, end, NEXT[end.state], end.small or end.body)
        fields |= {
            "status": STATUS[end.state],
            "ended_at": self.state.clock.text((now if end.ended is None else end.ended) * 1000 + 999),
            "hl:ended": str(now),
            "hl:outcome": text,
            "hl:history": with_entry(fields.get("hl:history"), small),
        }
        if end.result is not None:
            fields["hl:result"] = end.result
        fields |= end.fields
        without(fields, ("hl:reason", "hl:due", *EXECUTION))
        ttl = self.keep(queue, end.state)[1] // 1000
        asked = number(fields, "result_ttl" if end.state is JobState.COMPLETED else "failure_ttl", -1)
        for state in ENDED:
            there.kept[state].pop(job, None)
        if not ours:
            self.unlist(queue, job)
        there.ended[end.state][job] = now
        there.kept[end.state][job] = now // 1000 + (ttl if asked < 0 else max(min(ttl, asked), 60))
        self.state.emit(
            queue, end.state.value, job, final="1", class_=end.cls, execution=end.execution, attempt=str(end.attempt),
            seq=str(end.seq), worker=end.worker, uid=fields.get("hl:uid", ""),
        )  # fmt: skip
        self.state.count(queue, end.state.value)
        self.state.count(queue, f"outcome:{end.cls}:1")
        self.state.published(f"done:{job}")
        self.dedup_end(queue, fields.get("hl:dedup", ""), job, end.state)
        self.free_dependents(job, end.state, _FREED)
        return text

    def unlist(self, queue: str, job: str) -> None:
        """Take a job from among the ended ones."""
        there = self.state.queue(queue)
        for state in ENDED:
            there.ended[state].pop(job, None)
            there.kept[state].pop(job, None)

    def trim(self, queue: str, state: JobState, step: int) -> int:
        """Remove what retention no longer keeps, a bounded number; returns how many."""
        index, removed = self.state.queue(queue).ended[state], 0
        count, age = self.keep(queue, state)
        excess = max(len(index) - count, 0)
        for job, at in sorted(index.items(), key=lambda entry: (entry[1], entry[0]))[:step]:
            if removed >= excess and at > self.state.now - age:
                break
            fields = self.state.jobs.get(job)
            if fields is None or number(fields, "hl:ended", -1) != at or state_of(fields) is not state:
                self._outdated(queue, state, job)
                removed += 1
            elif not self.bound(fields) or at < self.state.now - age - _HELD:
                self.remove(queue, job, state)
                self.state.emit(queue, "removed", job, reason="retention", prev=state.value)
                self.state.count(queue, "trimmed")
                removed += 1
        return removed

    def _outdated(self, queue: str, state: JobState, job: str) -> None:
        """Take an entry that is gone, or lives again, out of the index of ended jobs."""
        there = self.state.queue(queue)
        del there.ended[state][job]
        if job not in self.state.jobs:
            there.kept[state].pop(job, None)
            self.state.emit(queue, "removed", job, reason="gone", prev=state.value)
            self.state.count(queue, "trimmed")

    def bound(self, fields: Fields) -> bool:
        """Whether its Kubernetes Job is not let go yet."""
        name = f"{fields.get('hl:ns', '')}/{fields.get('hl:job', '')}"
        return name in self.state.unfinalized.get(str(fields.get("hl:install", "")), {})

    def remove(self, queue: str, job: str, state: JobState, stays: str | None = None) -> None:
        """Remove a job and all that belongs to it.

        One whose id lives on (``stays`` = its deduplication key then) keeps those that wait for it, and that key.
        """
        fields, there = self.state.jobs.pop(job, {}), self.state.queue(queue)
        self.state.dependencies.pop(job, None)
        if stays is None:
            self.state.dependents.pop(job, None)
        if fields.get("hl:dedup", "") != stays:
            self.dedup_end(queue, fields.get("hl:dedup", ""), job, None)
        for each in ENDED:
            there.kept[each].pop(job, None)
        there.ended[state].pop(job, None)

    def revive(self, queue: str, job: str, fields: Fields, more: Fields | None = None) -> None:
        """Let an ended job wait again."""
        fields |= {
            "status": "queued", "enqueued_at": self.state.clock.text(), "started_at": "", "ended_at": "",
            "worker_name": "", "hl:enqueued": str(self.state.now), "hl:attempts": "0", "hl:starts": "0",
            "hl:silent": "0", "hl:budgets": "{}", **(more or {}),
        }  # fmt: skip
        without(fields, _REVIVED)
        self.place(queue, job, fields)
        key = fields.get("hl:dedup", "")
        if key and not self.dedup_rival(queue, key, job):
            self.dedup_take(queue, key, job, again=True)
        self.unlist(queue, job)
        self.state.count(queue, "retried")
        self.state.emit(queue, "waiting", job, reason="retry")

    def live(self, install: str) -> int:
        """Return how many dispatchers of an install are alive."""
        return sum(until > self.state.now for until in self.state.dispatchers.get(install, {}).values())

    # -- fences -------------------------------------------------------------------------------------------------------
    def fence(self, job: str, execution: str, worker: str, uid: str) -> tuple[str, str, Fields]:
        """Return why the caller may not act on an execution (or nothing), a sentence, and the job's fields."""
        fields = self.state.jobs.get(job)
        if fields is None:
            self.forget_everywhere(job, execution)
            return "missing", f"no job {job}", {}
        current = fields.get("hl:exec")
        why = ""
        if current != execution:
            if any(f"{job}:{execution}" in running for running in self.state.inflight.values()):
                self.forget_everywhere(job, execution)
            why = f"its current execution is {current or 'none'}"
        elif not sound(job, fields):
            why = "the id was enqueued anew"
        elif worker and fields.get("hl:worker") != worker:
            why = f"it is held by {fields.get('hl:worker') or 'nobody'}"
        elif uid and fields.get("hl:uid") not in {None, uid}:
            why = f"its Job has uid {fields['hl:uid']}"
        return ("refused" if why else ""), why, fields

    def refuse(self, fields: Fields, verdict: str) -> None:
        """Count a refused fence."""
        if verdict == "refused":
            self.state.count(fields["origin"], "conflicts")

    def recorded(self, fields: Fields, uid: str) -> bool:
        """Note a Job's UID; the first one counts a start."""
        if not uid or fields.get("hl:uid"):
            return False
        fields |= {"hl:uid": uid, "hl:starts": str(number(fields, "hl:starts") + 1), "hl:silent": "0"}
        if fields.get("hl:phase") == "claimed":
            fields["hl:phase"] = "pending"
        return True
