"""Concurrency keys in the model: what runs and what waits by its key, and which key comes next."""

from __future__ import annotations

import bisect
import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from heavylift.contract import limits
from heavylift.testing.state import Fields, QueueState, State, Waits, priority_of

_MIDDLE: Final = 4_000_000_000_000_000
"""Ranks: microseconds since the epoch above it; at the front below it, the later the sooner."""
_CHECKED, _CHECKED_OLD, _VERIFIED = 20, 2, 20
_RECHECK_MS = 5_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a queue's settings say about keys."""

    per: int | None
    """Executions of a key at once."""
    fair: bool
    """Keys take turns."""
    at: int
    """ms they were written."""

    @property
    def apart(self) -> bool:
        """Whether jobs with a key wait in lanes."""
        return self.per is not None or self.fair


def key_of(fields: Fields) -> str:
    """Return a job's key; one that cannot be used counts as none, and ends the job when it is claimed."""
    key = str(fields.get("hl:key", ""))
    return key if len(key.encode()) <= limits.KEY_MAX and not _CONTROL.search(key) else ""


def ring(there: QueueState) -> list[tuple[str, str]]:
    """Return (place, key) of the keys with room, whose turn is next first."""
    found = [(place, key) for key, place in there.slots.items()]
    return sorted(found, key=lambda each: f"{each[0]}\0{each[1]}".encode())


def place_of(place: str) -> tuple[int, int] | None:
    """Return the level and rank a place stands for; None for a turn."""
    return (int(place[1:5]) - 1000, int(place[5:])) if place.startswith("f") else None


