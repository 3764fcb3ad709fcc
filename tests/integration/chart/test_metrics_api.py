"""The chart's part of the external metrics API: least rights, one owner, nothing left behind."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from tests.integration.chart.helm import CHART, Helm, HelmError, named, pods
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube

Json = dict[str, Any]
NAME = "v1beta1.external.metrics.k8s.io"
PATH = f"/apis/apiregistration.k8s.io/v1/apiservices/{NAME}"
ON: Json = {"autoscaling": {"enabled": False}, "operator": {"metricsApi": {"enabled": True}}}
GIVEN: Json = {
    "autoscaling": {"enabled": False},
    "operator": {"metricsApi": {"enabled": True, "existingSecret": "tls"}},
}


def kinds(objects: list[Json]) -> set[str]:
    """Return the kinds of what serves the metrics API."""
    return {obj["kind"] for obj in objects if "metrics" in obj["metadata"]["name"]}


@pytest.mark.parametrize(
    ("values", "served"),
    [
        ({}, True),
        (ON, True),
        ({"autoscaling": {"enabled": False}}, False),
        ({"autoscaling": {"provider": "keda", "prometheus": {"serverAddress": "http://p:9090"}}}, False),
        ({"autoscaling": {"provider": "prometheus"}, "operator": {"metricsApi": {"enabled": True}}}, True),
    ],
)
def test_it_is_there_where_an_hpa_asks_for_it(helm: Helm, values: Json, served: bool) -> None:
    """It goes with the provider, or on its own; without it the operator opens no second port."""
    objects = helm.render(values)
    assert bool(kinds(objects)) is served
    pod = pods(objects)["Deployment/rel-operator"]
    (container,) = pod["containers"]
    assert [port["name"] for port in container["ports"]] == ["http", *(["metrics-api"] if served else [])]
    tls = {"path": "/readyz", "port": "metrics-api", "scheme": "HTTPS"}
    assert container["readinessProbe"]["httpGet"] == (tls if served else {"path": "/readyz", "port": "http"})
    assert ("lifecycle" in container) is served


@pytest.mark.parametrize("values", [ON, GIVEN], ids=["own", "given"])
def test_every_object_is_valid(helm: Helm, values: Json) -> None:
    """Each rendered object fits the schema Kubernetes publishes, with no unknown field."""
    for obj in helm.render(values):
        kubernetes_validate.validate(obj, "1.36", strict=True)


def test_rights_name_each_object(helm: Helm) -> None:
    """Cluster-wide: one APIService by name, and the two roles Kubernetes has for extension API servers."""
    objects = helm.render(ON)
    assert named(objects, "ClusterRole", "lift:rel:metrics-api")["rules"] == [
        {
            "apiGroups": ["apiregistration.k8s.io"],
            "resources": ["apiservices"],
            "resourceNames": [NAME],
            "verbs": ["get", "patch"],
        }
    ]
    subjects = [{"kind": "ServiceAccount", "name": "rel-operator", "namespace": "lift"}]
    bindings = {
        obj["metadata"]["name"]: (obj["roleRef"]["name"], obj["subjects"])
        for obj in objects
        if obj["kind"] == "ClusterRoleBinding"
    }
    assert bindings == {
        "lift:rel:metrics-api": ("lift:rel:metrics-api", subjects),
        "lift:rel:auth-delegator": ("system:auth-delegator", subjects),
    }
    reader = named(objects, "RoleBinding", "lift:rel:auth-reader", "kube-system")
    assert (reader["roleRef"]["name"], reader["subjects"]) == ("extension-apiserver-authentication-reader", subjects)


def test_people_may_read_the_metrics_by_the_role_view(helm: Helm) -> None:
    """The real names, read only; aggregated unless that is turned off."""
    view = named(helm.render(ON), "ClusterRole", "lift:rel:metrics-view")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    (rule,) = view["rules"]
    assert (rule["apiGroups"], rule["verbs"]) == (["external.metrics.k8s.io"], ["get", "list"])
    assert set(rule["resources"]) == {f"heavylift_queue_{name}" for name in ("demand", "in_flight", "waiting")}
    alone = named(helm.render({**ON, "rbac": {"aggregateRoles": False}}), "ClusterRole", "lift:rel:metrics-view")
    assert "rbac.authorization.k8s.io/aggregate-to-view" not in alone["metadata"]["labels"]


def test_a_given_secret_is_read_and_never_written(helm: Helm) -> None:
    """With a Secret of somebody else's none is made, and the right to update goes."""
    own, given = helm.render(ON), helm.render(GIVEN)
    assert "data" not in named(own, "Secret", "rel-metrics-api")
    assert [obj["metadata"]["name"] for obj in given if obj["kind"] == "Secret"] == ["rel-redis"]
    assert named(own, "Role", "rel-metrics-api")["rules"][0]["verbs"] == ["get", "update"]
    assert named(given, "Role", "rel-metrics-api")["rules"][0]["verbs"] == ["get"]
    variables = {v["name"]: v["value"] for v in pods(given)["Deployment/rel-operator"]["containers"][0]["env"]}
    assert variables["HEAVYLIFT_METRICS_API_SECRET"] == "tls"
    assert variables["HEAVYLIFT_METRICS_API_SECRET_GIVEN"] == "true"


