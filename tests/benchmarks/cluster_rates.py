"""How fast jobs become Jobs and Jobs become outcomes, beside bare loops that only send the requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from heavylift.contract.names import Annotation
from heavylift.runtime.kube import KubeApi, jobs_path
from tests.benchmarks import raw
from tests.benchmarks.rounds import Effort, by_turns, percentile
from tests.benchmarks.rows import Row, Target
from tests.benchmarks.site import KEPT, RAISED, Site, control_plane, site
from tests.cluster.controlplane import MANAGER
from tests.proofs.kube import batch
from tests.proofs.waiting import until

MS: Final = "ms"
JOBS: Final = "jobs/s"
WIDE: Final = 10_000
_AT_A_TIME: Final = 4


# -- enqueue to the Job -----------------------------------------------------------------------------------------------
def latency(effort: Effort) -> Iterator[Row]:
    """From enqueue to the Job at the API server, one at a time, beside a bare POST of the same body."""
    count = effort.of(60, 20)
    with control_plane() as cluster, site(cluster, effort.backing) as here:
        cluster.stop(MANAGER)  # what it does with each Job would be measured with the next
        here.serve()
        here.dispatcher(WIDE)
        ours: list[list[float]] = []
        theirs: list[list[float]] = []
        for _ in range(effort.runs):
            mine, bare = asyncio.run(_latencies(here, count))
            ours.append(mine)
            theirs.append(bare)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            mine_at = [percentile(run, share) * 1000 for run in ours]
            bare_at = [percentile(run, share) * 1000 for run in theirs]
            targets = (Target(25, "value", "most"), Target(2.5, at="most")) if name == "p50" else ()
            yield Row(
                bench="latency", what=f"enqueue -> recorded Job, {name}", unit=MS, runs=mine_at, peer="bare POST",
                peer_runs=bare_at, targets=targets,
                limit="the POST itself; besides: enqueue, doorbell, claim, check, record are one trip to Redis each",
            )  # fmt: skip


async def _latencies(here: Site, count: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    api = await KubeApi.connect(kubeconfig=str(here.cluster.kubeconfig))
    manifest = here.order(1).manifest
    try:
        for n in range(count):
            started = time.time()
            after = here.last_event()
            (job,) = here.enqueue(1)
            ours.append(here.wait_events("recorded", 1, after)[job] - started)
            body = {**manifest, "metadata": {**manifest["metadata"], "name": f"bare-{time.time_ns():x}-{n}"}}
            before = time.perf_counter()
            reply = await api.request("POST", jobs_path(here.name), body=body, query={"fieldValidation": "Strict"})
            theirs.append(time.perf_counter() - before)
            if not reply.ok:
                raise RuntimeError(reply.message)
    finally:
        await api.aclose()
    return ours, theirs


def create(effort: Effort) -> Iterator[Row]:
    """Jobs created per second by one dispatcher, beside a bare POST loop of equal concurrency."""
    count = effort.of(600, 150)
    with control_plane() as cluster, site(cluster, effort.backing) as here:
        cluster.stop(MANAGER)  # creating alone is measured
        here.serve()
        here.dispatcher(WIDE)

        def ours() -> float:
            after, before = _filled(here, count), here.in_flight()
            started = time.time()
            here.client.queue(here.name).resume()
            # A count now and then: reading the events meanwhile would take its share of what is measured.
            until(lambda: here.in_flight() >= before + count, f"{count} claims", limit=300, every=0.1)
            return count / (max(here.wait_events("recorded", count, after).values()) - started)

        def theirs() -> float:
            return count / raw.run(here.order(count)).seconds

        found = by_turns({"ours": ours, "raw": theirs}, effort.runs)
        yield Row(
            bench="create", what="Jobs created by one dispatcher", unit="Jobs/s", runs=found["ours"],
            peer="bare POST loop", peer_runs=found["raw"], targets=(Target(0.85),),
            limit="API server and etcd take what cores there are; our own work per job comes out of the same",
        )  # fmt: skip


def _filled(here: Site, count: int) -> str:
    """Pause the queue and fill it; returns the id of its last event."""
    queue = here.client.queue(here.name)
    queue.pause(reason="filling")
    here.enqueue(count)
    return here.last_event()


# -- to the end -------------------------------------------------------------------------------------------------------
def through(effort: Effort) -> Iterator[Row]:
    """Jobs end to end per second, controller-manager raised and at its defaults, beside bare loops."""
    for words, flags, count in (
        ("controller-manager raised", RAISED, effort.of(300, 60)),
        ("controller-manager at defaults", (), effort.of(40, 8)),
    ):
        with control_plane(flags) as cluster, site(cluster, effort.backing) as here:
            yield from _through(here, words, count, effort.runs)


def _through(here: Site, words: str, count: int, runs: int) -> Iterator[Row]:
    width = 100
    here.serve(retention=KEPT)
    here.operators(2)
    here.dispatcher(width)

    def ours() -> float:
        after = _filled(here, count)
        started = time.time()
        here.client.queue(here.name).resume()
        here.wait_events("completed", count, after, limit=600)
        here.wait_finalized()
        return count / (time.time() - started)

    def bare(what: str) -> float:
        return count / raw.run(here.order(count, what=what, width=width)).seconds

    sides = {"ours": ours, "raw": lambda: bare("run"), "raw-patch": lambda: bare("run-patch")}
    found = by_turns(sides, runs)
    limit = "the Job controller: each Job is five or more writes and watches of its own on the same cores"
    for peer, name, targets in (
        ("raw-patch", "bare loop with the PATCH", (Target(0.85),)),
        ("raw", "bare loop", ()),
    ):
        yield Row(
            bench="through", what=f"jobs end to end, {words}", unit=JOBS, runs=found["ours"], peer=name,
            peer_runs=found[peer], targets=targets, limit=limit,
        )  # fmt: skip


def finished(effort: Effort) -> Iterator[Row]:
    """From a Job's Complete, as a watch of its own sees it, to the outcome in Redis."""
    count = effort.of(40, 10)
    with control_plane() as cluster, site(cluster, effort.backing) as here:
        here.serve()
        here.operators(2)
        here.dispatcher(WIDE)
        runs = [_ends(here, count) for _ in range(effort.runs)]
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            targets = (Target(50, "value", "most"),) if name == "p50" else ()
            yield Row(
                bench="finished", what=f"Complete -> finished in Redis, {name}", unit=MS,
                runs=[percentile(run, share) * 1000 for run in runs], targets=targets,
                limit="the watch, one read and one script in Redis",
            )  # fmt: skip


def _ends(here: Site, count: int) -> list[float]:
    """Let jobs run, a few at a time, and return the seconds between the two moments for each."""
    seen: dict[str, float] = {}
    after = here.last_event()
    version = here.kube.items(batch(here.name))[1]
    stream = here.kube.watch(batch(here.name), version, seconds=600)
    ids = set(here.enqueue(_AT_A_TIME))
    for event in stream:
        found = event["object"]
        job = (found["metadata"].get("annotations") or {}).get(Annotation.JOB_ID, "")
        if job in ids and job not in seen and raw.complete(found):
            seen[job] = time.time()
            if len(ids) < count:
                ids |= set(here.enqueue(1))
        if len(seen) == count:
            break
    ends = here.wait_events("completed", count, after)
    return [ends[job] - seen[job] for job in seen]
