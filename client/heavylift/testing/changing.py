"""The model's people: cancel, retry, promote, change, purge, remove, pause, settings."""

from __future__ import annotations

import json
from typing import Any

from heavylift.contract.states import JobState
from heavylift.testing.bounds import Bounds
from heavylift.testing.moves import End
from heavylift.testing.state import ENDED, Fields, number, priority_of, state_of, without


class Changing(Bounds):
    """What people ask of jobs and queues."""

    def cancel(self, args: list[Any]) -> list[str]:
        """Cancel a job."""
        job, by, ends = args
        fields, end = self.state.jobs.get(job), json.loads(ends)
        state = state_of(fields)
        if fields is None or state is None:
            return ["missing", f"no job {job}"]
        if state is JobState.CANCELLED and "hl:exec" not in fields:
            return ["already", "it is cancelled"]
        if state in {JobState.COMPLETED, JobState.FAILED}:
            return ["refused", f"too late: it is {state.value}"]
        queue, request = fields["origin"], f'{{"at":{self.state.now},{by[1:]}'
        if "hl:exec" in fields and state in {JobState.ACTIVE, JobState.CANCELLED}:
            if "hl:cancel" not in fields:
                fields["hl:cancel"] = request
                self.state.emit(queue, "cancel-requested", job, execution=fields["hl:exec"])
            return ["cancelled", "its pod is being stopped"]
        if state is JobState.ACTIVE:
            return ["refused", "it runs on a worker that is not of Heavylift"]
        if "hl:exec" in fields:
            self.forget(queue, job, fields["hl:exec"], fields.get("hl:install", ""))
        self.finish(queue, job, fields, End(
            state=JobState.CANCELLED, cls=end["class"], body=end["body"], seq=number(fields, "hl:seq"),
            attempt=number(fields, "hl:attempts") + 1, fields={"hl:cancel": request},
        ))  # fmt: skip
        self.displace(queue, job, fields)
        return ["applied", ""]

    def retry(self, args: list[Any]) -> list[list[str]]:
        """Let ended jobs wait again."""
        token, _by, priority, *rest = args
        rows = [rest[start : start + 4] for start in range(0, len(rest), 4)]
        return [self._retry(token, priority, row) for row in rows]

    def _retry(self, token: str, priority: Any, row: list[Any]) -> list[str]:
        job, options, data, fingerprint = row
        fields = self.state.jobs.get(job)
        state = state_of(fields)
        if fields is None or state is None:
            return ["missing", f"no job {job}"]
        if fields.get("hl:op") == token:
            return ["already", ""]
        if state not in {JobState.FAILED, JobState.CANCELLED}:
            return ["refused", f"it is {state.value}"]
        if "hl:exec" in fields:
            return ["refused", "its pod is still being stopped"]
        rival = self.dedup_rival(fields["origin"], fields.get("hl:dedup", ""), job)
        if rival:
            return ["refused", f"the job {rival} holds its deduplication key"]
        refused = self._unchangeable(fields, priority, data)
        if refused:
            return ["refused", refused]
        changed = {**_changed(priority, data, fingerprint), "hl:op": token}
        if options:
            changed["hl:options"] = options
            if _memory(options) != _memory(fields.get("hl:options", "")):
                changed["hl:memory"] = ""
        self.revive(fields["origin"], job, fields, changed)
        return ["applied", ""]

    def _fixed(self, fields: Fields, state: JobState, more: object) -> str:
        """Return why nothing of a job, or nothing but its priority, can be changed any more."""
        if state in ENDED:
            return f"it is {state.value}"
        active = state is JobState.ACTIVE or "hl:exec" in fields
        return "it is active: only its priority can be changed" if active and more else ""

    def _unchangeable(self, fields: Fields, priority: Any, data: Any) -> str:
        """Return why a job cannot have this priority or data, or nothing."""
        if data != "" and "hl:task" not in fields:
            return "it is a job of plain RQ: its data cannot be changed"
        return "" if priority == "" else self.crowded(fields["origin"], int(priority))

    def _too_late(self, fields: Fields, wait: int) -> str:
        """Return why a job that never started cannot wait so long, or nothing."""
        expires = number(fields, "hl:expires") if number(fields, "hl:starts") == 0 else 0
        late = wait > 0 and 0 < expires <= self.state.now + wait
        return "it expires before it could start: give a shorter delay" if late else ""

    def promote(self, args: list[Any]) -> list[str]:
        """Let a delayed job wait now."""
        (job,) = args
        fields = self.state.jobs.get(job)
        state = state_of(fields)
        if fields is None or state is None:
            return ["missing", f"no job {job}"]
        if state is JobState.WAITING:
            return ["already", "it waits"]
        if state is not JobState.DELAYED:
            return ["refused", f"it is {state.value}"]
        self._soon(fields["origin"], job, fields)
        return ["applied", ""]

    def _soon(self, queue: str, job: str, fields: Fields) -> None:
        fields |= {"status": "queued", "enqueued_at": self.state.clock.text()}
        without(fields, ("hl:due",))
        self.place(queue, job, fields)
        self.undelay(queue, job)
        self.state.count(queue, "promoted")
        self.state.emit(queue, "promoted", job)

    def change(self, args: list[Any]) -> list[str]:
        """Change a job that has not ended."""
        job, token, priority, wait, data, fingerprint = args
        fields = self.state.jobs.get(job)
        state = state_of(fields)
        if fields is None or state is None:
            return ["missing", f"no job {job}"]
        if fields.get("hl:op") == token:
            return ["already", ""]
        refused = self._fixed(fields, state, data or wait != "") or self._unchangeable(fields, priority, data)
        refused = refused or self._too_late(fields, int(wait or 0))
        if refused:
            return ["refused", refused]
        queue, before = fields["origin"], priority_of(fields)
        due = self.state.now + int(wait) if wait != "" and int(wait) > 0 else None
        moved = priority != "" and int(priority) != before
        if state is JobState.WAITING and (due or moved):
            self.displace(queue, job, fields)
        fields |= {**_changed(priority, data, fingerprint), "hl:op": token}
        if due:
            fields["hl:due"] = str(due)
        elif wait != "":
            fields.pop("hl:due", None)
        if state is JobState.DELAYED and wait != "" and int(wait) == 0:
            self._soon(queue, job, fields)
        elif state in {JobState.WAITING, JobState.DELAYED} and (due or (moved and state is JobState.WAITING)):
            fields["status"] = "scheduled" if due else fields["status"]
            self.place(queue, job, fields, due=due)
        self.state.count(queue, "changed")
        self.state.emit(queue, "changed", job, priority=str(priority), delay=str(wait), data="1" if data != "" else "0")
        return ["applied", ""]

    # -- removing -----------------------------------------------------------------------------------------------------
    def remove_job(self, args: list[Any]) -> list[str]:
        """Remove one job that is not active."""
        (job,) = args
        fields = self.state.jobs.get(job)
        state = state_of(fields)
        if fields is None or state is None:
            return ["missing", f"no job {job}"]
        if state is JobState.ACTIVE or "hl:exec" in fields:
            return ["refused", "it is active: cancel it"]
        if self.bound(fields):
            return ["refused", "its Kubernetes Job is not let go yet: try again in some seconds"]
        queue = fields["origin"]
        self.displace(queue, job, fields)
        self.remove(queue, job, state if state in ENDED else JobState.FAILED)
        self.state.count(queue, "removed")
        final = "0" if state in ENDED else "1"
        self.state.emit(queue, "removed", job, reason="by request", prev=state.value, final=final)
        self.state.published(f"done:{job}")
        return ["applied", ""]

    def purge(self, args: list[Any]) -> list[Any]:
        """Remove jobs of one state, one bounded step: ``[removed, kept, more]``."""
        queue, name, step, skip = args[0], args[1], int(args[2]), int(args[3])
        state = JobState(name)
        if state is JobState.WAITING:
            removed, kept, more = self._purge_waiting(queue, step)
        else:
            removed, kept, more = self._purge_set(queue, state, step, skip)
        if removed:
            self.state.count(queue, "purged", removed)
            self.state.emit(queue, "purged", "", state=name, count=str(removed))
        return [removed, kept, "1" if more else "0"]

    def _ours(self, queue: str, job: str, state: JobState) -> Fields | None:
        """Return the job's fields if it is of this queue and state; else it is dropped."""
        fields = self.state.jobs.get(job)
        if fields is not None and fields["origin"] == queue and state_of(fields) is state:
            return fields
        self.drop(queue, job, f"its status is {fields['status']}" if fields else "its job is missing")
        return None

    def _purge_one(self, queue: str, job: str, state: JobState) -> None:
        self.remove(queue, job, state if state in ENDED else JobState.FAILED)
        self.undelay(queue, job)
        self.state.queue(queue).deferred.pop(job, None)
        final = "0" if state in ENDED else "1"
        self.state.emit(queue, "removed", job, reason="purged", prev=state.value, final=final)

    def _purge_waiting(self, queue: str, step: int) -> tuple[int, int, bool]:
        there = self.state.queue(queue)
        removed = looked = 0
        for level in sorted(there.levels, key=lambda level: (level != 0, level)):
            held = 0
            while len(there.levels[level]) > held and looked < step:
                job = there.levels[level][held]
                fields = self._ours(queue, job, JobState.WAITING)
                if fields and "hl:exec" in fields:
                    held += 1
                    continue
                looked += 1
                removed += fields is not None
                if fields:
                    self._purge_one(queue, job, JobState.WAITING)
                there.levels[level].remove(job)
        gone, more = self._purge_lanes(queue, step - looked)
        return removed + gone, 0, looked + more >= step

    def _purge_lanes(self, queue: str, step: int) -> tuple[int, int]:
        """Remove what waits by its key, so many at most; returns how many went, and how many were taken off."""
        lanes, removed, looked = self.state.queue(queue).lanes, 0, 0
        for key in sorted(lanes, key=str.encode):
            for entry in list(lanes[key]):
                if looked >= step:
                    return removed, looked
                fields = self._ours(queue, entry[2], JobState.WAITING)
                if fields and "hl:exec" in fields:
                    continue
                looked += 1
                removed += fields is not None
                if fields:
                    self._purge_one(queue, entry[2], JobState.WAITING)
                lanes[key].remove(entry)
                self.regard(queue, key)
        return removed, looked

    def _purge_set(self, queue: str, state: JobState, step: int, skip: int) -> tuple[int, int, bool]:
        there = self.state.queue(queue)
        index = {**there.ended, JobState.DELAYED: there.scheduled}.get(state, there.deferred)
        removed = kept = 0
        for job in sorted(index, key=lambda job: (index[job], job))[skip : skip + step]:
            fields = self._ours(queue, job, state)
            if fields and ("hl:exec" in fields or (state in ENDED and self.bound(fields))):
                kept += 1
                continue
            if fields:
                self._purge_one(queue, job, state)
            removed += fields is not None
            index.pop(job, None)
        return removed, kept, len(index) > skip + kept

    # -- jobs that wait for others ------------------------------------------------------------------------------------
    def sweep_dependents(self, args: list[Any]) -> list[int]:
        """Look at some deferred jobs that no end will let go any more: ``[where to go on or -1, mended]``."""
        queue, start, step, end = args[0], int(args[1]), int(args[2]), json.loads(args[3])
        deferred = self.state.queue(queue).deferred
        page = sorted(deferred, key=lambda job: (deferred[job], job))[start : start + step]
        mended = sum(self._mend_deferred(queue, job, end) for job in page)
        if mended:
            self.state.count(queue, "repaired:dependents", mended)
            self.state.emit(queue, "repaired", "", case="dependents", count=str(mended))
        return [start + len(page) - mended if len(page) == step else -1, mended]

    def _mend_deferred(self, queue: str, job: str, end: dict[str, str]) -> bool:
        """Let a deferred job go, or cancel it, where nothing else ever will; returns whether that was so."""
        fields = self.state.jobs.get(job)
        if fields is None:
            self.state.queue(queue).deferred.pop(job, None)
            self.drop(queue, job, "it waited for others, and its job is gone")
            return True
        theirs = fields["status"] != "deferred" or fields["origin"] != queue or "hl:exec" in fields
        if theirs or self._follows(queue, job, fields):
            return False
        stored = json.loads(fields.get("dependency_ids") or "[]")
        waits = sorted(self.state.dependencies.get(job) or stored)
        if not waits or any(other in self.state.todo or not self.over(other, fields) for other in waits):
            return False
        gone = [other for other in waits if other not in self.state.jobs]
        if not gone:
            self.undefer(queue, job, fields)
            return True
        self.finish(queue, job, fields, End(
            state=JobState.CANCELLED, cls=end["class"], body=end["body"].replace("<job>", gone[-1]),
            seq=number(fields, "hl:seq"), attempt=number(fields, "hl:attempts") + 1,
        ))  # fmt: skip
        self.state.queue(queue).deferred.pop(job, None)
        return True

    def _follows(self, queue: str, job: str, fields: dict[str, str]) -> bool:
        """Whether it waits for the holder of its deduplication key, and is not another job that RQ put in its place."""
        held = self.state.queue(queue).dedup.get(fields.get("hl:dedup", ""))
        follows = str(fields.get("hl:reason", "")).startswith("follows ")
        return follows and held is not None and job in {held.job, held.follower}

    # -- queues -------------------------------------------------------------------------------------------------------
    def pause(self, args: list[Any]) -> list[str]:
        """Stop claims of a queue."""
        queue, by, reason = args
        there = self.state.queue(queue)
        if there.pause is not None:
            return ["already", ""]
        there.pause = {"by": by, "reason": reason, "at": str(self.state.now)}
        self.state.emit(queue, "paused", "", worker=by, reason=reason)
        return ["applied", ""]

    def resume(self, args: list[Any]) -> list[str]:
        """End a pause."""
        (queue,) = args
        there = self.state.queue(queue)
        if there.pause is None:
            return ["already", ""]
        there.pause = None
        self.state.emit(queue, "resumed", "")
        return ["applied", ""]

    def put_settings(self, args: list[Any]) -> list[str]:
        """Write a queue's settings."""
        queue, text, generation, install, namespace, uid = args
        there = self.state.queue(queue)
        owner = {"install": install, "namespace": namespace, "uid": uid, "generation": str(generation)}
        old = there.owner
        if old and (old["install"], old["namespace"]) != (install, namespace):
            where = f"install {old['install']}, namespace {old['namespace']}"
            return ["refused", f"the queue {queue} is owned by {where}"]
        if old and old["uid"] == uid and int(old["generation"]) > int(generation):
            return ["already", "a newer generation stands"]
        if old == owner and there.settings_text == text:
            return ["already", ""]
        there.settings, there.settings_text, there.owner = json.loads(text), text, owner
        there.settings_at = self.state.now
        self.breaker_close(queue)
        return ["applied", ""]

    def delete_settings(self, args: list[Any]) -> list[str]:
        """Remove a queue's settings, if they are of this uid."""
        queue, uid = args
        there = self.state.queue(queue)
        if not there.owner:
            return ["already", ""]
        if there.owner["uid"] != uid:
            return ["refused", f"the settings are of uid {there.owner['uid']}"]
        there.settings, there.settings_text, there.owner, there.settings_at, there.breaker = None, "", {}, 0, {}
        return ["applied", ""]


def _changed(priority: Any, data: Any, fingerprint: str) -> Fields:
    """Return the fields of another priority and other data."""
    out: Fields = {} if priority == "" else {"hl:priority": str(priority)}
    if data != "":
        out |= {"data": data, "hl:fp": fingerprint, "hl:checkpoint": ""}
    return out


def _memory(options: str) -> Any:
    return (json.loads(options or "{}").get("resources") or {}).get("memory")
