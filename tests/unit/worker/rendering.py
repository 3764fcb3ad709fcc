"""Claims and queues for tests of render and of what stands on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift.contract import ids
from heavylift.contract.payload import Payload, dumps
from heavylift.spec.models import HeavyQueue
from heavylift.store.model import Claim

HOUR_MS = 3_600_000


def make_queue(
    name: str = "reports",
    *,
    namespace: str = "analytics",
    template: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> HeavyQueue:
    """Return a HeavyQueue of one container ``main`` unless another jobTemplate is given."""
    pod = {"containers": [{"name": "main", "image": "reports:1"}]}
    return HeavyQueue.parse(
        {
            "apiVersion": "heavylift.dev/v1alpha1",
            "kind": "HeavyQueue",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{name}",
                "generation": 1,
                **(metadata or {}),
            },
            "spec": {"jobTemplate": template or {"spec": {"template": {"spec": pod}}}, **spec},
        }
    )


def make_claim(**values: Any) -> Claim:
    """Return a claim; ``values`` replace any of its fields."""
    incarnation, seq = values.get("incarnation", "abcdefghijklmnop"), values.get("seq", 1)
    defaults: dict[str, Any] = {
        "job": "j1",
        "queue": "reports",
        "namespace": "analytics",
        "install": "heavylift/main",
        "worker": "w1",
        "execution": ids.execution_id(incarnation, seq),
        "incarnation": incarnation,
        "seq": seq,
        "attempt": 1,
        "task": "annual",
        "data": b"",
        "claimed_at": 0,
        "deadline": 60_000,
        "options": {},
        "frozen": {"maxAttempts": 1, "timeouts": {"pending": HOUR_MS, "run": 24 * HOUR_MS}},
        "rq": {},
    }
    return Claim(**{**defaults, **values})


def make_payload(data: Any = None, *, task: str = "annual", plain: bool = False) -> Payload:
    """Return a decoded payload."""
    return Payload(task, dumps(data), plain)
