"""What the demo says at its end: results, failures in words, and lines to try; nothing here does I/O."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from heavylift.contract.states import JobState
from heavylift.jobs import JobInfo
from scripts.demo import scaling as autoscaler

SHOWN = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, *(state for state in JobState if not state.terminal))
"""The order in which states are told."""
EVENT_WIDTH = 140
PEAK = 4
"""Dispatchers that a run of some hundred jobs must lead to."""
EVAL = 'eval "$(.venv/bin/python -m scripts.demo env)"'


def results(infos: Sequence[JobInfo], seconds: float) -> list[str]:
    """Return the run in figures, and what the reports found."""
    counts = Counter(info.state for info in infos)
    told = ", ".join(f"{counts[state]} {state.value}" for state in SHOWN if counts[state])
    lines = [f"{len(infos)} jobs in {seconds:.0f} s: {told}"]
    reports = [info for info in infos if info.state is JobState.COMPLETED and isinstance(info.result, Mapping)]
    years = {info.result["summary"]["year"]: info.result["summary"] for info in reports if "annual" in info.task}
    if years:
        ranked = sorted(years.values(), key=lambda summary: float(summary["meanMs"]))
        shortest = min(years.values(), key=lambda summary: float(summary["shortestDay"].split()[1]))
        lines.append(
            f"The Earth turned slowest in {ranked[-1]['year']} (a mean day of 24 h {ranked[-1]['meanMs']:+.2f} ms), "
            f"fastest in {ranked[0]['year']} ({ranked[0]['meanMs']:+.2f} ms)."
        )
        lines.append(f"The shortest day was {shortest['shortestDay']}.")
    return lines


def scaled(scaling: autoscaler.Scaling | None, path: autoscaler.Path) -> list[str]:
    """Return how the number of dispatchers went, and the autoscaler's own events."""
    if scaling is None:
        return ["the autoscaler could not be seen: kubectl describe hpa -n heavylift"]
    went = f"Dispatchers: {path.told()} (seconds since the enqueuing); none that went held a job."
    return [went, *(f"HorizontalPodAutoscaler says {event[:EVENT_WIDTH]}" for event in scaling.events)]


def unscaled(scaling: autoscaler.Scaling | None, path: autoscaler.Path, jobs: int) -> str:
    """Return what is wrong with how the dispatchers went in a run of so many jobs; empty = nothing."""
    if scaling is None:
        return "the autoscaler could not be seen: kubectl describe hpa -n heavylift says why"
    wanted = min(PEAK, max(1, int(jobs / scaling.target)))
    if path.peak >= wanted and path.back:
        return ""
    return f"dispatchers went {path.told()}, not to {wanted} and back to 1: kubectl describe hpa -n heavylift says why"


def failures(infos: Sequence[JobInfo]) -> list[tuple[str, int, str, str]]:
    """Return id, attempts, outcome class and message of each job that failed."""
    return [
        (info.id, info.attempt, info.outcome.cls, " ".join(info.outcome.message.split()))
        for info in infos
        if info.state is JobState.FAILED and info.outcome
    ]


def report_path(infos: Sequence[JobInfo], folder: Path) -> Path | None:
    """Return where one finished report lies on this machine: the newest year's, else any."""
    names = [
        str(info.result["report"])
        for info in sorted(infos, key=lambda info: info.id, reverse=True)
        if info.state is JobState.COMPLETED and isinstance(info.result, Mapping) and "report" in info.result
    ]
    annual = [name for name in names if name.startswith("annual/")]
    return folder / (annual or names)[0] if names else None


def lines_to_try(infos: Sequence[JobInfo], root: Path, namespace: str, release: str) -> list[tuple[str, str]]:
    """Return commands that work when pasted after the first, each with what it shows."""
    failed = next((info.id for info in infos if info.outcome and info.outcome.cls == "oom"), "JOB")
    done = next((info.id for info in infos if info.state is JobState.COMPLETED), "JOB")
    return [
        (f"cd {shlex.quote(str(root))} && {EVAL}", "kubectl, helm, heavylift, rq and Redis in this shell"),
        (f"kubectl get heavyqueues,jobs,pods -n {namespace}", "what Kubernetes has"),
        (f"kubectl get pods -n {release}", "Heavylift itself"),
        ("heavylift queues list", "the queue"),
        ("heavylift jobs list --queue reports --state failed", "what failed"),
        (f"heavylift jobs why {failed}", "why, in a sentence"),
        (f"heavylift jobs show {done}", "one job with its result and history"),
        ("heavylift enqueue reports annual --data '{\"year\": 2024}' --wait", "one more"),
        ("heavylift enqueue reports annual --data '{\"year\": 1850}' --wait", "one that cannot be had"),
        ('rq info -u "$HEAVYLIFT_REDIS_URL"', "RQ's own view"),
        ("make demo-down", "remove all of it"),
    ]
