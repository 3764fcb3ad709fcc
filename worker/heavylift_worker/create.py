"""The create adapter: POST with the same name until an answer stands, GET on conflict. Never deletes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from heavylift.contract.failpoints import ReplyDroppedError, afailpoint
from heavylift.errors import ClusterUnavailableError
from heavylift.runtime.kube import KubeReply, jobs_path
from heavylift.runtime.service import Clock
from heavylift_worker import answers
from heavylift_worker.answers import Answer, Kind

Json = dict[str, Any]
Pause = Callable[[float], Awaitable[bool]]
"""Waits that long; False = the process ends, give up now."""

_FIRST_PAUSE_S = 0.25
_SHORTEST_LIMIT_S = 0.5
_LAST_LOOK_S = 2.0
STOPPING = "the dispatcher was stopped before it created the Job"
HELD = "the Job was not created: creates are held back longer than a claim may wait"
_LONGEST_PAUSE_S = 8.0


class Api(Protocol):
    """What is needed of ``heavylift.runtime.kube.KubeApi``."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Any = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - as the real one
    ) -> KubeReply:
        """Send one request."""


@dataclass(slots=True)
class Pace:
    """A token bucket shared by all creates, and the moment before which the server wants none (429 Retry-After)."""

    rate: float
    clock: Clock
    _tokens: float = field(init=False)
    _at: float = field(init=False)
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        """Start with a full bucket: twice the rate of a second."""
        self._tokens, self._at = 2 * self.rate, self.clock.monotonic()

    def hold(self, seconds: float) -> None:
        """Let nothing out for that long."""
        self._not_before = max(self._not_before, self.clock.monotonic() + min(seconds, 60.0))

    def take(self) -> float:
        """Take one token and return how long to wait before using it."""
        now = self.clock.monotonic()
        self._tokens = min(2 * self.rate, self._tokens + (now - self._at) * self.rate) - 1
        self._at = now
        return max(0.0, self._not_before - now, -self._tokens / self.rate)


@dataclass(slots=True, kw_only=True)
class Creator:
    """Creates Jobs through one connection."""

    api: Api
    clock: Clock
    pace: Pace
    pause: Pause
    request_timeout_s: float = 10.0

    async def create(
        self, manifest: Json, execution: str, *, patience_s: float, retrying: Callable[[int], None] = lambda _: None
    ) -> Answer:
        """Return the answer that stands: retryable kinds only once the patience is over or the process ends.

        The Job may exist even then: an answer can be lost. The same execution meets it again under the same name.

        Args:
            manifest: the Job.
            execution: whose Job it is.
            patience_s: seconds from now.
            retrying: told +1 when the first answer asks for another try, and -1 when the last one is there.
        """
        end, pause_s, tries, lost = self.clock.monotonic() + patience_s, _FIRST_PAUSE_S, 0, False
        answer = Answer(Kind.BUSY, HELD)
        try:
            while await self._turn(end):
                answer = await self._once(manifest, execution, max(_SHORTEST_LIMIT_S, end - self.clock.monotonic()))
                if not answer.kind.retryable:
                    return answer
                tries, lost = tries + 1, lost or answer.lost
                if tries == 1:
                    retrying(1)
                if answer.retry_after_s is not None:
                    self.pace.hold(answer.retry_after_s)
                wait = max(pause_s * random.uniform(0.5, 1.5), answer.retry_after_s or 0.0)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                if self.clock.monotonic() + wait >= end or not await self._wait(wait):
                    break
            return await self._last_look(manifest, execution, answer) if lost else answer
        finally:
            if tries:
                retrying(-1)

    async def _last_look(self, manifest: Json, execution: str, answer: Answer) -> Answer:
        """After lost answers, see whether one of the creates came through after all."""
        path = jobs_path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        try:
            seen = answers.of_look(await self.api.request("GET", path, timeout=_LAST_LOOK_S), execution)
        except ClusterUnavailableError:
            return answer
        return answer if seen.kind.retryable else seen

    async def _turn(self, end: float) -> bool:
        """Wait for this create's turn; False = it comes after the patience, or the process ends."""
        wait = self.pace.take()
        return wait <= 0 or (self.clock.monotonic() + wait < end and await self._wait(wait))

    async def _wait(self, seconds: float) -> bool:
        return seconds <= 0 or await self.pause(seconds)

    async def _once(self, manifest: Json, execution: str, left_s: float) -> Answer:
        limit = min(self.request_timeout_s, left_s)
        path = jobs_path(manifest["metadata"]["namespace"])
        try:
            # Strict: a misspelt field of the template is an error with its name, not a field dropped silently.
            query = {"fieldValidation": "Strict"}
            reply = await self.api.request("POST", path, body=manifest, query=query, timeout=limit)
            await afailpoint("kube.create.reply")
            answer = answers.of_create(reply)
            if answer.kind is not Kind.LOOK:
                return answer
            named = jobs_path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            return answers.of_look(await self.api.request("GET", named, timeout=limit), execution)
        except (ClusterUnavailableError, ReplyDroppedError) as error:
            return Answer(Kind.BUSY, str(error), lost=True)
