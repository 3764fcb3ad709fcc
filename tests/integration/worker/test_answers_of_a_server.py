"""The answer table against a real API server: what it says in each case, and what becomes of the job."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from heavylift.contract import ids
from heavylift.runtime.kube import KubeApi
from heavylift.runtime.service import SystemClock
from heavylift.spec.render import render
from heavylift.store import ops
from heavylift_worker.answers import Answer, Kind
from heavylift_worker.create import Creator, Pace
from tests.integration.worker.stand import Stand, log_events
from tests.proofs.kube import Kube, batch, core
from tests.proofs.waiting import until
from tests.unit.worker.rendering import make_claim, make_payload

Json = dict[str, Any]
INCARNATION = "abcdefghijklmnop"
QUICK_BREAKER = {"BREAKER_FAILURES": "1", "BREAKER_PAUSE": "500ms", "CREATE_PATIENCE": "400ms"}


def test_lost_answer_adopts_its_own_job(stand: Stand) -> None:
    """A create whose answer is lost is met again by the next try: one Job, recorded."""
    stand.queue()
    stand.dispatcher(FAILPOINT="kube.create.reply:drop-reply").wait_ready()

    stand.enqueue("j1")
    stand.wait_recorded("j1")

    stand.checks_out({"j1": ""})


@pytest.mark.parametrize("deleting", [False, True])
def test_redis_rolled_back_meets_the_old_job(stand: Stand, deleting: bool) -> None:
    """After Redis lost everything, the same job meets its Job of before, even one being deleted, and records it."""
    stand.queue()
    stand.dispatcher(POLL="100ms").wait_ready()
    stand.enqueue("j1", incarnation=INCARNATION)
    (before,) = stand.wait_recorded("j1")
    if deleting:  # our finalizer holds it
        stand.kube.delete(batch(stand.name, before.job_name))

    with stand.server.client() as client:
        client.flushall()
    stand.queue()
    stand.enqueue("j1", incarnation=INCARNATION)
    (after,) = stand.wait_recorded("j1")

    assert (after.job_uid, after.execution) == (before.job_uid, before.execution)
    assert len(stand.jobs()) == 1


def test_name_taken_touches_nothing(stand: Stand) -> None:
    """A Job of our name that is not ours stays as it is; the job fails as rejected and says why."""
    stand.queue()
    name = ids.job_name(stand.install, stand.name, "j1", INCARNATION, 1)
    theirs = stand.kube.create(batch(stand.name), _foreign_job(name))
    stand.dispatcher().wait_ready()

    stand.enqueue("j1", incarnation=INCARNATION)
    record = stand.wait_state("j1", "failed")

    assert record.outcome["class"] == "rejected"
    assert name in record.outcome["message"]
    now = stand.kube.get(batch(stand.name, name))
    assert now is not None
    assert (now["metadata"]["uid"], now["spec"]) == (theirs["metadata"]["uid"], theirs["spec"])


def _foreign_job(name: str) -> Json:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.invalid/x:1"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def test_quota_hands_back_and_recovers(stand: Stand) -> None:
    """Over quota the job goes back to the front, no attempt spent, with a note; with room it runs under the same id."""
    stand.queue()
    path = core(stand.name, "resourcequotas", "q")
    quota: Json = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    stand.kube.apply(path, {**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})
    until(lambda: "hard" in (stand.kube.get(path) or {}).get("status", {}), "the quota to hold")
    stand.dispatcher(**QUICK_BREAKER).wait_ready()

    stand.enqueue("j1")
    (reason, *_) = stand.wait_released("j1")
    assert "exceeded quota" in reason
    until(lambda: "QuotaExceeded" in stand.store.run(ops.troubles(stand.name)), "a note")
    assert stand.jobs() == []

    stand.kube.apply(path, {**quota, "spec": {"hard": {"count/jobs.batch": "5"}}})
    (record,) = stand.wait_recorded("j1")

    assert (record.seq, record.attempts_made, record.history) == (1, 0, ())
    until(lambda: not stand.store.run(ops.troubles(stand.name)), "the note to be taken away")


def test_missing_rights_pause_the_queue_and_recover(stand: Stand, tmp_path: Any) -> None:
    """Without the right to create Jobs the backlog waits, the note says what to give, and giving it is enough."""
    stand.queue()
    account = _Account(stand.kube, stand.name)
    account.grant(
        "reader", [{"apiGroups": ["heavylift.dev"], "resources": ["heavyqueues"], "verbs": ["list", "watch"]}]
    )
    kubeconfig = tmp_path / "account.kubeconfig"
    kubeconfig.write_text(account.kubeconfig())
    dispatcher = stand.dispatcher(KUBECONFIG=str(kubeconfig), **QUICK_BREAKER).wait_ready()

    for name in ("j1", "j2", "j3"):
        stand.enqueue(name)
    until(lambda: "Forbidden" in stand.store.run(ops.troubles(stand.name)), "a note")
    note = stand.store.run(ops.troubles(stand.name))["Forbidden"]
    assert "create and get on jobs" in note["message"]

    account.grant("creator", [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]}])
    records = stand.wait_recorded("j1", "j2", "j3")

    assert [record.seq for record in records] == [1, 1, 1]
    assert "Traceback" not in dispatcher.log()


class _Account:
    """A service account and its rights."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        body: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "account"}}
        kube.apply(core(namespace, "serviceaccounts", "account"), body)

    def grant(self, name: str, rules: list[Json]) -> None:
        group = "rbac.authorization.k8s.io"
        api = f"/apis/{group}/v1/namespaces/{self._namespace}"
        role: Json = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}}
        subjects = [{"kind": "ServiceAccount", "name": "account", "namespace": self._namespace}]
        ref = {"apiGroup": group, "kind": "Role", "name": name}
        self._kube.apply(f"{api}/roles/{name}", {**role, "rules": rules})
        binding = {**role, "kind": "RoleBinding", "subjects": subjects, "roleRef": ref}
        self._kube.apply(f"{api}/rolebindings/{name}", binding)

    def kubeconfig(self) -> str:
        request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = core(self._namespace, "serviceaccounts", "account/token")
        token = self._kube.create(path, request)["status"]["token"]
        config = yaml.safe_load(self._kube.kubeconfig.read_text())
        config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
        return yaml.safe_dump(config)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"ports": [{"containerPort": 99_999}]}, "must be between 1 and 65535"),
        ({"volumeMounts": [{"name": "nowhere", "mountPath": "/x"}]}, 'Not found: "nowhere"'),
    ],
)
def test_template_the_server_refuses(stand: Stand, container: Json, words: str) -> None:
    """What the server finds wrong with the Job ends the job as invalid in the server's words."""
    stand.queue(container=container)
    stand.dispatcher().wait_ready()

    stand.enqueue("j1")
    record = stand.wait_state("j1", "failed")

    assert record.outcome["class"] == "invalid"
    assert words in record.outcome["message"]


