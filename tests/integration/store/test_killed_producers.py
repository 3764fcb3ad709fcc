"""A producer killed at any moment leaves whole jobs or none behind."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from pathlib import Path

from heavylift.store import decode, ops
from tests.integration.store.kit import QUEUE, World
from tests.proofs.waiting import until

PRODUCER = """
import itertools, sys
from heavylift import Client, Dedupe, JobRequest
queue = Client(sys.argv[1]).queue("reports")
for turn in itertools.count():
    last, burst = Dedupe(f"l{turn % 5}", mode="keep_last"), Dedupe("d", mode="debounce", ttl="1h")
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
        producer = subprocess.Popen(argv, env={"PYTHONPATH": str(root)})
        until(functools.partial(enqueued_above, w, before + 150), "jobs before the kill", limit=60)
        producer.send_signal(signal.SIGKILL)
        assert producer.wait(30) == -signal.SIGKILL
        assert_sound(w)
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


def assert_sound(w: World) -> None:
    """Compare each job with the places it stands in, and each deduplication key with its holder."""
    places: dict[str, int] = {}
    for key in w.redis.scan_iter(f"rq:queue:{QUEUE}*"):
        if not key.endswith(b"@keys"):
            for job in w.redis.lrange(key, 0, -1):
                places[decode.text(job)] = places.get(decode.text(job), 0) + 1
    for member in w.redis.zrange(f"heavylift:lanes:{QUEUE}", 0, -1):
        job = decode.text(member).partition("\0")[2][20:]
        places[job] = places.get(job, 0) + 1
    for entry in w.redis.zrange(f"heavylift:delayed:{QUEUE}", 0, -1):
        places[decode.text(entry)] = places.get(decode.text(entry), 0) + 1
    stored = {decode.text(key).removeprefix("rq:job:") for key in w.redis.scan_iter("rq:job:*")}
    assert stored == set(places)
    assert set(places.values()) <= {1}
    for key, value in w.redis.hgetall(f"heavylift:dedup:{QUEUE}").items():
        assert w.redis.hget(f"rq:job:{decode.text(value)}", "hl:dedup") == key
