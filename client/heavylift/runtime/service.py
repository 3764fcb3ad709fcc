"""A small supervisor: named loops as tasks, a clean end on SIGTERM, one log line per change of state."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from heavylift.errors import HeavyliftError
from heavylift.runtime import logs

Loop = Callable[[], Awaitable[None]]
"""A loop runs until it is told to stop; returning early ends it for good, raising restarts it."""


_SHORTEST_PAUSE_S = 0.25
_YOUNG = 10_000
"""New objects that make the garbage collector look at them."""
_SAID_MAX = 10
"""Different words for one trouble: two that take turns are each said once."""


class Clock(Protocol):
    """Time as the services see it, so that tests need no waiting."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        await asyncio.sleep(seconds)


class StateLine:
    """Says once that something broke and once that it works again, however often it is asked.

    ``ok`` and ``why`` fit a readiness check: ``checks = {"redis": line.check}``.
    """

    def __init__(self, log: FilteringBoundLogger, name: str, *, ok: bool = True, why: str = "") -> None:
        self._log, self._name = log, name
        self.ok, self.why = ok, why
        self._said: set[str] = set()

    def good(self, message: str = "works again") -> None:
        """Note that it works; logs only after trouble was logged."""
        if self._said:
            self._log.info(f"{self._name}: {message}")
            self._said.clear()
        self.ok, self.why = True, ""

    def bad(self, why: str, *, trace: bool = False) -> None:
        """Note that it is broken, and why and what to do; logs only when that is news, ``trace`` with the traceback."""
        if why not in self._said and len(self._said) < _SAID_MAX:
            self._said.add(why)
            self._log.error(f"{self._name}: {why}", exc_info=trace)
        self.ok, self.why = False, why

    def check(self) -> tuple[bool, str]:
        """Return the state as a readiness check."""
        return self.ok, self.why


def collect_less() -> None:
    """Have the garbage collector leave alone what stands already, and come round less often.

    A process makes and drops thousands of objects for each job, hardly any of them in cycles. At Python's own threshold
    the collector looks at every 700 new ones, and through all that was imported every now and then.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


class Service:
    """Runs named loops until SIGTERM or SIGINT, or until ``stop`` is set.

    A loop that raises is started again after a growing pause (at most 30 s); its error is logged once per change, with
    a traceback only when it is not one of Heavylift's own errors. One that raised just before the end, or is in its
    pause then, is called a last time with ``stop`` set: it holds work that it must hand back.
    """

    def __init__(
        self, name: str, *, clock: Clock | None = None, grace_s: float = 5.0, longest_pause_s: float = 30.0
    ) -> None:
        self.stop = asyncio.Event()
        """Set once the process should end; loops look at it between rounds."""
        self.clock: Clock = clock or SystemClock()
        self.log = logs.get(name)
        self.exit_code = 0
        self._grace_s, self._longest_pause_s = grace_s, longest_pause_s
        self._loops: dict[str, Loop] = {}
        self._cut: set[str] = set()

    def add(self, name: str, loop: Loop, *, drain: bool = True) -> None:
        """Register a loop under a name for logs; ``drain=False``: cancelled at once at the end, it holds no work."""
        self._loops[name] = loop
        if not drain:
            self._cut.add(name)

    def end(self, why: str, *, exit_code: int = 0) -> None:
        """Ask the process to end, with the code it should exit with."""
        if not self.stop.is_set():
            self.log.info("stopping", why=why)
            self.exit_code = exit_code
            self.stop.set()

    async def pause(self, seconds: float) -> bool:
        """Wait that long or until ``stop`` is set; return whether to go on."""
        if self.stop.is_set():
            return False
        waiting = asyncio.ensure_future(self.clock.sleep(seconds))
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()
        return not self.stop.is_set()

    async def pause_or(self, event: asyncio.Event, seconds: float) -> None:
        """Wait that long, or until something happened, or until ``stop`` is set."""
        happened = asyncio.ensure_future(event.wait())
        pausing = asyncio.ensure_future(self.pause(seconds))
        try:
            await asyncio.wait({happened, pausing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()
            pausing.cancel()

    async def run(self, *, signals: bool = True) -> int:
        """Run all loops until told to stop; return the exit code."""
        handled = self._listen() if signals else ()
        tasks = [asyncio.create_task(self._keep(name, loop), name=name) for name, loop in self._loops.items()]
        try:
            await self.stop.wait()
            for task in tasks:
                if task.get_name() in self._cut:
                    task.cancel()
            _, late = await asyncio.wait(tasks, timeout=self._grace_s) if tasks else (set(), set())
            for task in late:
                self.log.warning("a loop did not end in time: cancelled", loop=task.get_name(), grace_s=self._grace_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for number in handled:
                asyncio.get_running_loop().remove_signal_handler(number)
        return self.exit_code

    def _listen(self) -> tuple[signal.Signals, ...]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, f"received {number.name}")
        return signal.SIGTERM, signal.SIGINT

    async def _keep(self, name: str, loop: Loop) -> None:
        line, pause_s = StateLine(self.log, f"loop {name}"), _SHORTEST_PAUSE_S
        last = False
        while not last:
            last = self.stop.is_set()
            started = self.clock.monotonic()
            try:
                await loop()
            except HeavyliftError as error:
                line.bad(str(error))
            except Exception as error:  # noqa: BLE001 - a crashed loop must not take the others with it
                line.bad(f"crashed: {type(error).__name__}: {error}", trace=True)
            else:
                return
            await self.pause(pause_s * random.uniform(0.75, 1.25))
            pause_s = min(pause_s * 2, self._longest_pause_s)
            if self.clock.monotonic() - started > 2 * self._longest_pause_s:
                pause_s = _SHORTEST_PAUSE_S
                line.good("ran well for a while since")