def test_refused_jobs_in_a_row_leave_the_backlog_waiting(stand: Stand) -> None:
    """After spec.breaker's number of refused Jobs the rest waits; with the template mended it runs."""
    broken = {"ports": [{"containerPort": 99_999}]}
    stand.queue(container=broken, breaker={"consecutiveFailures": 2}, concurrency={"max": 1})
    dispatcher = stand.dispatcher(BREAKER_PAUSE="2s").wait_ready()
    names = [stand.enqueue(f"j{n}") for n in range(6)]

    until(lambda: "TemplateInvalid" in stand.store.run(ops.troubles(stand.name)), "a note")
    failed = [name for name in names if stand.record(name).state.value == "failed"]
    assert failed == names[:2]

    stand.queue(breaker={"consecutiveFailures": 2}, concurrency={"max": 10})
    until(lambda: sum(1 for name in names if stand.record(name).job_uid) >= 3, "the backlog to run")
    assert dispatcher.metric("heavylift_job_creates_total", answer="invalid") <= 3


def test_admission_policy_rejects(stand: Stand) -> None:
    """A ValidatingAdmissionPolicy's denial ends the job as rejected in its words."""
    stand.queue()
    api = "/apis/admissionregistration.k8s.io/v1"
    group: Json = {"apiVersion": "admissionregistration.k8s.io/v1"}
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": rules,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stand.name}},
        },
        "validations": [{"expression": "false", "message": "no Jobs on Sundays"}],
    }
    meta = {"metadata": {"name": stand.name}}
    stand.kube.apply(
        f"{api}/validatingadmissionpolicies/{stand.name}",
        {**group, **meta, "kind": "ValidatingAdmissionPolicy", "spec": policy},
    )
    stand.kube.apply(
        f"{api}/validatingadmissionpolicybindings/{stand.name}",
        {
            **group,
            **meta,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": stand.name, "validationActions": ["Deny"]},
        },
    )
    try:
        until(lambda: _denied(stand), "the policy to hold")
        stand.dispatcher().wait_ready()
        stand.enqueue("j1")
        record = stand.wait_state("j1", "failed")
    finally:
        stand.kube.delete(f"{api}/validatingadmissionpolicybindings/{stand.name}")
        stand.kube.delete(f"{api}/validatingadmissionpolicies/{stand.name}")

    assert record.outcome["class"] == "rejected"
    assert "no Jobs on Sundays" in record.outcome["message"]


