"""One sequence of operations: made at random, run on the model and on Redis, compared after each step."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import redis

from tests.model.clocked import ClockedStore
from tests.model.generator import Generator, Step
from tests.model.pair import JOB_IDS, MismatchError, Pair
from tests.model.views import QUEUES


def play(store: ClockedStore, seed: int, length: int) -> tuple[list[Step], str]:
    """Play one random sequence; returns its steps up to a mismatch, and the mismatch or nothing."""
    pair, generator, taken = Pair(store), Generator(seed), list[Step]()
    try:
        for step in generator.first():
            taken.append(step)
            pair.take(step)
        for _ in range(length):
            taken.append(_aimed(pair, generator))
            pair.take(taken[-1])
    except MismatchError as error:
        return taken, str(error)
    return taken, ""


def _number(job: str) -> int | str:
    return int(job[1:]) if job in JOB_IDS else job


_LIVING, _OVER = ("queued", "scheduled", "started", "deferred"), ("failed", "canceled")
_AIMED = {
    "promote": ("scheduled",),
    "retry": _OVER,
    **dict.fromkeys(("cancel", "change", "remove"), (*_LIVING, *_OVER)),
    "rq": (*_LIVING, "failed", "failed", "failed"),
}
"""What a job is, most of the time, when a step is about it."""


def _aimed(pair: Pair, generator: Generator) -> Step:
    """Return the next step; most of the time one about something is about what there is."""
    name, given = generator.step()
    r, state = generator.random, pair.engine.state
    held = [queue for queue in QUEUES if state.queue(queue).pause is not None or not state.queue(queue).owner]
    if name == "claim" and held and r.random() < 0.3:
        queue = r.choice(held)
        served = bool(state.queue(queue).owner)
        return ("pause", {"queue": queue, "on": False}) if served else generator.settings(queue)
    wanted = _AIMED.get(name, ())
    fitting = [job for status in wanted for job, fields in state.jobs.items() if fields["status"] == status]
    if name in {"record", "observe", "check", "release", "finish"}:
        fitting = [job for job, fields in state.jobs.items() if "hl:exec" in fields]
    if fitting and r.random() < 0.85:
        given["job"] = _number(r.choice(fitting))
    unfinished = [int(job[1:]) for job, fields in state.jobs.items() if job in JOB_IDS and fields["status"] in _LIVING]
    if name == "enqueue" and given["depends"] and unfinished:
        given["depends"] = [r.choice(unfinished)]
    if name == "steer" and state.schedules and r.random() < 0.85:
        given["schedule"] = r.choice(sorted(state.schedules))
    return name, given


def replay(store: ClockedStore, steps: list[Step]) -> str:
    """Play given steps; returns the mismatch, or nothing."""
    pair = Pair(store)
    try:
        for step in steps:
            pair.take(step)
    except MismatchError as error:
        return str(error)
    return ""


def shrink(store: ClockedStore, steps: list[Step]) -> list[Step]:
    """Return fewer steps that still do not match: pieces are left out, large ones first, as long as that is so."""
    size = max(len(steps) // 2, 1)
    while size:
        start = 0
        while start < len(steps):
            shorter = steps[:start] + steps[start + size :]
            if replay(store, shorter):
                steps = shorter
            else:
                start += size
        size //= 2
    return steps


def dump(steps: list[Step]) -> str:
    """Return steps as JSON, one a line."""
    return "[\n" + ",\n".join(json.dumps(step) for step in steps) + "\n]\n"


def load(text: str) -> list[Step]:
    """Return the steps that ``dump`` wrote."""
    return [(name, given) for name, given in json.loads(text)]


@contextlib.contextmanager
def opened(url: str) -> Iterator[ClockedStore]:
    """Open a clocked store on a server of the test's own."""
    client = redis.Redis.from_url(url, socket_timeout=10)
    try:
        yield ClockedStore(redis=client)
    finally:
        client.close()
