"""What the doctor makes of the cluster's metrics API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from heavylift.cli.finding import Level
from heavylift.cli.installation import (
    KINDS,
    RIGHTS,
    Right,
    crd_findings,
    metrics_api_finding,
    queue_findings,
    rights_findings,
    skew_finding,
)

OURS = {"namespace": "heavylift", "name": "lift-metrics-api"}


def registered(service: dict[str, str] | None, status: str = "True", **words: str) -> dict[str, Any]:
    """Return an APIService."""
    condition = {"type": "Available", "status": status, **words}
    return {"spec": {"service": service}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (None, Level.OK, "is not registered"),
        (registered(OURS), Level.OK, "is served by heavylift/lift-metrics-api"),
        (
            registered(OURS, "False", reason="MissingEndpoints", message="no addresses"),
            Level.FAIL,
            "MissingEndpoints: no addresses: no namespace of the cluster can be deleted meanwhile",
        ),
        ({"spec": {"service": OURS}}, Level.FAIL, "is not available"),
        (registered({"namespace": "keda", "name": "keda-metrics-apiserver"}), Level.WARN, "belongs to keda/keda-"),
        (registered({"namespace": "other", "name": "lift-metrics-api"}), Level.WARN, "belongs to other/"),
        (registered(None), Level.WARN, "set autoscaling.provider"),
    ],
)
def test_the_metrics_api_is_ours_and_available_or_said_why_not(found: Any, level: Level, words: str) -> None:
    """Absent is fine, somebody else's is a warning, ours out of order is a failure."""
    finding = metrics_api_finding(found, "heavylift")
    assert finding.level is level
    assert words in finding.message


INSTALL = Path(__file__).resolve().parents[3] / "manifests" / "install.yaml"
ACCOUNT = "system:serviceaccount:heavylift:heavylift-operator"


@pytest.mark.parametrize("component", RIGHTS)
def test_the_rights_looked_for_are_those_the_chart_grants(component: str) -> None:
    """Neither more, which would be a false alarm, nor less."""
    documents = yaml.load_all(INSTALL.read_text(), yaml.CSafeLoader)
    roles = [found for found in documents if found and found["kind"] == "Role"]
    role = next(found for found in roles if found["metadata"]["name"] == f"heavylift-{component}")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert {(right.group, right.target, verb) for right in RIGHTS[component] for verb in right.verbs} == granted


@pytest.mark.parametrize(
    ("refused", "level", "words"),
    [
        (set[str](), Level.OK, "may do what it must"),
        ({"delete"}, Level.FAIL, f"{ACCOUNT} may not delete jobs: compare its Role"),
        ({"get", "list", "watch", "patch", "delete"}, Level.WARN, "may do nothing there"),
    ],
)
def test_missing_rights_are_named(refused: set[str], level: Level, words: str) -> None:
    """A process that lacks a right fails the check; one that has none at all may serve other namespaces."""

    def may(place: str, verb: str, _: Right) -> bool:
        assert place == "analytics"
        return verb not in refused

    (finding,) = rights_findings("operator", ACCOUNT, ["analytics"], may)

    assert finding.level is level
    assert words in finding.message


@pytest.mark.parametrize(
    ("served", "level", "words"),
    [(KINDS, Level.OK, "are served"), (("heavyqueues",), Level.FAIL, "heavyschedules not served: kubectl apply")],
)
def test_missing_kinds_are_named(served: tuple[str, ...], level: Level, words: str) -> None:
    """Each kind of ours has to be there."""
    (finding,) = crd_findings(served)

    assert finding.level is level
    assert words in finding.message


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (900, Level.OK, "900ms ahead of this machine's"),
        (-60_000, Level.WARN, "1m behind this machine's: run NTP"),
        (None, Level.WARN, "tells no time"),
    ],
)
def test_clocks_that_disagree_are_a_warning(skew: int | None, level: Level, words: str) -> None:
    """Jobs are not harmed, people are misled."""
    finding = skew_finding(skew)

    assert finding.level is level
    assert words in finding.message


def test_what_heavyqueues_say_of_themselves() -> None:
    """Ready or not, with the operator's own words; a queue that no operator has seen is a warning."""
    named = [{"namespace": "analytics", "name": name} for name in ("a", "b", "c")]
    conditions = [
        [{"type": "Ready", "status": "True", "reason": "Serving"}],
        [{"type": "Ready", "status": "False", "reason": "Forbidden", "message": "may not create Jobs"}],
        [],
    ]
    queues = [
        {"metadata": metadata, "status": {"conditions": found}}
        for metadata, found in zip(named, conditions, strict=True)
    ]

    found = list(queue_findings(queues))

    assert [finding.level for finding in found] == [Level.OK, Level.FAIL, Level.WARN]
    assert found[1].message == "Forbidden: may not create Jobs"
