"""What ``heavylift doctor`` and ``render`` read of a real API server, by a user's kubeconfig."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.cli.app import main
from heavylift.cli.finding import Finding, Level
from heavylift.cli.installation import cluster_findings
from heavylift.cli.session import Session
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube, heavyqueues

NAMESPACE = "lift-checks"
MANIFESTS = Path(__file__).resolve().parents[3] / "manifests" / "install.yaml"
PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}
TEMPLATE = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example"}]}}}}
PROCESSES = ("dispatcher", "operator")
QUEUE = {
    "apiVersion": "heavylift.dev/v1alpha1",
    "kind": "HeavyQueue",
    "metadata": {"name": "checked"},
    "spec": {"jobTemplate": TEMPLATE},
}


def installed() -> list[dict[str, Any]]:
    """Return accounts, roles and Deployments (without pods) of the plain manifests, in the tests' own namespace."""
    text = MANIFESTS.read_text().replace("namespace: heavylift\n", f"namespace: {NAMESPACE}\n")
    found = [doc for doc in yaml.load_all(text, yaml.CSafeLoader) if doc and doc["kind"] in PATHS]
    for doc in found:
        if doc["kind"] == "Deployment":
            doc["spec"]["replicas"] = 0
    return [doc for doc in found if doc["metadata"]["namespace"] == NAMESPACE]


def path_of(doc: dict[str, Any]) -> str:
    """Return where an object is."""
    return f"{PATHS[doc['kind']].format(NAMESPACE)}/{doc['metadata']['name']}"


@pytest.fixture(scope="module")
def release(kube: Kube) -> Iterator[Kube]:
    """An installation without pods, and a HeavyQueue beside it."""
    ensure_namespace(kube, NAMESPACE)
    objects = installed()
    assert {doc["kind"] for doc in objects} == set(PATHS)
    for doc in objects:
        kube.apply(path_of(doc), doc)
    kube.apply(heavyqueues(NAMESPACE, "checked"), QUEUE)
    yield kube
    for path in (heavyqueues(NAMESPACE, "checked"), *(path_of(doc) for doc in objects)):
        kube.delete(path)


@pytest.fixture(autouse=True)
def kubeconfig(release: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line find the test's control plane."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(release.kubeconfig))


def findings() -> dict[str, Finding]:
    """Return what the doctor finds in the cluster, by check."""
    return {found.check: found for found in cluster_findings(Session(kube=NAMESPACE))}


def test_doctor_finds_a_sound_installation_sound() -> None:
    """Kinds, clock, Deployments and the rights the manifests grant are all right."""
    found = findings()

    checks = ("crds", "clock of the cluster", "deployments", *(f"rbac {one} {NAMESPACE}" for one in PROCESSES))
    assert {check: found[check].level for check in checks} == dict.fromkeys(checks, Level.OK), found
    assert found[f"heavyqueue {NAMESPACE}/checked"].level is Level.WARN


def test_doctor_names_a_right_that_was_taken_away(release: Kube) -> None:
    """The API server is asked as the operator's own account."""
    role = next(doc for doc in installed() if doc["metadata"]["name"] == "heavylift-operator" and doc["kind"] == "Role")
    rules = [rule for rule in role["rules"] if rule["resources"] != ["jobs"]]
    release.merge(path_of(role), {"rules": rules})
    try:
        found = findings()[f"rbac operator {NAMESPACE}"]
    finally:
        release.merge(path_of(role), {"rules": role["rules"]})

    assert found.level is Level.FAIL
    assert "may not get jobs, list jobs, watch jobs, patch jobs, delete jobs" in found.message


def test_render_takes_the_heavyqueue_that_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    """The stored object, with the server's defaults and fields, is parsed as the operator does."""
    assert main(["--kube", NAMESPACE, "render", "checked", "-o", "json"]) == 0
    job = json.loads(capsys.readouterr().out)

    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", NAMESPACE)
    assert job["metadata"]["annotations"]["heavylift.dev/install-id"] == f"{NAMESPACE}/heavylift"
