"""Before an uninstall: dispatchers stop, Jobs lose our finalizer and nothing else, no pod ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.contract.ids import short_hash
from heavylift.contract.names import FINALIZER, Label
from heavylift.runtime.kube import KubeApi
from heavylift_operator.unstick import UnstickSettings, unstick
from tests.cluster import Cluster
from tests.integration.chart.helm import Helm, named
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube, batch, core
from tests.proofs.waiting import until

Json = dict[str, Any]
INSTALL = "lift/rel"
FOREIGN = "example.com/hold"


@pytest.fixture
def namespaces(kube: Kube) -> tuple[str, str]:
    """Give two namespaces of this test's own."""
    found = tuple(f"unstick-{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name in found:
        ensure_namespace(kube, name)
    return found[0], found[1]


def job(name: str, install: str, finalizers: list[str]) -> Json:
    """Return a Job as the dispatcher creates it, whose simulated pod runs until it is deleted."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {Label.INSTALL: short_hash(install)}, "finalizers": finalizers},
        "spec": {
            "template": {
                "metadata": {"annotations": {"heavylift-test/hold": "true"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]},
            }
        },
    }


def deployment(name: str) -> Json:
    """Return a Deployment that stands for the dispatchers."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "x"}]}},
        },
    }


def settings(*namespaces: str, **changes: Any) -> UnstickSettings:
    """Return settings with short pauses."""
    values: Json = {"install_id": INSTALL, "namespaces": namespaces, "settle": 0.4, "pause": 0.1, **changes}
    return UnstickSettings.model_validate(values)


def finalizers(kube: Kube, namespace: str, name: str) -> list[str]:
    """Return what holds a Job."""
    found = kube.get(batch(namespace, name))
    assert found is not None
    return [held for held in found["metadata"].get("finalizers", []) if "/" in held]


async def test_jobs_are_let_go_and_run_on(kwok: Cluster, kube: Kube, namespaces: tuple[str, str]) -> None:
    """Our finalizer goes from this installation's Jobs only; other finalizers, other installations and pods stay."""
    first, second = namespaces
    kube.create(batch(first), job("ours", INSTALL, [FINALIZER, FOREIGN]))
    kube.create(batch(second), job("ours", INSTALL, [FINALIZER]))
    kube.create(batch(first), job("theirs", "lift/other", [FINALIZER]))
    kube.create(f"/apis/apps/v1/namespaces/{first}/deployments", deployment("dispatcher"))
    running = f"{core(first, 'pods')}?labelSelector=job-name%3Dours"
    until(lambda: [pod["status"]["phase"] for pod in kube.items(core(first, "pods"))[0]].count("Running") == 4, "pods")
    api = await KubeApi.connect(kubeconfig=str(kwok.kubeconfig))
    try:
        cleared = await unstick(api, settings(first, second, dispatcher=f"{first}/dispatcher"))
    finally:
        await api.aclose()
    assert cleared == 2
    assert finalizers(kube, first, "ours") == [FOREIGN]
    assert finalizers(kube, second, "ours") == []
    assert finalizers(kube, first, "theirs") == [FINALIZER]
    _, pods = kube.request("GET", running)
    assert [pod["status"]["phase"] for pod in pods["items"]] == ["Running"]
    stopped = kube.get(f"/apis/apps/v1/namespaces/{first}/deployments/dispatcher")
    assert stopped is not None
    assert stopped["spec"]["replicas"] == 0
    assert not stopped["status"].get("replicas")
    kube.merge(batch(first, "theirs"), {"metadata": {"finalizers": None}})
    kube.merge(batch(first, "ours"), {"metadata": {"finalizers": None}})
    for namespace in namespaces:
        kube.delete(f"/api/v1/namespaces/{namespace}")


