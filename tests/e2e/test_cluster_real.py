"""The test cluster with a real node, proved on clusters of its own: what it does, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, ClusterSpec, down, find, given_cluster, leftovers, up
from tests.cluster.api import wait_for
from tests.cluster.images import BUSYBOX_IMAGE, build_image, list_images, load_image
from tests.cluster.process import Record
from tests.cluster.real import network
from tests.cluster.real.init import TUNABLES

pytestmark = pytest.mark.skipif(given_cluster() is not None, reason="a cluster is given, so ours is not used")

LIMIT = 60.0
DOCKERFILE = """\
ARG BASE
FROM ${BASE} AS builder
RUN python3 -c "print('built')" > /made
FROM ${BASE}
COPY --from=builder /made /made
COPY hello.py /hello.py
USER 65532:65532
CMD ["python3", "/hello.py"]
"""
HELLO = """\
import socket, ssl, urllib.request
print(open("/made").read().strip())
print(socket.getaddrinfo("kubernetes.default.svc", 443)[0][4][0])
context = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
print(urllib.request.urlopen("https://kubernetes.default/version", context=context, timeout=10).status)
"""


@dataclass(frozen=True)
class Traces:
    """What one cluster could leave on the machine, noted while it runs.

    Attributes:
        spec: its description.
        interface: its interface on this machine.
        members: the processes in its node, those of pods included.
        rules: the machine's own packet filter tables before.
        settings: the machine's kernel settings before.
    """

    spec: ClusterSpec
    interface: str
    members: frozenset[Record]
    rules: str
    settings: dict[str, str]

    def left(self) -> list[str]:
        """Return what is still there of it."""
        folder, found = self.spec.folder, []
        found += [f"process {pid}" for pid in leftovers.processes_of(folder)]
        found += [f"process {record.pid}" for record in self.members if record.alive()]
        found += leftovers.mounts_under(folder, Path("/proc/self/mountinfo").read_text())
        found += [str(path) for path in folder.parent.glob(f"{folder.name}*")]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{folder.name}")]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob("*/k8s.io")]
        found += [str(path) for path in Path("/sys/class/net").glob(self.interface)]
        found += [line for line in Path("/proc/net/route").read_text().splitlines() if line.startswith(self.interface)]
        found += [f"setting {name}" for name, value in settings().items() if value != self.settings[name]]
        found += ["packet filter tables"] if tables() != self.rules else []
        found += [path for path in ("/var/lib/kubelet", "/var/lib/cni", "/run/netns") if Path(path).exists()]
        return found


def trace(spec: ClusterSpec, before: tuple[str, dict[str, str]]) -> Traces:
    """Note the traces of a cluster that runs; ``before`` are the machine's tables and settings before it did."""
    cluster = find(spec.folder)
    assert cluster is not None
    node = cluster.processes.pid("node")
    assert node is not None
    assert network.connected(spec.folder)
    for kind in ("cgroup", "mnt", "net", "pid"):
        assert namespace(node, kind) != namespace(os.getpid(), kind)
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    inside = [Record.of(pid) for pid in pids if namespace(pid, "pid") == namespace(node, "pid")]
    members = frozenset(record for record in inside if record is not None)
    assert node in {record.pid for record in members}
    return Traces(spec, network.interface(spec.folder), members, *before)


def namespace(pid: int, kind: str) -> str:
    """Return the namespace of a kind that a process is in, or nothing if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/{kind}").readlink().name
    return ""


def tables() -> str:
    """Return the tables of the machine's own packet filter."""
    return subprocess.run(["/usr/sbin/nft", "list", "tables"], check=True, capture_output=True, text=True).stdout


