"""Discovery documents, value lists and Status bodies, as their readers decode them."""

from __future__ import annotations

import json

import pytest

from heavylift_operator.metrics_api import documents
from heavylift_operator.metrics_api.samples import METRICS, Item
from heavylift_operator.metrics_api.status import status

AGGREGATOR = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (AGGREGATOR, True),
        ("application/json; as=APIGroupDiscoveryList ; v=v2; g=apidiscovery.k8s.io; q=0.9", True),
        ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", False),
        ("application/json", False),
        ("application/json," + AGGREGATOR, False),
        ("application/vnd.kubernetes.protobuf, */*", False),
        ("application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_document_of_both_is_for_those_who_ask_for_it(accept: str, wanted: bool) -> None:
    """Version 2 as JSON, named before plain JSON; every other header gets the old lists."""
    assert documents.wants_discovery(accept) is wanted


def test_all_discovery_documents_name_the_same_metrics() -> None:
    """Both forms list each metric by its real name, namespaced, readable."""
    listed = documents.resources()["resources"]
    (group,) = documents.discovery()["items"]
    (version,) = group["versions"]
    assert [one["name"] for one in listed] == [one["resource"] for one in version["resources"]] == list(METRICS)
    assert {one["namespaced"] for one in listed} == {True}
    assert {tuple(one["verbs"]) for one in [*listed, *version["resources"]]} == {("get",)}
    assert group["metadata"]["name"] == documents.group()["name"] == documents.groups()["groups"][0]["name"]
    assert documents.group()["preferredVersion"]["groupVersion"] == documents.resources()["groupVersion"]


def test_values_are_texts_and_labels_are_never_null() -> None:
    """The Kubernetes type has a quantity as text, labels as an object and a time with its zone."""
    listed = documents.values([Item("heavylift_queue_demand", {}, "2026-11-22T10:00:00Z", 12)])
    assert listed["kind"] == "ExternalMetricValueList"
    assert listed["items"] == [
        {
            "metricName": "heavylift_queue_demand",
            "metricLabels": {},
            "timestamp": "2026-11-22T10:00:00Z",
            "value": "12",
        }
    ]


def test_an_entity_tag_changes_with_the_document_alone() -> None:
    """The same document has the same tag; If-None-Match may hold several, weak ones and a star."""
    body = documents.encode(documents.discovery())
    tag = documents.etag(body)
    assert tag == documents.etag(documents.encode(documents.discovery())) != documents.etag(body + b" ")
    assert json.loads(body) == documents.discovery()
    for header in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        assert documents.unchanged(header, tag)
    for header in ("", '"other"', tag.strip('"')):
        assert not documents.unchanged(header, tag)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (503, "ServiceUnavailable"),
        (418, ""),
    ],
)
def test_a_failure_is_a_status_kubernetes_knows(code: int, reason: str) -> None:
    """Code, reason and message stand where client-go looks; a message is cut to a thousand characters."""
    body = status(code, "x" * 2_000)
    assert (body["kind"], body["apiVersion"], body["status"]) == ("Status", "v1", "Failure")
    assert (body["code"], body["reason"], len(body["message"])) == (code, reason, 1_000)
