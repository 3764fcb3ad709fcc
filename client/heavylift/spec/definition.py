"""What every CustomResourceDefinition of ours is made of, around what its kind brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.contract import names
from heavylift.spec.structural import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a kind brings to its definition."""

    name: str
    """In CamelCase; plural and singular follow from it."""
    short: str
    """What people type for it."""
    description: str
    columns: Sequence[Schema]
    """What ``kubectl get`` shows."""
    rules: Sequence[Schema]
    """CEL over the whole object."""


def definition(kind: Kind, spec: Schema, status: Schema) -> Schema:
    """Return a kind's CustomResourceDefinition.

    Args:
        kind: what it brings.
        spec: structural schema of its spec.
        status: structural schema of its status.
    """
    singular = kind.name.lower()
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": list(kind.columns),
        "schema": {"openAPIV3Schema": _root(kind, spec, status)},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": f"{singular}s",
                "singular": singular,
                "shortNames": [kind.short],
                "categories": ["heavylift"],
            },
            "versions": [version],
        },
    }


def _root(kind: Kind, spec: Schema, status: Schema) -> Schema:
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": list(kind.rules),
    }
