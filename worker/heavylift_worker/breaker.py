"""Circuit breakers: after failures in a row nothing goes out for a while, then one probe decides. Pure, own clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What may pass."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing until the pause is over."""
    HALF_OPEN = "half-open"
    """One probe at a time."""


@dataclass(slots=True)
class Breaker:
    """One breaker; the pause doubles with each probe that fails, up to ``longest_s``."""

    threshold: int
    pause_s: float
    monotonic: Callable[[], float]
    longest_s: float = 300.0
    failures: int = 0
    """In a row."""
    why: str = ""
    """Words of the last failure."""
    _opened_at: float | None = None
    _rounds: int = 0
    _probing_since: float | None = None

    @property
    def state(self) -> State:
        """What may pass now."""
        if self._opened_at is None:
            return State.CLOSED
        return State.OPEN if self.monotonic() - self._opened_at < self._current_pause_s else State.HALF_OPEN

    @property
    def room(self) -> int | None:
        """How many may pass now; None = any number."""
        match self.state:
            case State.CLOSED:
                return None
            case State.OPEN:
                return 0
            case State.HALF_OPEN:
                # A probe without a verdict (handed back, refused) must not block for ever: after a pause comes another.
                waiting = self._probing_since is not None
                overdue = waiting and self.monotonic() - (self._probing_since or 0.0) >= self._current_pause_s
                return 0 if waiting and not overdue else 1

    @property
    def _current_pause_s(self) -> float:
        return min(self.pause_s * 2.0 ** max(0, self._rounds - 1), self.longest_s)

    def probe(self) -> None:
        """Note that the one probe of a half-open breaker is on its way."""
        if self.state is State.HALF_OPEN:
            self._probing_since = self.monotonic()

    def succeeded(self) -> bool:
        """Close; return whether it was open before."""
        was_open = self._opened_at is not None
        self.failures, self.why, self._opened_at, self._rounds, self._probing_since = 0, "", None, 0, None
        return was_open

    def failed(self, why: str, *, at_once: bool = False) -> bool:
        """Count a failure; return whether this one opened it (again). ``at_once`` opens whatever the count."""
        self.failures += 1
        self.why = why
        state = self.state
        if state is State.OPEN or (state is State.CLOSED and not at_once and self.failures < self.threshold):
            return False
        self._opened_at, self._probing_since = self.monotonic(), None
        self._rounds += 1
        return True


@dataclass(slots=True)
class Breakers:
    """A breaker for each name, made when first needed."""

    make: Callable[[str], Breaker]
    _all: dict[str, Breaker] = field(default_factory=dict)

    def of(self, name: str) -> Breaker:
        """Return the name's breaker."""
        if name not in self._all:
            self._all[name] = self.make(name)
        return self._all[name]

    def states(self) -> dict[str, State]:
        """Return every breaker's state."""
        return {name: breaker.state for name, breaker in self._all.items()}

    def forget(self, keep: set[str]) -> None:
        """Drop the breakers of names that are no more."""
        for name in [name for name in self._all if name not in keep]:
            del self._all[name]
