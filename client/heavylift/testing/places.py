"""Where jobs stand in the model: waiting, delayed, running; and what lets deferred ones go."""

from __future__ import annotations

from typing import Final

from heavylift.contract.states import JobState
from heavylift.testing.lanes import Lanes, key_of
from heavylift.testing.state import ENDED, Fields, Holder, number, priority_of, state_of, without

_LEVELS: Final = 32


class Places(Lanes):
    """Places, and the deduplication keys and dependencies that jobs wait for."""

    # -- places -------------------------------------------------------------------------------------------------------
    def place(self, queue: str, job: str, fields: Fields, *, front: bool = False, due: int | None = None) -> None:
        """Put a job among the delayed, or into the list of its priority."""
        there = self.state.queue(queue)
        if due is not None and due > self.state.now:
            there.delayed[job] = due
            there.scheduled[job] = -(-due // 1000)
            return
        front = front or fields.get("hl:lifo") == "1"
        if key_of(fields) and self.rule(queue).apart:
            self.lane_put(queue, job, fields, "front" if front else "back")
        else:
            level = there.levels.setdefault(priority_of(fields), [])
            level.insert(0 if front else len(level), job)
        self.state.published("doorbell")

    def displace(self, queue: str, job: str, fields: Fields) -> None:
        """Take a job out of every place it may wait in."""
        there = self.state.queue(queue)
        for level in (priority_of(fields), 0):
            if job in there.levels.get(level, ()):
                there.levels[level].remove(job)
        self.lane_leave(queue, job, fields)
        self.undelay(queue, job)
        there.deferred.pop(job, None)

    def undelay(self, queue: str, job: str) -> None:
        """Take a job from among the delayed."""
        there = self.state.queue(queue)
        there.delayed.pop(job, None)
        there.scheduled.pop(job, None)

    def crowded(self, queue: str, priority: int) -> str:
        """Return why a queue takes no job of another priority, or nothing."""
        levels = self.state.queue(queue).levels
        if priority in {0, *levels} or len(levels) - 1 < _LEVELS:
            return ""
        return f"the queue has jobs of {_LEVELS} priorities waiting, no more can be in use at once: take one of them"

    def forget(self, queue: str, job: str, execution: str, install: str) -> None:
        """Forget an execution."""
        member = f"{job}:{execution}"
        self.state.queue(queue).started.pop(member, None)
        self.state.inflight.get(install, {}).pop(member, None)
        self.key_ends(queue, member)

    def forget_everywhere(self, job: str, execution: str) -> None:
        """Forget an execution whose job's hash is gone, wherever it stands."""
        for running in self.state.inflight.values():
            running.pop(f"{job}:{execution}", None)
        for queue in self.state.queues:
            self.forget(queue, job, execution, "")

    def drop(self, queue: str, job: str, reason: str) -> None:
        """Note an entry that was no job of its place any more."""
        self.state.count(queue, "dropped")
        self.state.emit(queue, "dropped", job, reason=reason)

    def quarantined(self, queue: str, job: str, message: str) -> None:
        """Note an entry that is none of this queue's."""
        note = {"id": job, "message": message, "at": self.state.now, "queue": queue}
        self.state.queue(queue).quarantine.insert(0, note)
        self.state.count(queue, "quarantined")
        self.state.emit(queue, "quarantined", job, reason=message)

    def mend_started(self, queue: str) -> int:
        """Forget executions that are no job's and on no install's list; returns how many."""
        there, gone = self.state.queue(queue), list[str]()
        for member in there.started:
            job, _, execution = member.partition(":")
            listed = any(member in running for running in self.state.inflight.values())
            if self.state.jobs.get(job, {}).get("hl:exec") != execution and not listed:
                gone.append(member)
        for member in gone:
            del there.started[member]
        return len(gone)

    def mend_keys(self, queue: str) -> int:
        """Let what counts by keys be what runs and what waits; returns how much was not."""
        there, changed, mended = self.state.queue(queue), set[str](), 0
        for member in [member for member in there.keyed if member not in there.started]:
            changed.add(there.keyed.pop(member))
            mended += 1
        for member in there.started:
            job, _, execution = member.partition(":")
            fields = self.state.jobs.get(job, {})
            if key_of(fields) and fields.get("hl:exec") == execution and member not in there.keyed:
                there.keyed[member] = key_of(fields)
                changed.add(key_of(fields))
                mended += 1
        waiting = [(key, entry) for key in sorted(there.lanes, key=str.encode) for entry in there.lanes[key]]
        for key, entry in waiting:
            fields = self.state.jobs.get(entry[2], {})
            if fields.get("status") != "queued" or fields["origin"] != queue or key_of(fields) != key:
                there.lanes[key].remove(entry)
                gone = "has moved on" if fields else "its job is gone"
                self.drop(queue, entry[2], f"it waited by its key, and {gone}")
                changed.add(key)
                mended += 1
        for key in (*sorted(changed), *sorted(there.heads)):
            self.regard(queue, key)
        return mended

    # -- dependents ---------------------------------------------------------------------------------------------------
    def undefer(self, queue: str, job: str, fields: Fields, reason: str = "dependencies met") -> None:
        """Let a deferred job wait, or be delayed still."""
        due = number(fields, "hl:due") or None
        delayed = due is not None and due > self.state.now
        fields |= {"status": "scheduled" if delayed else "queued", "enqueued_at": self.state.clock.text()}
        self.place(queue, job, fields, front=fields.get("enqueue_at_front") == "1", due=due)
        self.state.queue(queue).deferred.pop(job, None)
        self.state.emit(queue, "delayed" if delayed else "waiting", job, reason=reason)

    def unmet(self, job: str) -> bool:
        """Whether a job keeps those that depend on it from waiting; one that is gone does not."""
        fields = self.state.jobs.get(job)
        return fields is not None and fields["status"] != "finished"

    def over(self, job: str, waiting: Fields) -> bool:
        """Whether a dependency is met for one that waits, as RQ counts: finished, gone, or failed if allowed."""
        forgiving = waiting.get("allow_dependency_failures") == "1"
        return not self.unmet(job) or (forgiving and bool(self.state.jobs[job]["status"] == "failed"))

    def _met(self, job: str, fields: Fields, parent: str) -> bool:
        """Whether all dependencies but ``parent`` are met."""
        return all(self.over(other, fields) for other in self.state.dependencies.get(job, set()) - {parent})

    def free_dependents(self, job: str, state: JobState, limit: int) -> None:
        """Let go of those that wait for an ended job, a bounded number."""
        waiting = self.state.dependents.get(job)
        if state is JobState.CANCELLED or not waiting:
            self.state.todo.discard(job)
            return
        success = state is JobState.COMPLETED
        for other in sorted(waiting)[: limit if success else limit * 10]:
            fields = self.state.jobs.get(other)
            if fields is None or fields["status"] != "deferred":
                waiting.discard(other)
            elif success or (state is JobState.FAILED and fields.get("allow_dependency_failures") == "1"):
                if self._met(other, fields, job):
                    self.undefer(fields["origin"], other, fields)
                waiting.discard(other)
        if success and waiting:
            self.state.todo.add(job)
        else:
            self.state.todo.discard(job)
        if not waiting:
            self.state.dependents.pop(job, None)

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
            self.undefer(queue, entry.follower, fields, "the job before it ended")
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

    def dedup_mend(self, queue: str, key: str) -> bool:
        """Look at one entry as the sweep does; returns whether it was stale."""
        entry = self.state.queue(queue).dedup.get(key)
        if entry is None:
            return False
        over = entry.until is not None and entry.until <= self.state.now
        holder = self.dedup_holder(queue, key)
        if holder is not None:
            return holder[0].job != entry.job and not over
        now = self.state.queue(queue).dedup.get(key)
        if now and now.job == entry.job and not now.follower:
            del self.state.queue(queue).dedup[key]
        return not over
