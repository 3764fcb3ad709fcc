"""What the chart renders: valid objects, least rights, the restricted standard, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.integration.chart.helm import CHART, Helm, HelmError, named, pods
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Kube

Json = dict[str, Any]
EXTERNAL: Json = {
    "redis": {
        "embedded": {"enabled": False},
        "external": {
            "host": "redis.example.com",
            "port": 6380,
            "db": 2,
            "username": "lift",
            "tls": {"enabled": True},
            "existingSecret": "redis-auth",
            "existingSecretKey": "pass.word",
        },
    }
}
VARIANTS: dict[str, Json] = {
    "defaults": {},
    "external": EXTERNAL,
    "watched": {"watchNamespaces": [{"name": "analytics"}, {"name": "lift"}]},
    "dressed": {
        "global": {"imageRegistry": "mirror.example.com"},
        "commonLabels": {"team": "bi"},
        "commonAnnotations": {"contact": "bi@example.com"},
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"digest": "sha256:" + "0" * 64},
        "dispatcher": {
            "replicaCount": 3,
            "extraEnv": [{"name": "HEAVYLIFT_POLL", "value": "0.5"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ],
        },
        "operator": {"replicaCount": 1, "serviceAccount": {"annotations": {"role": "x"}}},
        "redis": {"embedded": {"persistence": {"enabled": False}, "existingSecret": "mine", "podLabels": {"e": "f"}}},
    },
}


def env(pod: Json) -> dict[str, str]:
    """Return the variables of a pod's first container."""
    return {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_valid(helm: Helm, variant: str) -> None:
    """Each rendered object fits the schema Kubernetes publishes, with no unknown field."""
    for obj in helm.render(VARIANTS[variant]):
        kubernetes_validate.validate(obj, "1.36", strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_meets_the_restricted_standard(helm: Helm, variant: str) -> None:
    """Non-root, seccomp, no capabilities, no escalation, read-only root; allowed volumes only."""
    found = pods(helm.render(VARIANTS[variant]))
    assert found
    for name, pod in found.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == 65532, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
        kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
        assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}, name
        assert pod["enableServiceLinks"] is False, name


def rules(obj: Json) -> set[tuple[str, str, str, str]]:
    """Return a Role's rights as (group, resource, verb, name)."""
    return {
        (group, resource, verb, name)
        for rule in obj["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def rights(group: str, resource: str, verbs: str, name: str = "") -> set[tuple[str, str, str, str]]:
    """Return rights on one resource, verbs parted by spaces."""
    return {(group, resource, verb, name) for verb in verbs.split()}


DISPATCHER = rights("heavylift.dev", "heavyqueues", "get list watch") | rights("batch", "jobs", "create get")
OPERATOR = (
    rights("heavylift.dev", "heavyqueues", "get list watch")
    | rights("heavylift.dev", "heavyqueues/status", "patch")
    | rights("heavylift.dev", "heavyschedules", "get list watch")
    | rights("heavylift.dev", "heavyschedules/status", "patch")
    | rights("batch", "jobs", "get list watch patch delete")
    | rights("", "pods", "get list watch")
    | rights("", "events", "list")
)
CERTIFICATE = rights("", "secrets", "get update", "rel-metrics-api")
UNSTICK_JOBS = rights("batch", "jobs", "list patch")
UNSTICK_STOP = rights("apps", "deployments", "get patch", "rel-dispatcher")


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        (
            [],
            {
                ("lift", "rel-dispatcher"): DISPATCHER,
                ("lift", "rel-operator"): OPERATOR,
                ("lift", "rel-metrics-api"): CERTIFICATE,
                ("lift", "rel-unstick"): UNSTICK_JOBS | UNSTICK_STOP,
            },
        ),
        (
            [{"name": "analytics"}, {"name": "reports"}],
            {
                ("analytics", "rel-dispatcher"): DISPATCHER,
                ("analytics", "rel-operator"): OPERATOR,
                ("analytics", "rel-unstick"): UNSTICK_JOBS,
                ("reports", "rel-dispatcher"): DISPATCHER,
                ("reports", "rel-operator"): OPERATOR,
                ("reports", "rel-unstick"): UNSTICK_JOBS,
                ("lift", "rel-unstick"): UNSTICK_STOP,
                ("lift", "rel-metrics-api"): CERTIFICATE,
            },
        ),
    ],
)
def test_rights_are_exactly_these(
    helm: Helm, watched: list[Json], expected: dict[tuple[str, str], set[tuple[str, str, str, str]]]
) -> None:
    """Roles in the watched namespaces and nothing more; nobody holds both create and delete on Jobs."""
    objects = helm.render({"watchNamespaces": watched})
    found = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): rules(obj) for obj in objects if obj["kind"] == "Role"
    }
    assert found == expected
    for granted in found.values():
        assert not {("batch", "jobs", "create", ""), ("batch", "jobs", "delete", "")} <= granted


