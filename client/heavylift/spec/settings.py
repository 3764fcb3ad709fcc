"""A HeavyQueue's settings as the operator keeps them in Redis for claim and finish."""

from __future__ import annotations

from typing import Any

from heavylift.spec.models import HeavyQueue, HeavyQueueSpec
from heavylift.spec.rules import encode_rule


def settings(queue: HeavyQueue) -> dict[str, Any]:
    """Return the settings as plain JSON: durations in ms, sizes in bytes, resource maxima as quantities.

    The Job template is not among them: it is read from the cluster only.
    """
    spec = queue.spec
    return {
        "queue": queue.queue,
        "name": queue.name,
        "generation": queue.generation,
        "paused": spec.paused,
        "concurrencyMax": spec.concurrency.max,
        "concurrencyPerKey": spec.concurrency.per_key,
        "concurrencyOrder": spec.concurrency.order,
        "rateLimit": None if spec.rate_limit is None else spec.rate_limit.model_dump(by_alias=True),
        "defaults": spec.defaults.model_dump(by_alias=True),
        "timeouts": spec.timeouts.model_dump(by_alias=True),
        "payload": spec.payload.model_dump(by_alias=True),
        "result": spec.result.model_dump(by_alias=True),
        "outcomes": _outcomes(spec),
        "allow": spec.allow.model_dump(by_alias=True, mode="json"),
        "retention": spec.retention.model_dump(by_alias=True),
        "metrics": {"tasks": list(spec.metrics.tasks)},
        "breaker": spec.breaker.model_dump(by_alias=True),
        "container": spec.container,
    }


def _outcomes(spec: HeavyQueueSpec) -> dict[str, Any]:
    return {cls.spec_key: encode_rule(rule) for cls, rule in spec.outcomes.rules().items()}
