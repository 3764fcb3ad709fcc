"""``heavylift autoscale simulate``: what is typed and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from heavylift.cli.app import main


def simulated(*arguments: str) -> int:
    """Run the command."""
    return main(["autoscale", "simulate", *arguments])


def test_table_shows_the_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """People see the syncs that change something, and a sentence at the end."""
    assert simulated("--jobs", "0s=400", "--run", "2m", "--slots", "10", "--max", "8") == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].split()[:3] == ["TIME", "DEMAND", "WAITING"]
    assert "ScaleUpLimit" in lines[1]
    assert lines[-1].startswith("8 replicas at most, at 15s; ")
    assert "400 jobs done at " in lines[-1]


def test_json_has_every_sync(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get each sync and the figures."""
    assert simulated("--demand", "0s=0,30s=42", "--until", "60s", "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)

    assert [sync["seconds"] for sync in found["syncs"]] == [0, 15, 30, 45, 60]
    assert [sync["after"] for sync in found["syncs"]] == [1, 1, 5, 5, 5]
    assert found["summary"]["peakReplicas"] == 5


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Curve and autoscaler come from files; the slots follow the manifest's target."""
    curve, hpa = tmp_path / "curve.csv", tmp_path / "hpa.yaml"
    curve.write_text("time,jobs\n0s,100\n")
    target = {"type": "AverageValue", "averageValue": 25}
    metrics = [{"type": "External", "external": {"metric": {"name": "m"}, "target": target}}]
    spec = {"minReplicas": 2, "maxReplicas": 3, "metrics": metrics}
    manifest = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {}, "spec": spec}
    hpa.write_text(yaml.safe_dump_all([{"kind": "Service"}, manifest]))

    assert simulated("--jobs", f"@{curve}", "--run", "40s", "--hpa", str(hpa), "-o", "yaml") == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["summary"]["peakReplicas"] == 3
    assert found["syncs"][0]["inFlight"] == 50
    assert found["summary"]["lastReplicas"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --demand CURVE or --jobs CURVE"),
        (("--demand", "0s=1", "--jobs", "0s=1"), "either --demand CURVE or --jobs CURVE"),
        (("--jobs", "0s=1"), "--jobs needs --run"),
        (("--jobs", "0s=1.5", "--run", "1s"), "whole number of jobs"),
        (("--demand", "0s=1", "--run", "1s"), "go with --jobs"),
        (("--demand", "1"), "is not TIME=VALUE"),
        (("--demand", "@/nonexistent/curve"), "cannot read"),
        (("--demand", "0s=1", "--min", "3", "--max", "2"), "minReplicas 3 and maxReplicas 2"),
        (("--demand", "0s=1", "--period", "0s"), "the period is more than 0 s"),
        (("--demand", "0s=1", "--hpa", "/dev/null"), "there is no HorizontalPodAutoscaler"),
    ],
)
def test_refused(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be simulated is refused in one line that says what to give."""
    assert simulated(*arguments) in {2, 4}
    assert words in capsys.readouterr().err