def test_each_role_is_bound_to_the_account_its_pods_run_as(helm: Helm) -> None:
    """Bindings in watched namespaces name the accounts of the release's namespace."""
    objects = helm.render({"watchNamespaces": [{"name": "analytics"}]})
    accounts = {
        name.split("/")[1]: pod["serviceAccountName"] for name, pod in pods(objects).items() if "redis" not in name
    }
    accounts["rel-metrics-api"] = "rel-operator"
    bindings = [
        obj for obj in objects if obj["kind"] == "RoleBinding" and obj["metadata"]["namespace"] != "kube-system"
    ]
    assert len(bindings) == 5
    for binding in bindings:
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": accounts[binding["roleRef"]["name"]], "namespace": "lift"}
        ]


def test_cluster_roles_only_extend_what_users_may_do(helm: Helm) -> None:
    """Without the metrics API the aggregated roles cover HeavyQueues alone, and can be turned off."""
    alone = {"autoscaling": {"enabled": False}}
    found = [obj for obj in helm.render(alone) if obj["kind"] == "ClusterRole"]
    assert [obj["metadata"]["name"] for obj in found] == ["lift:rel:heavyqueues-view", "lift:rel:heavyqueues-edit"]
    assert {group for obj in found for group, *_ in rules(obj)} == {"heavylift.dev"}
    assert not [obj for obj in helm.render(alone) if obj["kind"] == "ClusterRoleBinding"]
    assert not [
        obj for obj in helm.render({**alone, "rbac": {"aggregateRoles": False}}) if obj["kind"] == "ClusterRole"
    ]


def test_embedded_redis_keeps_everything_and_has_a_password(helm: Helm) -> None:
    """Append-only, no eviction, on a claim; the password is made up and reaches the processes as a file."""
    objects = helm.render()
    conf = named(objects, "ConfigMap", "rel-redis")["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(conf)
    (claim,) = named(objects, "StatefulSet", "rel-redis")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert len(named(objects, "Secret", "rel-redis")["data"]["password"]) > 40
    for component in ("dispatcher", "operator"):
        pod = pods(objects)[f"Deployment/rel-{component}"]
        variables = env(pod)
        assert variables["HEAVYLIFT_REDIS_URL"] == "redis://rel-redis.lift:6379/0"
        assert variables["HEAVYLIFT_REDIS_PASSWORD_FILE"] == "/etc/heavylift/redis/password"
        secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "redis-password")
        assert secret == {"secretName": "rel-redis", "items": [{"key": "password", "path": "password"}]}


def test_an_external_redis_replaces_the_embedded_one(helm: Helm) -> None:
    """No Redis of ours; URL, user and the key of the Secret are as given."""
    objects = helm.render(EXTERNAL)
    assert not [obj for obj in objects if "redis" in obj["metadata"]["name"]]
    pod = pods(objects)["Deployment/rel-operator"]
    variables = env(pod)
    assert variables["HEAVYLIFT_REDIS_URL"] == "rediss://redis.example.com:6380/2"
    assert variables["HEAVYLIFT_REDIS_USERNAME"] == "lift"
    secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "redis-password")
    assert secret == {"secretName": "redis-auth", "items": [{"key": "pass.word", "path": "password"}]}


def test_processes_know_their_installation(helm: Helm) -> None:
    """Install id and namespaces reach all three programs alike; the default id is namespace and release."""
    for values, install in (({}, "lift/rel"), ({"installId": "prod/eu"}, "prod/eu")):
        found = pods(helm.render({**values, "watchNamespaces": [{"name": "a"}, {"name": "b"}]}))
        for name in ("Deployment/rel-dispatcher", "Deployment/rel-operator", "Job/rel-unstick"):
            variables = env(found[name])
            assert (variables["HEAVYLIFT_INSTALL_ID"], variables["HEAVYLIFT_NAMESPACES"]) == (install, "a,b")
    assert env(found["Deployment/rel-dispatcher"])["HEAVYLIFT_SLOTS"] == "10"


def test_images_follow_the_registry(helm: Helm) -> None:
    """The registry goes in front of each image; a digest wins over the tag."""
    images = {name: pod["containers"][0]["image"] for name, pod in pods(helm.render(VARIANTS["dressed"])).items()}
    ours = "mirror.example.com/heavylift/heavylift@sha256:" + "0" * 64
    assert images == {
        "Deployment/rel-dispatcher": ours,
        "Deployment/rel-operator": ours,
        "Job/rel-unstick": ours,
        "StatefulSet/rel-redis": "mirror.example.com/valkey/valkey:9.1",
    }


