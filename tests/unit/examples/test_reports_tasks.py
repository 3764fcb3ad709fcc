"""The tasks of the reports example, run for real on the real series."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heavylift.contract.names import RESULT_LIMIT
from reports import produce, tasks
from reports.series import ReportInputError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "reports"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that stands for the volume."""
    monkeypatch.setenv("REPORTS_DIR", str(tmp_path))
    return tmp_path


def run_in_pod(tmp_path: Path, task: str, data: dict[str, Any], **more: Any) -> tuple[int, dict[str, Any], str]:
    """Run a task as its pod would: ``heavylift run``; return exit code, envelope and what it printed."""
    result = tmp_path / "result"
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(EXAMPLE),
        "REPORTS_DIR": str(tmp_path / "volume"),
        "OPENBLAS_NUM_THREADS": "1",
        "MPLCONFIGDIR": str(tmp_path),
        "HEAVYLIFT_JOB_ID": "j1",
        "HEAVYLIFT_JOB_QUEUE": "reports",
        "HEAVYLIFT_JOB_TASK": task,
        "HEAVYLIFT_JOB_ATTEMPT": "1",
        "HEAVYLIFT_JOB_EXECUTION": "inc-1",
        "HEAVYLIFT_JOB_PAYLOAD": json.dumps(data),
        "HEAVYLIFT_JOB_RESULT_FILE": str(result),
    }
    done = subprocess.run(
        [sys.executable, "-m", "heavylift", "run", "reports.tasks"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )
    return done.returncode, json.loads(result.read_text())["$heavylift"], done.stdout + done.stderr


def test_a_year_becomes_a_pdf_a_picture_and_a_small_result(folder: Path) -> None:
    """The files are there, the result refers to them and fits into what kubelet keeps."""
    result = tasks.annual(year=2024, resamples=200)

    report = folder / str(result["report"])
    assert report.read_bytes().startswith(b"%PDF-")
    assert hashlib.sha256(report.read_bytes()).hexdigest() == result["sha256"]
    assert (folder / str(result["preview"])).read_bytes().startswith(b"\x89PNG")
    assert result["summary"]["shortestDay"] == "2024-07-05 -1.657 ms"  # type: ignore[call-overload, index]
    assert len(json.dumps(result)) < RESULT_LIMIT
    assert sorted(path.name for path in report.parent.iterdir()) == ["2024.pdf", "2024.png"]


def test_a_span_becomes_a_report_on_the_pole(folder: Path) -> None:
    """Seven years suffice."""
    result = tasks.span(first=1980, last=1986)

    assert result["pages"] == 2
    assert result["summary"]["days"] == 2557  # type: ignore[call-overload, index]
    assert (folder / "span" / "1980-1986.pdf").stat().st_size == result["bytes"]


def test_a_repeated_attempt_writes_the_same_report(folder: Path) -> None:
    """A job may run twice; whoever reads the volume sees no difference."""
    first, second = (tasks.annual(year=1990, resamples=100) for _ in range(2))

    assert first == second
    assert (folder / "annual" / "1990.pdf").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"year": 1850}, "there are no measurements for year 1850"),
        ({"year": "next year"}, "year must be a whole number such as 1999, not 'next year'"),
        ({"year": 1999, "resamples": 5}, "resamples must be a whole number from 100 to 100000, not 5"),
    ],
)
def test_bad_input_of_annual_is_named(folder: Path, data: dict[str, Any], message: str) -> None:
    """The message says what is wrong, and nothing is written."""
    with pytest.raises(ReportInputError, match=re.escape(message)):
        tasks.annual(**data)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (2009, 2000, "first year 2009 lies after last year 2000: exchange them"),
        (2000, 2002, "the wobbles need 2338, so take 7 years"),
        (1900, 2000, "there are no measurements for first 1900"),
    ],
)
def test_bad_input_of_span_is_named(folder: Path, first: int, last: int, message: str) -> None:
    """As for years."""
    with pytest.raises(ReportInputError, match=re.escape(message)):
        tasks.span(first=first, last=last)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_what_to_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commonest mistake in a cluster has a message of its own."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REPORTS_DIR", str(tmp_path / "file"))

    with pytest.raises(RuntimeError, match=r"cannot write .*: Not a directory; mount a volume at "):
        tasks.annual(year=1990, resamples=100)


def test_the_pod_reports_a_year_through_the_contract(tmp_path: Path) -> None:
    """The same task through ``heavylift run``: exit 0 and an envelope with the result."""
    code, envelope, output = run_in_pod(tmp_path, "annual", {"year": 1999, "resamples": 200})

    assert (code, envelope["ok"], envelope["execution"]) == (0, True, "inc-1"), output
    assert (tmp_path / "volume" / envelope["result"]["report"]).exists()


def test_the_pod_ends_bad_input_for_good(tmp_path: Path) -> None:
    """The exit code says that another attempt is pointless, the envelope says why."""
    code, envelope, _ = run_in_pod(tmp_path, "annual", {"year": 1850})

    assert (code, envelope["ok"], envelope["noRetry"]) == (64, False, True)
    assert envelope["error"]["type"].endswith("ReportInputError")
    assert "ask for a year from 1973 to 2026" in envelope["error"]["message"]


def test_every_bad_job_of_the_producer_fails_with_its_words(tmp_path: Path) -> None:
    """What README.md promises about each of them, except for the one that needs a memory limit."""
    expected = {
        "before-the-series": "from 1973 to 2026",
        "not-a-year": "whole number",
        "misspelt-argument": "yaer",
        "misspelt-task": "annual",
        "years-exchanged": "exchange them",
    }
    for request in produce.bad("x"):
        name = str(request.options["id"]).removesuffix("-x")
        if name == "too-big-for-memory":
            continue
        code, envelope, _ = run_in_pod(tmp_path, request.task, request.data)

        assert code != 0, name
        assert expected.pop(name) in envelope["error"]["message"]
    assert expected == {}


def test_the_whole_series_does_not_fit_into_the_queues_memory(tmp_path: Path) -> None:
    """With an address space of 2 GiB the span of all years cannot even allocate its matrices."""
    request = produce.bad("x")[-1]

    code, envelope, _ = run_in_pod(
        tmp_path, request.task, request.data, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)
    )

    assert code != 0
    assert "allocate" in envelope["error"]["message"]


def test_the_producer_asks_for_each_year_once() -> None:
    """Ids are unique, readable and those of one run."""
    requests = produce.good(range(1973, 2027), 500, "run1") + produce.bad("run1")

    ids = [str(request.options["id"]) for request in requests]
    assert len(ids) == len(set(ids)) == 64
    assert "annual-1999-run1" in ids
    assert "span-1985-1994-run1" in ids
