"""Stand-ins for what lies outside: time, the API server's answers, the store's scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from heavylift.contract.keys import Keys
from heavylift.contract.names import Annotation
from heavylift.errors import ClusterUnavailableError
from heavylift.runtime.kube import KubeReply
from heavylift.store.model import Reply, Verdict
from heavylift.store.steps import Call, Command, Op

Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class QuickClock:
    """Time passes only when somebody sleeps."""

    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)

    async def pause(self, seconds: float) -> bool:
        """Sleep; the process never ends."""
        await self.sleep(seconds)
        return True


@dataclass
class ScriptedApi:
    """Answers requests one after the other; the last answer stays."""

    answers: list[KubeReply | None]
    """None = no answer at all."""
    clock: QuickClock = field(default_factory=QuickClock)
    seen: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Any = None,  # noqa: ARG002 - the real one's signature
        timeout: float = 10.0,  # noqa: ASYNC109 - the real one's signature
    ) -> KubeReply:
        """Give the next answer."""
        self.seen.append((method, path))
        self.bodies.append(body)
        reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if reply is None:
            self.clock.seconds += timeout
            raise ClusterUnavailableError("no answer from the Kubernetes API")
        return reply


@dataclass
class ScriptedStore:
    """Answers operations by the name of their script with values; the calls it saw stand in ``seen``."""

    answers: Mapping[str, Any] = field(default_factory=dict)
    """Script -> what its operation returns, or an exception to raise; else a reply that says APPLIED."""
    seen: list[Call] = field(default_factory=list)
    commands: list[tuple[Any, ...]] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None

    async def run(self, op: Op[T]) -> T:
        """Take the operation's first step for the whole of it."""
        step = next(op)
        op.close()
        answer: Any = None
        if isinstance(step, Command):
            self.commands.append(step.build(Keys()))
        else:
            self.seen.append(step)
            self.before(step.script)
            answer = self.answers.get(step.script, Reply(verdict=Verdict.APPLIED))
        if isinstance(answer, Exception):
            raise answer
        result: T = answer
        return result

    @property
    def scripts(self) -> list[str]:
        """Names of the scripts called, in order."""
        return [call.script for call in self.seen]

    def call(self, script: str) -> Call:
        """Return the only call of a script."""
        (only,) = [call for call in self.seen if call.script == script]
        return only


def status(code: int, message: str = "", reason: str = "", **details: Any) -> KubeReply:
    """Return an API server's ``Status`` as a reply."""
    headers = {"retry-after": str(details.pop("retry_after"))} if "retry_after" in details else {}
    body: Json = {"kind": "Status", "code": code, "message": message, "reason": reason, "details": details}
    return KubeReply(code, body, headers)


def created(uid: str = "uid-1") -> KubeReply:
    """Return the answer to a create that went through."""
    return KubeReply(201, {"kind": "Job", "metadata": {"uid": uid}})


def job(execution: str | None, *, uid: str = "uid-1", **metadata: Any) -> KubeReply:
    """Return the answer to a GET of a Job."""
    annotations = {Annotation.EXECUTION: execution} if execution else {}
    return KubeReply(200, {"metadata": {"name": "n", "uid": uid, "annotations": annotations, **metadata}})
