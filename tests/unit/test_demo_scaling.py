"""What the demo shows of the autoscaler: from objects of the API to lines."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from scripts.demo import board, closing, install, scaling

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
TARGET = {"external": {"target": {"type": "AverageValue", "averageValue": "10"}}}


def hpa(**status: Any) -> dict[str, Any]:
    """Return an autoscaler with a status."""
    return {"spec": {"metrics": [TARGET]}, "status": status}


def deployment(replicas: int, ready: int) -> dict[str, Any]:
    """Return the dispatchers' Deployment."""
    return {"spec": {"replicas": replicas}, "status": {"readyReplicas": ready}}


def event(at: str, message: str) -> dict[str, Any]:
    """Return one event."""
    return {"lastTimestamp": at, "reason": "SuccessfulRescale", "message": message}


def moment() -> scaling.Scaling:
    """Return a moment under load."""
    current = {"external": {"current": {"averageValue": "9200m"}}}
    conditions = [
        {"type": "ScalingLimited", "reason": "DesiredWithinRange"},
        {"type": "AbleToScale", "reason": "ReadyForNewScale"},
    ]
    return scaling.read(
        deployment(5, 3),
        hpa(currentReplicas=5, currentMetrics=[current], conditions=conditions),
        [event("2026-11-22T10:00:20Z", "New size: 5"), event("2026-11-22T10:00:10Z", "New size: 3")],
    )


def test_moment_is_read_from_the_api() -> None:
    """Demand is the average times the dispatchers; events come oldest first, conditions in one order."""
    found = moment()

    assert (found.wanted, found.ready, found.demand, found.target) == (5, 3, 46.0, 10.0)
    assert found.reasons == ["AbleToScale: ReadyForNewScale", "ScalingLimited: DesiredWithinRange"]
    assert found.events == ["SuccessfulRescale: New size: 3", "SuccessfulRescale: New size: 5"]


def test_before_the_first_look_the_demand_is_unknown() -> None:
    """An autoscaler that has read nothing, or stands over none, breaks nothing."""
    found = scaling.read(deployment(1, 0), hpa(), [])

    assert scaling.line(found) == "dispatchers 0/1  demand unknown (10 each)"
    none = hpa(currentReplicas=0, currentMetrics=[{"external": {"current": {"averageValue": "1m"}}}])
    assert scaling.read(deployment(0, 0), none, []).demand is None


def test_path_keeps_each_change_once() -> None:
    """It tells when each number came, the peak, and whether it is back."""
    path = scaling.Path()
    for seconds, wanted in ((0, 1), (3, 1), (12, 5), (20, 5), (60, 3), (90, 1)):
        path = path.then(seconds, wanted)

    assert path.told() == "1 -> 5 (12 s) -> 3 (60 s) -> 1 (90 s)"
    assert (path.peak, path.back) == (5, True)
    assert not scaling.Path().back
    assert not path.then(95, 2).back


def test_board_and_end_show_it() -> None:
    """The terminal, the pipe and the end tell the same."""
    path = scaling.Path(((0, 1), (12, 5)))
    made = board.make([], [], moment(), path)
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(board.render(made, 30, NOW))
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert "dispatchers 3/5  demand 46 (10 each)   1 -> 5 (12 s)" in text
    assert "SuccessfulRescale: New size: 5" in text
    assert board.line(made, 30).endswith("  |  dispatchers 3/5  demand 46 (10 each)")
    assert closing.scaled(moment(), path)[0].startswith("Dispatchers: 1 -> 5 (12 s) ")
    assert "kubectl describe hpa" in closing.scaled(None, path)[0]


@pytest.mark.parametrize(
    ("steps", "jobs", "wrong"),
    [
        (((0, 1), (12, 4), (90, 1)), 95, ""),
        (((0, 1), (12, 3), (90, 1)), 95, "went 1 -> 3 (12 s) -> 1 (90 s), not to 4 and back to 1"),
        (((0, 1), (12, 5), (90, 2)), 95, "went 1 -> 5 (12 s) -> 2 (90 s), not to 4 and back to 1"),
        (((0, 1),), 95, "went 1, not to 4"),
        (((0, 1), (12, 2), (60, 1)), 25, ""),
        (((0, 1),), 3, ""),
    ],
)
def test_run_that_was_not_scaled_has_failed(steps: tuple[tuple[float, int], ...], jobs: int, wrong: str) -> None:
    """A run that never had four dispatchers, or did not come back to one, ends with an error that says so."""
    told = closing.unscaled(moment(), scaling.Path(steps), jobs)

    assert told.endswith("says why") if wrong else told == ""
    assert wrong in told
    assert "could not be seen" in closing.unscaled(None, scaling.Path(steps), jobs)


def test_values_let_it_be_seen_within_minutes() -> None:
    """Ten slots a dispatcher, room for more than four of them, and a way down after 15 seconds."""
    values = yaml.safe_load((Path(scaling.__file__).parent / "values.yaml").read_text())

    assert values["dispatcher"]["slots"] == 10
    assert values["autoscaling"]["maxReplicas"] >= 4
    assert values["autoscaling"]["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 15}}
    assert values["autoscaling"].get("enabled", True)


def test_queue_of_light_jobs_fits_a_small_node() -> None:
    """The shell example's queue has room for all light jobs, and they ask for little of a node."""
    queue = install.words_queue()
    (container,) = queue["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]

    assert queue["spec"]["concurrency"]["max"] >= 40
    assert container["resources"]["requests"]["cpu"] == "5m"
