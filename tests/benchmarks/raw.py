"""The peer on the API server: a loop that does nothing but the requests themselves, as fast as it can.

``python -m tests.benchmarks.raw`` reads one JSON object (fields of ``Order``) and prints one (``Result``); a process of
its own, as ours are. What it sends was made before: it renders, decides and remembers nothing.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp

from heavylift.contract.names import FINALIZER, Annotation, Label
from tests.proofs.kube import Kube, batch

Json = dict[str, Any]
PATCH: Final = {"Content-Type": "application/strategic-merge-patch+json"}
POST: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to do."""

    kubeconfig: str
    namespace: str
    manifest: Json
    """A Job; each gets a name of its own."""
    count: int
    what: Literal["create", "run", "run-patch"] = "create"
    """Create only; create and see each complete; and patch each then as our operator does, with the one PATCH."""
    concurrency: int = 16
    """Requests at once."""
    width: int = 1_000_000
    """Jobs in flight at most, with ``run``."""


@dataclass(kw_only=True)
class Result:
    """What came of it."""

    seconds: float = 0.0
    """From the first request to the last answer, or with ``run`` to the last end."""
    posts: list[float] = field(default_factory=list)
    """Seconds each POST took."""


def run(order: Order) -> Result:
    """Carry an order out in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; its words went to standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.raw"],
        input=json.dumps(asdict(order)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return Result(**json.loads(done.stdout))


@dataclass
class Loop:
    """One order under way."""

    order: Order
    session: aiohttp.ClientSession
    base: str
    result: Result = field(default_factory=Result)
    prefix: str = ""

    def __post_init__(self) -> None:
        """Prepare."""
        self.prefix = f"raw-{time.time_ns():x}"
        self.requests = asyncio.Semaphore(self.order.concurrency)
        self.places = asyncio.Semaphore(self.order.width)
        self.ended = 0
        self.all_ended = asyncio.Event()
        self.patches: set[asyncio.Task[None]] = set()

    async def create(self) -> None:
        """POST all, so many at once."""
        await asyncio.gather(*(self._worker(n) for n in range(self.order.concurrency)))

    async def _worker(self, first: int) -> None:
        for n in range(first, self.order.count, self.order.concurrency):
            await self.places.acquire()
            body = {
                **self.order.manifest,
                "metadata": {**self.order.manifest["metadata"], "name": f"{self.prefix}-{n}"},
            }
            raw = json.dumps(body)
            started = time.perf_counter()
            async with self.requests, self.session.post(self.base, data=raw, headers=POST) as reply:
                text = await reply.read()
            self.result.posts.append(time.perf_counter() - started)
            if reply.status != 201:
                raise RuntimeError(f"POST answers {reply.status}: {text[:500]!r}")

    async def watch(self, began: asyncio.Event) -> None:
        """Count Jobs as they complete, and patch them if the order says so."""
        async with self.session.get(self.base, params={"limit": "1"}) as reply:
            version = (await reply.json())["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3000"}
        query["labelSelector"] = f"!{Label.FINALIZED}"
        async with self.session.get(self.base, params=query) as stream:
            began.set()
            seen: set[str] = set()
            async for line in stream.content:
                event = json.loads(line)
                found = event["object"]
                name = found["metadata"]["name"]
                if name in seen or not name.startswith(self.prefix) or not complete(found):
                    continue
                seen.add(name)
                if self.order.what == "run-patch":
                    task = asyncio.create_task(self._patch(found))
                    self.patches.add(task)
                    task.add_done_callback(self.patches.discard)
                else:
                    self._end()

    async def _patch(self, found: Json) -> None:
        metadata = found["metadata"]
        outcome = json.dumps({"seq": 1, "class": "succeeded", "exitCode": 0, "evidence": {"pod": metadata["name"]}})
        body = {
            "metadata": {
                "uid": metadata["uid"],
                "labels": {Label.FINALIZED: "true"},
                "annotations": {Annotation.OUTCOME: outcome},
                "$deleteFromPrimitiveList/finalizers": [FINALIZER],
            },
            "spec": {"ttlSecondsAfterFinished": 600},
        }
        url = f"{self.base}/{metadata['name']}"
        async with self.requests, self.session.patch(url, data=json.dumps(body), headers=PATCH) as reply:
            if reply.status != 200:
                raise RuntimeError(f"PATCH answers {reply.status}: {await reply.text()}")
        self._end()

    def _end(self) -> None:
        self.places.release()
        self.ended += 1
        if self.ended == self.order.count:
            self.all_ended.set()


def complete(job: Json) -> bool:
    """Return whether a Job says that it is complete."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)


async def carry_out(order: Order) -> Result:
    """Do it here."""
    async with _session(order) as (session, base):
        loop = Loop(order, session, base)
        began = asyncio.Event()
        watching = asyncio.create_task(loop.watch(began)) if order.what != "create" else None
        if watching is not None:
            await asyncio.wait({watching, asyncio.create_task(began.wait())}, return_when=asyncio.FIRST_COMPLETED)
        started = time.perf_counter()
        await loop.create()
        if watching is not None:
            ended = asyncio.create_task(loop.all_ended.wait())
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                raise RuntimeError("the watch ended before the Jobs")
            watching.cancel()
        loop.result.seconds = time.perf_counter() - started
        return loop.result


@asynccontextmanager
async def _session(order: Order) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    kube = Kube(Path(order.kubeconfig))
    connector = aiohttp.TCPConnector(ssl=kube._tls, limit=order.concurrency + 2)
    unlimited = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=unlimited, read_bufsize=2**20) as session:
        yield session, f"https://{kube._host}:{kube._port}{batch(order.namespace)}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(asyncio.run(carry_out(Order(**json.load(sys.stdin)))))))
