"""SIGTERM in the pod: the kubelet's request to end (cancel, eviction, drain)."""

from __future__ import annotations

import os
import signal
from types import FrameType

from heavylift.context import StopFlag, Stopped
from heavylift.contract.names import ExitCode

__all__ = ["StopSignal", "Stopped"]


class StopSignal:
    """The handler: tells the task's Context; ends a task that never asks ``ctx.stopping`` at once."""

    def __init__(self, flag: StopFlag) -> None:
        self.flag = flag
        self._armed = True
        self._pid = os.getpid()

    def install(self) -> None:
        """Handle SIGTERM from now on; process 1 of a container would ignore it otherwise."""
        signal.signal(signal.SIGTERM, self._handle)

    def disarm(self) -> None:
        """Raise nothing any more: the task has ended, its result is being written."""
        self._armed = False

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child of the task: it ends as if we had installed nothing
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        self.flag.seen = True
        if self._armed and not self.flag.watched:
            self._armed = False
            raise Stopped(ExitCode.TERMINATED)
