"""The test cluster with simulated nodes, proved on a cluster of its own."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, ClusterError, ClusterSpec, ComponentError, down, find, leftovers, up
from tests.cluster.api import wait_for

PREFIX = "heavylift-test/"
LIMIT = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster with two simulated nodes, of this module alone, as it is killed and stopped here."""
    spec = ClusterSpec(name="proof", state=tmp_path_factory.mktemp("c") / "s")
    yield up(spec)
    down("proof", spec.state)


@pytest.fixture
def run(cluster: Cluster, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Return a function that creates a Job whose pod has the given annotations, and returns its name."""

    def create(payload: str = "", **annotations: str) -> str:
        name: str = request.node.name.replace("_", "-").replace("[", "-").rstrip("]")[-50:].lower().lstrip("-")
        staged = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
        env = [{"name": "EXECUTION", "value": "abc-1"}, {"name": "PAYLOAD", "value": payload}]
        containers = [{"name": "main", "image": "x", "env": env}, {"name": "side", "image": "y"}]
        template = {"metadata": {"annotations": staged}, "spec": {"restartPolicy": "Never", "containers": containers}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
        policy = {"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
        spec = {"backoffLimit": 0, "podReplacementPolicy": "Failed", "podFailurePolicy": policy, "template": template}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps({**job, "spec": spec}))
        return name

    return create


def pod_of(cluster: Cluster, job: str) -> dict[str, Any] | None:
    """Return the pod of a Job, or None while there is none."""
    listed = cluster.kubectl("get", "pods", "-o", "json", "-l", f"job-name={job}")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found[0] if found else None


def wait_pod(cluster: Cluster, job: str, phase: str) -> dict[str, Any]:
    """Wait until the pod of a Job is in a phase, and return it."""
    seen: list[dict[str, Any]] = []

    def there() -> bool:
        pod = pod_of(cluster, job)
        seen[:] = [pod] if pod else []
        return bool(pod and pod["status"].get("phase") == phase)

    wait_for(f"the pod of {job} to be {phase}", there, LIMIT)
    return seen[0]


def wait_job(cluster: Cluster, job: str, condition: str) -> dict[str, Any]:
    """Wait until a Job has a condition, and return its status."""
    cluster.kubectl("wait", f"--for=condition={condition}", f"job/{job}", f"--timeout={LIMIT:.0f}s")
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "job", job, "-o", "jsonpath={.status}"))
    return status


def terminated(pod: dict[str, Any], container: str = "main") -> dict[str, Any]:
    """Return how a container ended."""
    statuses = {status["name"]: status for status in pod["status"]["containerStatuses"]}
    ended: dict[str, Any] = statuses[container]["state"]["terminated"]
    return ended


def test_a_job_runs_to_complete(cluster: Cluster, run: Callable[..., str]) -> None:
    """Without annotations a pod ends at once with exit code 0, and the Job controller completes the Job."""
    job = run()
    assert wait_job(cluster, job, "Complete")["succeeded"] == 1
    ended = terminated(wait_pod(cluster, job, "Succeeded"))
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert ended["startedAt"] <= ended["finishedAt"]


def test_staged_exit_code_and_message(cluster: Cluster, run: Callable[..., str]) -> None:
    """The named container ends as staged, variables of it filled in; the other ends well."""
    job = run(exit_code="3", message='{"execution": "$(EXECUTION)"}', container="main")
    pod = wait_pod(cluster, job, "Failed")
    ended = terminated(pod)
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", '{"execution": "abc-1"}')
    assert terminated(pod, "side")["exitCode"] == 0
    assert wait_job(cluster, job, "Failed")["failed"] == 1


def test_staged_oom(cluster: Cluster, run: Callable[..., str]) -> None:
    """An OOM kill has the kernel's exit code without being told."""
    ended = terminated(wait_pod(cluster, run(reason="OOMKilled"), "Failed"))
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_jobs_own_payload_says_how_it_ends(cluster: Cluster, run: Callable[..., str]) -> None:
    """Settings in a variable win over annotations; escaped dollars are read as a kubelet reads them."""
    job = run(payload='{"exit-code": 64, "message": "costs $$5", "run-ms": 10}', from_env="PAYLOAD", exit_code="1")
    ended = terminated(wait_pod(cluster, job, "Failed"))
    assert (ended["exitCode"], ended["message"]) == (64, "costs $5")


def test_a_payload_that_is_no_object_changes_nothing(cluster: Cluster, run: Callable[..., str]) -> None:
    """Whatever a producer sends, the simulation goes on."""
    assert terminated(wait_pod(cluster, run(payload="[1, 2", from_env="PAYLOAD"), "Succeeded"))["exitCode"] == 0


def test_a_staged_image_failure_keeps_the_pod_pending(cluster: Cluster, run: Callable[..., str]) -> None:
    """The pod waits with the kubelet's reason until it is deleted."""
    job = run(waiting="ErrImagePull", message="no such image")
    wait_for("the kubelet's words", lambda: "startTime" in ((pod_of(cluster, job) or {}).get("status") or {}), LIMIT)
    pod = wait_pod(cluster, job, "Pending")
    states = {status["name"]: status["state"] for status in pod["status"]["containerStatuses"]}
    assert states["main"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}


def test_a_pod_evicted_by_its_node_says_so(cluster: Cluster, run: Callable[..., str]) -> None:
    """Pod reason and disruption condition are staged as the kubelet writes them, and fail the Job by its policy."""
    job = run(pod_reason="Evicted", pod_message="low on memory", disruption="TerminationByKubelet", exit_code="137")
    pod = wait_pod(cluster, job, "Failed")
    assert (pod["status"]["reason"], pod["status"]["message"]) == ("Evicted", "low on memory")
    conditions = {condition["type"]: condition for condition in pod["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["reason"] == "TerminationByKubelet"
    assert "PodScheduled" in conditions
    assert wait_job(cluster, job, "Failed")["conditions"][-1]["reason"] == "PodFailurePolicy"


def test_eviction_ends_a_held_pod(cluster: Cluster, run: Callable[..., str]) -> None:
    """The Eviction API marks and deletes the pod; it ends by SIGTERM and the Job's policy sees the disruption."""
    job = run(hold="true")
    pod = wait_pod(cluster, job, "Running")["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/default/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    assert wait_job(cluster, job, "Failed")["conditions"][-1]["reason"] == "PodFailurePolicy"
    wait_for("the pod to go", lambda: pod_of(cluster, job) is None, LIMIT)


def test_a_deleted_pod_that_traps_sigterm_succeeds(cluster: Cluster, run: Callable[..., str]) -> None:
    """A program that ends with 0 after SIGTERM makes its Job complete, as on a real node."""
    job = run(hold="true", term_exit_code="0", term_ms="100")
    wait_pod(cluster, job, "Running")
    cluster.kubectl("delete", "pod", "-l", f"job-name={job}", "--wait=false")
    assert wait_job(cluster, job, "Complete")["succeeded"] == 1


def test_service_accounts_and_rbac_work(cluster: Cluster) -> None:
    """A token of a new account is known and may do nothing; a role lets it."""
    cluster.kubectl("create", "serviceaccount", "visitor")
    ask = ("auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:visitor")
    assert cluster.kubectl(*ask, check=False).strip() == "no"
    token = cluster.kubectl("create", "token", "visitor").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
    assert json.loads(answer)["status"]["user"]["username"] == "system:serviceaccount:default:visitor"
    cluster.kubectl("create", "rolebinding", "visitor", "--clusterrole=view", "--serviceaccount=default:visitor")
    wait_for("the role to count", lambda: cluster.kubectl(*ask, check=False).strip() == "yes", LIMIT)


def test_the_aggregation_layer_is_set_up(cluster: Cluster) -> None:
    """An aggregated API server finds whom to trust and which headers to read."""
    path = ("get", "configmap", "extension-apiserver-authentication", "-n", "kube-system", "-o", "jsonpath={.data}")
    data = json.loads(cluster.kubectl(*path))
    assert json.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
    assert data["requestheader-client-ca-file"].startswith("-----BEGIN CERTIFICATE-----")


def test_the_api_server_and_etcd_restart_with_their_data(cluster: Cluster) -> None:
    """After a restart, and after a SIGKILL of etcd, what was there is there, on the same port."""
    cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    before = cluster.pid("kube-apiserver")
    cluster.restart("kube-apiserver")
    assert cluster.pid("kube-apiserver") not in {None, before}
    assert cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    cluster.kill("etcd")
    assert cluster.pid("etcd") is None
    cluster.start("etcd")
    assert cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    assert cluster.healthy()


def test_a_running_cluster_is_left_alone(cluster: Cluster) -> None:
    """`up` of what runs as asked changes nothing."""
    pids = [cluster.pid(name) for name in cluster.components()]
    assert up(cluster.spec) == cluster
    assert [cluster.pid(name) for name in cluster.components()] == pids


def test_an_unknown_component_is_refused(cluster: Cluster) -> None:
    """The message has the names there are."""
    with pytest.raises(ClusterError, match="no component kubelet; this cluster has etcd"):
        cluster.restart("kubelet")


def test_a_wrong_flag_ends_the_start_with_its_programs_words(tmp_path: Path) -> None:
    """A start that fails says why, and leaves neither a process nor a folder but the logs."""
    spec = ClusterSpec(name="bad", state=tmp_path / "s", apiserver_flags=("--no-such-flag=1",))
    with pytest.raises(ComponentError, match="unknown flag: --no-such-flag"):
        up(spec)
    assert not spec.folder.exists()
    assert leftovers.processes_of(spec.folder) == []
    assert "no-such-flag" in (tmp_path / "s-failed" / "kube-apiserver.log").read_text()


def test_clusters_side_by_side_and_nothing_left(tmp_path: Path) -> None:
    """Two clusters come up at once; after a kill of all parts one comes up anew; down leaves nothing of either."""
    specs = [ClusterSpec(name=name, node_count=1, state=tmp_path / name) for name in ("one", "two")]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(up, specs)
    assert first.layout.server != second.layout.server
    for name in first.processes.recorded():
        os.kill(first.processes.pid(name) or 0, 9)
    assert not first.healthy()
    again = up(specs[0])
    assert again.healthy()
    assert second.healthy()
    ports = [port for each in (again, second) for port in (each.layout.etcd, each.layout.apiserver)]
    assert all(listens(port) for port in ports)
    assert [down(spec.name, spec.state) for spec in specs] == [True, True]
    assert not down("one", tmp_path / "one")
    assert find(tmp_path / "one") is None
    assert not any(listens(port) for port in ports)
    assert [leftovers.processes_of(spec.folder) for spec in specs] == [[], []]
    assert list(tmp_path.iterdir()) == []


def listens(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
