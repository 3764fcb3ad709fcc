"""A Deployment at the stand whose replicas a real HPA sets by our metrics: two jobs a replica."""

from __future__ import annotations

from tests.integration.metrics_api.stand import Stand, condition
from tests.proofs.kube import Json, core

SCALERS = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/followed"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments/followed"


def deploy(stand: Stand) -> None:
    """Make the Deployment; no number of replicas is said, so it begins with one."""
    selected = {"app": "followed"}
    template: Json = {
        "metadata": {"labels": selected},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/x:1"}]},
    }
    stand.kube.apply(
        DEPLOYMENTS.format(stand.home),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "followed"},
            "spec": {"selector": {"matchLabels": selected}, "template": template},
        },
    )


def follow(stand: Stand, *metrics: str, selector: Json | None = None) -> None:
    """Let the HPA go by these metrics, two a replica; ``selector`` chooses the queues."""
    target = {"type": "AverageValue", "averageValue": "2"}
    chosen = {} if selector is None else {"selector": selector}
    stand.kube.apply(
        SCALERS.format(stand.home),
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "followed"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "followed"},
                "minReplicas": 1,
                "maxReplicas": 10,
                "metrics": [
                    {"type": "External", "external": {"metric": {"name": name, **chosen}, "target": target}}
                    for name in metrics
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    )


def remove(stand: Stand) -> None:
    """Remove both: an HPA asks on as long as it is there."""
    for path in (SCALERS, DEPLOYMENTS):
        stand.kube.delete(path.format(stand.home))


def replicas(stand: Stand) -> int:
    """Return how many replicas the HPA's Deployment asks for."""
    return int((stand.kube.get(DEPLOYMENTS.format(stand.home)) or {})["spec"]["replicas"])


def active(stand: Stand) -> Json:
    """Return the HPA's condition ScalingActive."""
    return condition(stand.kube.get(SCALERS.format(stand.home)) or {}, "ScalingActive")


def told(stand: Stand) -> set[str]:
    """Return the messages of the HPA's events of a metric that could not be had."""
    wanted = "involvedObject.name=followed,reason=FailedGetExternalMetric"
    return {event["message"] for event in stand.kube.items(core(stand.home, "events"), fieldSelector=wanted)[0]}


def answered(stand: Stand, code: str) -> float:
    """Return how many requests for values the operators answered so."""
    return sum(
        one.daemon.metric("heavylift_external_metrics_requests_total", code=code)
        for one in stand.replicas
        if one.daemon.running
    )
