"""A producer killed at any moment leaves whole jobs or none behind."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from pathlib import Path

from heavylift.store import ops
from tests.integration.store.kit import QUEUE, World
from tests.proofs import audit
from tests.proofs.killed.run import connections, rest
from tests.proofs.waiting import until

PRODUCER = """
import itertools, sys
from heavylift import Client, Dedupe, JobRequest
queue = Client(sys.argv[1]).queue("reports")
for turn in itertools.count():
    last, burst = Dedupe(f"latest{turn % 5}", mode="keep_last"), Dedupe("burst", mode="debounce", ttl="1h")
    modes = [Dedupe(f"k{turn % 7}"), last, burst, None]
    queue.enqueue_many([
        JobRequest("annual", {"turn": turn, "n": n}, dedupe=modes[n % 4], key=f"t{n % 3}", priority=n % 3,
                   lifo=n % 2 == 0, delay="1h" if n % 8 == 3 else None)
        for n in range(40)
    ])
    for job in queue.jobs("delayed", limit=3):
        queue._client.job(job.id).change(priority=2)
    if turn % 3 == 2:
        queue.purge("waiting")
"""


def test_a_killed_producer_leaves_nothing_half_done(w: World) -> None:
    """After each kill every job stands in exactly one place, every key has its live holder, and all of it runs."""
    w.serve(concurrencyPerKey=2)
    root = Path(__file__).resolve().parents[3] / "client"
    for _ in range(2):
        argv = [sys.executable, "-c", PRODUCER, w.server.url]
        before = w.run(ops.counters(QUEUE)).get("enqueued", 0)
        ours = connections(w.redis)
        producer = subprocess.Popen(argv, env={"PYTHONPATH": str(root)})
        until(functools.partial(enqueued_above, w, before + 150), "jobs before the kill", limit=60)
        producer.send_signal(signal.SIGKILL)
        assert producer.wait(30) == -signal.SIGKILL
        rest(w.redis, ours)
        assert audit.unsound(audit.take(w.redis)) == []
    assert w.enqueue(id="after").created  # the last kill may have come just after a purge
    ran = 0
    while claims := w.ask().claims:
        ran += len(claims)
        for claim in claims:
            w.finish(claim)
    assert ran > 0
    assert w.run(ops.counts(QUEUE)).waiting == 0
    assert w.idle()


def enqueued_above(w: World, count: int) -> bool:
    """Whether more jobs than that were accepted."""
    return w.run(ops.counters(QUEUE)).get("enqueued", 0) > count
