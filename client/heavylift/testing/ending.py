"""The model's operator side: record, check, attend, observe, release, finish."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from heavylift.contract.states import RQ_STATUS, JobState
from heavylift.testing.bounds import Bounds
from heavylift.testing.moves import EXECUTION, TRIM, End, cancelled, history_lines, outcome_text, with_entry
from heavylift.testing.state import Fields, flat, number, without

_RANK = {"claimed": 1, "pending": 2, "running": 3}
_LEFT = ("hl:job", "hl:uid", "hl:claimed", "hl:running", "hl:evidence")
_STATES = {"complete": JobState.COMPLETED, "fail": JobState.FAILED, "cancel": JobState.CANCELLED}


def _natural(text: Any) -> int | None:
    return int(text) if str(text) != "" else None


class Ending(Bounds):
    """What becomes of an execution."""

    def record(self, args: list[Any]) -> list[str]:
        """Note the Job of an execution."""
        job, execution, worker, uid, name, namespace = args
        verdict, why, fields = self.fence(job, execution, worker, uid)
        if verdict:
            return self._refused(fields, verdict, why)
        first = self.recorded(fields, uid)
        done = "cancelled" if cancelled(fields) else "applied"
        if not first and fields.get("hl:job") == name:
            return [done if done == "cancelled" else "already", ""]
        fields |= {"hl:job": name, "hl:ns": namespace}
        if first:
            self.state.emit(fields["origin"], "recorded", job, execution=execution, uid=uid, name=name, worker=worker)
        return [done, ""]

    def check(self, args: list[Any]) -> list[str]:
        """Say whether the caller may still act."""
        member, fields = f"{args[0]}:{args[1]}", self.state.jobs.get(args[0], {})
        gone = fields.get("hl:exec") != args[1]
        counted = [there for there in self.state.queues.values() if gone and member in there.started]
        verdict, why, fields = self.fence(*args)
        for there in counted:
            there.starts.pop(member, None)
        if verdict:
            return [verdict, why]
        without(fields, ("hl:attended",))
        return ["cancelled" if cancelled(fields) else "applied", ""]

    def attend(self, args: list[Any]) -> list[str]:
        """Note that the dispatcher takes up a suspect."""
        verdict, why, fields = self.fence(*args)
        if verdict:
            return [verdict, why]
        fields["hl:attended"] = fields.get("hl:claimed", "")
        return ["applied", ""]

    def observe(self, args: list[Any]) -> list[Any]:
        """Note evidence on a Job or pod."""
        job, execution, worker, uid, phase, reason, running, merged, expected = args
        verdict, why, fields = self.fence(job, execution, worker, uid)
        if verdict:
            return [*self._refused(fields, verdict, why), flat(fields)]
        if _bytes(fields.get("hl:evidence", "")) != _bytes(expected):
            return ["conflict", "", flat(fields)]
        before = fields.get("hl:phase", "claimed")
        first = self.recorded(fields, uid)
        fields["hl:reason"] = reason
        if _bytes(merged) != _bytes(expected):
            fields["hl:evidence"] = merged
        if _RANK[phase] > _RANK.get(before, 0):
            fields["hl:phase"] = phase
        if running != "" and "hl:running" not in fields:
            fields["hl:running"] = str(running)
        queue = fields["origin"]
        if first:
            self.state.emit(queue, "recorded", job, execution=execution, uid=uid)
        if fields["hl:phase"] == "running" and before != "running":
            self.state.emit(queue, "running", job, execution=execution, uid=fields.get("hl:uid", ""))
            self.breaker_close(queue)
        return ["cancelled" if cancelled(fields) else "applied", "", flat(fields)]

    def _refused(self, fields: Fields, verdict: str, why: str) -> list[str]:
        if fields:
            self.refuse(fields, verdict)
        return [verdict, why]

    # -- release ------------------------------------------------------------------------------------------------------
    def release(self, args: list[Any]) -> list[str]:
        """Give an execution back."""
        job, execution, worker, uid, reason, delay, silent, token, ends, allowed = args
        fields = self.state.jobs.get(job)
        if fields and fields.get("hl:op") == token:
            return ["already", ""]
        verdict, why, fields = self.fence(job, execution, worker, uid)
        if not verdict and silent == "1" and (fields.get("hl:uid") or number(fields, "hl:deadline") > self.state.now):
            verdict = "refused"
            why = "a Job is recorded" if fields.get("hl:uid") else "its claim deadline has not passed"
        if verdict:
            return self._refused(fields, verdict, why)
        queue, member = fields["origin"], f"{job}:{execution}"
        if not fields.get("hl:uid"):
            self.state.queue(queue).starts.pop(member, None)
        quiet = _silences(fields, silent=silent == "1")
        code = "cancelled" if cancelled(fields) else "silent" if silent == "1" and quiet >= int(allowed) else ""
        if code:
            return self._released_for_good(job, fields, json.loads(ends)[code], token)
        self._released(job, fields, (str(reason), int(delay), token, quiet))
        return ["applied", ""]

    def _released_for_good(self, job: str, fields: Fields, end: dict[str, str], token: str) -> list[str]:
        queue, execution = fields["origin"], fields["hl:exec"]
        wanted = end["class"] == "cancelled"
        self.finish(queue, job, fields, End(
            state=JobState.CANCELLED if wanted else JobState.FAILED, cls=end["class"], body=end["body"],
            execution=execution, seq=number(fields, "hl:seq"), attempt=number(fields, "hl:attempts") + 1,
            worker=fields.get("hl:worker", ""), fields={"hl:op": token},
        ))  # fmt: skip
        self.forget(queue, job, execution, fields["hl:install"])
        return ["cancelled" if wanted else "applied", end["class"]]

    def _released(self, job: str, fields: Fields, how: tuple[str, int, str, int]) -> None:
        reason, delay, token, quiet = how
        queue, execution, seq, worker = (
            fields["origin"], fields["hl:exec"], number(fields, "hl:seq", 1), fields.get("hl:worker", "")
        )  # fmt: skip
        due = self.state.now + delay if delay > 0 else None
        fields |= {
            "status": "scheduled" if due else "queued", "hl:reason": reason, "hl:op": token, "hl:silent": str(quiet),
            "worker_name": "", "started_at": "",
        }  # fmt: skip
        if not fields.get("hl:uid"):
            fields["hl:seq"] = str(seq - 1)
        if due:
            fields["hl:due"] = str(due)
        without(fields, (*_LEFT, "hl:attended", *EXECUTION))
        self.place(queue, job, fields, front=True, due=due)
        self.forget(queue, job, execution, fields["hl:install"])
        self.state.count(queue, "released")
        self.state.emit(queue, "released", job, execution=execution, seq=str(seq), worker=worker, reason=reason[:500])

    # -- finish -------------------------------------------------------------------------------------------------------
    def finish_attempt(self, args: list[Any]) -> list[str]:
        """Write one outcome, once per execution."""
        job, execution, worker, uid, asked, *rest = args
        verdict, why, fields = self.fence(job, execution, worker, uid)
        stored = _written(fields, execution) if verdict == "refused" else ""
        if stored:
            return _reply("already", fields, stored)
        if verdict:
            return _reply(verdict, fields, "", self._refused(fields, verdict, why)[1])
        next_, spend, cls, delay, exists = str(asked).split(" ")
        body, _exc, result, _value, started, ended, names, *words = rest
        small, cancel_body, cancel_small, *kept = _further(names, words)
        wins = next_ != "complete" or "hl:cancel" not in fields or fields["status"] != "started"
        if cancelled(fields) and next_ != "cancel" and wins:
            body, small = (cancel_body, cancel_small) if cancel_body else (_turned(body, cls), _turned(small, cls))
            next_, cls = "cancel", "cancelled"
        small = small or body
        attempts = number(fields, "hl:attempts")
        claimed = number(fields, "hl:claimed")
        begun = max(_natural(started) or number(fields, "hl:running") or claimed, claimed)
        end = End(
            state=_STATES.get(next_, JobState.WAITING), cls=cls, body=body, small=small, execution=execution,
            result=str(result) if next_ == "complete" and result != "" else None, seq=number(fields, "hl:seq", 1),
            attempt=attempts + 1, started=begun, ended=max(_natural(ended) or self.state.now, begun), spend=spend,
            worker=fields.get("hl:worker", ""),
        )  # fmt: skip
        ran = "hl:running" in fields or started != ""
        return self._write_end(job, fields, end, _How(next_, int(delay), uid, exists == "1", kept, ran=ran))

    def _write_end(self, job: str, fields: Fields, end: End, how: _How) -> list[str]:
        queue, install, unnamed = fields["origin"], fields["hl:install"], not fields.get("hl:uid")
        self.recorded(fields, how.uid)
        fields |= _spent(fields, end, how)
        before = _before(fields)
        if how.exists and before[2]:
            member = f"{before[1]}/{before[2]}"
            self.state.unfinalized.setdefault(install, {})[member] = f"{job}:{end.execution}"
        if how.next_ == "retry":
            text = self._run_again(queue, job, fields, end, how)
        else:
            text = self.end_job(queue, job, fields, end)
        if how.next_ == "complete":
            without(fields, ("hl:memory", "hl:checkpoint", "hl:first"))
        self.breaker_ended(queue, end.cls, f"{job}:{end.execution}", end.body, started=how.ran)
        if not how.exists and unnamed and not how.uid:
            self.state.queue(queue).starts.pop(f"{job}:{end.execution}", None)
        self.forget(queue, job, end.execution, install)
        if how.next_ != "retry":
            self.trim(queue, end.state, TRIM)
        state = RQ_STATUS[fields["status"]].value
        unnamed_job = how.exists and not before[2]
        return ["applied", state, text, "", *([*before[:2], queue, fields["hl:inc"], before[3]] if unnamed_job else [])]

    def _run_again(self, queue: str, job: str, fields: Fields, end: End, how: _How) -> str:
        now = self.state.now
        due = now + how.delay if how.delay > 0 else None
        memory = _natural(how.kept[0])
        if "hl:rqmax" in fields and fields.get("enqueue_at_front_on_retry") == "1":
            fields["hl:lifo"] = "1"
        text = outcome_text(now, end, "retry", end.body, delay=how.delay, memory=memory)
        small = outcome_text(now, end, "retry", end.small, delay=how.delay, memory=memory)
        fields |= {
            "status": "scheduled" if due else "queued", "hl:outcome": text,
            "hl:history": with_entry(fields.get("hl:history"), small),
            "ended_at": self.state.clock.text((end.ended or 0) * 1000 + 999), "worker_name": "", "hl:reason": end.cls,
            "enqueued_at": self.state.clock.text(),
        }  # fmt: skip
        if due:
            fields["hl:due"] = str(due)
        uid = fields.get("hl:uid", "")
        without(fields, (*_LEFT, *EXECUTION))
        self.place(queue, job, fields, due=due)
        self.state.count(queue, "retrying")
        self.state.count(queue, f"outcome:{end.cls}:0")
        self.state.emit(
            queue, "retrying", job, class_=end.cls, execution=end.execution, attempt=str(end.attempt), seq=str(end.seq),
            delay=str(how.delay), uid=uid, worker=end.worker,
        )  # fmt: skip
        hold, there = int(how.kept[2] or 0), self.state.queue(queue)
        if hold > max(there.held_until - now, 0):
            there.held_until, there.held_by = now + hold, job
            self.state.emit(queue, "rate-limited", job, ms=str(hold), execution=end.execution)
        return text


@dataclass(frozen=True, slots=True)
class _How:
    """How a finish was asked for, beside its end."""

    next_: str
    delay: int
    uid: str
    exists: bool
    kept: list[Any]
    """Memory, checkpoint, ms to hold the queue back."""
    ran: bool
    """Its container had started."""


_FURTHER = ("small", "instead", "instead_small", "memory", "checkpoint", "hold")


def _further(names: Any, words: list[Any]) -> list[str]:
    """Return the words of an end that most are without, in this order; empty = not given."""
    given = dict(zip(str(names).split(), map(str, words), strict=True))
    return [given.get(name, "") for name in _FURTHER]


def _turned(body: str, cls: str) -> str:
    """Return the body of an outcome, or nothing of none, as it stands when a cancel wins over it."""
    if not body or cls == "cancelled":
        return body
    told = json.loads(body)
    message = f"cancelled; its last attempt ended as {cls}: {told['message']}"
    return json.dumps({**told, "class": "cancelled", "message": message}, separators=(",", ":"))


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _silences(fields: Fields, *, silent: bool) -> int:
    """Return how often the job's claims went silent, this one included where it counts."""
    quiet = number(fields, "hl:silent")
    if not silent:
        return 0
    attended = fields.get("hl:attended")
    return quiet + 1 if quiet == 0 or (attended and attended == fields.get("hl:claimed")) else quiet


