"""The dispatchers' autoscaler in its three modes: what is rendered, and that whoever reads it takes it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from heavylift.autoscale import manifest
from heavylift.runtime.kube import KubeApi
from heavylift_operator.unstick import UnstickSettings, unstick
from tests.integration.chart.helm import Helm, HelmError, adapter_query, named
from tests.proofs.install import CRD_PATH, ensure_namespace
from tests.proofs.kube import Kube
from tests.proofs.waiting import until

Json = dict[str, Any]
SCALED_OBJECTS = Path(__file__).parent / "schemas" / "keda.sh_scaledobjects.yaml"
PROMETHEUS = {"serverAddress": "http://prometheus.monitoring:9090"}
QUERY = 'sum(max by (queue) (heavylift_queue_demand{namespace="lift"}))'


def scaled(**autoscaling: Any) -> Json:
    """Return values of the chart."""
    return {"autoscaling": autoscaling}


def test_helm_install_alone_brings_the_autoscaler(helm: Helm) -> None:
    """By default an HPA follows the demand of all queues, with as many slots as target and a window of a minute."""
    objects = helm.render({"dispatcher": {"slots": 7}})
    found = named(objects, "HorizontalPodAutoscaler", "rel-dispatcher")["spec"]

    assert found == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rel-dispatcher"},
        "minReplicas": 1,
        "maxReplicas": 10,
        "metrics": [
            {
                "type": "External",
                "external": {
                    "metric": {"name": "heavylift_queue_demand"},
                    "target": {"type": "AverageValue", "averageValue": "7"},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    }


def test_only_one_counts_the_dispatchers(helm: Helm) -> None:
    """With the autoscaler the Deployment says no number, so that no upgrade undoes anything; without, it says one."""
    assert "replicas" not in named(helm.render(), "Deployment", "rel-dispatcher")["spec"]
    fixed = helm.render({**scaled(enabled=False), "dispatcher": {"replicaCount": 3}})

    assert named(fixed, "Deployment", "rel-dispatcher")["spec"]["replicas"] == 3
    assert not [obj for obj in fixed if obj["kind"] in {"HorizontalPodAutoscaler", "ScaledObject", "APIService"}]


@pytest.mark.parametrize("provider", ["external-metrics", "prometheus"])
def test_simulation_reads_what_is_rendered(helm: Helm, provider: str) -> None:
    """The rendered autoscaler is one that Kubernetes' schema, and our simulation, take."""
    found = named(helm.render(scaled(provider=provider, averageValue=5)), "HorizontalPodAutoscaler", "rel-dispatcher")
    kubernetes_validate.validate(found, "1.36", strict=True)
    hpa = manifest.parse(found)

    assert (hpa.average_milli, hpa.minimum, hpa.maximum) == (5000, 1, 10)
    assert hpa.behavior is not None
    assert hpa.behavior.down.window == 60


def test_prometheus_adapter_gets_its_rule(helm: Helm) -> None:
    """The rule asks Prometheus what KEDA would ask, and the autoscaler selects this installation's series."""
    objects = helm.render(scaled(provider="prometheus", selector={"queue": "reports"}))
    text = named(objects, "ConfigMap", "rel-prometheus-adapter")["data"]["values.yaml"]
    (rule,) = yaml.safe_load(text)["rules"]["external"]
    (metric,) = named(objects, "HorizontalPodAutoscaler", "rel-dispatcher")["spec"]["metrics"]

    assert rule["name"] == {"as": metric["external"]["metric"]["name"]}
    assert rule["resources"] == {"namespaced": False}
    assert metric["external"]["metric"]["selector"] == {"matchLabels": {"namespace": "lift", "queue": "reports"}}
    assert adapter_query(rule, {"namespace": "lift"}) == QUERY


def test_keda_gets_a_scaled_object(helm: Helm) -> None:
    """KEDA brings the HPA itself; a missing sample is an error there, never 0."""
    objects = helm.render(scaled(provider="keda", prometheus=PROMETHEUS, minReplicas=0))
    found = named(objects, "ScaledObject", "rel-dispatcher")["spec"]

    assert not [obj for obj in objects if obj["kind"] in {"HorizontalPodAutoscaler", "APIService"}]
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (0, 10)
    assert found["triggers"] == [
        {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": PROMETHEUS["serverAddress"],
                "query": QUERY,
                "threshold": "10",
                "ignoreNullValues": "false",
            },
        }
    ]


