"""The work queue: one item per Kubernetes Job, evidence merged while it waits, retries with backoff."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from heavylift.runtime.service import Clock, SystemClock
from heavylift_operator.core.evidence import JobEvidence, PodEvidence, merge_pods

Key = tuple[str, str]
"""(namespace, Job name): determined by the execution, so events, wake-ups and the reconciler meet."""

_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Look at one Job; whatever is known already comes along."""

    namespace: str
    name: str
    job_id: str = ""
    execution: str = ""
    job: JobEvidence | None = None
    """The Job as seen just now; None = not seen (a live GET tells)."""
    pod: PodEvidence | None = None
    """Evidence not yet written to Redis."""
    pod_job_uid: str = ""
    """UID of the Job that owns the pod, from its ownerReference."""
    listed: bool = False
    """Redis lists the execution as in flight."""
    left: bool = False
    """The Job left our watch: finalized, or deleted. What was seen of it before is void."""
    queue: str = ""
    """Of a Job that left."""
    left_uid: str = ""
    """Of a Job that left."""
    asked: bool = False
    """Redis' own lists led here: no echo of an end that was seen through."""
    owed: bool = False
    """Redis lists the Job's finishing PATCH as not confirmed."""
    waited: bool = False
    """The leading replica had its time; it is our turn."""
    met: bool = False
    """The reconciler met the Job, and something must be done about it."""
    glance: bool = False
    """Enough to see that Redis knows the execution and wants nothing of it."""

    @property
    def key(self) -> Key:
        """What de-duplicates."""
        return self.namespace, self.name

    def merged(self, newer: Item) -> Item:
        """Return this item with all that a newer one of the same key knows besides; an end seen is never lost."""
        return Item(
            namespace=self.namespace,
            name=self.name,
            job_id=newer.job_id or self.job_id,
            execution=newer.execution or self.execution,
            job=newer.job if newer.left else newer.job or self.job,
            pod=merge_pods(self.pod, newer.pod),
            pod_job_uid=newer.pod_job_uid or self.pod_job_uid,
            listed=newer.listed or self.listed,
            left=newer.left or (self.left and newer.job is None),
            queue=newer.queue or self.queue,
            left_uid=newer.left_uid or self.left_uid,
            asked=newer.asked or self.asked or newer.glance != self.glance,  # an event beside it takes no look away
            owed=newer.owed or self.owed,
            waited=newer.waited or self.waited,
            met=newer.met or self.met,
            glance=newer.glance and self.glance,
        )

    def bare(self) -> Item:
        """Return the item without what was seen: the next look is a fresh one."""
        return replace(self, job=None, pod=None, left=False, queue="", left_uid="", waited=False, glance=False)


class WorkQueue:
    """Hands each key to one worker at a time; all of it belongs to the event loop's thread."""

    def __init__(self, *, clock: Clock | None = None, jitter: Callable[[], float] = random.random) -> None:
        self._clock: Clock = clock or SystemClock()
        self._jitter = jitter
        self._items: dict[Key, Item] = {}
        self._since: dict[Key, float] = {}
        """When a key's oldest unattended item came in."""
        self._ready: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._held: set[Key] = set()
        """Keys that failed just now: evidence gathers, nothing is handed out until their backoff ends."""
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, Item] = {}
        self._timers: list[tuple[float, int, Key, bool]] = []
        """When, a tie-breaker, the key, and whether it ends a backoff (else: its item of later is due)."""
        self._count = itertools.count()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._keeper: asyncio.Future[None] | None = None
        """Whom timers wake."""

    # -- in -----------------------------------------------------------------------------------------------------------
    def put(self, item: Item) -> None:
        """Have an item looked at soon."""
        if item.left:
            self._later.pop(item.key, None)
        known = self._items.get(item.key)
        self._items[item.key] = item if known is None else known.merged(item)
        self._since.setdefault(item.key, self._clock.monotonic())
        self._offer(item.key)

    def put_later(self, item: Item, delay_s: float) -> None:
        """Have an item looked at after a while; of several for one key the earliest time counts."""
        known = self._later.get(item.key)
        self._later[item.key] = item if known is None else known.merged(item)
        self._timer(item.key, delay_s, ends_backoff=False)

    def forget(self, key: Key) -> None:
        """Give up what was put off for a key."""
        self._later.pop(key, None)

    # -- out ----------------------------------------------------------------------------------------------------------
    async def get(self) -> Item:
        """Return the next item; give it back with ``done`` or ``failed``."""
        while True:
            self._ring()
            if self._ready:
                key = self._ready.popleft()
                self._queued.discard(key)
                self._busy.add(key)
                if self._ready or self._keeper is None:
                    self._wake()
                return self._items.pop(key)
            await (self._keep_time() if self._keeper is None else self._wait())

    async def _keep_time(self) -> None:
        """Wait until there is work or a timer is due: one of those who wait does so for all."""
        self._keeper = asyncio.get_running_loop().create_future()
        wait = max(self._timers[0][0] - self._clock.monotonic(), 0) if self._timers else None
        try:
            async with asyncio.timeout(wait):
                await self._keeper
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._keeper = None
            self._wake()
            raise
        self._keeper = None

    async def _wait(self) -> None:
        """Wait until woken."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:
                self._wake()  # the word was for somebody who goes on
            raise

    def _wake(self) -> None:
        """Wake one of those who wait: an item is for one of them."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # else it is about to give up
                waiter.set_result(None)
                return
        self._wake_keeper()

    def _wake_keeper(self) -> None:
        if self._keeper is not None and not self._keeper.done():
            self._keeper.set_result(None)

    def done(self, item: Item) -> None:
        """Take an item back that was attended to."""
        self._busy.discard(item.key)
        self._failures.pop(item.key, None)
        if item.key in self._items:
            self._since[item.key] = self._clock.monotonic()
            self._offer(item.key)
        else:
            self._since.pop(item.key, None)

    def failed(self, item: Item) -> float:
        """Take an item back that could not be attended to: its evidence stays; returns the seconds until it is due."""
        key = item.key
        newer = self._items.get(key)
        self._items[key] = item if newer is None else item.merged(newer)
        self._busy.discard(key)
        self._held.add(key)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest: float = min(_FIRST_RETRY_S * 2.0 ** min(failures - 1, 20), _LONGEST_RETRY_S)
        delay = longest * (1 - self._jitter() / 2)
        self._timer(key, delay, ends_backoff=True)
        return delay

    # -- for probes and metrics ---------------------------------------------------------------------------------------
    @property
    def depth(self) -> int:
        """Items waiting or being attended to."""
        return len(self._items.keys() | self._busy)

    @property
    def oldest_s(self) -> float:
        """Seconds the oldest item has waited."""
        return self._clock.monotonic() - min(self._since.values()) if self._since else 0.0

    # -- inside -------------------------------------------------------------------------------------------------------
    def _offer(self, key: Key) -> None:
        if key not in self._busy and key not in self._held and key not in self._queued:
            self._ready.append(key)
            self._queued.add(key)
            self._wake()

    def _timer(self, key: Key, delay_s: float, *, ends_backoff: bool) -> None:
        heapq.heappush(self._timers, (self._clock.monotonic() + delay_s, next(self._count), key, ends_backoff))
        self._wake_keeper()

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= self._clock.monotonic():
            _, _, key, ends_backoff = heapq.heappop(self._timers)
            if ends_backoff:
                self._held.discard(key)
                if key in self._items:
                    self._offer(key)
            elif (item := self._later.pop(key, None)) is not None:
                newer = self._items.get(key)  # came in while it waited
                self.put(item if newer is None else item.merged(newer))
