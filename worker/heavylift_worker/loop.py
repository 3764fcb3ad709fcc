"""The claim loop: whenever there is room, claim and send each claim on its way; hand back what is left at the end."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from heavylift.contract import limits
from heavylift.contract.failpoints import afailpoint
from heavylift.errors import HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.health import Beat
from heavylift.runtime.service import Service
from heavylift.store import ops
from heavylift.store.model import Claim, ClaimReply, ClaimRequest, Fence
from heavylift_worker.create import STOPPING
from heavylift_worker.dispatch import Dispatch
from heavylift_worker.settings import DispatcherSettings

ACTIVE_PER_CREATE: Final = 4
"""Claims held per create slot: one namespace whose creates are being retried must not hold up the others."""
DRAIN_S: Final = 3.0
"""How long creates under way may take at the end before they are cut off and their claims handed back."""
HAND_BACK_S: Final = 2.0


@dataclass(slots=True, kw_only=True)
class ClaimLoop:
    """One process's claims."""

    dispatch: Dispatch
    settings: DispatcherSettings
    service: Service
    beat: Beat
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by doorbells, by changed HeavyQueues and by ended claims."""
    unsettled: bool = True
    """Claims of ours may have no recorded Job although nobody works on them: at the start and after lost answers."""
    log: FilteringBoundLogger = field(default_factory=lambda: logs.get("claims"))
    _active: dict[tuple[str, str], tuple[Claim, asyncio.Task[None]]] = field(default_factory=dict)
    _pending: ClaimRequest | None = None
    """A claim whose answer was lost: asked for again under the same request id."""
    _turn: int = 0
    _seen: set[str] = field(default_factory=set)
    """Queues that had nothing since something was claimed last."""
    _places: dict[tuple[str, str], int] = field(default_factory=dict)
    """Claims in the order they were made, kept for handing back."""
    _claimed: int = 0
    _held: bool = True
    """Claims under way keep the loop from more: the end of one is news."""

    def __post_init__(self) -> None:
        """Hear of creates that are retried."""
        self.dispatch.gate.changed = self._look

    @property
    def active(self) -> int:
        """Claims under way."""
        return len(self._active)

    @property
    def spare(self) -> int:
        """Claims that may be made now: beside those being retried no more than ``slots`` wait for their Jobs at once.

        So a dispatcher that dies leaves at most its own share behind, and leaves the others theirs.
        """
        return min(self._most - self.active, self.settings.slots - (self.active - self._retried))

    @property
    def crowded(self) -> bool:
        """Whether all create slots are taken and but a few claims may be made: later, more are made in one call."""
        batch = min(limits.CLAIM_MAX, self._most // 2, self.settings.slots // 2)
        return self.active - self._retried >= self.settings.create_concurrency and self.spare < batch

    @property
    def _most(self) -> int:
        return self.settings.create_concurrency * ACTIVE_PER_CREATE

    @property
    def _retried(self) -> int:
        return sum(self.dispatch.gate.retrying.values())

    async def run(self) -> None:
        """Claim until the process ends, then hand back."""
        while not self.service.stop.is_set():
            self.beat.tick()
            self.wake.clear()
            try:
                wait_s = await self._round()
            except RedisUnavailableError:
                self.unsettled = True
                await self.service.pause(0.5)
                continue
            except HeavyliftError:
                self._pending = None  # asking the same again would meet the same corrupt key
                raise
            if wait_s > 0:
                await self._idle(wait_s)
        await self._drain()

    async def _round(self) -> float:
        """Claim once for what there is room for; return seconds to wait before the next round."""
        if self.unsettled:
            await self._resume()
        if self._pending is not None:
            await self._claim(self._pending)
        spare = self.spare
        serving = self.dispatch.cache.serving()
        room = self.dispatch.gate.room(serving)
        self._held = spare <= 0 or self.crowded or len(room.free) < len(serving)
        if spare <= 0 or self.crowded or not (room.free or room.probes):
            return self.settings.poll
        due_s = self.settings.poll
        for queue in room.probes:
            reply = await self._claim(self._request((queue,), 1))
            for claim in reply.claims:
                self.dispatch.gate.probing(claim.queue, claim.namespace)
        if not room.free:
            return due_s
        wanted = min(spare, limits.CLAIM_MAX)
        request = self._request(self._turned(room.free), wanted)
        reply = await self._claim(request)
        if not self._all_seen(request, reply):
            return 0.0
        if reply.next_due_ms is not None:
            due_s = min(due_s, max(0.01, reply.next_due_ms / 1000))
        return due_s

    def _all_seen(self, request: ClaimRequest, reply: ClaimReply) -> bool:
        """Return whether no queue has anything now; a claim's work is bounded, so the next begins where it ended."""
        if reply.claims:
            self._seen.clear()
            return reply.blocked.keys() >= set(request.queues)
        new = reply.blocked.keys() - self._seen
        self._seen |= new
        following = next((place for place, queue in enumerate(request.queues) if queue not in self._seen), None)
        if following is None or not new:
            self._seen.clear()
            return True
        self._turn += following - 1
        return False

    def _turned(self, queues: tuple[str, ...]) -> tuple[str, ...]:
        """Start at another queue each time, so that none is served last for ever."""
        self._turn += 1
        start = self._turn % len(queues)
        return queues[start:] + queues[:start]

    def _request(self, queues: tuple[str, ...], most: int) -> ClaimRequest:
        return ClaimRequest(
            worker=self.settings.worker_name,
            request=secrets.token_hex(8),
            install=self.settings.install_id,
            queues=queues,
            max=most,
            slots=self.settings.slots,
            deadline_ms=round(self.settings.claim_deadline * 1000),
        )

    async def _claim(self, request: ClaimRequest) -> ClaimReply:
        self._pending = request
        await afailpoint("dispatcher.claim.before")
        reply: ClaimReply = await self.dispatch.link.run(ops.claim(request))
        self._pending = None
        if reply.claims:
            await afailpoint("dispatcher.claim.after")
        for claim in reply.claims:
            self.dispatch.metrics.claimed.labels(claim.queue).inc()
            self._start(claim)
        await asyncio.sleep(0)  # lets each of them begin before more are claimed
        return reply

    async def _resume(self) -> None:
        """Go on with claims of ours that nobody works on (an answer was lost, Redis was away, we were restarted)."""
        own = await self.dispatch.link.run(ops.own_claims(self.settings.install_id, self.settings.worker_name))
        self.unsettled = False
        for claim in own:
            if claim.namespace in self.settings.namespaces and claim.namespace not in self.dispatch.cache.listed:
                self.unsettled = True  # at the start: its HeavyQueue will be seen in a moment
                continue
            worked_on = self._active.get((claim.job, claim.execution))
            if worked_on is None or worked_on[1].done():
                self.log.warning("resumes a claim without a recorded Job", job=claim.job, execution=claim.execution)
                self._start(claim, resumed=True)

    def _start(self, claim: Claim, *, resumed: bool = False) -> None:
        key = (claim.job, claim.execution)
        # A job that one of our tasks released may be claimed again, under the same execution, before that task ended.
        before = self._active[key][1] if key in self._active else None
        task = asyncio.create_task(self._carry(claim, before, resumed=resumed))
        self._active[key] = (claim, task)
        self._claimed += 1
        self._places[key] = self._claimed
        task.add_done_callback(lambda ended: self._ended(key, ended))

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if key in self._active and self._active[key][1] is task:
            del self._active[key]
            if not self.service.stop.is_set():
                del self._places[key]
        self._look()

    def _look(self) -> None:
        """Have the next round come at once if there may be more to claim than at the last."""
        if self.unsettled or (self._held and not self.crowded):
            self.wake.set()

    async def _carry(self, claim: Claim, before: asyncio.Task[None] | None, *, resumed: bool) -> None:
        if before is not None:
            await asyncio.wait({before})
        about = {"job": claim.job, "execution": claim.execution}
        try:
            await self.dispatch.handle(claim, resumed=resumed)
        except RedisUnavailableError:
            self.unsettled = True  # said by the link; its own claims are asked for again
        except HeavyliftError as error:
            self.log.error("a claim could not be carried out", why=str(error), **about)  # noqa: TRY400 - our own words
        except Exception:
            # The operator hands the job back at its claim deadline, and ends it when that happens three times.
            self.log.exception("a claim could not be carried out", **about)

    async def _idle(self, seconds: float) -> None:
        """Wait for a doorbell, an ended claim or the end of the process, at most that long."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.wake, self.service.stop)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _drain(self) -> None:
        """Let creates under way end, cut off those that do not, and hand the jobs without a Job back in their order."""
        tasks = [task for _, task in self._active.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_S)
        late = [(claim, task) for claim, task in self._active.values() if not task.done()]
        for _, task in late:
            task.cancel()
        await asyncio.gather(*(task for _, task in late), return_exceptions=True)
        back = [*self.dispatch.handed_back, *(claim for claim, _ in late)]
        # To the front one by one: the first claimed goes last, so that it stands first again.
        for claim in sorted(back, key=lambda claim: self._places[claim.job, claim.execution], reverse=True):
            await self._hand_back(claim)

    async def _hand_back(self, claim: Claim) -> None:
        fence = Fence(job=claim.job, execution=claim.execution, worker=claim.worker)
        try:
            await asyncio.wait_for(self.dispatch.link.run(ops.release(fence, reason=STOPPING)), HAND_BACK_S)
        except (HeavyliftError, TimeoutError) as error:
            self.log.warning("could not hand a job back: the operator will", job=claim.job, why=str(error))
        else:
            self.log.info("handed back", job=claim.job, queue=claim.queue)