@pytest.fixture(scope="module")
def keda(kube: Kube) -> Iterator[Kube]:
    """Give a cluster that knows KEDA's ScaledObject."""
    crd = yaml.safe_load(SCALED_OBJECTS.read_text())
    path = f"{CRD_PATH}/{crd['metadata']['name']}"
    kube.apply(path, crd)
    until(lambda: kube.request("GET", "/apis/keda.sh/v1alpha1/scaledobjects")[0] == 200, "ScaledObjects to be served")
    yield kube
    kube.delete(path)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "minReplicas": 0,
            "selector": {"queue": "reports"},
            "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}},
        },
    ],
)
def test_keda_schema_takes_it(helm: Helm, keda: Kube, values: Json) -> None:
    """An API server with KEDA's own definition takes the ScaledObject, unknown fields refused."""
    objects = helm.render(scaled(provider="keda", prometheus=PROMETHEUS, **values))
    found = named(objects, "ScaledObject", "rel-dispatcher")
    found["metadata"]["namespace"] = "default"
    path = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects?dryRun=All&fieldValidation=Strict"
    status, reply = keda.request("POST", path, found)

    assert status == 201, reply.get("message")


async def test_hook_holds_keda_back(keda: Kube) -> None:
    """Before an uninstall KEDA is told to leave the dispatchers alone: it starts them again from none."""
    namespace = f"keda-{uuid.uuid4().hex[:8]}"
    ensure_namespace(keda, namespace)
    path = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects"
    spec = {"scaleTargetRef": {"name": "d"}, "triggers": [{"type": "prometheus", "metadata": {}}]}
    keda.create(
        path, {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "d"}, "spec": spec}
    )
    settings = {"install_id": namespace, "namespaces": namespace, "settle": 0.1, "pause": 0.05}
    api = await KubeApi.connect(kubeconfig=str(keda.kubeconfig))
    try:
        for name in ("d", "gone"):
            await unstick(api, UnstickSettings.model_validate({**settings, "scaled_object": f"{namespace}/{name}"}))
    finally:
        await api.aclose()
    found = keda.get(f"{path}/d")

    assert found is not None
    assert found["metadata"]["annotations"] == {"autoscaling.keda.sh/paused": "true"}


async def test_hook_holds_an_autoscaler_from_none_back(kube: Kube) -> None:
    """Before an uninstall an autoscaler that may start dispatchers from none is told that one is the least."""
    namespace = f"none-{uuid.uuid4().hex[:8]}"
    ensure_namespace(kube, namespace)
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}  # 0 needs a newer cluster
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    kube.create(path, {**kind, "metadata": {"name": "d"}, "spec": spec})
    settings = {"install_id": namespace, "namespaces": namespace, "settle": 0.1, "pause": 0.05}
    api = await KubeApi.connect(kubeconfig=str(kube.kubeconfig))
    try:
        for name in ("d", "gone"):
            await unstick(api, UnstickSettings.model_validate({**settings, "autoscaler": f"{namespace}/{name}"}))
    finally:
        await api.aclose()
    found = kube.get(f"{path}/d")

    assert found is not None
    assert found["spec"]["minReplicas"] == 1


def test_hook_may_hold_keda_back(helm: Helm) -> None:
    """Its right to is there with KEDA alone, for that one object."""
    rule = {
        "apiGroups": ["keda.sh"],
        "resources": ["scaledobjects"],
        "resourceNames": ["rel-dispatcher"],
        "verbs": ["patch"],
    }
    for provider in ("keda", "external-metrics"):
        objects = helm.render(scaled(provider=provider, prometheus=PROMETHEUS))
        rules = named(objects, "Role", "rel-unstick", "lift")["rules"]
        assert (rule in rules) == (provider == "keda")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"minReplicas": 0}, "the first to scale to zero by itself; set 1, or use KEDA"),
        ({"minReplicas": 11}, "autoscaling.maxReplicas 10 is less than autoscaling.minReplicas 11"),
        ({"provider": "keda"}, "autoscaling.prometheus.serverAddress is missing"),
        ({"provider": "datadog"}, "at '/autoscaling/provider'"),
        ({"metric": "cpu"}, "at '/autoscaling/metric'"),
        ({"averageValue": 0}, "at '/autoscaling/averageValue'"),
        ({"behaviour": {}}, "additional properties 'behaviour' not allowed"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, values: Json, words: str) -> None:
    """The message names the value and says what to do."""
    with pytest.raises(HelmError) as caught:
        helm.render(scaled(**values))
    assert words in str(caught.value)


def test_zero_from_the_release_that_can(helm: Helm) -> None:
    """From Kubernetes 1.37 on the minimum may be none."""
    text = helm.run(
        "template",
        "rel",
        str(Path("charts/heavylift").resolve()),
        "--kube-version=1.37.0",
        values=scaled(minReplicas=0),
    )
    objects = [doc for doc in yaml.safe_load_all(text) if doc]
    assert named(objects, "HorizontalPodAutoscaler", "rel-dispatcher")["spec"]["minReplicas"] == 0
