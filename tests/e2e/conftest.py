"""One real cluster and one helm installation for the session, one with a Redis of its own, and one of plain defaults.

The last has the autoscaler, as a cluster has one provider of external metrics; the others have a fixed number.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.client import Client
from tests.cluster import ClusterSpec, down, images, up
from tests.e2e.bench import Bench, prepare_namespace
from tests.e2e.queues import SECURITY, queue, queues
from tests.proofs.helm import Release, Tools
from tests.proofs.install import condition
from tests.proofs.kube import Json, Kube, core
from tests.proofs.recorder import JobRecorder
from tests.proofs.waiting import until

JOB_IMAGE = os.environ.get("HEAVYLIFT_E2E_JOB_IMAGE", "localhost/heavylift/job-python:dev")
REDIS_IMAGE = os.environ.get("HEAVYLIFT_E2E_REDIS_IMAGE", "localhost/heavylift/redis:dev")
IMAGES = ("heavylift", "job-python", "job-shell", "redis")
LOCAL_IMAGES: Json = {
    "image": {"registry": "localhost", "repository": "heavylift/heavylift", "tag": "dev"},
    "redis": {"embedded": {"image": {"registry": "localhost", "repository": "heavylift/redis", "tag": "dev"}}},
}
"""Values that take the images built from this checkout."""
QUICK_HPA = ("--horizontal-pod-autoscaler-sync-period=3s",)
FIXED: Json = {"autoscaling": {"enabled": False}}
TRIAL = "trial"


@dataclass(frozen=True)
class Target:
    """A cluster with our images in it."""

    tools: Tools
    kube: Kube
    values: Json
    """Chart values that name the images."""


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """Give a cluster with a real kubelet: our own with images from this checkout, or HEAVYLIFT_E2E_KUBECONFIG's.

    With HEAVYLIFT_E2E_NAME set, our own cluster of that name is used, brought up if need be, and left running.
    For a given cluster HEAVYLIFT_E2E_VALUES is a file of chart values that name images the cluster can pull.
    """
    given = os.environ.get("HEAVYLIFT_E2E_KUBECONFIG", "")
    if given:
        values = os.environ.get("HEAVYLIFT_E2E_VALUES", "")
        named = yaml.safe_load(Path(values).read_text()) if values else {}
        yield Target(Tools(Path(given)), Kube(Path(given)), named)
        return
    kept = os.environ.get("HEAVYLIFT_E2E_NAME", "")
    name = kept or f"e2e-{os.getpid()}"
    cluster = up(ClusterSpec(nodes="real", name=name, kcm_flags=QUICK_HPA))
    try:
        images.load_listed(cluster, IMAGES)
        yield Target(Tools(cluster.kubeconfig, cluster.layout.bin), Kube(cluster.kubeconfig), LOCAL_IMAGES)
    finally:
        if not kept:
            down(name)


@contextmanager
def working(target: Target, release: Release, namespace: str, redis: tuple[str, str, str]) -> Iterator[Bench]:
    """Give a bench of an installed release; ``redis`` is its namespace, target and password."""
    where, what, password = redis
    with ExitStack() as stack:
        port = stack.enter_context(target.tools.forwarded(where, what, 6379))
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        client = stack.enter_context(Client(url))
        recorder = stack.enter_context(JobRecorder(target.kube, namespace))
        yield Bench(target.kube, target.tools, release, namespace, url, client, recorder)


@pytest.fixture(scope="session")
def bench(target: Target) -> Iterator[Bench]:
    """Give the chart's default installation, with the embedded Redis, serving the proofs' queues."""
    namespace = "analytics"
    made = queues(namespace, JOB_IMAGE)
    prepare_namespace(target.kube, namespace, [])
    values = {**target.values, **FIXED, "watchNamespaces": [{"name": namespace}], "dispatcher": {"slots": 40}}
    release = Release(target.tools, "heavylift", "heavylift", values)
    release.install()
    prepare_namespace(target.kube, namespace, made)
    with working(target, release, namespace, ("heavylift", "svc/heavylift-redis", release.password())) as ready:
        wait_serving(target.kube, namespace, [entry["metadata"]["name"] for entry in made])
        yield ready
        release.uninstall()


@pytest.fixture(scope="session")
def external(target: Target, bench: Bench) -> Iterator[Bench]:
    """Give a second release whose Redis is somebody else's, serving one queue in a namespace of its own."""
    assert bench.release.name == "heavylift", "the first release brings the CRDs"
    namespace, password = "outside", f"p{time.monotonic_ns()}"
    run_redis(target.kube, "database", password)
    prepare_namespace(target.kube, namespace, [queue("tasks", namespace, JOB_IMAGE)])
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own-redis"}}
    prepare_namespace(target.kube, "second", [])
    target.kube.apply(core("second", "secrets", "own-redis"), {**secret, "stringData": {"password": password}})
    redis = {"embedded": {"enabled": False}, "external": {"host": "redis.database.svc", "existingSecret": "own-redis"}}
    values: dict[str, Any] = {
        **target.values,
        **FIXED,
        "redis": redis,
        "watchNamespaces": [{"name": namespace}],
        "crds": {"install": False},
        "rbac": {"aggregateRoles": False},
    }
    release = Release(target.tools, "second", "second", values)
    release.install()
    with working(target, release, namespace, ("database", "pod/redis", password)) as ready:
        wait_serving(target.kube, namespace, ["tasks"])
        yield ready
        release.uninstall()