def test_two_operators_have_a_disruption_budget_and_one_has_none(helm: Helm) -> None:
    """A budget over a single replica would block every drain."""
    assert named(helm.render(), "PodDisruptionBudget", "rel-operator")["spec"]["maxUnavailable"] == 1
    alone = helm.render({"operator": {"replicaCount": 1}})
    assert not [obj for obj in alone if obj["kind"] == "PodDisruptionBudget"]


def test_crds_are_kept_and_can_be_left_out(helm: Helm) -> None:
    """An uninstall keeps the CRDs and all HeavyQueues by default."""
    crd = named(helm.render({"crds": {}}), "CustomResourceDefinition", "heavyqueues.heavylift.dev")
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    plain = yaml.safe_load((CHART.parents[1] / "manifests/crds/heavyqueues.yaml").read_text())
    assert crd["spec"] == plain["spec"]
    dropped = named(helm.render({"crds": {"keep": False}}), "CustomResourceDefinition", "heavyqueues.heavylift.dev")
    assert "helm.sh/resource-policy" not in (dropped["metadata"].get("annotations") or {})
    assert not [obj for obj in helm.render({"crds": {"install": False}}) if obj["kind"] == "CustomResourceDefinition"]


def test_the_hook_comes_before_the_uninstall_and_leaves_nothing(helm: Helm) -> None:
    """Its rights exist only while it runs."""
    hooks = [obj for obj in helm.render() if obj["metadata"].get("annotations", {}).get("helm.sh/hook")]
    assert {obj["kind"] for obj in hooks} == {"ServiceAccount", "Role", "RoleBinding", "Job"}
    for obj in hooks:
        annotations = obj["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-delete"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert not [obj for obj in helm.render({"unstick": {"enabled": False}}) if "unstick" in obj["metadata"]["name"]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"autoscale": {"enabled": True}}, "additional properties 'autoscale' not allowed"),
        ({"dispatcher": {"slot": 3}}, "at '/dispatcher': additional properties 'slot' not allowed"),
        ({"dispatcher": {"slots": 0}}, "at '/dispatcher/slots'"),
        ({"redis": {"external": {"port": "x"}}}, "at '/redis/external/port': got string, want integer"),
        ({"watchNamespaces": ["analytics"]}, "at '/watchNamespaces/0': got string, want object"),
        ({"watchNamespaces": [{"name": "Not_Valid"}]}, "at '/watchNamespaces/0/name'"),
        ({"logLevel": "loud"}, "value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"installId": "a b"}, "at '/installId'"),
        ({"redis": {"external": {"host": "r"}}}, "set redis.embedded.enabled=false to use your own Redis"),
        ({"redis": {"embedded": {"enabled": False}}}, "no Redis: set redis.external.host"),
        ({"operator": {"serviceAccount": {"create": False}}}, "operator.serviceAccount.name is missing"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, values: Json, words: str) -> None:
    """The message names the value and what it may be."""
    with pytest.raises(HelmError) as caught:
        helm.render(values)
    assert words in str(caught.value)


def test_helm_lint_finds_nothing(helm: Helm) -> None:
    """Strict linting passes."""
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART))


@pytest.mark.parametrize("path", sorted(CHART.glob("templates/*.*")), ids=lambda path: path.name)
def test_templates_name_no_cluster_wide_grant(path: Path) -> None:
    """No wildcard in any rule."""
    assert "'*'" not in path.read_text()
    assert '"*"' not in path.read_text()


def test_the_plain_manifest_is_the_rendered_chart() -> None:
    """With helm at hand, scripts/generate.py --check compares manifests/install.yaml too."""
    done = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"],
        cwd=CHART.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_api_server_takes_the_plain_manifests(kube: Kube) -> None:
    """Every object of manifests/install.yaml passes the API server's own checks, unknown fields refused."""
    ensure_namespace(kube, "heavylift")
    text = (CHART.parents[1] / "manifests/install.yaml").read_text()
    objects = [doc for doc in yaml.safe_load_all(text) if doc]
    assert len(objects) > 10
    for obj in objects:
        kind, group = obj["kind"].lower(), obj["apiVersion"]  # every plural here is the kind and an s
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        where = f"/namespaces/{obj['metadata']['namespace']}" if "namespace" in obj["metadata"] else ""
        status, reply = kube.request("POST", f"{root}{where}/{kind}s?dryRun=All&fieldValidation=Strict", obj)
        assert status == 201, (obj["kind"], reply.get("message"))
