"""The CRD before a real API server: what it stores, refuses and says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from heavylift.spec import HeavyQueue, settings
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube, heavyqueues

NAMESPACE = "crd-checks"
QUEUE: dict[str, Any] = {
    "apiVersion": "heavylift.dev/v1alpha1",
    "kind": "HeavyQueue",
    "metadata": {"name": "reports"},
    "spec": {
        "defaults": {"backoff": {"type": "Fixed", "delay": "3s"}},
        "outcomes": {"image": {"action": "Requeue", "maxRetries": 1}, "nodeLost": {"action": "Replace", "after": "5m"}},
        "jobTemplate": {
            "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team-a"}},
            "spec": {
                "template": {
                    "metadata": {"annotations": {"a": "b"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "main",
                                "image": "reports:1.4",
                                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                                "ports": [{"containerPort": 80}],
                                "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
                            }
                        ],
                        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
                        "tolerations": [{"key": "spot", "operator": "Exists"}],
                    },
                }
            },
        },
    },
}


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> str:
    """Give a namespace of these tests' own."""
    ensure_namespace(kube, NAMESPACE)
    return NAMESPACE


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the example with one field below spec set."""
    queue = copy.deepcopy(QUEUE)
    target = queue["spec"]
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part)] if part.isdigit() else target.setdefault(part, {})
    target[last] = value
    return queue


def test_what_the_server_stores_means_what_was_written(kube: Kube, namespace: str) -> None:
    """Pod fields survive pruning, and defaults of the server change nothing."""
    stored = kube.create(heavyqueues(namespace), QUEUE)
    assert stored["spec"]["jobTemplate"] == QUEUE["spec"]["jobTemplate"]
    assert settings(HeavyQueue.parse(stored)) == settings(HeavyQueue.parse(QUEUE))


def test_the_queue_cannot_change(kube: Kube, namespace: str) -> None:
    """Another queue under the same object is refused; writing the name it has is not."""
    path = heavyqueues(namespace, "fixed")
    kube.apply(path, {**QUEUE, "metadata": {"name": "fixed"}})
    status, reply = kube.request(
        "PATCH", path, {"spec": {"queue": "other"}}, content_type="application/merge-patch+json"
    )
    assert (status, "spec.queue cannot change" in reply["message"]) == (422, True)
    assert kube.merge(path, {"spec": {"queue": "fixed"}})["spec"]["queue"] == "fixed"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("rateLimit", {"limit": 100, "period": "500ms"}, "period is too short: use at least 1s"),
        ("rateLimit", {"limit": 100, "period": "25h"}, "period is too long: use at most 24h"),
        ("rateLimit", {"limit": 0, "period": "60s"}, "spec.rateLimit.limit"),
        ("rateLimit", {"limit": 5}, "spec.rateLimit.period: Required value"),
        ("concurrency", {"perKey": 0}, "spec.concurrency.perKey"),
        ("concurrency", {"order": "Lifo"}, 'supported values: "Fifo", "RoundRobin"'),
        ("outcomes.oom", {"action": "Retry", "memory": {"growthPercent": 50}}, "oom.memory.max: Required value"),
        ("defaults.backoff.delay", "3d", "spec.defaults.backoff.delay"),
        ("defaults.backoff.delay", "3h", "delay is longer than max: lower delay or raise max"),
        ("defaults.maxAttempts", 0, "spec.defaults.maxAttempts"),
        ("timeouts", {"run": "200ms"}, "run is too short: use at least 1s"),
        ("outcomes.timeout", {"action": "Fail", "maxRetries": 1}, "maxRetries goes with the actions Retry and Requeue"),
        ("outcomes.timeout", {"action": "Wait"}, 'supported values: "Retry", "Requeue", "Fail", "Cancel"'),
        ("outcomes.nodeLost", {"action": "Replace"}, "write {action: Replace, after: 10m}"),
        ("payload", {"maxSize": "lots"}, "spec.payload.maxSize"),
        ("allow", {"resources": {"memory": "16 GB"}}, "spec.allow.resources.memory"),
        ("queue", "a@b", "spec.queue"),
        ("jobTemplate.spec.backoffLimit", 3, "backoffLimit is not allowed here: one attempt is one Job"),
        ("jobTemplate.spec.podFailurePolicy", {"rules": []}, "podFailurePolicy is not allowed here"),
        ("jobTemplate.spec.template.spec.restartPolicy", "OnFailure", 'supported values: "Never"'),
        ("jobTemplate.spec.template.spec.containers.0.name", 5, "containers[0].name"),
        ("jobTemplate", {"metadata": {}}, "spec.jobTemplate.spec: Required value"),
    ],
)
def test_the_server_refuses_early_what_the_model_refuses(
    kube: Kube, namespace: str, path: str, value: object, words: str
) -> None:
    """The same input is refused by both, and the server's message says what to change."""
    queue = changed(path, value)
    queue["metadata"]["name"] = "refused"
    status, reply = kube.request("POST", heavyqueues(namespace), queue)
    assert status == 422
    assert words in reply["message"]
    with pytest.raises(ValueError, match="HeavyQueue default/refused: spec"):
        HeavyQueue.parse(queue)


def test_unknown_fields_are_refused_when_asked_strictly(kube: Kube, namespace: str) -> None:
    """As kubectl asks: a misspelt field is named, of ours or of the pod."""
    queue = changed("jobTemplate.spec.template.spec.volumez", [])
    queue["spec"]["concurency"] = {"max": 3}
    status, reply = kube.request("POST", heavyqueues(namespace) + "?fieldValidation=Strict", queue)
    assert status == 400
    assert 'unknown field "spec.concurency"' in reply["message"]
    assert 'unknown field "spec.jobTemplate.spec.template.spec.volumez"' in reply["message"]
