"""Brings up what the demo runs on: cluster, images, the chart, the example's queue."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from scripts.demo.board import pod_word
from scripts.demo.place import (
    CLUSTER,
    EXAMPLE,
    IMAGES,
    JOBS_NAMESPACE,
    NAMESPACE,
    QUEUE,
    RELEASE,
    ROOT,
    SHELL_EXAMPLE,
    WORDS,
)
from scripts.demo.shell import DemoError, run, say, step
from tests.cluster import Cluster, ClusterSpec, find, up
from tests.cluster.images import build_listed, list_images, listed, load_image

READY = "180s"
"""How long the queue may take to become Ready."""


@dataclass(frozen=True)
class Demo:
    """A demo that is up.

    Attributes:
        cluster: where it runs.
        redis_url: Redis as this machine reaches it, password included.
    """

    cluster: Cluster
    redis_url: str


def spec() -> ClusterSpec:
    """Return the demo's cluster: one real node."""
    return ClusterSpec(nodes="real", name=CLUSTER)


def bring_up() -> Demo:
    """Bring up everything; what is up already is left alone or brought up to date.

    Raises:
        DemoError: not root, or a step failed; the message has its words and what to do.
        ClusterError: the cluster cannot be started.
    """
    if os.geteuid() != 0:
        raise DemoError("the demo starts a kubelet and needs root: run `make demo` as root")
    with step("Kubernetes: one node, built from source (the first time takes about ten minutes)"):
        cluster = up(spec())
    with step("Images: built on this machine (the first time takes some minutes)"):
        images = load_images(cluster)
    with step("helm install heavylift"):
        install(cluster, images)
    with step("kubectl apply -f examples/reports/queue.yaml, and the queue of examples/any-language"):
        apply_queues(cluster)
    return Demo(cluster, redis_url(cluster))


def load_images(cluster: Cluster) -> str:
    """Build the images and import those that the cluster has not; return a word for their contents."""
    archives = build_listed(IMAGES, say=lambda text: say(f"    {text}"))
    present = set(list_images(cluster))
    marker = cluster.layout.folder / "demo-images.json"
    loaded: list[str] = json.loads(marker.read_text()) if marker.exists() else []
    for name, archive in archives.items():
        if str(archive) not in loaded or listed()[name].tag not in present:
            say(f"    importing {archive.name} ({archive.stat().st_size / 1e6:.0f} MB)")
            load_image(cluster, archive)
    marker.write_text(json.dumps([str(archive) for archive in archives.values()]))
    return hashlib.sha256(marker.read_bytes()).hexdigest()[:12]


def install(cluster: Cluster, images: str) -> None:
    """Install or upgrade the release; pods start anew when an image changed."""
    for namespace in (NAMESPACE, JOBS_NAMESPACE):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    chart = ROOT / "charts" / "heavylift"
    values = Path(__file__).with_name("values.yaml")
    command = [cluster.bin("helm"), "upgrade", "--install", RELEASE, chart, "-n", NAMESPACE, "-f", values]
    command += ["--set-string", f"dispatcher.podAnnotations.demo/images={images}"]
    command += ["--set-string", f"operator.podAnnotations.demo/images={images}"]
    try:
        run([*command, "--wait", "--timeout", "5m"], env=cluster.environment(), remedy="")
    except DemoError as error:
        raise DemoError(
            f"{error}\n{not_ready(cluster)}\n"
            f"look at: KUBECONFIG={cluster.kubeconfig} {cluster.bin('kubectl')} get pods,events -n {NAMESPACE}\n"
            "`make demo-down`, then `make demo` starts from nothing"
        ) from error


def not_ready(cluster: Cluster) -> str:
    """Return a line for each pod of the release that is not ready, with the end of its log."""
    lines = []
    for pod in json.loads(cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]:
        statuses = pod.get("status", {}).get("containerStatuses", [])
        if not statuses or not all(status.get("ready") for status in statuses):
            name = pod["metadata"]["name"]
            log = cluster.kubectl("logs", name, "-n", NAMESPACE, "--tail=3", check=False).strip()
            lines.append(f"pod {name}: {pod_word(pod)}\n  " + log.replace("\n", "\n  "))
    return "\n".join(lines)


def apply_queues(cluster: Cluster) -> None:
    """Apply the examples' HeavyQueues and wait until they are served."""
    cluster.kubectl("apply", "-f", str(EXAMPLE / "queue.yaml"))
    cluster.kubectl("apply", "-n", JOBS_NAMESPACE, "-f", "-", stdin=json.dumps(words_queue()))
    for name in (QUEUE, WORDS):
        run(
            [
                *(cluster.bin("kubectl"), "wait", f"heavyqueue/{name}", "-n", JOBS_NAMESPACE),
                *("--for=condition=Ready", f"--timeout={READY}"),
            ],
            env=cluster.environment(),
            remedy=f"its condition says why: KUBECONFIG={cluster.kubeconfig} {cluster.bin('kubectl')} "
            f"describe heavyqueue {name} -n {JOBS_NAMESPACE}",
        )


def words_queue() -> dict[str, Any]:
    """Return the shell example's queue with room for many at once on a small node."""
    queue: dict[str, Any] = yaml.safe_load((SHELL_EXAMPLE / "queue.yaml").read_text("utf-8"))
    queue["spec"]["concurrency"] = {"max": 60}
    (container,) = queue["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    container["resources"]["requests"] = {"cpu": "5m", "memory": "8Mi"}
    return queue


def running() -> Demo:
    """Return the demo that is up.

    Raises:
        DemoError: none is.
    """
    cluster = find(spec().folder)
    if cluster is None or not cluster.healthy():
        raise DemoError("the demo is not up: run `make demo`")
    return Demo(cluster, redis_url(cluster))


def redis_url(cluster: Cluster) -> str:
    """Return the URL of the release's Redis: this machine has a route to the cluster's Services."""
    secret = json.loads(cluster.kubectl("get", "secret", f"{RELEASE}-redis", "-n", NAMESPACE, "-o", "json"))
    password = base64.b64decode(secret["data"]["password"]).decode()
    service = json.loads(cluster.kubectl("get", "service", f"{RELEASE}-redis", "-n", NAMESPACE, "-o", "json"))
    port = service["spec"]["ports"][0]["port"]
    return f"redis://:{quote(password, safe='')}@{service['spec']['clusterIP']}:{port}/0"


def reports_folder(cluster: Cluster) -> Path:
    """Return the folder on this machine behind the volume that the reports are written to.

    Raises:
        DemoError: the claim is bound to no volume of this machine.
    """
    claim = json.loads(cluster.kubectl("get", "pvc", QUEUE, "-n", JOBS_NAMESPACE, "-o", "json"))
    name = claim["spec"].get("volumeName")
    volume = json.loads(cluster.kubectl("get", "pv", name, "-o", "json"))["spec"] if name else {}
    path = (volume.get("local") or volume.get("hostPath") or {}).get("path")
    if not path:
        raise DemoError(f"the claim {QUEUE} is bound to no folder of this machine; see `kubectl get pvc,pv -A`")
    return Path(path)
