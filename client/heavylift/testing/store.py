"""Stores on the model: what clients run their operations on instead of Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from heavylift.contract.keys import Keys
from heavylift.errors import HeavyliftError
from heavylift.store import AsyncStore, Store
from heavylift.store.steps import Ahead, Call, Step
from heavylift.testing.engine import Engine

_KEYS = Keys()


def answer(engine: Engine, step: Step, idle: Callable[[], None]) -> Any:
    """Answer one step of an operation; where Redis would make it wait, the model works first."""
    if isinstance(step, Call):
        return engine.call(step.script, step.args)
    parts = step.build(_KEYS)
    found = engine.command(parts)
    if found is None and "BLOCK" in parts:
        idle()
        found = engine.command(parts)
    return found


class MemoryStore(Store):
    """As ``Store``, on a model; ``idle`` is called by whoever waits for something to happen."""

    def __init__(self, engine: Engine, idle: Callable[[], None] | None = None) -> None:
        self.engine = engine
        self.keys = _KEYS
        self.idle = idle or (lambda: None)

    @override
    def _take(self, step: Step) -> Any:
        return answer(self.engine, step, self.idle)

    @override
    def _take_ahead(self, ahead: Ahead) -> list[Any]:
        ahead.answers.extend(self._take(call) for call in ahead.calls)
        return ahead.answers

    @override
    def _take_many(self, steps: Sequence[Step]) -> list[Any]:
        answers: list[Any] = []
        for step in steps:
            try:
                answers.append(self._take(step))
            except HeavyliftError as error:
                answers.append(error)
        return answers

    @override
    def subscribe(self, *channels: str) -> Any:
        return Waiting(self.idle)

    @override
    def close(self) -> None:
        """Nothing is open."""


class AsyncMemoryStore(AsyncStore):
    """As ``AsyncStore``, on a model."""

    def __init__(self, engine: Engine, idle: Callable[[], None] | None = None) -> None:
        self.engine = engine
        self.keys = _KEYS
        self.idle = idle or (lambda: None)

    @override
    async def _take(self, step: Step) -> Any:
        return answer(self.engine, step, self.idle)

    @override
    async def _take_ahead(self, ahead: Ahead) -> list[Any]:
        for call in ahead.calls:
            ahead.answers.append(await self._take(call))
        return ahead.answers

    @override
    def subscribe(self, *channels: str) -> Any:
        return AsyncWaiting(self.idle)

    @override
    async def aclose(self) -> None:
        """Nothing is open."""


class Waiting:
    """What stands in for a subscription: nothing happens by itself, so waiting lets the model work."""

    def __init__(self, idle: Callable[[], None]) -> None:
        self._idle = idle

    def get(self, timeout: float = 1.0) -> None:  # noqa: ARG002 - as of a subscription
        """Let the model work."""
        self._idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class AsyncWaiting(Waiting):
    """As ``Waiting``, awaited."""

    @override
    async def get(self, timeout: float = 1.0) -> None:  # type: ignore[override]  # the same, awaited
        self._idle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