@pytest.fixture(scope="session")
def trial(target: Target, bench: Bench) -> Iterator[Release]:
    """Give a release with the chart's defaults, which serves its own namespace; what it left comes back in a moment."""
    assert bench.release.name != TRIAL, "the first release brings the CRDs"
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 5}}
    values = {
        **target.values,
        "crds": {"install": False},
        "rbac": {"aggregateRoles": False},
        "autoscaling": {"behavior": behavior},
    }
    release = Release(target.tools, TRIAL, TRIAL, values)
    release.install()
    yield release
    if release.pods():
        release.uninstall()


def run_redis(kube: Kube, namespace: str, password: str) -> None:
    """Run a Redis that is none of the chart's, and a Service for it."""
    kube.apply(
        f"/api/v1/namespaces/{namespace}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )
    until(lambda: kube.get(core(namespace, "serviceaccounts", "default")) is not None, "a service account")
    options = ["--requirepass", password, "--maxmemory-policy", "noeviction", "--save", "", "--protected-mode", "no"]
    container = {"name": "redis", "image": REDIS_IMAGE, "command": ["redis-server", *options, "--dir", "/data"]}
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}], "securityContext": SECURITY}
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "redis", "labels": {"app": "redis"}},
        "spec": {"containers": [{**container, **mounts}], "volumes": [{"name": "data", "emptyDir": {}}]},
    }
    service: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "redis"}}
    kube.delete(core(namespace, "pods", "redis"), gracePeriodSeconds=0)
    until(lambda: kube.get(core(namespace, "pods", "redis")) is None, "the earlier Redis to be gone")
    kube.create(core(namespace, "pods"), pod)
    spec = {"selector": {"app": "redis"}, "ports": [{"port": 6379}]}
    kube.apply(core(namespace, "services", "redis"), {**service, "spec": spec})
    until(lambda: _ready(kube.get(core(namespace, "pods", "redis")) or {}), "Redis to run", limit=60)


def _ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def wait_serving(kube: Kube, namespace: str, names: list[str]) -> None:
    """Wait until each HeavyQueue's condition Ready is True."""

    def serving() -> bool:
        return all(condition(kube, namespace, name).get("status") == "True" for name in names)

    until(serving, f"the HeavyQueues of {namespace} to be served", limit=90, every=0.5)