def _spent(fields: Fields, end: End, how: _How) -> Fields:
    """Return the fields that say what the attempt cost and left behind."""
    attempts = number(fields, "hl:attempts") + (end.spend == "attempt")
    out: Fields = {"hl:attempts": str(attempts)}
    if end.spend == "budget":
        budgets = json.loads(fields.get("hl:budgets", "{}"))
        out["hl:budgets"] = json.dumps({**budgets, end.cls: budgets.get(end.cls, 0) + 1})
    if "hl:rqmax" in fields:
        out["retries_left"] = str(max(number(fields, "hl:rqmax", 1) - 1 - attempts, 0))
    for name, value in zip(("hl:memory", "hl:checkpoint"), how.kept[:2], strict=True):
        if value != "" and how.next_ != "complete":
            out[name] = str(value)
    return out


def _written(fields: Fields, execution: str) -> str:
    """Return the outcome written for this execution before, or nothing."""
    for text in (fields.get("hl:outcome", ""), *reversed(history_lines(fields.get("hl:history")))):
        if text and json.loads(text).get("execution") == execution:
            return str(text)
    return ""


def _before(fields: Fields) -> list[str]:
    """Return install, namespace, Job name and seq."""
    return [str(fields.get(name, "")) for name in ("hl:install", "hl:ns", "hl:job", "hl:seq")]


def _reply(verdict: str, fields: Fields, stored: str, message: str = "") -> list[str]:
    return [verdict, RQ_STATUS[fields["status"]].value if fields else "", stored, message]