async def test_a_dispatcher_that_is_gone_already_is_no_problem(
    kwok: Cluster, kube: Kube, namespaces: tuple[str, str]
) -> None:
    """A second uninstall, or one after the Deployment was deleted by hand, goes through."""
    kube.create(batch(namespaces[0]), job("ours", INSTALL, [FINALIZER]))
    api = await KubeApi.connect(kubeconfig=str(kwok.kubeconfig))
    try:
        wanted = settings(*namespaces, dispatcher=f"{namespaces[0]}/dispatcher")
        assert [await unstick(api, wanted), await unstick(api, wanted)] == [1, 0]
    finally:
        await api.aclose()
    for namespace in namespaces:
        kube.delete(f"/api/v1/namespaces/{namespace}")


def run_as(kube: Kube, namespace: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the hook's program as the namespace's default service account."""
    account = core(namespace, "serviceaccounts", "default")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.create(f"{account}/token", request)["status"]["token"]
    config = yaml.safe_load(kube.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    values = {"INSTALL_ID": INSTALL, "NAMESPACES": namespace, "DISPATCHER": f"{namespace}/rel-dispatcher"}
    quick = {"KUBECONFIG": str(kubeconfig), "SETTLE": "0.4", "PAUSE": "0.1"}
    return subprocess.run(
        [sys.executable, "-m", "heavylift_operator.unstick"],
        env={**os.environ, **{f"HEAVYLIFT_{name}": value for name, value in {**values, **quick, **env}.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_charts_role_is_enough_and_needed(
    helm: Helm, kube: Kube, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    """Without the Role the program says what to check; with exactly it, the program does its work."""
    namespace = namespaces[0]
    kube.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment("rel-dispatcher"))
    kube.create(batch(namespace), job("ours", INSTALL, [FINALIZER]))
    denied = run_as(kube, namespace, tmp_path)
    assert denied.returncode == 1
    assert denied.stderr.startswith("error: Kubernetes answers 403")
    assert "check the Role and RoleBinding" in denied.stderr
    assert len(denied.stderr.splitlines()) == 1
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    objects = helm.render(namespace=namespace)
    kube.create(f"{rbac}/roles", named(objects, "Role", "rel-unstick"))
    binding = named(objects, "RoleBinding", "rel-unstick")
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]
    kube.create(f"{rbac}/rolebindings", binding)
    until(lambda: run_as(kube, namespace, tmp_path).returncode == 0, "the authorizer to know the Role")
    assert finalizers(kube, namespace, "ours") == []
    kube.delete(f"/api/v1/namespaces/{namespace}")


@pytest.mark.parametrize("page", ["docs/how-to/troubleshoot.md", "charts/heavylift/README.md"])
def test_the_documented_lines_free_a_namespace(
    kwok: Cluster, kube: Kube, namespaces: tuple[str, str], page: str
) -> None:
    """A namespace that was deleted with a Job in it goes once the page's lines were run, and not before."""
    namespace, path = namespaces[0], f"/api/v1/namespaces/{namespaces[0]}"
    kube.create(batch(namespace), job("ours", INSTALL, [FINALIZER]))
    kube.delete(path)
    held = "NamespaceFinalizersRemaining"
    until(
        lambda: any(
            found["type"] == held and found["status"] == "True"
            for found in (kube.get(path) or {})["status"].get("conditions", [])
        ),
        "the namespace to be held",
    )
    text = (Path(__file__).parents[3] / page).read_text()
    (lines,) = re.findall(r"^\$ (patch=.*)\n\$ (for job in .*)$", text, re.MULTILINE)
    script = "\n".join(lines).replace("-n analytics", f"-n {namespace}")
    env = {
        **os.environ,
        "KUBECONFIG": str(kwok.kubeconfig),
        "PATH": f"{kwok.bin('kubectl').parent}:{os.environ['PATH']}",
    }

    subprocess.run(["/bin/sh", "-euc", script], env=env, check=True)

    until(lambda: kube.get(path) is None, "the namespace to go")


def test_missing_settings_are_named() -> None:
    """Run outside the chart without settings, it says which are missing."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("HEAVYLIFT_")}
    done = subprocess.run(
        [sys.executable, "-m", "heavylift_operator.unstick"], env=bare, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: missing or wrong: HEAVYLIFT_INSTALL_ID, HEAVYLIFT_NAMESPACES (the chart's hook sets them)\n",
    )
