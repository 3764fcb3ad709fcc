"""What the chart brings for Prometheus and Grafana: nothing until asked for, then what their operators take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import monitoring
from tests.integration.chart.helm import Helm, HelmError, named
from tests.proofs.install import CRD_PATH
from tests.proofs.kube import Kube
from tests.proofs.waiting import until

Json = dict[str, Any]
SCHEMAS = Path(__file__).parent / "schemas"
GROUP = "/apis/monitoring.coreos.com/v1"
KINDS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
ALL: Json = {
    "metrics": {
        "serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "interval": "1m30s",
            "relabelings": [{"targetLabel": "cluster", "replacement": "eu"}],
            "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "heavylift_.*", "action": "keep"}],
        },
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Queues"}, "namespace": "grafana"},
    }
}


@pytest.fixture(scope="module")
def operated(kube: Kube) -> Iterator[Kube]:
    """Give a cluster that knows the Prometheus Operator's kinds."""
    paths = []
    for plural in KINDS.values():
        crd = yaml.safe_load((SCHEMAS / f"monitoring.coreos.com_{plural}.yaml").read_text())
        paths.append(f"{CRD_PATH}/{crd['metadata']['name']}")
        kube.apply(paths[-1], crd)
    until(
        lambda: all(kube.request("GET", f"{GROUP}/{plural}")[0] == 200 for plural in KINDS.values()),
        "them to be served",
    )
    yield kube
    for path in paths:
        kube.delete(path)


def test_nothing_of_it_is_there_until_asked_for(helm: Helm) -> None:
    """By default the chart needs nobody else's CRDs and makes no Services for scraping."""
    objects = helm.render()
    assert not [obj for obj in objects if obj["kind"] in KINDS]
    assert not [obj for obj in objects if obj["metadata"]["name"].endswith(("-metrics", "-dashboard"))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_prometheus_operators_schema_takes_it(helm: Helm, operated: Kube, kind: str) -> None:
    """An API server with its own definitions takes the object, unknown fields refused."""
    found = named(helm.render(ALL), kind, "rel")
    assert found["metadata"]["labels"]["release"] == "prometheus"
    found["metadata"]["namespace"] = "default"
    path = f"{GROUP}/namespaces/default/{KINDS[kind]}?dryRun=All&fieldValidation=Strict"
    status, reply = operated.request("POST", path, found)
    assert status == 201, reply.get("message")


def test_the_monitor_finds_the_pods(helm: Helm) -> None:
    """It selects the two Services, and those select the pods of the two Deployments by a port they have."""
    objects = helm.render(ALL)
    monitor = named(objects, "ServiceMonitor", "rel")["spec"]
    wanted = monitor["selector"]
    (expression,) = wanted["matchExpressions"]
    (endpoint,) = monitor["endpoints"]
    services = [
        obj
        for obj in objects
        if obj["kind"] == "Service"
        and wanted["matchLabels"].items() <= obj["metadata"]["labels"].items()
        and obj["metadata"]["labels"].get(expression["key"]) in expression["values"]
    ]
    assert {obj["metadata"]["name"] for obj in services} == {"rel-dispatcher-metrics", "rel-operator-metrics"}
    for service in services:
        kubernetes_validate.validate(service, "1.36", strict=True)
        (port,) = service["spec"]["ports"]
        assert port["name"] == endpoint["port"]
        (pod,) = [
            obj["spec"]["template"]
            for obj in objects
            if obj["kind"] == "Deployment"
            and service["spec"]["selector"].items() <= obj["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert port["targetPort"] in {one["name"] for one in pod["spec"]["containers"][0]["ports"]}


def test_the_rules_are_those_of_the_file(helm: Helm) -> None:
    """Thresholds in their places; what is disabled is left out, and a name that is none is refused."""
    assert named(helm.render(ALL), "PrometheusRule", "rel")["spec"]["groups"] == monitoring.rules()
    thresholds: Json = {"backlog": 5, "backlogFor": "1m"}
    changed = {"enabled": True, "thresholds": thresholds, "disabled": ["HeavyliftRepairs"]}
    groups = named(helm.render({"metrics": {"prometheusRule": changed}}), "PrometheusRule", "rel")["spec"]["groups"]
    expected = monitoring.rules(**thresholds)
    expected[1]["rules"] = [rule for rule in expected[1]["rules"] if rule["alert"] != "HeavyliftRepairs"]
    assert groups == expected
    with pytest.raises(
        HelmError, match="names Backlog, which is no alert of this chart: the alerts are HeavyliftBacklog,"
    ):
        helm.render({"metrics": {"prometheusRule": {"enabled": True, "disabled": ["Backlog"]}}})


def test_the_dashboard_is_a_config_map_for_grafanas_sidecar(helm: Helm) -> None:
    """Whole, with the label sidecars look for, where it is wanted."""
    found = named(helm.render(ALL), "ConfigMap", "rel-dashboard", "grafana")
    kubernetes_validate.validate(found, "1.36", strict=True)
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Queues"}
    assert json.loads(found["data"]["heavylift.json"]) == monitoring.dashboard()


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"serviceMonitor": {"interval": "often"}}, "interval"),
        ({"prometheusRule": {"thresholds": {"watchAge": 10}}}, "watchAge"),
        ({"prometheusRule": {"thresholds": {"backlogg": 10}}}, "backlogg"),
        ({"dashboard": {}}, "dashboard"),
    ],
)
def test_values_that_cannot_work_are_refused(helm: Helm, metrics: Json, words: str) -> None:
    """By the schema, naming the value."""
    with pytest.raises(HelmError, match=words):
        helm.render({"metrics": metrics})
