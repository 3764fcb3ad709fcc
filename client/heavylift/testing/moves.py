"""How jobs move between states in the model: places, ends, retention, deduplication, fences."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract.states import JobState
from heavylift.testing.state import ENDED, KEEP, Fields, Holder, State, number, priority_of, state_of, without

STATUS: Final = {JobState.COMPLETED: "finished", JobState.FAILED: "failed", JobState.CANCELLED: "canceled"}
NEXT: Final = {JobState.COMPLETED: "complete", JobState.FAILED: "fail", JobState.CANCELLED: "cancel"}
EXECUTION: Final = ("hl:exec", "hl:phase", "hl:deadline", "hl:worker")
_HISTORY: Final = 20
_TRIM: Final = 20
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


class Moves:
    """What several operations share."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rung: set[str] = set()

    # -- places -------------------------------------------------------------------------------------------------------
    def place(self, queue: str, job: str, fields: Fields, *, front: bool = False, due: int | None = None) -> None:
        """Put a job among the delayed, or into the list of its priority."""
        there = self.state.queue(queue)
        if due is not None and due > self.state.now:
            there.delayed[job] = due
            return
        level = there.levels.setdefault(priority_of(fields), [])
        if front or fields.get("hl:lifo") == "1":
            level.insert(0, job)
        else:
            level.append(job)
        self.state.published("doorbell")

    def displace(self, queue: str, job: str, fields: Fields) -> None:
        """Take a job out of every place it may wait in."""
        there = self.state.queue(queue)
        for level in (priority_of(fields), 0):
            if job in there.levels.get(level, ()):
                there.levels[level].remove(job)
        there.delayed.pop(job, None)
        there.deferred.pop(job, None)

    def forget(self, queue: str, job: str, execution: str, install: str) -> None:
        """Forget an execution."""
        member = f"{job}:{execution}"
        self.state.queue(queue).started.pop(member, None)
        self.state.inflight.get(install, {}).pop(member, None)

    def drop(self, queue: str, job: str, reason: str) -> None:
        """Note an entry that was no job of its place any more."""
        self.state.count(queue, "dropped")
        self.state.emit(queue, "dropped", job, reason=reason)

    # -- ends ---------------------------------------------------------------------------------------------------------
    def keep(self, queue: str, state: JobState) -> tuple[int, int]:
        """Return how many ended jobs are kept, and for how long (ms)."""
        settings = self.state.queue(queue).settings or {}
        name = "completed" if state is JobState.COMPLETED else "failed"
        own = (settings.get("retention") or {}).get(name) or {}
        count, age = (own.get(part, default) for part, default in zip(("count", "age"), KEEP[state], strict=True))
        return int(count), max(int(age), 60_000)

    def finish(self, queue: str, job: str, fields: Fields, end: End) -> str:
        """Write a terminal state; returns the stored outcome."""
        now, there = self.state.now, self.state.queue(queue)
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
        for state in ENDED:
            there.ended[state].pop(job, None)
        there.ended[end.state][job] = now
        there.kept[job] = now // 1000 + self.keep(queue, end.state)[1] // 1000
        self.state.emit(
            queue, end.state.value, job, final="1", class_=end.cls, execution=end.execution, attempt=str(end.attempt),
            seq=str(end.seq), worker=end.worker, uid=fields.get("hl:uid", ""),
        )  # fmt: skip
        self.state.count(queue, end.state.value)
        self.state.count(queue, f"outcome:{end.cls}:1")
        self.state.published(f"done:{job}")
        self.dedup_end(queue, fields.get("hl:dedup", ""), job, end.state)
        self.trim(queue, end.state, _TRIM)
        return text

    def trim(self, queue: str, state: JobState, step: int) -> int:
        """Remove what retention no longer keeps, a bounded number; returns how many."""
        index, removed = self.state.queue(queue).ended[state], 0
        count, age = self.keep(queue, state)
        excess = max(len(index) - count, 0)
        for job, at in sorted(index.items(), key=lambda entry: (entry[1], entry[0]))[:step]:
            if removed >= excess and at > self.state.now - age:
                break
            if self.bound(self.state.jobs.get(job, {})) and at >= self.state.now - age - 3_600_000:
                continue
            self.remove(queue, job)
            self.state.emit(queue, "removed", job, reason="retention", prev=state.value)
            self.state.count(queue, "trimmed")
            removed += 1
        return removed

    def bound(self, fields: Fields) -> bool:
        """Whether its Kubernetes Job is not let go yet."""
        name = f"{fields.get('hl:ns', '')}/{fields.get('hl:job', '')}"
        return name in self.state.unfinalized.get(str(fields.get("hl:install", "")), {})

    def remove(self, queue: str, job: str, stays: str | None = None) -> None:
        """Remove a job and all that belongs to it; its deduplication key if that is not the one that ``stays``."""
        fields, there = self.state.jobs.pop(job, {}), self.state.queue(queue)
        if fields.get("hl:dedup", "") != stays:
            self.dedup_end(queue, fields.get("hl:dedup", ""), job, None)
        for state in ENDED:
            there.ended[state].pop(job, None)
        there.kept.pop(job, None)

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
        there = self.state.queue(queue)
        for state in ENDED:
            there.ended[state].pop(job, None)
        there.kept.pop(job, None)
        self.state.count(queue, "retried")
        self.state.emit(queue, "waiting", job, reason="retry")

    # -- deduplication ------------------------------------------------------------------------------------------------
    def _bearer(self, queue: str, key: str, job: str) -> Fields | None:
        fields = self.state.jobs.get(job)
        return fields if fields and fields.get("hl:dedup") == key and fields["origin"] == queue else None

    def _over(self, fields: Fields) -> JobState | None:
        state = state_of(fields)
        return state if state in ENDED and "hl:exec" not in fields else None

    def _pass(self, queue: str, key: str, entry: Holder) -> None:
        """Let the follower go next, or free the key."""
        there = self.state.queue(queue)
        fields = self._bearer(queue, key, entry.follower)
        if fields is None or self._over(fields):
            there.dedup.pop(key, None)
            return
        there.dedup[key] = Holder(entry.follower)
        if fields["status"] == "deferred":
            self._undefer(queue, entry.follower, fields)

    def _undefer(self, queue: str, job: str, fields: Fields) -> None:
        due = number(fields, "hl:due") or None
        delayed = due is not None and due > self.state.now
        fields |= {"status": "scheduled" if delayed else "queued", "enqueued_at": self.state.clock.text()}
        self.place(queue, job, fields, due=due)
        self.state.queue(queue).deferred.pop(job, None)
        reason = "the job before it ended"
        self.state.emit(queue, "delayed" if delayed else "waiting", job, reason=reason)
        without(fields, ("hl:reason",))

    def dedup_holder(self, queue: str, key: str) -> tuple[Holder, Fields] | None:
        """Return who holds a key now, and its fields."""
        for _ in range(2):
            entry = self.state.queue(queue).dedup.get(key)
            if entry is None:
                return None
            fields = self._bearer(queue, key, entry.job)
            over = self._over(fields) if fields else None
            if fields and entry.until and entry.until > self.state.now and over is not JobState.CANCELLED:
                return entry, fields
            if fields and entry.until is None and over is None:
                return entry, fields
            if not entry.follower:
                return None
            self._pass(queue, key, entry)
        return None

    def dedup_take(self, queue: str, key: str, job: str, until: int | None = None, *, again: bool = False) -> None:
        """Note who holds a key from now on; a job that waits ``again`` keeps the time it held it until."""
        there = self.state.queue(queue)
        old, follower = there.dedup.get(key), ""
        if again and old and old.job == job:
            until = old.until
        if old and old.follower and old.follower != job:
            fields = self._bearer(queue, key, old.follower)
            follower = old.follower if fields and fields["status"] == "deferred" else ""
        there.dedup[key] = Holder(job, until, follower)

    def dedup_rival(self, queue: str, key: str, job: str) -> str | None:
        """Return the other job that holds a key, or None."""
        found = self.dedup_holder(queue, key) if key else None
        return found[0].job if found and found[0].job != job else None

    def dedup_end(self, queue: str, key: str, job: str, state: JobState | None) -> None:
        """Note that a job with this key ended, or (None) is removed."""
        entry = self.state.queue(queue).dedup.get(key)
        if entry is None:
            return
        if entry.follower == job:
            entry.follower = ""
        elif entry.job == job:
            throttle = entry.until is not None and entry.until > self.state.now
            if not (throttle and state in (JobState.COMPLETED, JobState.FAILED)):
                self._pass(queue, key, entry)

    def dedup_free(self, queue: str, key: str) -> str:
        """Free a key; returns who held it, or nothing."""
        found = self.dedup_holder(queue, key)
        if not found:
            return ""
        self._pass(queue, key, found[0])
        self.state.emit(queue, "released-key", found[0].job, key=key)
        return found[0].job

    def live(self, install: str) -> int:
        """Return how many dispatchers of an install are alive."""
        return sum(until > self.state.now for until in self.state.dispatchers.get(install, {}).values())

    # -- fences -------------------------------------------------------------------------------------------------------
    def fence(self, job: str, execution: str, worker: str, uid: str) -> tuple[str, str, Fields]:
        """Return why the caller may not act on an execution (or nothing), a sentence, and the job's fields."""
        fields = self.state.jobs.get(job)
        if fields is None:
            return "missing", f"no job {job}", {}
        current = fields.get("hl:exec")
        why = ""
        if current != execution:
            why = f"its current execution is {current or 'none'}"
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
