"""The scripts of schedules among those that meet keys of a wrong type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heavylift.store import ops
from heavylift.store.schedules import ScheduleFire, SchedulePut
from tests.integration.store.kit import QUEUE, World, request

ID, NAME, MARK = "job", "s", 1000
KEY = f"heavylift:schedule:{NAME}"
_PUT = SchedulePut(
    id=NAME, queue=QUEUE, definition={"v": 1}, timing={}, prefix=NAME, since=MARK, next=2000, suspended=None
)  # fmt: skip


def _defined(w: World) -> None:
    w.run(ops.put_schedule(_PUT))


def _unfinished(job: str) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        _defined(w)
        w.run(_trigger(job))

    return prepare


def _trigger(job: str = ID) -> Any:
    return _with_revision(lambda revision: ops.trigger_schedule(NAME, revision, request(id=job)))


def _with_revision(act: Callable[[str], Any]) -> Any:
    record = yield from ops.get_schedule(NAME)
    return (yield from act(record.revision if record else ""))


def _fire(concurrency: str = "Allow", tick: int | None = 2000, job: str = ID) -> Any:
    def fire(revision: str) -> Any:
        return ops.fire_schedule(
            ScheduleFire(
                id=NAME, revision=revision, from_mark=MARK, mark=2000, missed=1, next=3000, concurrency=concurrency,
                limit=None, tick=tick, entry=None if tick is None else request(id=job),
            )
        )  # fmt: skip

    return _with_revision(fire)


CASES: dict[str, tuple[Callable[[World], None], Callable[[], Any]]] = {
    "schedule_put": (lambda _: None, lambda: ops.put_schedule(_PUT)),
    "schedule_put again": (_defined, lambda: ops.put_schedule(_PUT)),
    "schedule_set": (_defined, lambda: ops.suspend_schedule(NAME, by="ann")),
    "schedule_delete": (_defined, lambda: ops.delete_schedule(NAME, by="ann")),
    "schedule_due": (_defined, lambda: ops.due_schedules(5000)),
    "schedule_defer": (_defined, lambda: _with_revision(lambda r: ops.defer_schedule(NAME, r, "why"))),
    "schedule_trigger": (_defined, _trigger),
    "schedule_fire": (_defined, _fire),
    "schedule_fire missed": (_defined, lambda: _fire(tick=None)),
    "schedule_fire forbid": (_unfinished(ID), lambda: _fire("Forbid", job="other")),
    "schedule_fire replace": (_unfinished("other"), lambda: _fire("Replace")),
    "schedules": (_defined, lambda: ops.get_schedule(NAME)),
    "schedules page": (_defined, ops.all_schedules),
}
