"""pydantic's JSON schemas as the structural ones a CustomResourceDefinition takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heavylift.contract import durations
from heavylift.spec.fields import DURATION_PATTERN, NOT_YET

Schema = dict[str, Any]
OPEN: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Return pydantic's JSON schema as a structural one: references inlined, no null, defaults at leaves only."""
    merged = _resolved(node, definitions)
    schema = {
        key: value
        for key, value in merged.items()
        if key not in {"title", "$defs", "properties", "items", "additionalProperties", "default", "const", NOT_YET}
    }
    if "const" in merged:
        schema["enum"] = [merged["const"]]
    if NOT_YET in merged and merged["type"] == "object":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    if "properties" in merged:
        schema["properties"] = {name: structural(sub, definitions) for name, sub in merged["properties"].items()}
        later = [name for name, sub in merged["properties"].items() if NOT_YET in _resolved(sub, definitions)]
        if later:
            schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *map(_not_yet, later)]
    if "items" in merged:
        schema["items"] = structural(merged["items"], definitions)
    extra = merged.get("additionalProperties")
    if isinstance(extra, Mapping):
        schema["additionalProperties"] = structural(extra, definitions)
    if merged.get("default") is not None and merged.get("type") != "object":
        schema["default"] = _default(merged)
    return schema


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    merged = dict(node)
    options = [option for option in merged.pop("anyOf", []) if option != {"type": "null"}]
    for option in options:
        merged |= {key: value for key, value in option.items() if key not in merged}
    reference = merged.pop("$ref", None)
    if reference:
        target = definitions[reference.rsplit("/", 1)[-1]]
        merged = {**target, **merged}
    return merged


def _default(schema: Schema) -> Any:
    """Return a leaf's default as a person writes it."""
    default = schema["default"]
    if schema.get("pattern") == DURATION_PATTERN:
        return durations.format_ms(default)
    if schema.get("x-kubernetes-int-or-string"):
        return f"{default // 1024}Ki"
    return default


def _not_yet(name: str) -> dict[str, str]:
    return {"rule": f"!has(self.{name})", "message": f"{name} is not supported yet: leave it out"}
