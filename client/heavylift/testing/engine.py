"""The queue as a pure model: what each script of the store does to Redis, done to values in memory.

It answers as the scripts answer, so that clients run on it unchanged; a test runs random operations against it and
against the scripts in Redis, and compares all that can be seen after every step. What RQ's own
client writes can be put into its state; it does not know wrong types.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from heavylift.errors import InvalidInputError
from heavylift.store.steps import Arg
from heavylift.testing.accepting import Entry
from heavylift.testing.ending import Ending
from heavylift.testing.gauging import Gauging
from heavylift.testing.scheduling import Scheduling
from heavylift.testing.state import ENDED, State


class Engine(Scheduling, Ending, Gauging):
    """One Redis with Heavylift's scripts, in memory."""

    def __init__(self, state: State | None = None) -> None:
        super().__init__(state or State())
        self._scripts: dict[str, Callable[[list[Any]], Any]] = {
            "enqueue": self._enqueue,
            "claim": self.claim,
            "record": self.record,
            "check": self.check,
            "attend": self.attend,
            "observe": self.observe,
            "release": self.release,
            "finish": self.finish_attempt,
            "finalized": self._finalized,
            "register": self._register,
            "cancel": self.cancel,
            "retry": self.retry,
            "promote": self.promote,
            "change": self.change,
            "remove": self.remove_job,
            "purge": self.purge,
            "pause": self.pause,
            "resume": self.resume,
            "put_settings": self.put_settings,
            "delete_settings": self.delete_settings,
            "key_standing": self.key_standing,
            "own_claims": self.own_claims,
            "sweep_dedupe": self._sweep_dedupe,
            "sweep_dependents": self.sweep_dependents,
            "sweep_ended": lambda _: [-1, 0],  # nobody ends jobs beside the model
            "sweep_keys": self._sweep_keys,
            "trim": lambda args: sum(self.trim(args[0], state, int(args[1])) for state in ENDED),
            "get_job": self.get_job,
            "list_jobs": self.list_jobs,
            "find_ended": self.find_ended,
            "counts": self.counts,
            "snapshot": self.snapshot,
            "dedupe_holder": self._dedupe_holder,
            **self._of_schedules(),
        }

    def _of_schedules(self) -> dict[str, Callable[[list[Any]], Any]]:
        return {
            "schedules": self.schedules,
            "schedule_put": self.schedule_put,
            "schedule_set": self.schedule_set,
            "schedule_delete": self.schedule_delete,
            "schedule_due": self.schedule_due,
            "schedule_defer": self.schedule_defer,
            "schedule_fire": self.schedule_fire,
            "schedule_trigger": self.schedule_trigger,
        }

    def call(self, script: str, args: tuple[Arg, ...]) -> Any:
        """Answer one script's call; the arguments are those after the prefixes.

        Raises:
            InvalidInputError: the model does not know the script, or one of the arguments.
        """
        if script not in self._scripts:
            raise InvalidInputError(f"heavylift.testing does not know {script!r}: use a real Redis for this test")
        self.puts, self.listed = -1, ("", None)
        return copy.deepcopy(self._scripts[script](list(args)))

    def _enqueue(self, args: list[Any]) -> list[Any]:
        entries, header = [], ""
        for part in args:
            if isinstance(part, str):
                header = part
            else:
                entries.append(Entry.read(header, part))
        return [self.accept(entry) for entry in entries]

    def _dedupe_holder(self, args: list[Any]) -> str:
        queue, key, free = args
        if free == "1":
            return self.dedup_free(queue, key)
        found = self.dedup_holder(queue, key)
        return found[0].job if found else ""

    def _sweep_dedupe(self, args: list[Any]) -> int:
        queue, *keys = args
        stale = sum(self.dedup_mend(queue, key.decode() if isinstance(key, bytes) else key) for key in keys)
        if stale:
            self.state.count(queue, "repaired:dedupe", stale)
            self.state.emit(queue, "repaired", "", case="dedupe", count=str(stale))
        return stale

    def _sweep_keys(self, args: list[Any]) -> list[Any]:
        """Compare the indexes of keys with what runs and waits; all of them at once."""
        queue = args[0]
        mended = self.mend_keys(queue)
        for case, n in (("started", self.mend_started(queue)), ("keys", mended)):
            if n:
                self.state.count(queue, f"repaired:{case}", n)
                self.state.emit(queue, "repaired", "", case=case, count=str(n))
        return ["", 0, "", 0, mended]

    def _finalized(self, args: list[Any]) -> int:
        install, member, owner, opened = args
        jobs = self.state.unfinalized.setdefault(install, {})
        if opened == "1":
            jobs[member] = owner
            return 1
        return 1 if jobs.pop(member, None) is not None else 0

    def _register(self, args: list[Any]) -> int:
        install, worker, ttl = args
        alive = self.state.dispatchers.setdefault(install, {})
        alive.pop(worker, None)
        if int(ttl) > 0:
            alive[worker] = self.state.now + int(ttl)
        return self.live(install)
