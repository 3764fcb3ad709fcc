"""The model's way in: enqueue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from heavylift.contract.states import RQ_STATUS, JobState
from heavylift.testing.moves import Moves, sha1
from heavylift.testing.state import ENDED, Fields, Holder, state_of, without

Row = str | list[str]


@dataclass(slots=True, kw_only=True)
class Entry:
    """One entry as the script reads it."""

    queue: str
    id: str
    task: str
    incarnation: str
    if_exists: str
    fingerprint: str
    delay: int
    expires: int | None
    options: str
    description: str
    trace: str
    strict: bool
    priority: int
    lifo: bool
    key: str
    dedup: str
    mode: str
    ttl: int | None
    tag: str
    data: bytes
    depends: tuple[str, ...] = ()
    follows: str = ""

    @classmethod
    def read(cls, header: str, own: bytes) -> Entry:
        """Return an entry of its header of lines, and of its own parts with the data at their end."""
        *texts, data = own.split(b"\0", 8)
        id_, incarnation, fingerprint, trace, priority, lifo, key, dedup = (text.decode() for text in texts)
        part = header[1:].split("\n")
        return cls(
            queue=part[0], id=id_, task=part[1], incarnation=incarnation, if_exists=part[2], fingerprint=fingerprint,
            delay=int(part[3]), expires=int(part[4]) if part[4] else None, options=part[5], description=part[6],
            trace=trace, strict=part[7] == "1", priority=int(priority or 0), lifo=lifo == "1", key=key, dedup=dedup,
            mode=part[8], ttl=int(part[9]) if part[9] else None, tag=part[11], data=data,
            depends=tuple(other for other in part[10].split(",") if other),
        )  # fmt: skip


def _refuse(e: Entry, code: str, message: str, state: str = "failed") -> list[str]:
    return [e.id, "0", state, code, message]


class Accepting(Moves):
    """Enqueue, one entry at a time."""

    def accept(self, e: Entry) -> Row:
        """Accept one entry: its state, or ``[id, created, state, error, message]``."""
        there = self.state.queue(e.queue)
        fields = self.state.jobs.get(e.id)
        if fields is not None:
            return self._again(e, fields)
        closed = self._barred(e)
        if closed:
            return closed
        if e.strict and there.settings is None:
            return _refuse(e, "unknown-queue", f"no HeavyQueue serves the queue {e.queue}")
        return (self._deduplicated(e) if e.dedup else None) or self._write(e)

    def _barred(self, e: Entry) -> list[str] | None:
        """Return why nothing new is written for an entry now, or None."""
        there, crowded = self.state.queue(e.queue), self.crowded(e.queue, e.priority)
        if crowded:
            return _refuse(e, "levels", crowded)
        if e.tag not in {"", sha1(there.settings_text) if there.settings is not None else "none"}:
            return _refuse(e, "stale", "the settings of its queue changed")
        return None

    def _write(self, e: Entry) -> Row:
        now, there = self.state.now, self.state.queue(e.queue)
        due = now + e.delay if e.delay > 0 else None
        waits = bool(e.follows) or any(self.unmet(job) for job in e.depends)
        status = "deferred" if waits else "scheduled" if due else "queued"
        fields = self.state.jobs[e.id] = self._fields(e, status, due)
        if e.follows:
            there.dedup[e.dedup].follower = e.id
        elif e.dedup:
            until = now + e.ttl if e.mode == "first" and e.ttl is not None else None
            self.dedup_take(e.queue, e.dedup, e.id, until)
        if waits:
            self._defer(e)
        else:
            self.place(e.queue, e.id, fields, due=due)
        self.state.epoch = self.state.epoch or f"{now}-{sha1(e.id)[:16]}"
        self.state.count(e.queue, "enqueued")
        state = RQ_STATUS[status].value
        self.state.emit(e.queue, "added", e.id, state=state, task=e.task)
        return state

    def _defer(self, e: Entry) -> None:
        for job in e.depends:
            self.state.dependents.setdefault(job, set()).add(e.id)
            self.state.dependencies.setdefault(e.id, set()).add(job)
        self.state.queue(e.queue).deferred[e.id] = self.state.now // 1000

    def _fields(self, e: Entry, status: str, due: int | None) -> Fields:
        created = self.state.clock.text()
        source = sha1(f"{e.id}\n{created}")
        more: dict[str, Any] = {
            "hl:inc": e.incarnation if e.fingerprint else source[:16],
            "hl:src": source if e.fingerprint else "",
            "hl:options": e.options,
            "hl:fp": e.fingerprint,
            "hl:due": "" if due is None else str(due),
            "hl:expires": "" if e.expires is None else str(self.state.now + e.expires),
            "hl:trace": e.trace,
            "hl:priority": str(e.priority) if e.priority else "",
            "hl:lifo": "1" if e.lifo else "",
            "hl:key": e.key,
            "hl:dedup": e.dedup,
            "hl:reason": f"follows {e.follows}" if e.follows else "",
            "dependency_id": e.depends[0] if e.depends else "",
            "dependency_ids": json.dumps(e.depends, separators=(",", ":")) if e.depends else "",
        }
        base = {
            "created_at": created,
            "data": e.data,
            "origin": e.queue,
            "description": e.description,
            "enqueued_at": created,
            "status": status,
            "hl:task": e.task,
        }
        return {**base, **{name: value for name, value in more.items() if value}}

    # -- deduplication ------------------------------------------------------------------------------------------------
    def _deduplicated(self, e: Entry) -> list[str] | None:
        """Return the answer when another job holds the key; None when the entry is to be written."""
        found = self.dedup_holder(e.queue, e.dedup)
        if found is None or found[0].job == e.id:
            return None
        holder, fields = found
        job, state = self._target(e, holder, fields)
        if job:
            if self.state.jobs[job].get("hl:op") != e.incarnation:
                due = self.state.now + e.delay if e.mode == "debounce" and job == holder.job else None
                self._renew(e, job, due, state)
        elif e.mode == "debounce":
            return None
        elif e.mode == "keep_last":
            e.follows = holder.job
            return None
        self.state.count(e.queue, "deduplicated")
        self.state.emit(
            e.queue, "deduplicated", job or holder.job, key=e.dedup, task=e.task, replaced="1" if job else "0"
        )
        shown = state or state_of(fields) or JobState.WAITING
        return [job or holder.job, "0", shown.value, "", ""]

    def _target(self, e: Entry, holder: Holder, fields: Fields) -> tuple[str, JobState | None]:
        """Return which job's data the entry's replaces, if any."""
        if e.mode == "first":
            return "", None
        follower = self.state.jobs.get(holder.follower)
        if follower and follower["status"] == "deferred" and follower.get("hl:dedup") == e.dedup:
            return holder.follower, JobState.WAITING_CHILDREN
        state = state_of(fields)
        fresh = "hl:exec" not in fields and int(fields.get("hl:seq", "0")) == 0
        early = state in {JobState.DELAYED, JobState.WAITING_CHILDREN} or (
            e.mode == "keep_last" and state is JobState.WAITING
        )
        return (holder.job, state) if fresh and early else ("", None)

    def _renew(self, e: Entry, job: str, due: int | None, state: JobState | None) -> None:
        fields = self.state.jobs[job]
        fields |= {
            "data": e.data, "hl:task": e.task, "description": e.description, "hl:options": e.options or "{}",
            "hl:fp": e.fingerprint, "hl:op": e.incarnation,
        }  # fmt: skip
        without(fields, ("hl:expires",))
        if e.expires is not None:
            fields["hl:expires"] = str(self.state.now + e.expires)
        if due is not None:
            fields["hl:due"] = str(due)
        if due is not None and state is JobState.DELAYED:
            there = self.state.queue(e.queue)
            there.delayed[job], there.scheduled[job] = due, -(-due // 1000)

    # -- ids that exist -----------------------------------------------------------------------------------------------
    def _conflict(self, e: Entry, fields: Fields) -> str:
        if fields["origin"] != e.queue:
            return f"the id {e.id} belongs to another queue, {fields['origin']}"
        same = fields.get("hl:fp") == e.fingerprint
        if "hl:fp" not in fields:
            same = fields.get("hl:task") == e.task and fields["data"] == e.data
        return "" if same else f"the id {e.id} was enqueued with another task or other data"

    def _again(self, e: Entry, fields: Fields) -> Row:
        state = state_of(fields) or JobState.WAITING
        conflict = self._conflict(e, fields)
        if fields.get("hl:inc") == e.incarnation or (not e.fingerprint and "hl:fp" not in fields and not conflict):
            return [e.id, "1", state.value, "", ""]
        if e.if_exists == "raise":
            return _refuse(e, "exists", f"a job with the id {e.id} exists already ({state.value})", state.value)
        if conflict:
            return _refuse(e, "conflict", conflict, state.value)
        if e.if_exists == "replace":
            return self._replace(e, fields, state)
        if e.if_exists == "retry_failed" and state in {JobState.FAILED, JobState.CANCELLED}:
            return self._run_failed(e, fields, state)
        return [e.id, "0", state.value, "", ""]

    def _busy(self, e: Entry, state: JobState) -> Row:
        return _refuse(e, "conflict", f"the job {e.id} still has a pod: try again once it ended", state.value)

    def _run_failed(self, e: Entry, fields: Fields, state: JobState) -> Row:
        if "hl:exec" in fields:
            return self._busy(e, state)
        rival = self.dedup_rival(e.queue, fields.get("hl:dedup", ""), e.id)
        if rival:
            return _refuse(e, "conflict", f"the job {rival} holds its deduplication key", state.value)
        self.revive(e.queue, e.id, fields)
        return [e.id, "0", "waiting", "", ""]

    def _replace(self, e: Entry, fields: Fields, state: JobState) -> Row:
        if state is JobState.ACTIVE or "hl:exec" in fields:
            return self._busy(e, state)
        other = self._barred(e) or (self._deduplicated(e) if e.dedup else None)
        if other:
            return other
        self.displace(e.queue, e.id, fields)
        self.remove(e.queue, e.id, state if state in ENDED else JobState.FAILED, e.dedup)
        final = "0" if state in ENDED else "1"
        self.state.emit(e.queue, "removed", e.id, reason="replaced", final=final)
        return self._write(e)
