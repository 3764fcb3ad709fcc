"""Programs of the test cluster: recognised again by more than a process id."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import leftovers
from tests.cluster.api import wait_for
from tests.cluster.controlplane import MARK
from tests.cluster.errors import ComponentError
from tests.cluster.process import Command, Processes, Record, parse_stat, start_time

SLEEP = ["/bin/sh", "-c", "echo started; exec sleep 60"]
STAT = "4242 (a) R (sh) S 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 1"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Give the programs of an empty state folder, and end those that a test left."""
    found = Processes(tmp_path)
    yield found
    for name in found.recorded():
        found.stop(name, grace=0)


def command(folder: Path, argv: list[str] | None = None, *, forks: bool = False) -> Command:
    """Return a program that carries the mark of the cluster in ``folder``."""
    enter = ["/bin/sh", "-c", '"$@" & wait', "sh"] if forks else []
    return Command("part", argv or SLEEP, {"PATH": os.environ["PATH"], MARK: str(folder)}, enter, forks)


def test_the_name_in_a_stat_line_may_hold_brackets_and_spaces() -> None:
    """State and start time are read after the last bracket, whatever the program calls itself."""
    assert parse_stat(STAT) == ("S", 777)


@pytest.mark.parametrize("text", ["", "42", "42 (sh) S 1", "42 (sh"])
def test_a_stat_line_cut_short_is_no_process(text: str) -> None:
    """A line that the kernel did not write whole gives no process."""
    assert parse_stat(text) is None


def test_a_started_program_is_found_again_and_stopped(processes: Processes, tmp_path: Path) -> None:
    """A second look, by the records alone, knows the program's id and ends that very process."""
    processes.start(command(tmp_path))
    pid = Processes(tmp_path).pid("part")
    assert pid is not None
    assert start_time(pid) is not None
    Processes(tmp_path).stop("part")
    assert start_time(pid) is None
    assert processes.recorded() == []


def test_a_running_program_is_not_started_twice(processes: Processes, tmp_path: Path) -> None:
    """Starting what runs leaves it as it is."""
    processes.start(command(tmp_path))
    first = processes.pid("part")
    processes.start(command(tmp_path))
    assert processes.pid("part") == first


def test_the_child_is_recorded_when_the_parent_only_waits(processes: Processes, tmp_path: Path) -> None:
    """With a waiting parent between us and the program, the record names the program."""
    processes.start(command(tmp_path, ["/bin/sleep", "60"], forks=True))
    pid = processes.pid("part")
    assert pid is not None
    assert Path(f"/proc/{pid}/comm").read_text().strip() in {"sleep", "sh"}
    assert Path(f"/proc/{pid}/stat").read_text().split()[3] != str(os.getpid())


def test_a_process_id_given_out_again_is_not_ours(processes: Processes) -> None:
    """A record whose start time or boot differs from the live process means nothing and signals nobody."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            record = Record.of(other.pid)
            assert record is not None
            assert record.alive()
            assert not replace(record, start=record.start + 1).alive()
            assert not replace(record, boot="another").alive()
            processes.run.mkdir()
            forged = f'{{"pid": {other.pid}, "start": {record.start + 1}, "boot": "{record.boot}"}}'
            (processes.run / "part.json").write_text(forged)
            assert not processes.signal("part", signal.SIGKILL)
            processes.stop("part", grace=0)
            assert other.poll() is None
        finally:
            other.kill()
    assert processes.recorded() == []


def test_a_record_that_cannot_be_read_is_no_process(processes: Processes) -> None:
    """A record cut short by a crash counts as not running."""
    processes.run.mkdir()
    (processes.run / "part.json").write_text('{"pid": 1')
    assert processes.pid("part") is None


def test_a_program_that_is_not_there_says_so(processes: Processes, tmp_path: Path) -> None:
    """A missing program is named in the error."""
    with pytest.raises(ComponentError, match="part cannot be started"):
        processes.start(command(tmp_path, ["/nonexistent/program"]))


def test_sigterm_that_is_ignored_is_followed_by_sigkill(processes: Processes, tmp_path: Path) -> None:
    """A program that traps SIGTERM is gone after its grace period."""
    waiting = "trap '' TERM; echo trapped; while :; do sleep 60; done"
    processes.start(command(tmp_path, ["/bin/sh", "-c", waiting]))
    pid = processes.pid("part")
    assert pid is not None
    processes.stop("part", grace=0)
    assert start_time(pid) is None


def test_programs_without_a_record_are_found_by_their_mark(processes: Processes, tmp_path: Path) -> None:
    """A program whose record was never written is found and ended by the mark in its environment."""
    processes.start(command(tmp_path))
    pid = processes.pid("part")
    (processes.run / "part.json").unlink()
    # The kernel shows no environment for a moment while a program takes its process over.
    wait_for("the mark to show", lambda: pid in leftovers.processes_of(tmp_path), 10)
    assert leftovers.processes_of(tmp_path.with_name("another")) == []
    leftovers.end_processes(tmp_path)
    assert pid is not None
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) if start_time(pid) is not None else None
    assert start_time(pid) is None


def test_the_mark_must_match_whole() -> None:
    """A folder whose path begins like another's is another cluster's."""
    environ = f"A=1\0{MARK}=/tmp/heavylift-cluster-ab\0".encode()
    assert leftovers.carries_mark(environ, Path("/tmp/heavylift-cluster-ab"))  # noqa: S108 - only compared
    assert not leftovers.carries_mark(environ, Path("/tmp/heavylift-cluster-a"))  # noqa: S108 - only compared


def test_mounts_below_a_folder_come_innermost_first() -> None:
    """Only mounts below the folder are named, an escaped space included, and none of a folder with a like name."""
    table = r"""1 0 0:1 / / rw - ext4 /dev/vda rw
2 1 0:2 / /s/state rw - tmpfs tmpfs rw
3 2 0:3 / /s/state/a\040b/c rw - tmpfs tmpfs rw
4 1 0:4 / /s/state2 rw - tmpfs tmpfs rw
"""
    assert leftovers.mounts_under(Path("/s/state"), table) == ["/s/state/a b/c", "/s/state"]
