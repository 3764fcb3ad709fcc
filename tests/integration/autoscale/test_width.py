"""No claim is ever made while as many run as all live dispatchers have slots, whatever becomes of the dispatchers."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import pytest

from tests.proofs.history import LEAVES_ACTIVE, History
from tests.proofs.kills import assert_sound
from tests.proofs.kube import Kube
from tests.proofs.processes import Daemon, Supervisor, stop_all
from tests.proofs.run import Json, Run
from tests.proofs.width import Width, WidthWatch
from tests.servers import StoreServer

SLOTS, JOBS, ROUNDS = 5, 100, 2
STAGED = {"heavylift-test/from-env": "HEAVYLIFT_JOB_PAYLOAD"}


def busiest(history: History) -> int:
    """Return the most jobs that were in flight at once."""
    inside: set[str] = set()
    most = 0
    for line in history.events:
        if line.name == "active":
            inside.add(line.job)
        elif line.final or line.name in LEAVES_ACTIVE:
            inside.discard(line.job)
        most = max(most, len(inside))
    return most


def most_live(width: Width) -> int:
    """Return the most dispatchers that lived at once."""
    return max(width.live(term.at) for term in width.terms)


def roll(run: Run, old: list[Daemon], number: int) -> list[Daemon]:
    """Replace each dispatcher as a Deployment does: one more that is ready first, then SIGTERM to an old one."""
    fresh = []
    for place, leaving in enumerate(old):
        coming = run.daemon("dispatcher", f"dispatcher-{number}-{place}", SLOTS=str(SLOTS)).start().wait_ready()
        fresh.append(coming)
        assert leaving.stop() == 0
    return fresh


@pytest.mark.timeout(240)
def test_rolling_upgrades_under_load(kube: Kube, redis_server: StoreServer, tmp_path: Path) -> None:
    """Two dispatchers are replaced again and again, and one is killed: the width holds, and each job ends once."""
    run = Run(kube, redis_server, tmp_path, f"w-{uuid.uuid4().hex[:8]}")
    run.prepare(ends=STAGED, defaults={"maxAttempts": 1})
    jobs: dict[str, Json] = {f"j-{n:04}": {"run-ms": "1200", "message": str(n)} for n in range(JOBS)}
    operator = run.daemon("operator", "operator")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(run.client()))
        watch = stack.enter_context(WidthWatch(client, run.install, SLOTS))
        recorder = stack.enter_context(run.recorder())
        stack.enter_context(Supervisor(operator)).wait_ready()
        run.wait_settings()
        dispatchers = [run.daemon("dispatcher", f"dispatcher-0-{n}", SLOTS=str(SLOTS)).start() for n in range(2)]
        stack.callback(lambda: stop_all(*dispatchers))
        for daemon in dispatchers:
            daemon.wait_ready()
        run.enqueue_all(jobs)
        for number in range(1, ROUNDS + 1):
            dispatchers = roll(run, dispatchers, number)
        dispatchers[0].kill()
        dispatchers[0].start()
        ended = run.wait_ended()
        run.wait_quiet()
        width = watch.width()
        history = run.history(recorder, width=width)
    assert set(ended.values()) == {"finished"}
    assert_sound(run, jobs, history)
    assert most_live(width) >= 3, "an old and a new one worked side by side"
    assert busiest(history) > 2 * SLOTS, "the load filled what a third dispatcher adds"
