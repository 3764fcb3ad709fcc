"""Checkpoints of real processes: what the kubelet would find in the result file, however the process ends."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from heavylift.contract import envelope

if TYPE_CHECKING:
    from tests.unit.pod.conftest import Pod

EXECUTION = "abcdefghijklmnop-1"
WORK = """
import os, signal, sys, threading

@heavylift.task
def main(ctx: heavylift.Context, how: str) -> object:
    if ctx.restored is None:
        ctx.checkpoint({"long": "x" * 1500})
    for page in ctx.resume(range(4)):
        if how == "resume":
            continue
        if page == 2:
            if how == "sigterm":
                print("ready")
                threading.Event().wait(0.05 if ctx.stopping else 0)
                while not ctx.stopping:
                    threading.Event().wait(0.01)
                continue
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                sys.exit(3)
            if how == "snooze":
                raise heavylift.Snooze("10m")
            raise OSError("disk full")
        ctx.checkpoint({"page": page})
    return ctx.restored
"""


@pytest.mark.parametrize(
    ("how", "code", "kind", "done"),
    [
        ("error", 1, "error", 2),
        ("exit", 3, "error", 2),
        ("snooze", 75, "snooze", 2),
        ("sigterm", 143, "error", 3),
        ("kill", -signal.SIGKILL, "checkpoint", 2),
    ],
)
def test_a_checkpoint_outlives_the_process(pod: Pod, how: str, code: int, kind: str, done: int) -> None:
    """An error, an exit, a snooze, SIGTERM, a kill: the file holds the last checkpoint; the next attempt goes on."""
    pod.module(WORK)
    pod.env["HEAVYLIFT_JOB_PAYLOAD"] = json.dumps({"how": how})
    process = pod.start()
    if how == "sigterm":
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
    ran = pod.finish(process)

    assert ran.code == code
    found = envelope.decode(ran.written, EXECUTION)
    assert (found.kind, json.loads(found.checkpoint_json or "null")) == (kind, {"page": 1, "$resume": {"": done}})

    if how == "sigterm":
        pod.env["HEAVYLIFT_JOB_CHECKPOINT"] = found.checkpoint_json or ""
        again = pod.run(data={"how": "resume"})
        assert again.envelope["result"] == {"page": 1}


@pytest.mark.parametrize(
    ("error", "hold"),
    [("heavylift.RateLimited('90s')", True), ("heavylift.Snooze('90s')", False)],
)
def test_rate_limited_holds_its_queue_back(pod: Pod, error: str, hold: bool) -> None:
    """Both spend no attempt and name their time; only RateLimited speaks for the whole queue."""
    pod.module(f"@heavylift.task\ndef main() -> None:\n    raise {error}")

    ran = pod.run()

    found = envelope.decode(ran.written, EXECUTION)
    assert (ran.code, found.kind, found.delay_ms, found.hold) == (75, "snooze", 90_000, hold)


def test_a_backoff_function_decides_by_the_error(pod: Pod) -> None:
    """120 s for a rate limit, 10 s for a timeout, 0 = now, None = the queue's, UnrecoverableError = give up."""
    pod.module(
        "def wait(failure: heavylift.Failure):\n"
        "    said = str(failure.error)\n"
        "    if said == 'give up':\n        raise heavylift.UnrecoverableError(said)\n"
        "    return {'rate limit': 120, 'timeout': '10s', 'now': 0}.get(said)\n"
        "@heavylift.task\ndef inner(): pass\n"
        "@heavylift.task(backoff=wait)\ndef main(said: str) -> None:\n    raise OSError(said)"
    )
    told = {}
    for said in ("rate limit", "timeout", "now", "else", "give up"):
        inner = pod.run(data={"said": said}).envelope
        told[said] = (inner.get("delayMs"), inner.get("noRetry", False))

    assert told == {
        "rate limit": (120_000, False),
        "timeout": (10_000, False),
        "now": (0, False),
        "else": (None, False),
        "give up": (None, True),
    }
