"""What the API server, kubectl and the HPA read: discovery documents and value lists; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from heavylift_operator.metrics_api.samples import METRICS, Item

Json = dict[str, Any]

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
API_SERVICE: Final = f"{VERSION}.{GROUP}"
KIND: Final = "ExternalMetricValueList"
JSON_TYPE: Final = "application/json"
DISCOVERY_TYPE: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_DISCOVERY_PARAMETERS: Final = {"g": "apidiscovery.k8s.io", "v": "v2", "as": "APIGroupDiscoveryList"}
_VERBS: Final = ("get",)


def group() -> Json:
    """Return the ``APIGroup``."""
    version = {"groupVersion": API_VERSION, "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def groups() -> Json:
    """Return the ``APIGroupList``: what ``/apis`` answers to whoever does not ask for the document below."""
    bare = {key: value for key, value in group().items() if key not in {"kind", "apiVersion"}}
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [bare]}


def resources() -> Json:
    """Return the ``APIResourceList``: one resource per metric, by its real name."""
    found = [
        {"name": name, "singularName": name, "namespaced": True, "kind": KIND, "verbs": list(_VERBS)}
        for name in METRICS
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": found}


def discovery() -> Json:
    """Return the ``APIGroupDiscoveryList`` (``apidiscovery.k8s.io/v2``): groups and resources in one document."""
    found = [
        {
            "resource": name,
            "responseKind": {"group": GROUP, "version": VERSION, "kind": KIND},
            "scope": "Namespaced",
            "singularResource": name,
            "verbs": list(_VERBS),
        }
        for name in METRICS
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": GROUP, "creationTimestamp": None},
                "versions": [{"version": VERSION, "resources": found, "freshness": "Current"}],
            }
        ],
    }


def wants_discovery(accept: str) -> bool:
    """Return whether an ``Accept`` header asks for ``discovery()`` before plain JSON.

    Anything else, protobuf alone too, is answered by plain JSON: an error would end a client that can read it.
    """
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in parameters)
        given = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if kind.lower() != JSON_TYPE:
            continue
        if _DISCOVERY_PARAMETERS.items() <= given.items():
            return True
        if "as" not in given:
            return False
    return False


def values(items: Iterable[Item]) -> Json:
    """Return the ``ExternalMetricValueList``; the HPA adds its items up."""
    return {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {},
        "items": [
            {
                "metricName": item.metric,
                "metricLabels": dict(item.labels),
                "timestamp": item.timestamp,
                "value": str(item.value),
            }
            for item in items
        ],
    }


def encode(document: Json) -> bytes:
    """Return a document's bytes, the same for the same document."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def etag(body: bytes) -> str:
    """Return a strong entity tag, quotes included."""
    return f'"{hashlib.sha256(body).hexdigest().upper()}"'


def unchanged(if_none_match: str, tag: str) -> bool:
    """Return whether an ``If-None-Match`` header names this entity tag."""
    named = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return tag in named or "*" in named
