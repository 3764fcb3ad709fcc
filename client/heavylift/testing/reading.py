"""The model's readers: one job, pages of jobs, counts, and the plain commands that operations use."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from heavylift.contract.states import JobState
from heavylift.errors import InvalidInputError
from heavylift.store.decode import rq_time
from heavylift.testing.claiming import Claiming
from heavylift.testing.lanes import key_of
from heavylift.testing.state import ENDED, Fields, QueueState, flat, priority_of, state_of


class Reading(Claiming):
    """What is there."""

    def get_job(self, args: list[Any]) -> list[Any]:
        """Return one job: ``[verdict, message, fields, position]``."""
        job, wanted = args
        fields = self.state.jobs.get(job)
        if fields is None:
            return ["missing", f"no job {job}", [], -1]
        position = self._position(job, fields) if wanted == "1" and fields["status"] == "queued" else None
        return ["ok", "", self._told(job, fields), -1 if position is None else position]

    def _position(self, job: str, fields: Fields) -> int | None:
        """Return the place of a job that waits: among the levels, in its key's lane, or in RQ's own list."""
        there, own = self.state.queue(fields["origin"]), priority_of(fields)
        if job in there.levels.get(own, []):
            return there.place(job, own)
        found = self.lane_find(fields["origin"], job, fields)
        if found:
            return there.lanes[key_of(fields)].index(found)
        return there.place(job, 0) if job in there.levels[0] else None

    def _told(self, job: str, fields: Fields) -> list[Any]:
        """Return a job's fields; of one that RQ's client scheduled, its registry says when it is due."""
        at = self.state.queue(fields["origin"]).scheduled.get(job) if fields["status"] == "scheduled" else None
        return flat(fields if at is None or "hl:due" in fields else {**fields, "hl:due": str(at * 1000)})

    def _ids(self, there: QueueState, state: JobState) -> list[str]:
        """Return a queue's ids of one state, in the order its pages have."""
        if state is JobState.WAITING:
            return there.waiting()
        if state is JobState.ACTIVE:
            return [member.partition(":")[0] for member in sorted(there.started)]
        if state is JobState.DELAYED:
            return sorted(there.scheduled, key=lambda job: (there.scheduled[job], job))
        if state is JobState.WAITING_CHILDREN:
            return sorted(there.deferred, key=lambda job: (there.deferred[job], job))
        at = (there.kept if state is JobState.CANCELLED else there.ended)[state]
        return sorted(at, key=lambda job: (at[job], job), reverse=True)

    def list_jobs(self, args: list[Any]) -> list[Any]:
        """Return a page: how many were looked at, then id and fields of each."""
        queue, state, start, count = args[0], JobState(args[1]), int(args[2]), int(args[3])
        page = self._ids(self.state.queue(queue), state)[start : start + count]
        out: list[Any] = [len(page)]
        for job in page:
            fields = self.state.jobs.get(job)
            if fields is not None and state_of(fields) is state:
                out += [job, self._told(job, fields)]
        return out

    def find_ended(self, args: list[Any]) -> list[Any]:
        """Return a page of ended jobs by class and time: looked at, more, then id and fields of each."""
        queue, state, cls, since, start, step = args
        there, since, start, step = self.state.queue(queue), int(since), int(start), int(step)
        index = there.ended[JobState(state)]
        ids = sorted((job for job in index if index[job] >= since), key=lambda job: (index[job], job), reverse=True)
        page = ids[start : start + step]
        out: list[Any] = [len(page), "1" if len(page) >= step else "0"]
        for job in page:
            fields = self.state.jobs.get(job)
            if fields is None or state_of(fields) is not JobState(state):
                continue
            if not cls or json.loads(fields["hl:outcome"])["class"] == cls:
                out += [job, flat(fields)]
        return out

    def counts(self, args: list[Any]) -> str:
        """Return a queue's jobs by state."""
        there, now = self.state.queue(args[0]), self.state.now
        second = now // 1000
        due = sum(at <= now for at in there.delayed.values()) + sum(at <= second for at in there.scheduled.values())
        due -= sum(at <= second * 1000 for at in there.delayed.values())
        heads = [self.state.jobs.get(level[0]) for level in there.levels.values() if level]
        since = [min(at, now) for head in heads if head and (at := rq_time(head.get("enqueued_at"))) is not None]
        since += [min(*there.heads.values(), now)] if there.heads else []
        listed = {state: sum(at >= second for at in there.kept[state].values()) for state in ENDED}
        return json.dumps({
            "waiting": len(there.waiting()) + due, "delayed": max(len(there.scheduled) - due, 0),
            "oldest": min(since, default=-1),
            "active": len(there.started), "children": len(there.deferred), "quarantined": len(there.quarantine),
            "completed": listed[JobState.COMPLETED], "failed": listed[JobState.FAILED],
            "cancelled": len(there.kept[JobState.CANCELLED]),
        })  # fmt: skip

    def key_standing(self, args: list[Any]) -> list[Any]:
        """Return what holds back the jobs of one key: running, waiting, cap, whether keys take turns."""
        queue, key = args
        rule, lane = self.rule(queue), self.state.queue(queue).lanes.get(key, [])
        cap = -1 if rule.per is None else rule.per
        return [self.running(queue, key), len(lane), cap, "1" if rule.fair else "0"]

    def own_claims(self, args: list[Any]) -> list[list[Any]]:
        """Return a worker's claims without a recorded Job, newest first."""
        install, worker, most = args
        members = self.state.inflight.get(install, {})
        recent = [(at, member) for member, at in members.items() if at >= self.state.now - 600_000]
        out = []
        for _, member in sorted(recent, reverse=True)[:500]:
            job, _, execution = member.partition(":")
            fields = self.state.jobs.get(job, {})
            mine = fields.get("hl:exec") == execution and fields.get("hl:worker") == worker
            if mine and "hl:uid" not in fields:
                out.append(self.row(fields["origin"], job, fields, int(most)))
        return out

    # -- plain commands -----------------------------------------------------------------------------------------------
    def command(self, parts: tuple[Any, ...]) -> Any:
        """Answer one plain command of an operation.

        Raises:
            InvalidInputError: the model does not know it.
        """
        verb, key = str(parts[0]), str(parts[1]) if len(parts) > 1 else ""
        if verb == "TIME":
            return list(divmod(self.state.clock.micros, 1_000_000))
        if verb == "XREAD":
            return self._events(parts)
        known: dict[tuple[str, str], Callable[[QueueState], Any]] = {
            ("HGET", "settings"): lambda there: there.settings_text.encode() if there.settings is not None else None,
            ("HMGET", "settings"): lambda there: [there.owner.get(str(name)) for name in parts[2:]],
            ("HGETALL", "pause"): lambda there: there.pause or {},
            ("HSCAN", "dedup"): lambda there: [0, [part for key in there.dedup for part in (key, "")]],
            ("HGETALL", "counters"): lambda there: there.counters,
            ("XREVRANGE", "events"): lambda there: [(f"{len(there.events)}-0", {})] if there.events else [],
        }
        if verb == "SMEMBERS" and key.endswith(":queues"):
            return [f"rq:queue:{name}" for name in self.state.queues]
        kind, _, queue = key.removeprefix("heavylift:").partition(":")
        if (verb, kind) not in known:
            raise InvalidInputError(f"heavylift.testing does not know {verb} {key}: use a real Redis for this test")
        return known[verb, kind](self.state.queue(queue))

    def _events(self, parts: tuple[Any, ...]) -> Any:
        queue, after = str(parts[-2]).partition(":events:")[2], int(str(parts[-1]).partition("-")[0])
        count = int(parts[parts.index("COUNT") + 1])
        entries = self.state.queue(queue).events
        page = [
            (f"{index + 1}-0", [part for pair in entries[index].items() for part in pair])
            for index in range(after, min(after + count, len(entries)))
        ]
        return [(str(parts[-2]), page)] if page else None
