"""Several processes at once on one store."""

from __future__ import annotations

import contextlib
import multiprocessing
from multiprocessing.queues import Queue as Pipe

from heavylift.contract.states import JobState
from heavylift.store import Fence, FinishRequest, Next, Store, ops
from tests.integration.store.kit import World, outcome
from tests.proofs.crowd.run import Crowd, play
from tests.servers import StoreServer

JOBS = 20_000
"""On each of both stores; ``python -m tests.proofs.crowd`` lets more of them run."""


def test_a_crowd_keeps_every_bound(store_server: StoreServer) -> None:
    """Eight processes claim and finish: each job once, in order, and no cap, key or window ever above its bound."""
    crowd = Crowd(jobs=JOBS)
    with contextlib.closing(store_server.client()) as client:
        found = play(client, store_server.url, crowd)
    assert found.broken == []
    assert found.most == {"cap": crowd.bounds.cap, "key": crowd.bounds.per_key, "rate": crowd.bounds.limit}
    assert found.blocked.keys() >= {"cap", "rate", "width"}, "each bound did hold something back"
    assert found.happened["completed"] + found.happened["failed"] == JOBS
    assert min(found.happened[name] for name in ("failed", "retrying", "released")) > JOBS // 50
    assert found.lost_replies > 0
    assert found.verdicts["repeat already"] > 0


def _finisher(url: str, job: str, execution: str, answers: Pipe[str]) -> None:
    with Store.connect(url) as store:
        fence = Fence(job=job, execution=execution)
        for _ in range(20):
            reply = store.run(ops.finish(FinishRequest(fence=fence, outcome=outcome(), next=Next.COMPLETE)))
            answers.put(reply.verdict.value)


def test_many_finishers_one_end(w: World) -> None:
    """Processes finishing the same execution at once make one end; the others are told so."""
    claim = w.active()
    context = multiprocessing.get_context("spawn")
    answers: Pipe[str] = context.Queue()
    workers = [
        context.Process(target=_finisher, args=(w.server.url, claim.job, claim.execution, answers), daemon=True)
        for _ in range(3)
    ]
    for process in workers:
        process.start()
    verdicts = [answers.get(timeout=60) for _ in range(60)]
    for process in workers:
        process.join(timeout=60)
    assert sorted(set(verdicts)) == ["already", "applied"]
    assert verdicts.count("applied") == 1
    assert w.finals(claim.job) == ["completed"]
    assert w.job(claim.job).state is JobState.COMPLETED