def settings() -> dict[str, str]:
    """Return the kernel settings that a kubelet changes."""
    return {name: path.read_text() for name in TUNABLES if (path := Path("/proc/sys", name)).is_file()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give a cluster of this module alone, as its parts are restarted here; afterwards nothing of it may be left."""
    before = tables(), settings()
    spec = ClusterSpec(nodes="real", name=f"proof-{os.getpid()}")
    try:
        cluster = up(spec)
        traces = trace(spec, before)
        yield cluster
    finally:
        down(spec.name, nodes="real")
    assert traces.left() == []


def create(cluster: Cluster, name: str, *command: str, image: str = BUSYBOX_IMAGE, **container: Any) -> None:
    """Create a pod of one container."""
    main = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", **container}
    if command:
        main["command"] = list(command)
    spec = {"restartPolicy": "Never", "containers": [main]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))


def wait_phase(cluster: Cluster, pod: str, phase: str) -> dict[str, Any]:
    """Wait until a pod is in a phase, and return its status."""
    cluster.kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", f"pod/{pod}", f"--timeout={LIMIT:.0f}s")
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "pod", pod, "-o", "jsonpath={.status}"))
    return status


def test_a_pod_runs_and_its_log_is_read(cluster: Cluster) -> None:
    """A container runs to its end, and `kubectl logs` has what it said."""
    create(cluster, "hello", "echo", "hello from a pod")
    wait_phase(cluster, "hello", "Succeeded")
    assert cluster.kubectl("logs", "hello") == "hello from a pod\n"


def test_names_resolve_in_pods(cluster: Cluster) -> None:
    """The cluster's DNS answers for the API server's Service with its ClusterIP."""
    create(cluster, "names", "nslookup", "kubernetes.default.svc.cluster.local")
    wait_phase(cluster, "names", "Succeeded")
    address = cluster.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    assert f"Address: {address}" in cluster.kubectl("logs", "names")


def test_a_memory_limit_kills(cluster: Cluster) -> None:
    """A container over its memory limit ends as OOMKilled with exit code 137."""
    create(cluster, "greedy", "tail", "/dev/zero", resources={"limits": {"memory": "32Mi"}})
    ended = wait_phase(cluster, "greedy", "Failed")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_exec_port_forward_services_and_eviction(cluster: Cluster) -> None:
    """A server in a pod is reached by exec, by a forwarded port and by its Service from here; eviction ends it."""
    script = "while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nserved' | nc -l -p 8080; done"
    create(cluster, "web", "sh", "-c", f"trap 'exit 0' TERM; {script} & wait")
    wait_phase(cluster, "web", "Running")
    assert cluster.kubectl("exec", "web", "--", "hostname").strip() == "web"
    cluster.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
    address = cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    wait_for("the Service", lambda: fetch(f"http://{address}/") == "served", LIMIT)
    forward = [str(cluster.bin("kubectl")), "port-forward", "pod/web", ":8080"]
    with subprocess.Popen(forward, env=cluster.environment(), stdout=subprocess.PIPE, text=True) as process:
        port = (process.stdout.readline() if process.stdout else "").split("127.0.0.1:")[1].split()[0]
        wait_for("the forwarded port", lambda: fetch(f"http://127.0.0.1:{port}/") == "served", LIMIT)
        process.terminate()
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web"}}
    path = "/api/v1/namespaces/default/pods/web/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    cluster.kubectl("wait", "--for=delete", "pod/web", f"--timeout={LIMIT:.0f}s")


def fetch(url: str) -> str:
    """Return what a server answers, or nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def test_a_volume_claim_is_bound_and_open_to_its_user(cluster: Cluster) -> None:
    """The default storage class binds a claim when a pod wants it, and any user may write to the volume."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
    main = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "command": ["sh", "-c", "id -u > /data/who"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"runAsUser": 65532, "runAsNonRoot": True, "readOnlyRootFilesystem": True},
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"restartPolicy": "Never", "containers": [main], "volumes": volumes}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
    wait_phase(cluster, "writer", "Succeeded")
    volume = cluster.kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    folder = cluster.kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}")
    assert (Path(folder) / "who").read_text() == "65532\n"


def test_an_image_of_a_dockerfile_runs_and_reaches_the_api_server(cluster: Cluster, tmp_path: Path) -> None:
    """A multi-stage image stands on our root file system, is found in the cache, and its pod trusts the API server."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "hello.py").write_text(HELLO)
    tag = "localhost/heavylift-test/proof:1"
    archive = build_image(tmp_path / "Dockerfile", tmp_path, tag, inputs=["hello.py"])
    written = archive.stat().st_ino
    assert build_image(tmp_path / "Dockerfile", tmp_path, tag, inputs=["hello.py"]).stat().st_ino == written
    load_image(cluster, archive)
    assert tag in list_images(cluster)
    create(cluster, "proof", image=tag)
    wait_phase(cluster, "proof", "Succeeded")
    address = cluster.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    assert cluster.kubectl("logs", "proof").split() == ["built", address, "200"]


def test_this_machine_is_reached_from_pods_and_no_other(cluster: Cluster) -> None:
    """A pod reaches the gateway address, which is this machine, and has no way beyond."""
    ping = "nc -w 5 {} 9 < /dev/null 2>&1 | grep -o 'refused\\|unreachable\\|timed out'"
    create(cluster, "near", "sh", "-c", ping.format(cluster.gateway))
    create(cluster, "far", "sh", "-c", ping.format("192.0.2.1"))
    for pod in ("near", "far"):
        wait_phase(cluster, pod, "Succeeded")
    assert cluster.kubectl("logs", "near").strip() == "refused"
    assert cluster.kubectl("logs", "far").strip() == "unreachable"


def test_parts_restart_under_running_pods(cluster: Cluster) -> None:
    """API server, containerd and kubelet restart; a pod that runs keeps running, and new ones start."""
    create(cluster, "steady")
    wait_phase(cluster, "steady", "Running")
    for component in ("kube-apiserver", "containerd", "kubelet"):
        cluster.restart(component)
    create(cluster, "after", "true")
    wait_phase(cluster, "after", "Succeeded")
    status = wait_phase(cluster, "steady", "Running")
    assert status["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize("spared", ["node", ""], ids=["its first process spared", "all of it"])
def test_up_after_a_kill_of_everything(spared: str) -> None:
    """After SIGKILL of all its programs under a running pod, `up` removes the remains and the new cluster works."""
    before = tables(), settings()
    spec = ClusterSpec(nodes="real", name=f"killed-{os.getpid()}")
    try:
        cluster = up(spec)
        create(cluster, "steady")
        wait_phase(cluster, "steady", "Running")
        first = trace(spec, before)
        for name in cluster.processes.recorded():
            if name != spared:
                cluster.processes.signal(name, signal.SIGKILL)
        assert not cluster.healthy()
        again = up(spec)
        second = trace(spec, before)
        assert json.loads(again.kubectl("get", "pods", "-o", "json"))["items"] == []
        create(again, "hello", "true")
        wait_phase(again, "hello", "Succeeded")
    finally:
        down(spec.name, nodes="real")
    assert first.left() == second.left() == []


def test_down_after_the_state_folder_was_cut() -> None:
    """Without spec, layout and records, `down` still finds the processes by their mark, and the rest by its name."""
    before = tables(), settings()
    spec = ClusterSpec(nodes="real", name=f"cut-{os.getpid()}")
    try:
        cluster = up(spec)
        create(cluster, "steady")
        wait_phase(cluster, "steady", "Running")
        traces = trace(spec, before)
        for path in (spec.folder / "spec.json", spec.folder / "layout.json", *(spec.folder / "run").iterdir()):
            path.unlink()
    finally:
        down(spec.name, nodes="real")
    assert traces.left() == []
