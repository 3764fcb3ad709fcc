"""What the doctor makes of the cluster's metrics API."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.cli.doctor import Level, metrics_api_finding

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
