"""How long a finished Job stays in the cluster: as long as its queue says, less where they end too fast for its count.

Kubernetes deletes a Job when its time to live is over, which costs us nothing; beyond ``retention.pods.count`` we would
have to, at a write for each. So the time is chosen by the tempo at which Jobs of the queue end. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MIN_S: Final = 60
"""A finished Job stays this long at least, so that Redis may lose its last second and find it again."""
QUEUES_MAX: Final = 1_000
_DEFAULT_MS: Final = {True: 600_000, False: 86_400_000}
"""Of successes and of failures."""


@dataclass(slots=True)
class Staying:
    """Remembers when the last Jobs of each queue ended."""

    _ends: dict[str, deque[float]] = field(default_factory=dict)
    """Queue -> when they ended (s of any clock that never goes back), as many as are to stay."""

    def seconds(self, queue: str, *, success: bool, wanted_ms: int | None, count: int, now: float) -> int:
        """Note the end of a Job and return how long it is to stay, in seconds.

        Successes that come fast stay for as long as seven tenths of the count took lately, so that these are what
        stands. Failures are rarer and looked at more: they stay their time; the oldest go when the count is reached.

        Args:
            queue: its queue.
            success: how it ended.
            wanted_ms: ``retention.pods.succeeded`` or ``.failed``; None = as by default.
            count: ``retention.pods.count``.
            now: seconds.
        """
        span = self._note(queue, max(1, count * 7 // 10), now)
        stay_s = (_DEFAULT_MS[success] if wanted_ms is None else wanted_ms) // 1000
        if success and span is not None:
            stay_s = min(stay_s, int(span))
        return max(MIN_S, stay_s)

    def _note(self, queue: str, most: int, now: float) -> float | None:
        """Note an end; return how long the last ``most`` took, None where there were fewer."""
        ends = self._ends.get(queue)
        if ends is None or ends.maxlen != most:
            ends = deque(ends or (), maxlen=most)
            while len(self._ends) >= QUEUES_MAX:
                del self._ends[next(iter(self._ends))]
            self._ends[queue] = ends
        span = now - ends[0] if len(ends) == most else None
        ends.append(now)
        return span
