"""A release as its notes describe it: in one namespace, under the restricted standard, and gone without a trace."""

from __future__ import annotations

import re

import pytest
import yaml

from heavylift.client import Client
from tests.e2e.conftest import JOB_IMAGE, TRIAL, Target, wait_serving
from tests.proofs.helm import Release
from tests.proofs.kube import Json, core
from tests.proofs.waiting import until

NAMESPACE = TRIAL
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/heavyqueues.heavylift.dev"
REDIS_CLI = "REDISCLI_AUTH=$(cat /etc/heavylift/redis/password) redis-cli"


def redis_cli(release: Release, *words: str) -> str:
    """Run redis-cli in the embedded Redis' pod."""
    line = f"{REDIS_CLI} {' '.join(words)}"
    return release.tools.kubectl("-n", NAMESPACE, "exec", f"{NAMESPACE}-redis-0", "--", "sh", "-c", line).strip()


def ready_redis(release: Release) -> bool:
    """Return whether the embedded Redis' pod is Ready, and not one that is going."""
    named = [pod for pod in release.pods() if pod["metadata"]["name"] == f"{NAMESPACE}-redis-0"]
    found = [pod for pod in named if "deletionTimestamp" not in pod["metadata"]]
    conditions = found[0]["status"].get("conditions", []) if found else []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def test_the_notes_lead_to_a_first_result(target: Target, trial: Release) -> None:
    """The queue printed after the install is served, and its job gives back what was enqueued."""
    notes = target.tools.run("helm", "get", "notes", NAMESPACE, "--namespace", NAMESPACE)
    (shown,) = re.findall(r"<<'END'\n(.*?)\n +END\n", notes, re.DOTALL)
    queue = yaml.safe_load(shown)
    queue["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = JOB_IMAGE
    target.tools.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=yaml.safe_dump(queue))
    wait_serving(target.kube, NAMESPACE, ["hello"])
    with (
        target.tools.forwarded(NAMESPACE, f"svc/{NAMESPACE}-redis", 6379) as port,
        Client(f"redis://:{trial.password()}@127.0.0.1:{port}/0") as client,
    ):
        assert client.queue("hello").enqueue("greet", {"name": "world"}).wait(timeout="60s") == {"name": "world"}


def test_an_upgrade_keeps_the_password_and_meets_the_restricted_standard(target: Target, trial: Release) -> None:
    """Under enforcement all pods are admitted anew and become ready, and processes still reach Redis."""
    password = trial.password()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    target.kube.merge(f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": labels}})
    before = {pod["metadata"]["uid"] for pod in trial.pods()}
    anew: Json = {"anew": "1"}
    trial.upgrade(dispatcher__podAnnotations=anew, operator__podAnnotations=anew, redis__embedded__podAnnotations=anew)
    until(lambda: not before & {pod["metadata"]["uid"] for pod in trial.pods()}, "all pods to be new", limit=90)
    assert trial.password() == password


def test_the_queue_outlives_its_redis_pod(target: Target, trial: Release) -> None:
    """What was written is there after the embedded Redis' pod was deleted."""
    assert redis_cli(trial, "set", "probe", "kept") == "OK"
    target.kube.delete(core(NAMESPACE, "pods", f"{NAMESPACE}-redis-0"))
    until(lambda: ready_redis(trial) and redis_cli(trial, "ping") == "PONG", "a new Redis", limit=90)
    assert redis_cli(trial, "get", "probe") == "kept"


@pytest.mark.timeout(400)
def test_an_uninstall_leaves_the_queue_its_volume_and_nothing_else(target: Target, trial: Release) -> None:
    """CRDs and the volume claim stay; no rights, accounts or hook are left; the namespace can be deleted."""
    trial.uninstall()
    assert target.kube.get(CRD) is not None
    kinds = "deployments,statefulsets,jobs,services,secrets,serviceaccounts,roles,rolebindings,pods,pdb,hpa"
    mine = target.tools.kubectl(
        "-n", NAMESPACE, "get", kinds, "-l", "app.kubernetes.io/part-of=heavylift", "-o", "name"
    )
    assert mine.split() == []
    everywhere = "apiservices,clusterroles,clusterrolebindings"
    cluster = target.tools.kubectl("get", everywhere, "-l", f"app.kubernetes.io/instance={NAMESPACE}", "-o", "name")
    assert cluster.split() == []
    claims, _ = target.kube.items(core(NAMESPACE, "persistentvolumeclaims"))
    assert [claim["metadata"]["name"] for claim in claims] == [f"data-{NAMESPACE}-redis-0"]
    target.kube.delete(f"/api/v1/namespaces/{NAMESPACE}")
    until(lambda: target.kube.get(f"/api/v1/namespaces/{NAMESPACE}") is None, "the namespace to be gone", limit=120)
