"""The benchmarks themselves: each that needs no cluster runs to its end and says something about both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.catalogue import BENCHES
from tests.benchmarks.queue_rates import ALONE, WORKER
from tests.benchmarks.rounds import Effort, by_turns
from tests.benchmarks.rows import Row, Target, table


def test_a_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Small and once; the report holds machine and store, and figures above zero beside RQ's; the table fits."""
    report = tmp_path / "report.json"
    assert main(["--quick", "--runs", "1", "--only", "finish", "--json", str(report)]) == 0
    written = json.loads(report.read_text())
    assert written["machine"]["cores"] >= 1
    assert written["store"]["name"] == "redis"
    assert all(row["value"] > 0 for row in written["rows"])
    held = [
        (row["peer"], row["targets"]) for row in written["rows"] if "ten" in row["what"] and row["peer"] != "BullMQ"
    ]
    assert held == [(WORKER, [">= 9x"]), (ALONE, [])] * 2, "targets are held against RQ's worker as it runs"
    printed = capsys.readouterr()
    assert "medians; rounds: 1" in " ".join(printed.out.split())
    assert max(map(len, printed.out.splitlines())) <= 80
    assert "written to" in printed.err


def test_what_is_found_can_be_printed_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else is on standard output; on Valkey as the chart sets it up."""
    report = tmp_path / "report.json"
    asked = ["--quick", "--runs", "1", "--only", "bounds", "--store", "valkey", "--store-config", "chart", "-o", "json"]
    assert main([*asked, "--json", str(report)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(report.read_text())
    assert (printed["store"]["name"], printed["store"]["settings"]["appendonly"]) == ("valkey", "yes")
    assert {row["bench"] for row in printed["rows"]} == {"bounds"}


@pytest.mark.parametrize("runs", ["0", "-1", "five"])
def test_no_rounds_at_all_are_refused(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit) as ended:
        main([f"--runs={runs}"])
    assert ended.value.code == 2
    assert f"{runs!r} is no number of rounds: give 1 or more" in capsys.readouterr().err


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
    assert lines[0].split() == ["b", "ours", "peer", "ratio", "target"]
    assert lines[1] == "  w, jobs/s"
    assert lines[2].split() == ["RQ", "20", "10", "2.00x", ">=", "2x,", ">=", "15", "jobs/s", "met"]
    assert lines[3].split() == ["x,", "MB", "3", "<=", "2", "MB", "MISSED"]
    assert lines[4] == "  limit: why"


def test_a_table_fits_a_terminal_of_80_columns() -> None:
    """Long questions and limits are folded between words; columns that nobody needs are left out."""
    long = "claim of 10, 1,000,000 waiting, 8 priorities, cap, rate limit and 1,000 keys of 1 each"
    beside = Row(bench="depth", what=long, unit="ms", runs=[1.5], peer="at 100,000", peer_runs=[1.5], limit=long * 2)
    alone = Row(bench="bounds", what=long, unit="ms", runs=[1.5], targets=(Target(3.0, "value", "most"),))
    lines = table([beside, alone]).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(long.split()) in " ".join(" ".join(lines).split())
    assert lines[lines.index("") + 1].split() == ["bounds", "ours", "target"]
