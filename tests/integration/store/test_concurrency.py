"""Several processes at once on one store."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from multiprocessing.queues import Queue as Pipe

from heavylift.contract import ids
from heavylift.contract.states import JobState
from heavylift.store import ClaimRequest, Fence, FinishRequest, Next, Store, ops
from tests.integration.store.kit import INSTALL, QUEUE, World, outcome, request

JOBS, CAP, PROCESSES = 400, 7, 4


def _dispatch(url: str, worker: str, seen: Pipe[tuple[str, str, int]]) -> None:
    """Claim and finish until the queue is empty, telling each claim and how many were active just then."""
    with Store.connect(url) as store:
        while True:
            asked = ClaimRequest(
                worker=worker, request=ids.new_job_id(), install=INSTALL, queues=(QUEUE,), max=3, slots=100,
                deadline_ms=60_000,
            )  # fmt: skip
            reply = store.run(ops.claim(asked))
            active = store.run(ops.counts(QUEUE)).active
            for claim in reply.claims:
                seen.put((claim.job, claim.execution, active))
                fence = Fence(job=claim.job, execution=claim.execution, worker=worker)
                store.run(ops.finish(FinishRequest(fence=fence, outcome=outcome(), next=Next.COMPLETE)))
            if reply.blocked.get(QUEUE) == "empty" and not reply.claims:
                seen.put(("", worker, active))
                return


def test_each_job_is_claimed_once_and_the_cap_holds(w: World) -> None:
    """Four processes claim and finish four hundred jobs: each exactly once, never more active than the cap."""
    w.serve(concurrencyMax=CAP)
    w.run(ops.enqueue_many([request() for _ in range(JOBS)]))
    context = multiprocessing.get_context("spawn")
    seen: Pipe[tuple[str, str, int]] = context.Queue()
    workers = [
        context.Process(target=_dispatch, args=(w.server.url, f"w{i}", seen), daemon=True) for i in range(PROCESSES)
    ]
    for process in workers:
        process.start()
    claims, done = [], 0
    while done < PROCESSES:
        entry = seen.get(timeout=120)
        done += not entry[0]
        if entry[0]:
            claims.append(entry)
    for process in workers:
        process.join(timeout=60)
    assert len(claims) == JOBS
    assert len({job for job, _, _ in claims}) == JOBS
    assert max(active for _, _, active in claims) <= CAP
    assert w.run(ops.counters(QUEUE))["completed"] == JOBS
    assert w.idle()
    finals = [event.job for event in w.events() if event.fields.get("final") == "1"]
    assert len(finals) == len(set(finals)) == JOBS


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


def test_keys_rate_and_cap_hold_over_processes(w: World) -> None:
    """Four processes, all bounds on: the history shows none of them passed, and each key in its order."""
    limit, period, per, keys = 40, 100, 2, 6
    w.serve(concurrencyMax=CAP, concurrencyPerKey=per, concurrencyOrder="RoundRobin",
            rateLimit={"limit": limit, "period": period})  # fmt: skip
    w.run(ops.enqueue_many([request(id=f"{i % keys}-{i:03}", options={"key": f"k{i % keys}"}) for i in range(240)]))
    context = multiprocessing.get_context("spawn")
    seen: Pipe[tuple[str, str, int]] = context.Queue()
    workers = [
        context.Process(target=_dispatch, args=(w.server.url, f"w{i}", seen), daemon=True) for i in range(PROCESSES)
    ]
    for process in workers:
        process.start()
    done = 0
    while done < PROCESSES:
        done += not seen.get(timeout=120)[0]
    for process in workers:
        process.join(timeout=60)
    running: set[str] = set()
    starts: list[tuple[int, str]] = []
    for event in w.events():
        if event.name == "active":
            running.add(event.job)
            starts.append((event.at, event.job))
        elif event.fields.get("final") == "1":
            running.discard(event.job)
        assert len(running) <= CAP
        assert max(Counter(job[0] for job in running).values(), default=0) <= per
    assert all(later - sooner >= period for (sooner, _), (later, _) in zip(starts, starts[limit:], strict=False))
    for key in range(keys):
        order = [job for _, job in starts if job.startswith(str(key))]
        assert order == sorted(order)
        assert len(order) == 240 // keys
    assert not [*w.redis.scan_iter("heavylift:lanes:*"), *w.redis.scan_iter("heavylift:keyed:*")]
    assert w.idle()
