"""Jobs with concurrency keys, and what stands in their indexes."""

from __future__ import annotations

from typing import Any

from heavylift.store import Claim, Fence, Verdict, decode, ops
from tests.integration.store.kit import QUEUE, World

INDEXES = ("lanes", "heads", "ring", "full", "keyed", "slots", "keyof")


def keyed(w: World, *ids: str, **options: Any) -> None:
    """Enqueue jobs ``<key><number>``: the key is the letter."""
    for job in ids:
        own = {"key": job[0], **options} if job[0] != "_" else options
        w.enqueue(id=job, options=own)


def ids(claims: tuple[Claim, ...]) -> list[str]:
    """Return the claims' jobs."""
    return [claim.job for claim in claims]


def give_back(w: World, claim: Claim) -> None:
    """Release a claim as its dispatcher does."""
    fence = Fence(job=claim.job, execution=claim.execution, worker=claim.worker)
    assert w.run(ops.release(fence, reason="stopping")).verdict is Verdict.APPLIED


def left(w: World) -> dict[str, list[str]]:
    """Return what stands in the indexes of keys."""
    found = {name: w.redis.zrange(f"heavylift:{name}:{QUEUE}", 0, -1) for name in INDEXES[:5]}
    found |= {name: w.redis.hkeys(f"heavylift:{name}:{QUEUE}") for name in INDEXES[5:]}
    found["list"] = w.redis.lrange(f"rq:queue:{QUEUE}@keys", 0, -1)
    return {name: [decode.text(entry) for entry in entries] for name, entries in found.items() if entries}
