"""The simulation does what Kubernetes' own HPA controller does, sync by sync."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from heavylift.autoscale import manifest
from heavylift.autoscale.hpa import Decision, Hpa, State, Sync, decide
from tests.integration.autoscale.scripted import Asked, Notebook, Script, Seen, serving
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube
from tests.proofs.waiting import until

Json = dict[str, Any]
TARGET = 10
SHIFTS = (0.0, -0.25, 0.25)
"""Seconds by which the controller's clock may be beside ours when it looks at a window: it looks after our answer."""
UP_FAST = {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]}
CASES: dict[str, tuple[Json, Sequence[int | None]]] = {
    "plain": ({}, [5, 95, 95, 20, 20, 0, 130, 130, 0, 0]),
    "window": (
        {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7}}},
        [5, 42, 42, 7, 30, 7, 7, 7, 7, 42],
    ),
    "rates": (
        {
            "behavior": {
                "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}]},
                "scaleDown": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Percent", "value": 50, "periodSeconds": 5}],
                },
            }
        },
        [95, 95, 95, 95, 95, 0, 0, 0, 0, 0],
    ),
    "smallest": (
        {
            "minReplicas": 2,
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 5,
                    "selectPolicy": "Min",
                    "policies": [
                        {"type": "Pods", "value": 3, "periodSeconds": 3},
                        {"type": "Percent", "value": 60, "periodSeconds": 9},
                    ],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 3,
                    "selectPolicy": "Min",
                    "policies": [
                        {"type": "Pods", "value": 1, "periodSeconds": 3},
                        {"type": "Percent", "value": 40, "periodSeconds": 5},
                    ],
                },
            },
        },
        [20, 95, 95, 95, 95, 95, 95, 0, 0, 0, 0],
    ),
    "tolerance": (
        {
            "behavior": {
                "scaleUp": {**UP_FAST, "tolerance": "500m"},
                "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0},
            }
        },
        [29, 31, 59, 60, 61, 10, 0, 89, 95, 0],
    ),
    "missing": (
        {"maxReplicas": 6, "behavior": {"scaleUp": UP_FAST, "scaleDown": {"stabilizationWindowSeconds": 0}}},
        [44, 45, None, 0, 300, None, 37, 35, 0, 9],
    ),
}
"""Changes to the autoscaler's spec, and the demand at each of its syncs."""


def autoscaler(name: str, changes: Json) -> Json:
    """Return an HPA of a Deployment by the same name."""
    target = {"type": "AverageValue", "averageValue": str(TARGET)}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": [{"type": "External", "external": {"metric": {"name": name}, "target": target}}],
        **changes,
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": spec,
    }


def deployment(name: str) -> Json:
    """Return a Deployment of two pods, no node takes them: their readiness is no matter."""
    labels = {"app": name}
    pod = {"nodeSelector": {"nowhere": "true"}, "containers": [{"name": "main", "image": "registry.invalid/x:1"}]}
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True)
class Record:
    """What the real controller did in one case."""

    hpa: Hpa
    asked: Sequence[Asked]
    seen: Sequence[Seen]


@pytest.fixture(scope="module")
def records(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Record]:
    """Run all cases side by side through the real controller."""
    namespace = f"hpa-{uuid.uuid4().hex[:8]}"
    ensure_namespace(kube, namespace)
    script = Script({name: values for name, (_, values) in CASES.items()})
    hpas = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    with serving(kube, namespace, script, tmp_path_factory.mktemp("metrics")), Notebook(kube, namespace) as notebook:
        for name in CASES:
            kube.create(deployments, deployment(name))
        until(lambda: all(any(s.running == 2 for s in notebook.of(name)) for name in CASES), "two pods of each")
        made = {name: kube.create(hpas, autoscaler(name, changes)) for name, (changes, _) in CASES.items()}
        until(script.done, "all values to be asked for", limit=120, every=0.2)
        for name in CASES:
            kube.delete(f"{hpas}/{name}")
    kube.delete(f"/api/v1/namespaces/{namespace}")
    return {name: Record(manifest.parse(made[name]), script.asked[name], notebook.of(name)) for name in CASES}


def before(seen: Sequence[Seen], at: float) -> Seen:
    """Return the last state at or before a moment."""
    return [entry for entry in seen if entry.at <= at][-1]


def choices(hpa: Hpa, state: State, sync: Sync, counts: set[int]) -> list[Decision]:
    """Return what the function may decide, for each clock and count of pods that the controller may have had."""
    return [
        decide(hpa, state, replace(sync, at=sync.at + shift, running=running))
        for shift in SHIFTS
        for running in sorted(counts)
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", CASES)
def test_same_replicas_at_each_sync(records: Mapping[str, Record], name: str) -> None:
    """Given what the controller was given, the function comes to the same count at every sync."""
    record = records[name]
    state, certain, path = State(), 0, []
    for asked, following in zip(record.asked, record.asked[1:], strict=False):
        now = before(record.seen, asked.at)
        near = {entry.running for entry in record.seen if abs(entry.at - asked.at) < max(map(abs, SHIFTS))}
        value = None if asked.value is None else asked.value * 1000
        sync = Sync(at=asked.at, value_milli=value, replicas=now.replicas)
        found = choices(record.hpa, state, sync, {now.running, *near})
        real = before(record.seen, following.at).replicas
        path.append((asked.value, now.replicas, real, sorted({choice.replicas for choice in found})))

        assert real in {choice.replicas for choice in found}, path
        certain += len({choice.replicas for choice in found}) == 1
        state = next(choice for choice in found if choice.replicas == real).state

    assert certain >= 0.7 * len(path), path
    assert len({step[2] for step in path}) > 2, "the case moves, else it shows nothing"
