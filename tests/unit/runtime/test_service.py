"""The supervisor, on a clock that needs no waiting."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from heavylift.errors import RedisUnavailableError
from heavylift.runtime.service import Service, StateLine, collect_less


class _QuickClock:
    """Time passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


async def test_crashed_loop_restarts_with_growing_pauses() -> None:
    """A loop that raises starts again, later each time, and its error is logged once."""
    clock = _QuickClock()
    service = Service("test", clock=clock)
    rounds = 0

    async def loop() -> None:
        nonlocal rounds
        rounds += 1
        if rounds < 5:
            raise RedisUnavailableError("no Redis: check HEAVYLIFT_REDIS_URL")
        service.end("done")

    service.add("claim", loop)
    with capture_logs() as lines:
        code = await service.run(signals=False)

    assert code == 0
    assert rounds == 5
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 4
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [line["event"] for line in errors] == ["loop claim: no Redis: check HEAVYLIFT_REDIS_URL"]
    assert not errors[0]["exc_info"]


async def test_unexpected_crash_has_its_traceback_once() -> None:
    """A programming error is logged with its traceback, once, and spares the other loops."""
    service = Service("test", clock=_QuickClock())
    rounds = 0

    async def broken() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 4:
            service.end("enough")
        raise KeyError("x")

    service.add("broken", broken)
    service.add("other", service.stop.wait)  # type: ignore[arg-type]
    with capture_logs() as lines:
        await service.run(signals=False)

    assert [line["exc_info"] for line in lines if line["log_level"] == "error"] == [True]


async def test_a_loop_in_its_pause_is_called_a_last_time() -> None:
    """Told to end while a crashed loop waits for its next start, it gets one more call, with ``stop`` set."""

    class Ending(_QuickClock):
        @override
        async def sleep(self, seconds: float) -> None:
            service.end("in the pause")
            await super().sleep(seconds)

    service = Service("test", clock=Ending())
    stopping: list[bool] = []

    async def broken() -> None:
        stopping.append(service.stop.is_set())
        raise RedisUnavailableError("still away")

    service.add("claim", broken)
    await service.run(signals=False)

    assert stopping == [False, True]


async def test_sigterm_ends_all_loops() -> None:
    """SIGTERM sets ``stop``; a loop that does not listen is cancelled after the grace time."""
    service = Service("test", grace_s=0.05)
    ended: list[str] = []

    async def listens() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await service.stop.wait()
        ended.append("listens")

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("deaf")
            raise

    service.add("listens", listens)
    service.add("deaf", deaf)

    assert await service.run() == 0
    assert ended == ["listens", "deaf"]


async def test_pause_ends_when_told_to_stop() -> None:
    """A pause returns at once, and says so, when the process should end."""
    service = Service("test")
    service.end("now", exit_code=3)

    assert await service.pause(60) is False
    assert await service.run(signals=False) == 3


def test_state_line_speaks_on_change_only() -> None:
    """The same trouble is logged once; other trouble and recovery are logged."""
    with capture_logs() as lines:
        from heavylift.runtime import logs  # noqa: PLC0415 - bound while captured

        line = StateLine(logs.get("t"), "redis")
        line.good()
        line.bad("refused")
        line.bad("refused")
        line.bad("wrong password")
        line.bad("refused")
        line.bad("wrong password")
        assert line.check() == (False, "wrong password")
        line.good()
        line.good()

    assert line.check() == (True, "")
    assert [entry["event"] for entry in lines] == ["redis: refused", "redis: wrong password", "redis: works again"]


@pytest.mark.parametrize("code", [0, 4])
async def test_first_end_decides_the_exit_code(code: int) -> None:
    """Only the first request to end counts."""
    service = Service("test")
    service.end("first", exit_code=code)
    service.end("second", exit_code=9)

    assert await service.run(signals=False) == code


def test_the_garbage_collector_comes_round_less_often() -> None:
    """What stands at the start is left alone from then on."""
    before = gc.get_threshold()
    try:
        collect_less()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == (10_000, *before[1:])
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def test_a_pause_ends_when_something_happens() -> None:
    """Or when the process does; else it lasts its time."""
    clock = _QuickClock()
    service = Service("test", clock=clock)
    event = asyncio.Event()
    await service.pause_or(event, 5)
    assert clock.seconds == 5
    never = asyncio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == 5
        await never.wait()

    clock.sleep = sleep  # type: ignore[method-assign]
    waiting = asyncio.create_task(service.pause_or(event, 5))
    event.set()
    await waiting
    event.clear()
    waiting = asyncio.create_task(service.pause_or(event, 5))
    service.stop.set()
    await waiting
