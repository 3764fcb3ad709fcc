"""The demo's pure parts: the board, its line, and what it says at the end."""

from __future__ import annotations

import io
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heavylift.contract.states import JobState, Phase
from heavylift.jobs import Attempt, JobInfo, Outcome
from reports import produce
from scripts.demo import board, closing, watch
from scripts.demo.__main__ import parser

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
START = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


def job(name: str, state: JobState, **more: Any) -> JobInfo:
    """Return a job in a state."""
    fields: dict[str, Any] = {"task": "annual", "attempt": 1, "max_attempts": 2, "phase": None, "reason": ""}
    return JobInfo(id=name, queue="reports", state=state, priority=0, position=None, **{**fields, **more})


def attempt(number: int, cls: str, message: str, following: str) -> Attempt:
    """Return an ended attempt."""
    return Attempt(
        seq=number,
        attempt=number,
        execution=f"inc-{number}",
        outcome=Outcome(cls=cls, message=message),
        started_at=START,
        ended_at=NOW,
        next=following,
    )


def done(year: int, mean: float, shortest: str) -> JobInfo:
    """Return a finished annual report."""
    result = {
        "report": f"annual/{year}.pdf",
        "bytes": 90_000,
        "summary": {"year": year, "meanMs": mean, "shortestDay": shortest},
    }
    return job(f"annual-{year}", JobState.COMPLETED, result=result, ended_at=START)


@pytest.fixture
def infos() -> list[JobInfo]:
    """Return jobs in five states."""
    oom = "used more than its limit of 512Mi\nKilled"
    failed = job(
        "too-big", JobState.FAILED, attempt=2, outcome=Outcome(cls="oom", message=oom),
        history=(attempt(1, "oom", oom, "retry"), attempt(2, "oom", oom, "fail")),
    )  # fmt: skip
    return [
        done(1973, 3.0474, "1973-07-13 +1.875 ms"),
        done(2024, -0.1018, "2024-07-05 -1.657 ms"),
        failed,
        job("annual-1999", JobState.ACTIVE, phase=Phase.RUNNING, started_at=START, job_name="reports-x-1"),
        job("annual-2000", JobState.ACTIVE, phase=Phase.PENDING, reason="ContainerCreating"),
        job("annual-2001", JobState.WAITING, attempt=0),
    ]


def test_the_board_counts_jobs_phases_attempts_and_pods(infos: list[JobInfo]) -> None:
    """Two attempts of the failed job count, as does each success."""
    pods: list[dict[str, Any]] = [
        {"status": {"phase": "Running"}},
        {
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}],
            }
        },
        {"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]}},
        {"metadata": {"deletionTimestamp": "2026-11-22T10:00:00Z"}, "status": {"phase": "Running"}},
        {},
    ]

    made = board.make(infos, pods)

    assert (made.done, made.total, made.finished, made.attempts) == (3, 6, False, 4)
    assert made.phases == {"running": 1, "pending": 1}
    assert made.pods == {"Running": 1, "ContainerCreating": 1, "OOMKilled": 1, "Terminating": 1, "Pending": 1}
    assert [info.id for info in made.active] == ["annual-1999", "annual-2000"]
    assert [entry.job for entry in made.ended[:2]] == ["too-big", "too-big"]


def test_piped_the_board_is_one_line(infos: list[JobInfo]) -> None:
    """No control characters, all states, the newest outcome."""
    text = board.line(board.make(infos, []), 12.4)

    assert text == (
        "   12 s  3/6 done  waiting 1  active 2 (running 1, pending 1)  completed 2  failed 1  attempts 4"
        "  |  last: too-big oom"
    )


def test_on_a_terminal_the_board_shows_what_runs_and_what_ended(infos: list[JobInfo]) -> None:
    """A retried attempt says so; messages stay on one line."""
    console = Console(file=io.StringIO(), width=160, force_terminal=False)

    console.print(board.render(board.make(infos, []), 30, NOW))
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert "annual-1999" in text
    assert "running" in text
    assert "oom, again" in text
    assert "limit of 512Mi Killed" in text
    assert "annual/2024.pdf, 88 KiB" in text


def test_an_empty_board_is_not_finished_wrongly() -> None:
    """A job without history, phase or result breaks nothing."""
    made = board.make([job("a", JobState.COMPLETED, result=None)], [])

    assert made.finished
    assert made.ended[0].cls == "succeeded"


def test_the_results_name_the_slowest_and_the_fastest_year(infos: list[JobInfo]) -> None:
    """What the reports found, in two sentences."""
    lines = closing.results(infos, 61.7)

    assert lines[0] == "6 jobs in 62 s: 2 completed, 1 failed, 1 waiting, 2 active"
    assert "slowest in 1973 (a mean day of 24 h +3.05 ms), fastest in 2024 (-0.10 ms)" in lines[1]
    assert lines[2] == "The shortest day was 2024-07-05 -1.657 ms."


def test_each_failure_is_told_in_one_line(infos: list[JobInfo]) -> None:
    """Id, attempts, class and message."""
    assert closing.failures(infos) == [("too-big", 2, "oom", "used more than its limit of 512Mi Killed")]


def test_a_finished_report_has_a_path_on_this_machine(infos: list[JobInfo]) -> None:
    """The newest year's; none when nothing finished."""
    assert closing.report_path(infos, Path("/volume")) == Path("/volume/annual/2024.pdf")
    assert closing.report_path(infos[3:], Path("/volume")) is None


def test_the_lines_to_try_parse_as_shell_and_name_real_jobs(infos: list[JobInfo]) -> None:
    """The failed one for `why`, a finished one for `show`; the first sets the shell up from any folder."""
    lines = closing.lines_to_try(infos, Path("/home/some one/heavylift"), "analytics", "heavylift")

    commands = [command for command, _ in lines]
    assert all(shlex.split(command) for command in commands)
    assert commands[0].startswith("cd '/home/some one/heavylift' && eval ")
    assert "heavylift jobs why too-big" in commands
    assert "heavylift jobs show annual-1973" in commands


def test_a_run_that_moves_is_never_called_stuck(infos: list[JobInfo]) -> None:
    """Only five minutes without any change are."""
    clock = [0.0]
    progress = watch.Progress(now=lambda: clock[0])
    still, moved = board.make(infos, []), board.make(infos[1:], [])

    assert not progress.stuck(still)
    clock[0] = watch.STUCK
    assert not progress.stuck(moved)
    clock[0] += watch.STUCK
    assert not progress.stuck(moved)
    clock[0] += 1
    assert progress.stuck(moved)


def test_the_command_line_has_defaults_for_some_sixty_jobs() -> None:
    """`up` needs no options."""
    args = parser().parse_args(["up"])
    first, last = args.years
    requests = produce.good(range(first, last + 1), args.resamples, "x") + produce.bad("x")

    assert 55 <= len(requests) <= 65
