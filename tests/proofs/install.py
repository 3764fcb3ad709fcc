"""What our processes need on a cluster that no chart was installed on: CRDs, a namespace, a HeavyQueue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.proofs.kube import Kube, core, heavyqueues
from tests.proofs.waiting import until

Json = dict[str, Any]
CRDS = Path(__file__).parents[2] / "manifests" / "crds"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def crds() -> list[Json]:
    """Return the CRDs as they are in manifests/."""
    found = [doc for path in sorted(CRDS.glob("*.yaml")) for doc in yaml.safe_load_all(path.read_text()) if doc]
    if not found:
        raise FileNotFoundError(f"no CRD in {CRDS}: run scripts/generate.py")
    return found


def install_crds(kube: Kube) -> None:
    """Apply the CRDs and wait until HeavyQueues are served."""
    for crd in crds():
        kube.apply(f"{CRD_PATH}/{crd['metadata']['name']}", crd)
    until(lambda: kube.request("GET", heavyqueues("default"))[0] == 200, "HeavyQueues to be served")


def remove_crds(kube: Kube) -> None:
    """Delete the CRDs, and with them every HeavyQueue, and wait until they are gone."""
    paths = [f"{CRD_PATH}/{crd['metadata']['name']}" for crd in crds()]
    for path in paths:
        kube.delete(path)
    until(lambda: not any(kube.get(path) for path in paths), "the CRDs to be gone")


def ensure_namespace(kube: Kube, name: str) -> None:
    """Create the namespace unless it is there, and wait for its service account: pods need one."""
    kube.apply(f"/api/v1/namespaces/{name}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    until(lambda: kube.get(core(name, "serviceaccounts", "default")) is not None, f"a service account in {name}")


def heavyqueue(  # what differs between the proofs' queues
    name: str,
    namespace: str,
    *,
    ends: Mapping[str, str] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Json:
    """Return a HeavyQueue.

    Args:
        name: of the object and of its RQ queue, unless ``queue`` is among the spec.
        namespace: where it and its Jobs live.
        ends: annotations of its pods: how simulated pods end (tests/cluster/README.md).
        container: what the container has besides name and image.
        spec: the rest of the spec, as in the CRD.
    """
    main = {"name": "main", "image": "registry.invalid/heavy:1", **(container or {})}
    template: Json = {"metadata": {"annotations": dict(ends or {})}, "spec": {"containers": [main]}}
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"queue": name, "jobTemplate": {"spec": {"template": template}}, **spec},
    }


def apply_queue(kube: Kube, queue: Json) -> Json:
    """Apply a HeavyQueue and return it as the server holds it."""
    metadata = queue["metadata"]
    return kube.apply(heavyqueues(metadata["namespace"], metadata["name"]), queue)


def condition(kube: Kube, namespace: str, name: str, kind: str = "Ready") -> Json:
    """Return a HeavyQueue's condition of that type; empty when it has none (yet)."""
    found = kube.get(heavyqueues(namespace, name)) or {}
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind), {})