def _denied(stand: Stand) -> bool:
    status, _ = stand.kube.request("POST", f"{batch(stand.name)}?dryRun=All", _foreign_job("try"))
    return status == 422


async def test_namespaces_that_take_nothing(stand: Stand) -> None:
    """A namespace being deleted and one that does not exist answer so that the job is handed back, never failed."""
    stand.kube.apply(
        core(stand.name, "configmaps", "holds"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "holds", "finalizers": ["example.com/hold"]}},
    )
    manifest = render(make_claim(), stand.queue(), make_payload(), stand.install)
    stand.kube.delete(f"/api/v1/namespaces/{stand.name}")

    terminating = await _created(stand, manifest)
    elsewhere = copy.deepcopy(manifest)
    elsewhere["metadata"]["namespace"] = "there-is-none"
    missing = await _created(stand, elsewhere)
    stand.kube.request(
        "PATCH",
        core(stand.name, "configmaps", "holds"),
        {"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )

    assert (terminating.kind, missing.kind) == (Kind.NAMESPACE, Kind.NAMESPACE)
    assert "being terminated" in terminating.message
    assert "not found" in missing.message


async def _created(stand: Stand, manifest: Json) -> Answer:
    api = await KubeApi.connect(kubeconfig=str(stand.kube.kubeconfig))
    clock = SystemClock()

    async def pause(seconds: float) -> bool:
        await clock.sleep(seconds)
        return True

    try:
        creator = Creator(api=api, clock=clock, pace=Pace(100, clock), pause=pause)
        return await creator.create(manifest, "e-1", patience_s=0.0)
    finally:
        await api.aclose()


def test_creates_are_logged_without_secrets(stand: Stand) -> None:
    """The log names job and Job, never the data."""
    stand.queue()
    dispatcher = stand.dispatcher().wait_ready()

    stand.enqueue("j1", {"secret": "s3cret-value"})
    (record,) = stand.wait_recorded("j1")
    until(lambda: any(line["event"] == "created" for line in log_events(dispatcher)), "a log line")

    (line,) = [line for line in log_events(dispatcher) if line["event"] == "created"]
    assert (line["job"], line["name"]) == ("j1", record.job_name)
    assert "s3cret-value" not in dispatcher.log()
