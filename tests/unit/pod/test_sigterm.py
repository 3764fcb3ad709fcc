"""SIGTERM in the pod, as the kubelet sends it on cancel, eviction and drain."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.pod.conftest import Pod


def _ready(process: subprocess.Popen[str]) -> None:
    """Wait for the task to say that it runs."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_sigterm_ends_a_task_that_does_not_ask(pod: Pod) -> None:
    """A task that never reads ctx.stopping is ended where it stands; its finally blocks run."""
    pod.module(
        "import threading\n@heavylift.task\ndef main() -> None:\n    try:\n        print('ready')\n"
        "        threading.Event().wait(50)\n    finally:\n        print('cleaned up')"
    )
    process = pod.start()
    _ready(process)

    process.send_signal(signal.SIGTERM)
    ran = pod.finish(process)

    assert ran.code == 143
    assert "cleaned up" in ran.stdout
    assert ran.envelope["error"]["message"] == "stopped by SIGTERM"


def test_sigterm_lets_a_task_that_asks_finish_its_step(pod: Pod) -> None:
    """A task that reads ctx.stopping may save its state and return; it still counts as stopped."""
    pod.module(
        "import threading\n@heavylift.task\ndef main(ctx: heavylift.Context) -> str:\n    said = False\n"
        "    while not ctx.stopping:\n        if not said:\n            print('ready')\n            said = True\n"
        "        threading.Event().wait(0.01)\n    print('saved')\n    return 'partial'"
    )
    process = pod.start()
    _ready(process)

    process.send_signal(signal.SIGTERM)
    ran = pod.finish(process)

    assert ran.code == 143
    assert "saved" in ran.stdout
    assert "result" not in ran.envelope


def test_sigterm_that_the_task_swallows_is_still_143(pod: Pod) -> None:
    """A task that catches everything and goes on cannot turn the stop into a success."""
    pod.module(
        "import threading\n@heavylift.task\ndef main() -> str:\n    try:\n        print('ready')\n"
        "        threading.Event().wait(50)\n    except BaseException:\n        return 'as if nothing happened'\n"
        "    return 'never'"
    )
    process = pod.start()
    _ready(process)

    process.send_signal(signal.SIGTERM)

    assert pod.finish(process).code == 143


def test_children_of_the_task_end_by_sigterm_as_usual(pod: Pod) -> None:
    """A forked child inherits no special treatment: terminate() ends it."""
    pod.module(
        "import os, signal, time\n@heavylift.task\ndef main(ctx: heavylift.Context) -> int:\n    ctx.stopping\n"
        "    r, w = os.pipe()\n    pid = os.fork()\n    if pid == 0:\n        os.write(w, b'1')\n"
        "        time.sleep(50)\n        os._exit(0)\n    os.read(r, 1)\n    os.kill(pid, signal.SIGTERM)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )

    assert pod.run().envelope["result"] == -signal.SIGTERM
