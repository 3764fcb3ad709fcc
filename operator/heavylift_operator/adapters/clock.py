"""The cluster's time: the API server's ``Date`` headers, carried on by the machine's monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from heavylift.runtime.service import Clock, SystemClock


class ClusterClock:
    """Tells the API server's time, so that a skewed clock of this machine kills nothing early.

    Until the first reply it tells the machine's own. Whole seconds: the header's resolution.
    """

    def __init__(self, system: Clock | None = None) -> None:
        self._system: Clock = system or SystemClock()
        self._offset_ms: int | None = None
        self._stated = ""

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take the time from a reply's headers (lower-case names)."""
        stated = headers.get("date")
        if stated is None or stated == self._stated:  # of the same second the first reply tells the most
            return
        self._stated = stated
        try:
            server_ms = round(parsedate_to_datetime(stated).timestamp() * 1000)
        except (ValueError, OverflowError):
            return
        # The header is cut to whole seconds, so the server's time is at least this; the largest offset is the truest.
        offset = server_ms - round(self._system.monotonic() * 1000)
        drifted = self._offset_ms is not None and abs(offset - self._offset_ms) > _DRIFT_MS
        self._offset_ms = offset if self._offset_ms is None or drifted else max(offset, self._offset_ms)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        if self._offset_ms is None:
            return self._system.now_ms()
        return round(self._system.monotonic() * 1000) + self._offset_ms

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._system.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        await self._system.sleep(seconds)


_DRIFT_MS = 2_000


_LAST_S = 253_402_300_799
"""The last second of the year 9999: Kubernetes takes no later one, nor, from us, one before 1970."""


def rfc3339(ms: int) -> str:
    """Return a time as Kubernetes writes it; what no calendar holds becomes the nearest time that it takes."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(max(ms // 1000, 0), _LAST_S)))
