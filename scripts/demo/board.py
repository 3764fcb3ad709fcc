"""What the demo shows while it runs: jobs and pods condensed into a board; nothing here does I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heavylift.contract.states import JobState
from heavylift.jobs import JobInfo
from scripts.demo import scaling as autoscaler
from scripts.demo.scaling import Path, Scaling

ACTIVE_ROWS, OUTCOME_ROWS = 8, 8
MESSAGE_WIDTH = 110
_COLOURS = {
    JobState.WAITING: "cyan",
    JobState.DELAYED: "yellow",
    JobState.ACTIVE: "blue",
    JobState.WAITING_CHILDREN: "cyan",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """One ended attempt."""

    at: datetime | None
    job: str
    attempt: int
    cls: str
    message: str
    final: bool


@dataclass(frozen=True, slots=True)
class Board:
    """The state of one run."""

    states: Mapping[JobState, int]
    phases: Mapping[str, int]
    attempts: int
    """Attempts ended so far, all jobs together."""
    active: Sequence[JobInfo]
    ended: Sequence[Ended]
    """Newest first."""
    pods: Mapping[str, int]
    scaling: Scaling | None = None
    path: Path = field(default_factory=Path)
    """Of the dispatchers' number."""

    @property
    def total(self) -> int:
        """How many jobs the run has."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """How many of them reached their end."""
        return sum(count for state, count in self.states.items() if state.terminal)

    @property
    def finished(self) -> bool:
        """Whether all did."""
        return self.done == self.total


def make(
    infos: Sequence[JobInfo],
    pods: Iterable[Mapping[str, Any]],
    scaling: Scaling | None = None,
    path: Path | None = None,
) -> Board:
    """Return the board of these jobs, of pods as the API server describes them, and of the autoscaler."""
    active = [info for info in infos if info.state is JobState.ACTIVE]
    ended = [entry for info in infos for entry in _ended(info)]
    return Board(
        states=Counter(info.state for info in infos),
        phases=Counter(info.phase.value for info in active if info.phase),
        attempts=len(ended),
        active=sorted(active, key=lambda info: (info.started_at is None, info.started_at or 0, info.id)),
        ended=sorted(ended, key=lambda entry: entry.at.timestamp() if entry.at else 0.0, reverse=True),
        pods=Counter(pod_word(pod) for pod in pods),
        scaling=scaling,
        path=path or Path(),
    )


def _ended(info: JobInfo) -> list[Ended]:
    attempts = [
        Ended(
            attempt.ended_at,
            info.id,
            attempt.attempt,
            attempt.outcome.cls if attempt.outcome else "?",
            attempt.outcome.message if attempt.outcome else "",
            final=attempt.next != "retry",
        )
        for attempt in info.history
    ]
    if info.state is JobState.COMPLETED and not any(entry.cls == "succeeded" for entry in attempts):
        attempts.append(Ended(info.ended_at, info.id, info.attempt, "succeeded", "", final=True))
    return [_with_result(entry, info) for entry in attempts]


def _with_result(entry: Ended, info: JobInfo) -> Ended:
    if entry.cls != "succeeded" or not isinstance(info.result, Mapping):
        return entry
    words = f"{info.result.get('report', '')}, {info.result.get('bytes', 0) / 1024:.0f} KiB"
    return Ended(entry.at, entry.job, entry.attempt, entry.cls, words, entry.final)


def pod_word(pod: Mapping[str, Any]) -> str:
    """Return one word for a pod's state, as kubectl prints it."""
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        state = container.get("state", {})
        word = (state.get("waiting") or state.get("terminated") or {}).get("reason")
        if word:
            return str(word)
    return str(status.get("phase") or "Pending")


def shown(entries: Mapping[str, int]) -> str:
    """Return counts as ``running 4, pending 2``."""
    return ", ".join(f"{word} {count}" for word, count in sorted(entries.items(), key=lambda item: -item[1]))


def line(board: Board, seconds: float) -> str:
    """Return the board as one line, for a log or a pipe."""
    words = {state: f"{state.value} {board.states[state]}" for state in JobState if board.states.get(state)}
    if board.phases:
        words[JobState.ACTIVE] += f" ({shown(board.phases)})"
    states = "  ".join(words.values())
    newest = f"  |  last: {board.ended[0].job} {board.ended[0].cls}" if board.ended else ""
    scaled = f"  |  {autoscaler.line(board.scaling)}" if board.scaling else ""
    return f"{seconds:5.0f} s  {board.done}/{board.total} done  {states}  attempts {board.attempts}{newest}{scaled}"


def render(board: Board, seconds: float, now: datetime) -> RenderableType:
    """Return the board for a terminal."""
    head = Text()
    for state in JobState:
        if board.states.get(state):
            head.append(f"{state.value} {board.states[state]}   ", style=f"bold {_COLOURS[state]}")
    head.append(f"attempts ended {board.attempts}   ")
    head.append(f"{seconds:.0f} s", style="dim")
    parts: list[RenderableType] = [head, _bar(board), Text(f"pods: {shown(board.pods) or 'none yet'}")]
    for place, words in enumerate(autoscaler.lines(board.scaling, board.path)):
        parts.append(Text(words, style="bold cyan" if place == 0 else "dim", overflow="ellipsis", no_wrap=True))
    parts += [table for table in (_active_table(board, now), _ended_table(board)) if table.row_count]
    return Panel(Group(*parts), title="Heavylift: queues reports and words", border_style="blue")


def _bar(board: Board, width: int = 60) -> Text:
    bar = Text()
    for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.ACTIVE):
        bar.append("━" * round(width * board.states.get(state, 0) / max(1, board.total)), style=_COLOURS[state])
    bar.append("╌" * max(0, width - len(bar)), style="dim")
    bar.append(f" {board.done}/{board.total}")
    return bar


def _active_table(board: Board, now: datetime) -> Table:
    table = _table("now", ("job", 34), ("attempt", 8), ("state", 20), ("s", 5), ("Kubernetes Job", None))
    for info in board.active[:ACTIVE_ROWS]:
        since = f"{(now - info.started_at).total_seconds():.0f}" if info.started_at else ""
        state = f"{info.phase.value if info.phase else ''} {info.reason}".strip()
        table.add_row(info.id, f"{info.attempt}/{info.max_attempts or '?'}", state, since, info.job_name)
    return table


def _ended_table(board: Board) -> Table:
    table = _table("last outcomes", ("job", 34), ("attempt", 8), ("outcome", 20), ("", None))
    for entry in board.ended[:OUTCOME_ROWS]:
        style = "green" if entry.cls == "succeeded" else "red" if entry.final else "yellow"
        word = entry.cls if entry.final else f"{entry.cls}, again"
        message = " ".join(entry.message.split())[:MESSAGE_WIDTH]
        table.add_row(entry.job, str(entry.attempt), Text(word, style), Text(message, overflow="ellipsis"))
    return table


def _table(title: str, *columns: tuple[str, int | None]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), expand=True)
    for name, width in columns:
        flexible = 1 if width is None else None
        table.add_column(name, min_width=width, max_width=width, ratio=flexible, no_wrap=True, header_style="dim")
    return table
