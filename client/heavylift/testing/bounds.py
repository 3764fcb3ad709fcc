"""What bounds a queue's starts in the model: rate limit, holds, the image breaker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from heavylift.testing.moves import Moves

IMAGE_TROUBLE: Final = "ImagePullFailing"
_FAILURES, _PAUSE, _PAUSE_MAX, _PAUSE_MIN = 3, 60_000, 3_600_000, 1_000


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound: why it is, how many may start under it, and ms until that changes by itself."""

    why: str
    left: int
    wait: int | None


class Bounds(Moves):
    """What claims may start of a queue, and what ends of attempts tell about it."""

    def rate(self, queue: str) -> tuple[int | None, int]:
        """Return how many starts the rate admits now (None = any number), and ms until there is one more."""
        there, now = self.state.queue(queue), self.state.now
        rate = (there.settings or {}).get("rateLimit")
        if not rate:
            return None, 0
        limit, period = int(rate["limit"]), int(rate["period"])
        within = sorted(at for at in there.starts.values() if at > now - period)
        if len(within) < limit:
            return limit - len(within), 0
        return 0, max(min(within[-limit], now) + period - now, 1)

    def bounds(self, queue: str) -> list[Bound]:
        """Return what bounds the starts of a queue now."""
        there, found = self.state.queue(queue), list[Bound]()
        cap, (rate, wait) = (there.settings or {}).get("concurrencyMax"), self.rate(queue)
        breaker = self.breaker(queue)
        if breaker:
            found.append(Bound("breaker", int(breaker[0] == 0 and not breaker[1]), None if breaker[1] else breaker[0]))
        if cap is not None:
            found.append(Bound("cap", int(cap) - len(there.started), None))
        if rate is not None:
            found.append(Bound("rate", rate, wait or None))
        if there.held_until > self.state.now:
            found.append(Bound("rate", 0, there.held_until - self.state.now))
        return found

    # -- the breaker --------------------------------------------------------------------------------------------------
    def breaker(self, queue: str) -> tuple[int, bool] | None:
        """Return ms until a probe may go and whether one is on its way; None while the breaker is closed."""
        there = self.state.queue(queue)
        following = there.breaker.get("next")
        if following is None:
            return None
        return max(int(following) - self.state.now, 0), there.breaker.get("probe") in there.started

    def breaker_close(self, queue: str) -> None:
        """Close it: a pod has started, or the settings are others."""
        there = self.state.queue(queue)
        there.trouble.pop(IMAGE_TROUBLE, None)
        was_open, there.breaker = bool(self.breaker(queue)), {}
        if was_open:
            self.state.emit(queue, "breaker-closed", "")
            self.state.published("doorbell")

    def breaker_ended(self, queue: str, cls: str, member: str, body: str, *, started: bool) -> None:
        """Note the end of an attempt."""
        if cls == "image":
            self._failed(queue, member, str(json.loads(body).get("message", "")))
        elif started:
            self.breaker_close(queue)

    def _failed(self, queue: str, member: str, message: str) -> None:
        there = self.state.queue(queue)
        state, was_open = there.breaker, "next" in there.breaker
        if was_open and state.get("probe") != member:
            return
        settings: dict[str, Any] = there.settings or {}
        failures = state["failures"] = int(state.get("failures", 0)) + 1
        if failures < ((settings.get("breaker") or {}).get("consecutiveFailures") or _FAILURES):
            return
        backoff = (settings.get("defaults") or {}).get("backoff") or {}
        first = max(backoff.get("delay") or _PAUSE, _PAUSE_MIN)
        longest = max(backoff.get("max") or _PAUSE_MAX, _PAUSE_MIN)
        pause = min(int(state.get("pause", first)) * 2 if was_open else first, longest)
        state |= {"next": self.state.now + pause, "pause": pause}
        state.pop("probe", None)
        there.trouble[IMAGE_TROUBLE] = message
        if not was_open:
            self.state.emit(queue, "breaker-opened", "", reason=message[:500], ms=str(pause))
