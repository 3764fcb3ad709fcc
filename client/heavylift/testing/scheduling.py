"""Schedules in the model: defined, read, decided, fired."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from heavylift.contract.states import RQ_STATUS
from heavylift.testing.accepting import Accepting, Entry
from heavylift.testing.changing import Changing
from heavylift.testing.state import ENDED, Fields, number, without

_JOBS, _REPLACED, _LOOK_AGAIN, _REASON = 50, 4, 30_000, 500
_OWNER: Final = ("install", "namespace", "name", "uid", "generation")


@dataclass(frozen=True, slots=True)
class _Fire:
    """A decision about ticks, as the script reads it."""

    id: str
    mark: int
    tick: int | None
    missed: int
    next: int | None
    policy: str
    limit: int | None
    cancel: tuple[str, str]


def _foreign(h: Fields) -> str:
    return f"it belongs to the HeavySchedule {h.get('namespace', '?')}/{h.get('name', '?')}: change that"


def _natural(text: Any) -> int | None:
    return None if str(text) == "" else int(text)


class Scheduling(Accepting, Changing):
    """What the scripts do about schedules."""

    def _missing(self, schedule: str) -> list[str]:
        return ["missing", f"there is no schedule {schedule}"]

    def _unfinished(self, h: Fields) -> list[str]:
        jobs = str(h.get("jobs", "")).split()[:_JOBS]
        found = ((job, self.state.jobs.get(job)) for job in jobs)
        return [job for job, fields in found if fields and RQ_STATUS.get(str(fields["status"])) not in {None, *ENDED}]

    def _remember(self, jobs: list[str], job: str) -> str:
        return " ".join(jobs if job in jobs else [*jobs, job][-_JOBS:])

    def _look(self, schedule: str, following: int | None, *, suspended: bool = False) -> None:
        self.state.due[schedule] = math.inf if suspended or following is None else following
        self.state.failing.pop(schedule, None)

    def _postpone(self, schedule: str, h: Fields, problem: str) -> None:
        if h.get("problem") != problem:
            h["problem"] = problem
            self.state.emit(h["queue"], "schedule-deferred", "", schedule=schedule, reason=problem[:_REASON])
        if "suspended" not in h:
            self.state.due[schedule] = self.state.now + _LOOK_AGAIN
        self.state.failing[schedule] = number(h, "next", self.state.now)

    def _unserved(self, h: Fields) -> str:
        owner = self.state.queue(h["queue"]).owner
        if not owner:
            return f"no HeavyQueue serves the queue {h['queue']}"
        if h.get("uid") and (owner["namespace"], owner["install"]) != (h["namespace"], h["install"]):
            there = f"served in namespace {owner['namespace']}, not in {h['namespace']}"
            return f"the queue {h['queue']} is {there}"
        return ""

    # -- definitions --------------------------------------------------------------------------------------------------
    def schedule_put(self, args: list[Any]) -> list[str]:
        """Define a schedule, or define it anew."""
        schedule, definition, revision, timing, queue, prefix, since, following, want, by, *owner = args
        owned = {name: str(value) for name, value in zip(_OWNER, owner, strict=True)}
        h = self.state.schedules.get(schedule)
        refused = self._taken(schedule, h, queue, owned) if h else ""
        if refused:
            return ["refused", refused]
        if h and h.get("uid", "") != owned["uid"]:
            h = None
        before = h.get("suspended") if h else None
        suspended = (before or by) if want == "1" else None if want == "0" else before
        same = h is not None and h["timing"] == timing and (before is None) == (suspended is None)
        if h and same and (h["revision"], h["prefix"]) == (revision, prefix):
            if h.get("generation", "") != owned["generation"]:
                h["generation"] = owned["generation"]
            return ["already", ""]
        set_ = {"definition": definition, "revision": revision, "timing": timing, "queue": queue, "prefix": prefix,
                "by": by, "updated": str(self.state.now)}  # fmt: skip
        mark, upcoming = min(int(since), self.state.now), _natural(following)
        if h and same and "next" in h:
            mark, upcoming = number(h, "mark", mark), number(h, "next")
        elif h:
            mark = max(number(h, "mark"), mark)
        self._put(schedule, h, {**set_, "mark": str(mark), **(owned if owned["uid"] else {})}, upcoming, suspended)
        return ["applied", ""]

    def _taken(self, schedule: str, h: Fields, queue: str, owned: dict[str, str]) -> str:
        """Return why a schedule that stands is not this producer's to define, or nothing."""
        if h.get("uid") and not owned["uid"]:
            return _foreign(h)
        if h.get("install", "") != owned["install"]:
            return f"the schedule {schedule} is owned by install {h.get('install', '?')}"
        if not owned["uid"] and h["queue"] != queue:
            return f"the schedule {schedule} belongs to the queue {h['queue']}: choose another id"
        return ""

    def _put(self, schedule: str, h: Fields | None, set_: Fields, upcoming: int | None, suspended: str | None) -> None:
        new = h is None
        h = self.state.schedules.setdefault(schedule, {}) if h is None else h
        if new:
            h.clear()
            h["created"] = str(self.state.now)
        if suspended is not None and "suspended" not in h:
            h["suspendedAt"] = str(self.state.now)
        without(h, ("problem", "next"))
        h |= set_ if upcoming is None else {**set_, "next": str(upcoming)}
        if suspended is None:
            without(h, ("suspended", "suspendedAt"))
        else:
            h["suspended"] = suspended
        self._look(schedule, upcoming, suspended=suspended is not None)
        self.state.emit(h["queue"], "schedule-changed", "", schedule=schedule, by=h["by"])

    def schedule_set(self, args: list[Any]) -> list[str]:
        """Suspend a client's schedule, or resume it."""
        schedule, what, by, mark, following = args
        h = self.state.schedules.get(schedule)
        if h is None:
            return self._missing(schedule)
        if h.get("uid"):
            return ["refused", f"{_foreign(h)} (spec.suspend)"]
        suspend = what == "suspend"
        if suspend == ("suspended" in h):
            return ["already", ""]
        if suspend:
            h |= {"suspended": by, "suspendedAt": str(self.state.now)}
            self._look(schedule, None, suspended=True)
        else:
            h["mark"] = str(max(number(h, "mark"), min(int(mark), self.state.now)))
            without(h, ("suspended", "suspendedAt", "next"))
            if _natural(following) is not None:
                h["next"] = str(following)
            self._look(schedule, _natural(following))
        name = "schedule-suspended" if suspend else "schedule-resumed"
        self.state.emit(h["queue"], name, "", schedule=schedule, by=by)
        return ["applied", ""]

    def schedule_delete(self, args: list[Any]) -> list[str]:
        """Delete a schedule; its jobs stay."""
        schedule, uid, by, queue = args
        h = self.state.schedules.get(schedule)
        if h and h.get("uid", "") != uid:
            return ["refused", _foreign(h)]
        if h and queue and h["queue"] != queue:
            return ["refused", f"it is of the queue {h['queue']}: delete it there"]
        for index in (self.state.due, self.state.failing):
            index.pop(schedule, None)
        if h is None:
            return self._missing(schedule)
        del self.state.schedules[schedule]
        self.state.emit(h["queue"], "schedule-deleted", "", schedule=schedule, by=by)
        return ["applied", ""]

    # -- reading ------------------------------------------------------------------------------------------------------
    def _row(self, schedule: str, *, looked: bool) -> list[Any]:
        """Return a schedule as scripts give it; ``looked`` = of its jobs only those unfinished."""
        h = dict(self.state.schedules[schedule])
        if looked:
            h["jobs"] = " ".join(self._unfinished(h))
        return [schedule, [part for pair in h.items() for part in pair]]

    def schedules(self, args: list[Any]) -> list[Any]:
        """Return one schedule, or a page of all by their next tick."""
        schedule, start, count = args
        ids = [schedule] if schedule else sorted(self.state.due, key=lambda each: (self.state.due[each], each))
        page = ids if schedule else ids[int(start) : int(start) + int(count)]
        return [len(page), [self._row(each, looked=True) for each in page if each in self.state.schedules]]

    def schedule_due(self, args: list[Any]) -> list[Any]:
        """Return what somebody should look at now: now, ms until the next look, rows, what cannot be read."""
        latest, most, bytes_ = args
        now = min(_natural(latest) or self.state.now, self.state.now)
        due = sorted((at, each) for each, at in self.state.due.items() if at <= now)[: int(most)]
        rows: list[list[Any]] = []
        left = int(bytes_)
        for _, each in due:
            left -= len(self.state.schedules[each]["definition"])
            if left < 0 and rows:
                break
            rows.append(self._row(each, looked=False))
        following = min((at for at in self.state.due.values() if now < at < math.inf), default=None)
        return [str(now), "-1" if following is None else str(int(following) - now), rows, []]

    # -- ticks --------------------------------------------------------------------------------------------------------
    def schedule_defer(self, args: list[Any]) -> list[str]:
        """Note why a schedule cannot be fired."""
        schedule, revision, problem = args
        h = self.state.schedules.get(schedule)
        if h is None:
            return self._missing(schedule)
        if h["revision"] != revision:
            return ["already", ""]
        self._postpone(schedule, h, problem)
        return ["applied", problem]

    def _accepted(self, header: str, own: bytes) -> list[str]:
        entry = Entry.read(header, own)
        made = self.accept(entry)
        return [entry.id, "1", made, "", ""] if isinstance(made, str) else made

    def schedule_trigger(self, args: list[Any]) -> list[str]:
        """Enqueue a schedule's job now."""
        schedule, revision, *entry = args
        h = self.state.schedules.get(schedule)
        if h is None:
            return self._missing(schedule)
        if h["revision"] != revision:
            return ["already", ""]
        unserved = self._unserved(h)
        if unserved:
            return ["refused", unserved]
        unfinished = self._unfinished(h)
        made = self._accepted(*entry)
        if made[3]:
            return ["refused", made[4]]
        h |= {"jobs": self._remember(unfinished, made[0]), "lastJob": made[0]}
        self.state.emit(h["queue"], "schedule-triggered", made[0], schedule=schedule)
        return ["applied", made[0]]

    def schedule_fire(self, args: list[Any]) -> list[str]:
        """Decide a schedule's next ticks; fire at most one."""
        schedule, revision, from_, mark, tick, missed, following, policy, limit, by, end, *entry = args
        h = self.state.schedules.get(schedule)
        if h is None:
            return self._missing(schedule)
        if "suspended" in h:
            self._look(schedule, None, suspended=True)
        if h["revision"] != revision or h["mark"] != str(from_) or "suspended" in h:
            return ["already", ""]
        if int(mark) > self.state.now or int(mark) < int(from_):
            return self._later(schedule, h, "nothing of it is due: its mark is ahead of the clock")
        fire = _Fire(schedule, int(mark), _natural(tick), int(missed), _natural(following), policy, _natural(limit),
                     (by, end))  # fmt: skip
        if fire.tick is None:
            return self._decided(h, fire, "missed", fire.next)
        if fire.limit is not None and number(h, "fired") >= fire.limit:
            return self._decided(h, fire, "over", None)
        return self._fire(h, fire, entry)

    def _later(self, schedule: str, h: Fields, problem: str) -> list[str]:
        self._postpone(schedule, h, problem)
        return ["refused", problem]

    def _fire(self, h: Fields, fire: _Fire, entry: list[Any]) -> list[str]:
        unserved, unfinished = self._unserved(h), self._unfinished(h)
        if unserved:
            return self._later(fire.id, h, unserved)
        if fire.policy == "Forbid" and unfinished:
            return self._skipped(h, fire, "forbidden")
        replaced = [job for job in unfinished if "hl:cancel" not in self.state.jobs[job]]
        replaced = replaced if fire.policy == "Replace" else []
        if len(replaced) > _REPLACED and sum(self._replaced(job, fire) for job in replaced[:_REPLACED]):
            return ["applied", "replacing"]
        made = self._accepted(*entry)
        if made[3] == "unknown-queue":
            return self._later(fire.id, h, made[4])
        if made[3]:
            return self._skipped(h, fire, "taken", made[4])
        for job in replaced[:_REPLACED]:
            if job != made[0]:
                self._replaced(job, fire)
        fired = number(h, "fired") + 1
        without(h, ("problem",))
        h |= {
            "last": str(fire.tick), "lastAt": str(self.state.now), "lastJob": made[0], "fired": str(fired),
            "jobs": self._remember(unfinished, made[0]),
        }  # fmt: skip
        return self._decided(h, fire, "fired", fire.next if fire.limit is None or fired < fire.limit else None)

    def _replaced(self, job: str, fire: _Fire) -> bool:
        return self.cancel([job, *fire.cancel])[0] in {"applied", "cancelled"}

    def _skipped(self, h: Fields, fire: _Fire, reason: str, problem: str = "") -> list[str]:
        tick = f"{(fire.tick or 0) / 1000:.0f}"
        self.state.count(h["queue"], "ticks-skipped")
        self.state.emit(h["queue"], "schedule-skipped", "", schedule=fire.id, reason=reason, tick=tick)
        h["skipped"] = str(number(h, "skipped") + 1)
        if problem:
            h["problem"] = problem
        return self._decided(h, fire, reason, fire.next)

    def _decided(self, h: Fields, fire: _Fire, what: str, upcoming: int | None) -> list[str]:
        """Move the mark: nothing up to it is decided again."""
        queue = h["queue"]
        if fire.missed:
            h["missed"] = str(number(h, "missed") + fire.missed)
            self.state.count(queue, "ticks-missed", fire.missed)
            self.state.emit(queue, "schedule-skipped", "", schedule=fire.id, reason="missed", ticks=str(fire.missed))
        h["mark"] = str(fire.mark)
        had = h.pop("next", None)
        if upcoming is not None:
            h["next"] = str(upcoming)
        elif had is not None:
            self.state.emit(queue, "schedule-ended", "", schedule=fire.id)
        self._look(fire.id, upcoming)
        return ["applied", what]
