"""The benchmarks themselves: each that needs no cluster runs to its end and says something about both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.catalogue import BENCHES
from tests.benchmarks.rounds import Effort, by_turns
from tests.benchmarks.rows import Row, Target, table


@pytest.mark.parametrize("name", ["finish", "bounds"])
def test_a_benchmark_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Small and once; the report holds the machine, and figures above zero beside RQ's."""
    report = tmp_path / "report.json"
    assert main(["--quick", "--runs", "1", "--only", name, "--json", str(report)]) == 0
    written = json.loads(report.read_text())
    assert written["machine"]["cores"] >= 1
    assert all(row["value"] > 0 for row in written["rows"] if row["unit"])
    assert name in capsys.readouterr().out


def test_sides_are_measured_by_turns_five_times_unless_told() -> None:
    """Each round in the other order, so that neither side always comes first."""
    asked: list[str] = []

    def side(name: str) -> Callable[[], float]:
        def run() -> float:
            asked.append(name)
            return len(asked)

        return run

    assert by_turns({name: side(name) for name in ("ours", "peer")}, 3) == {"ours": [1, 4, 5], "peer": [2, 3, 6]}
    assert asked == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert Effort().runs == 5


def test_every_promised_figure_has_its_benchmark() -> None:
    """By the names they go by on the command line."""
    cluster = {"latency", "create", "through", "finished", "writes", "inflight"}
    assert cluster | {"claim", "finish", "enqueue", "memory", "depth"} <= {bench.name for bench in BENCHES}


def test_a_row_holds_medians_of_pairs_against_its_targets() -> None:
    """The ratio is the median over the runs, so that one disturbed run decides nothing."""
    row = Row(
        bench="b", what="w", unit="jobs/s", runs=[10, 20, 300], peer="RQ", peer_runs=[5, 10, 10],
        targets=(Target(2.0), Target(15, "value")), limit="why",
    )  # fmt: skip
    assert (row.value, row.peer_value, row.ratio, row.met) == (20, 10, 2.0, True)
    assert Target(1.9, at="most").met(row) is False
    alone = Row(bench="b", what="x", unit="MB", runs=[3.0], targets=(Target(2, "value", "most"),))
    assert (alone.ratio, alone.met, Target(1.0).met(alone)) == (None, False, None)
    lines = table([row, alone]).splitlines()
    assert lines[1] == "b"
    assert lines[2].split() == ["w", "20", "jobs/s", "10", "RQ", "2.00x", ">=", "2x,", ">=", "15", "jobs/s", "met"]
    assert lines[3].split() == ["x", "3", "MB", "<=", "2", "MB", "MISSED"]
    assert lines[4].strip() == "limit: why"
