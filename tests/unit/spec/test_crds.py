"""The CustomResourceDefinitions: derived, small, and at one with the models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.contract.outcomes import CONFIGURABLE
from heavylift.spec import HeavyQueue, crds, structural
from heavylift.spec.settings import settings

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "manifests/crds/heavyqueues.yaml"


@pytest.fixture(scope="module")
def crd() -> dict[str, Any]:
    """Give the committed CRD."""
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return loaded


def schema_of(crd: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the only version."""
    (version,) = crd["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below and including one, with its path."""
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from nodes(sub, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """Return a value as the API server stores it: defaults filled in where their parent is present."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, sub in schema.get("properties", {}).items():
            if name not in filled and "default" in sub:
                filled[name] = sub["default"]
            if name in filled:
                filled[name] = with_defaults(filled[name], sub)
        return filled
    return value


def test_generated_files_are_up_to_date() -> None:
    """scripts/generate.py --check finds nothing to write."""
    done = subprocess.run(
        [sys.executable, "scripts/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_crds_fit_plain_kubectl_apply() -> None:
    """Each CRD stays below the size kubectl can keep in its annotation."""
    for file in FILE.parent.glob("*.yaml"):
        assert len(file.read_bytes()) < crds.SIZE_MAX, file


def test_the_schema_is_structural(crd: dict[str, Any]) -> None:
    """Every node has a type or says why not; nothing a structural schema forbids is left over."""
    for path, node in nodes(schema_of(crd)):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert not node.keys() & {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title"}, path
        assert node.get("additionalProperties") is not False, path


def test_pod_fields_carry_no_descriptions_and_ours_do(crd: dict[str, Any]) -> None:
    """Kubernetes documents its own fields; kubectl explain has words for each of ours."""
    for path, node in nodes(schema_of(crd)["properties"]["spec"]):
        if path.startswith(".jobTemplate."):
            assert "description" not in node, path
        elif path and not path.endswith(("[]", ".action")):
            assert node.get("description"), path


def test_every_outcome_class_can_be_given_a_rule(crd: dict[str, Any]) -> None:
    """The schema names the classes the code knows, in the same order."""
    outcomes = schema_of(crd)["properties"]["spec"]["properties"]["outcomes"]["properties"]
    assert list(outcomes) == [cls.spec_key for cls in CONFIGURABLE]


def test_columns_are_the_documented_ones(crd: dict[str, Any]) -> None:
    """With kubectl, "get hq" shows the columns of the reference."""
    (version,) = crd["spec"]["versions"]
    names = [column["name"].upper() for column in version["additionalPrinterColumns"]]
    assert names == ["READY", "REASON", "PAUSED", "WAITING", "ACTIVE", "FAILED", "OLDEST", "AGE"]
    assert version["subresources"] == {"status": {}}


def test_the_servers_defaults_are_the_models_defaults(crd: dict[str, Any]) -> None:
    """A queue with every section present but empty means the same as one that leaves them out."""
    template = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}}}
    sections = {
        name: {"error": {"action": "Retry", "noRetry": {}}} if name == "outcomes" else {}
        for name in ("defaults", "timeouts", "payload", "result", "breaker", "allow", "outcomes", "concurrency")
    }
    sections["defaults"] = {"backoff": {}}
    sections["retention"] = {"completed": {}, "failed": {}, "pods": {}}
    base = {"apiVersion": "heavylift.dev/v1alpha1", "kind": "HeavyQueue", "metadata": {"name": "q"}}
    bare = {**base, "spec": {"jobTemplate": template}}
    stored = {
        **base,
        "spec": with_defaults({**sections, "jobTemplate": template}, schema_of(crd)["properties"]["spec"]),
    }
    assert stored["spec"]["timeouts"] == {"pending": "1h", "run": "24h"}
    assert settings(HeavyQueue.parse(stored)) == settings(HeavyQueue.parse(bare))


def test_without_a_pod_schema_the_template_is_left_open() -> None:
    """Tests that need no pod schema can build small CRDs."""
    crd, _ = crds.build()
    job = schema_of(crd)["properties"]["spec"]["properties"]["jobTemplate"]["properties"]["spec"]
    assert job["properties"]["template"] == structural.OPEN
