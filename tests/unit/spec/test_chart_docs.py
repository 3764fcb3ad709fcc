"""The chart's documentation is derived from its values, and its schema knows exactly these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from scripts import chartdocs

CHART = Path(__file__).parents[3] / "charts" / "heavylift"
Json = dict[str, Any]


def leaves(value: object, path: str = "") -> Iterator[str]:
    """Yield the path of everything below a mapping that is no non-empty mapping."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from leaves(below, f"{path}.{name}".lstrip("."))
    else:
        yield path


def known(schema: Json, root: Json, path: str = "") -> Iterator[str]:
    """Yield the path of every value the schema names."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    if "properties" in schema:
        for name, below in schema["properties"].items():
            yield from known(below, root, f"{path}.{name}".lstrip("."))
    else:
        yield path


def test_every_value_is_documented() -> None:
    """Each default in values.yaml is covered by a comment of its own or of the value it is part of."""
    documented = {path for path, _, _ in chartdocs.values()}
    for leaf in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        assert any(leaf == path or leaf.startswith(f"{path}.") for path in documented), leaf


def test_the_schema_names_the_documented_values_and_no_others() -> None:
    """values.yaml and values.schema.json cannot drift apart."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    named = {path for path in known(schema, schema) if not path.startswith("global.")}
    assert named == {path for path, _, _ in chartdocs.values()}
