"""The life of simulated pods, as kwok's stages: our own for pods, kwok's for nodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.paths import PACKAGE

FOLDER = PACKAGE / "lifecycle"
NODE_STAGES = ("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml")
"""Files of kwok's own module that make nodes Ready and keep them so."""

ANNOTATION = "heavylift-test/"
"""Prefix of the annotations by which a test says how a pod ends."""


def pod_stages() -> list[dict[str, Any]]:
    """Return our stages for pods, as kwok's resources."""
    jq, template, end = ((FOLDER / name).read_text() for name in ("settings.jq", "settings.tpl", "end.tpl"))
    return [_stage(raw, jq, template, end) for raw in yaml.safe_load((FOLDER / "pods.yaml").read_text())]


def _stage(raw: dict[str, Any], jq: str, template: str, end: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchExpressions": _selector(raw["when"], jq)},
    }
    if "delay" in raw:
        spec["delay"] = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": f"{jq}{raw['delay']}"}}
    if raw.get("delete"):
        spec["next"] = {"delete": True}
    else:
        status = template + re.sub(r"^END$", lambda _: end, raw["status"], flags=re.MULTILINE)
        patch = {"subresource": "status", "root": "status", "type": "strategic", "template": status}
        spec["next"] = {"patches": [patch]}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": raw["name"]}, "spec": spec}


def _selector(when: dict[str, Any], jq: str) -> list[dict[str, Any]]:
    deletion = "Exists" if when["deleted"] else "DoesNotExist"
    found: list[dict[str, Any]] = [
        {"key": ".metadata.deletionTimestamp", "operator": deletion},
        {"key": ".status.phase", "operator": "In", "values": when["phases"]},
    ]
    if when.get("fresh"):
        found.append({"key": ".status.startTime", "operator": "DoesNotExist"})
    if "jq" in when:
        found.append({"key": f"{jq}{when['jq']}", "operator": "In", "values": ["true"]})
    return found


def kwok_config(kwok_stages: Path) -> str:
    """Return kwok's configuration file: node stages from ``kwok_stages``, then ours for pods."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
            "kind": "KwokConfiguration",
            "options": {
                "manageAllNodes": False,
                "manageNodesWithAnnotationSelector": "kwok.x-k8s.io/node=fake",
                "cidr": "10.244.0.1/16",
                "nodeIP": "192.0.2.2",
                "nodeLeaseDurationSeconds": 40,
                "nodeLeaseParallelism": 4,
                "nodePlayStageParallelism": 4,
                "podPlayStageParallelism": 16,
                "podsOnNodeSyncParallelism": 16,
            },
        }
    ]
    documents += [yaml.safe_load((kwok_stages / name).read_text()) for name in NODE_STAGES]
    return yaml.safe_dump_all([*documents, *pod_stages()], sort_keys=False)


def node(name: str) -> dict[str, Any]:
    """Return a simulated node."""
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/role": "agent",
        "type": "kwok",
    }
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
