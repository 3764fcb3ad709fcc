"""Who an object of ours is: what every kind's metadata says, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.contract import names
from heavylift.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an object's metadata says."""

    subject: str
    """Kind, namespace and name, for messages."""
    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    """metadata.creationTimestamp (RFC 3339, UTC; sorts as text) or empty."""

    @classmethod
    def of(cls, obj: Mapping[str, Any], kind: str) -> Identity:
        """Return who an object (as the API server or a YAML file gives it) is.

        Raises:
            InvalidInputError: it is of another kind, or has no name.
        """
        metadata = obj.get("metadata")
        meta: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
        name, namespace = str(meta.get("name") or ""), str(meta.get("namespace") or "default")
        subject = f"{kind} {namespace}/{name or '(no name)'}"
        if (obj.get("apiVersion"), obj.get("kind")) != (names.API_VERSION, kind):
            raise InvalidInputError(f"not a {kind}: write apiVersion: {names.API_VERSION} and kind: {kind}")
        if not name:
            raise InvalidInputError(f"{subject}: metadata.name is missing")
        generation = meta.get("generation")
        return cls(
            subject=subject,
            name=name,
            namespace=namespace,
            uid=str(meta.get("uid") or ""),
            generation=generation if isinstance(generation, int) else 1,
            created=str(meta.get("creationTimestamp") or ""),
        )
