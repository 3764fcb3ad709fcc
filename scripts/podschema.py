"""The schema of a pod template for a CustomResourceDefinition, from the schemas Kubernetes publishes."""

# ruff: noqa: INP001 - imported by scripts/generate.py, run from the checkout

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

KUBERNETES = "1.36.0"
"""The release whose pod fields a HeavyQueue's template may use (docs/decisions/0010)."""
_POD_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

Schema = dict[str, Any]


def pod_template() -> Schema:
    """Return a structural schema of a PodTemplateSpec: no descriptions, labels and annotations as its only metadata."""
    schema = _convert(_definitions()[_POD_TEMPLATE])
    pod = schema["properties"]["spec"]
    pod["properties"]["restartPolicy"] = {"type": "string", "enum": ["Never"]}
    del pod["properties"]["activeDeadlineSeconds"]
    schema["required"] = ["spec"]
    return schema


@cache
def _definitions() -> Mapping[str, Any]:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local"
    definitions: Mapping[str, Any] = json.loads((folder / "_definitions.json").read_text("utf-8"))["$defs"]
    return definitions


def _convert(node: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name == _METADATA:
            strings = {"type": "object", "additionalProperties": {"type": "string"}}
            return {"type": "object", "properties": {"annotations": strings, "labels": strings}}
        return _convert(_definitions()[name])
    if "oneOf" in node:  # IntOrString and Quantity
        return {"x-kubernetes-int-or-string": True}
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    schema: Schema = {"type": next(kind for kind in kinds if kind != "null")}
    if "properties" in node:
        schema["properties"] = {name: _convert(sub) for name, sub in sorted(node["properties"].items())}
        if node.get("required"):
            schema["required"] = list(node["required"])
    elif "additionalProperties" in node:
        schema["additionalProperties"] = _convert(node["additionalProperties"])
    if "items" in node:
        schema["items"] = _convert(node["items"])
    return schema
