"""Staged jobs, and ways to kill: what the proofs of durability share."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Self

from heavylift.contract.keys import Field
from tests.proofs.history import History, check
from tests.proofs.processes import Daemon, Supervisor
from tests.proofs.run import Run
from tests.proofs.waiting import until

Json = dict[str, Any]
FAILING, OOM = 5, 7
"""Every so-many-th job exits with 3, or is killed for memory."""


def staged(count: int, prefix: str = "j", seed: int = 1) -> dict[str, Json]:
    """Return id -> data of so many jobs: most return their own number, some fail, all after 50 to 800 ms."""
    choice = random.Random(seed)
    jobs: dict[str, Json] = {}
    for n in range(count):
        data: Json = {"run-ms": str(choice.randint(50, 800)), "message": json.dumps({"number": n})}
        if n % FAILING == 1:
            data |= {"exit-code": "3", "message": f"failed on purpose: {n}"}
        elif n % OOM == 2:
            data |= {"exit-code": "137", "reason": "OOMKilled"}
        jobs[f"{prefix}-{n:04}"] = data
    return jobs


def expected_class(data: Mapping[str, str]) -> str:
    """Return the outcome class of a staged job."""
    if "reason" in data:
        return "oom"
    return "error" if "exit-code" in data else "succeeded"


def wrong_ends(run: Run, jobs: Mapping[str, Json]) -> list[str]:
    """Return a sentence for each job whose end is not the staged one: class, attempts spent, or result."""
    return [sentence for job, data in jobs.items() for sentence in _wrong_end(job, data, run.fields(job))]


def _wrong_end(job: str, data: Json, fields: Mapping[str, str]) -> Iterable[str]:
    expected = expected_class(data)
    outcome = json.loads(fields.get(Field.OUTCOME) or "{}")
    history = json.loads(fields.get(Field.HISTORY) or "[]")
    attempts = 1 if expected == "succeeded" else 2
    if outcome.get("class") != expected:
        yield f"{job} ended as {outcome.get('class')} ({outcome.get('message')}), staged {expected}"
    elif [entry["attempt"] for entry in history] != list(range(1, attempts + 1)):
        told = [(entry["seq"], entry["attempt"], entry["class"], entry["next"]) for entry in history]
        yield f"{job} has executions {told} (seq, attempt, class, next), expected {attempts} attempts"
    if expected == "succeeded" and json.loads(fields.get(Field.RESULT) or "null") != json.loads(data["message"]):
        yield f"{job} has result {fields.get(Field.RESULT)!r}, its pod left {data['message']!r}"


def assert_sound(run: Run, jobs: Mapping[str, Json], history: History) -> None:
    """Assert that a finished run broke no promise and that each job ended as staged; name all that did not."""
    kept = {job: data for job, data in jobs.items() if job not in history.lost}
    broken = [*check(history), *wrong_ends(run, kept)]
    stories = [told(history, job) for job in kept if any(job in sentence.split() for sentence in broken)]
    assert not broken, f"{len(broken)} broken promises:\n" + "\n".join([*broken[:40], *stories[:5]])


def told(history: History, job: str) -> str:
    """Return a job's events as lines of text."""
    lines = [f"  {line.at} {line.name} {dict(line.fields)}" for line in history.of(job)]
    return "\n".join([f"events of {job}:", *lines])


class Killer:
    """Sends SIGKILL to random processes of a supervisor in a thread, each only once it was ready again."""

    def __init__(self, supervisor: Supervisor, *, kills: int, seed: int = 7) -> None:
        self._supervisor = supervisor
        self._choice = random.Random(seed)
        self._wanted = kills
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.kills: list[str] = []
        """Names of the processes killed so far."""

    def __enter__(self) -> Self:
        """Start killing."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop killing."""
        self._stop.set()
        self._thread.join(30)

    @property
    def done(self) -> bool:
        """Whether all kills were done."""
        return len(self.kills) >= self._wanted

    def _run(self) -> None:
        while not self.done and not self._stop.wait(self._choice.uniform(0.05, 0.4)):
            ready = [daemon for daemon in self._supervisor.daemons if daemon.running and daemon.probe()[0] == 200]
            if ready:
                victim = self._choice.choice(ready)
                victim.kill()
                self.kills.append(victim.name)


def wait_killed(daemons: Iterable[Daemon], limit: float = 60.0) -> None:
    """Wait until each of these processes was ended by SIGKILL (a failpoint's, say)."""
    all_of_them = list(daemons)
    until(
        lambda: all(daemon.returncode == -9 for daemon in all_of_them),
        "every armed process to be killed by its failpoint",
        limit=limit,
    )
