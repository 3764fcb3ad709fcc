"""In which order a claim takes the waiting jobs of one queue, in the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from heavylift.testing.bounds import Bounds
from heavylift.testing.lanes import place_of, ring

_LEVELS = 32


@dataclass(frozen=True, slots=True)
class Taking:
    """What a claim says about one queue."""

    full: Callable[[], str]
    """Why nothing more may start, or nothing."""
    judge: Callable[[str, int, str], str]
    """Takes a job, its level and the key of its lane (or nothing): ``claimed`` | ``gone`` | ``stop``."""
    skip: Callable[[], None]
    """A look at what is not to be taken."""


class Serving(Bounds):
    """The lists level by level and the lanes of keys, first in first out or in turn."""

    def serve_waiting(self, queue: str, taking: Taking) -> str:
        """Take what may start now; returns why it ended."""
        self.reorder(queue)
        order = sorted(self.state.queue(queue).levels)
        order = [*[level for level in order if level][:_LEVELS], 0]
        why = (self._in_turn if self.rule(queue).fair else self._in_order)(queue, sorted(order), taking)
        return why or ("keys" if self.state.queue(queue).lanes else "empty")

    def _first(self, queue: str, order: list[int]) -> tuple[int, str] | None:
        """Return the first level with a job, and the job; levels found empty are forgotten."""
        levels = self.state.queue(queue).levels
        while order:
            if levels.get(order[0]):
                return order[0], levels[order[0]][0]
            if order[0] != 0:
                levels.pop(order[0], None)
            order.pop(0)
        return None

    def _take_listed(self, queue: str, level: int, job: str, taking: Taking) -> str:
        verdict = taking.judge(job, level, "")
        if verdict != "stop":
            self.state.queue(queue).levels[level].remove(job)
        return verdict

    def _take_keyed(self, queue: str, key: str, level: int | None, taking: Taking) -> str:
        """Take the first job of a lane, if its key has room and it is of the level its place says."""
        lane, per = self.state.queue(queue).lanes.get(key), self.rule(queue).per
        running = 0 if per is None else self.running(queue, key)
        head = lane[0] if lane and running < (math.inf if per is None else per) else None
        if head is None or lane is None or level not in {None, head[0]}:
            taking.skip()
            self.regard(queue, key)
            return "gone"
        verdict = taking.judge(head[2], head[0], key)
        if verdict == "stop":
            return verdict
        self.state.queue(queue).lanes[key].remove(head)
        self.regard(queue, key, running + 1 if verdict == "claimed" else 0)
        return verdict

    def _due_lane(self, queue: str, listed: tuple[int, str] | None) -> tuple[str, int | None] | None:
        """Return the key of the lane that comes before what is first in the lists, and the level of its place."""
        places = ring(self.state.queue(queue))
        if not places:
            return None
        place, key = places[0]
        found = place_of(place)
        if found is None or listed is None:
            return key, found[0] if found else None
        if found[0] == listed[0]:
            if self.listed[0] != listed[1]:
                fields = self.state.jobs.get(listed[1])
                self.listed = (listed[1], None if fields is None else self.rank(fields))
            earlier = self.listed[1] is not None and self.listed[1] < found[1]
        else:
            earlier = found[0] > listed[0]
        return None if earlier else (key, found[0])

    def _in_order(self, queue: str, order: list[int], taking: Taking) -> str:
        keyed = self.rule(queue).apart or bool(self.state.queue(queue).lanes)
        while True:
            why = taking.full()
            if why:
                return why
            listed = self._first(queue, order)
            lane = self._due_lane(queue, listed) if keyed else None
            if lane:
                verdict = self._take_keyed(queue, lane[0], lane[1], taking)
            elif listed:
                verdict = self._take_listed(queue, *listed, taking)
            else:
                return ""
            if verdict == "stop":
                return "enough"

    def _in_turn(self, queue: str, order: list[int], taking: Taking) -> str:
        if self._first(queue, order):
            self.take_turn(queue, "")
        while True:
            why, places = taking.full(), ring(self.state.queue(queue))
            if why or not places:
                return why
            key = places[0][1]
            verdict = self._take_keyed(queue, key, None, taking) if key else self._all_others(queue, order, taking)
            if verdict == "stop":
                return "enough"

    def _all_others(self, queue: str, order: list[int], taking: Taking) -> str:
        """Take the turn that all jobs without a key have together."""
        listed = self._first(queue, order)
        if listed is None:
            self.state.queue(queue).slots.pop("", None)
            return ""
        verdict = self._take_listed(queue, *listed, taking)
        if verdict == "claimed":
            self.take_turn(queue, "", served=True)
        return verdict