def test_cert_manager_may_write_the_bundle(helm: Helm) -> None:
    """Its annotation goes onto the APIService, which brings no bundle of its own that could be in the way."""
    asked = {"cert-manager.io/inject-ca-from": "lift/metrics-api"}
    api = {"enabled": True, "existingSecret": "tls", "apiServiceAnnotations": asked}
    found = named(helm.render({**GIVEN, "operator": {"metricsApi": api}}), "APIService", NAME)
    assert found["metadata"]["annotations"] == asked
    assert not {"caBundle", "insecureSkipTLSVerify"} & found["spec"].keys()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"port": 443}, "at '/operator/metricsApi/port'"),
        ({"staleAfter": "30"}, "at '/operator/metricsApi/staleAfter'"),
        ({"ports": 1}, "additional properties 'ports' not allowed"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, values: Json, words: str) -> None:
    """The message names the value."""
    with pytest.raises(HelmError, match=words):
        helm.render({"operator": {"metricsApi": values}})


@pytest.fixture
def keda(kube: Kube) -> Iterator[str]:
    """Give the cluster to another provider for a while; give the namespace to install into."""
    namespace = f"foreign-{secrets.token_hex(3)}"
    ensure_namespace(kube, namespace)
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"namespace": "keda", "name": "keda-metrics-apiserver", "port": 443},
    }
    obj = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": spec}
    kube.apply(PATH, obj)
    try:
        yield namespace
    finally:
        kube.delete(PATH)


def test_an_api_service_of_somebody_elses_is_told_before_anything_is_installed(
    helm: Helm, kube: Kube, keda: str
) -> None:
    """Helm's refusal names the owner and the way out; that way installs beside it."""
    values = {"crds": {"install": False}, "unstick": {"enabled": False}}
    with pytest.raises(HelmError) as caught:
        helm.run("install", "rel", str(CHART), "-n", keda, "--dry-run=server", values=values)
    assert "v1beta1.external.metrics.k8s.io belongs to keda/keda-metrics-apiserver" in str(caught.value)
    assert "set autoscaling.provider=keda or prometheus" in str(caught.value)
    other = {**values, "autoscaling": {"provider": "prometheus"}}
    helm.run("install", "rel", str(CHART), "-n", keda, "--dry-run=server", values=other)
    owner = (kube.get(PATH) or {})["spec"]["service"]
    assert owner["name"] == "keda-metrics-apiserver"


def test_an_upgrade_keeps_what_the_operator_wrote_and_an_uninstall_leaves_no_api_service(
    helm: Helm, kube: Kube
) -> None:
    """The CA bundle and the Secret's data survive `helm upgrade`; `helm uninstall` takes the APIService away."""
    namespace = f"lift-{secrets.token_hex(3)}"
    ensure_namespace(kube, namespace)
    values = {**ON, "crds": {"install": False}, "unstick": {"enabled": False}, "dispatcher": {"replicaCount": 0}}
    values["operator"] = {"replicaCount": 0, "metricsApi": {"enabled": True}}
    helm.run("install", "rel", str(CHART), "-n", namespace, values=values)
    try:
        secret = f"/api/v1/namespaces/{namespace}/secrets/rel-metrics-api"
        kube.merge(PATH, {"spec": {"caBundle": "Y2E="}})
        kube.merge(secret, {"data": {"tls.crt": "Y3J0"}})
        helm.run("upgrade", "rel", str(CHART), "-n", namespace, values={**values, "logLevel": "debug"})
        assert (kube.get(PATH) or {})["spec"]["caBundle"] == "Y2E="
        assert (kube.get(secret) or {})["data"] == {"tls.crt": "Y3J0"}
    finally:
        helm.run("uninstall", "rel", "-n", namespace)
    assert kube.get(PATH) is None