class Lanes:
    """Jobs that wait and run by their key; what does not follow from those is kept as the scripts keep it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.puts = -1
        """Jobs put into lanes by the call under way: those of one batch stand in its order."""
        self.listed: tuple[str, int | None] = ("", None)
        """The first id of the lists that the call under way compared last with a lane, and its rank."""

    def rule(self, queue: str) -> Rule:
        """Return what the settings say."""
        there = self.state.queue(queue)
        settings: dict[str, Any] = there.settings or {}
        return Rule(
            settings.get("concurrencyPerKey"), settings.get("concurrencyOrder") == "RoundRobin", there.settings_at
        )

    def running(self, queue: str, key: str) -> int:
        """Return how many executions of a key there are."""
        return sum(found == key for found in self.state.queue(queue).keyed.values())

    # -- whose turn it is ---------------------------------------------------------------------------------------------
    def take_turn(self, queue: str, key: str, *, served: bool = False) -> None:
        """Give a key its turn after all others, if it has none or had it just now."""
        slots = self.state.queue(queue).slots
        if slots.get(key, "").startswith("r") and not served:
            return
        places = ring(self.state.queue(queue))
        last = places[-1][0] if places and places[-1][0].startswith("r") else "r0"
        slots[key] = f"r{int(last[1:]) + 1:020d}"

    def regard(self, queue: str, key: str, served: int = 0) -> None:
        """Bring a key's place up to date; ``served`` = it had its turn, and so many of it run now."""
        there, rule = self.state.queue(queue), self.rule(queue)
        lane = there.lanes.get(key)
        if not lane:
            there.lanes.pop(key, None)
            there.heads.pop(key, None)
            there.full.pop(key, None)
            there.slots.pop(key, None)
            return
        level, rank, _ = lane[0]
        there.heads[key] = abs(rank - _MIDDLE) // 1000
        if rule.per is not None and (served or self.running(queue, key)) >= rule.per:
            there.slots.pop(key, None)
            there.full[key] = self.state.now
            return
        if not served and there.full.pop(key, None) is not None:
            self.state.published("doorbell")
        if rule.fair:
            self.take_turn(queue, key, served=bool(served))
        else:
            there.slots[key] = f"f{level + 1000:04d}{rank:016d}"

    def reorder(self, queue: str) -> None:
        """Look at some places of the other order, left when the settings changed."""
        there = self.state.queue(queue)
        kind = "f" if self.rule(queue).fair else "r"
        places = ring(there)
        for place, key in (places if kind == "f" else places[::-1])[:_CHECKED]:
            if not place.startswith(kind):
                return
            there.slots.pop(key, None)
            if key:
                self.regard(queue, key)

    def recheck(self, queue: str) -> int:
        """Look at keys at their cap again: after a change of settings, and now and then; returns how many."""
        there, seen = self.state.queue(queue), 0
        for before, most in ((self.rule(queue).at, _CHECKED), (self.state.now - _RECHECK_MS, _CHECKED_OLD)):
            due = sorted((at, key.encode(), key) for key, at in there.full.items() if at <= before)
            for _, _, key in due[:most]:
                seen += 1
                self._verify(queue, key)
                self.regard(queue, key)
        return seen

    def _verify(self, queue: str, key: str) -> None:
        """Forget executions of a key that are not started any more."""
        there = self.state.queue(queue)
        members = sorted((member for member, found in there.keyed.items() if found == key), key=str.encode)
        gone = [member for member in members[:_VERIFIED] if member not in there.started]
        for member in gone:
            del there.keyed[member]
        if gone:
            self.state.count(queue, "repaired:keys", len(gone))

    # -- what waits ---------------------------------------------------------------------------------------------------
    def rank(self, fields: Fields) -> int:
        """Return since when a job waits (microseconds), as its rank; one that goes to the front ranks before all."""
        now = since = self.state.clock.micros
        with contextlib.suppress(ValueError):
            found = datetime.strptime(str(fields.get("enqueued_at", "")), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            since = (found - _EPOCH) // timedelta(microseconds=1)
        since = min(since, now)
        return _MIDDLE - since if fields.get("hl:lifo") == "1" else _MIDDLE + since

    def lane_put(self, queue: str, job: str, fields: Fields, where: str) -> None:
        """Put a waiting job into its key's lane: at the ``front`` or ``back`` of its level, or ``since`` it waits."""
        key, level, now = key_of(fields), priority_of(fields), self.state.clock.micros
        lane = self.state.queue(queue).lanes.setdefault(key, [])
        ranks = [rank for there, rank, _ in lane if there == level]
        self.puts += 1
        if where == "front":
            rank = min(_MIDDLE - now - self.puts, ranks[0] - 1 if ranks else _MIDDLE)
        elif where == "back":
            rank = max(_MIDDLE + now + self.puts, ranks[-1] + 1 if ranks else 0)
        else:
            rank = self.rank(fields)
            after = [each for each in ranks if rank <= each < rank + 1000]
            rank = after[-1] + 1 if after else rank
        rank = max(rank, 0)
        bisect.insort(lane, (level, rank, job))
        there = self.state.queue(queue).slots.get(key, "")
        if self.rule(queue).fair or not there.startswith("f") or there > f"f{level + 1000:04d}{rank:016d}":
            self.regard(queue, key)  # else it stands behind the first, which has its place

    def lane_find(self, queue: str, job: str, fields: Fields) -> Waits | None:
        """Return a job's entry in its lane, or None."""
        lane, level = self.state.queue(queue).lanes.get(key_of(fields), []), priority_of(fields)
        return next((each for each in lane if each[0] == level and each[2] == job), None)

    def lane_leave(self, queue: str, job: str, fields: Fields) -> None:
        """Take a job out of its lane."""
        found, key = self.lane_find(queue, job, fields), key_of(fields)
        if found:
            self.state.queue(queue).lanes[key].remove(found)
            self.regard(queue, key)

    # -- what runs ----------------------------------------------------------------------------------------------------
    def key_ends(self, queue: str, member: str) -> None:
        """Note that an execution is over."""
        key = self.state.queue(queue).keyed.pop(member, None)
        if key is not None:
            self.regard(queue, key)
