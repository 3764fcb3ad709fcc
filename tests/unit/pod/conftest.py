"""Runs ``heavylift run`` as the pod does: a process of its own, configured by its environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXECUTION = "abcdefghijklmnop-1"
LIMIT_S = 60


@dataclass(frozen=True)
class Ran:
    """What the process left behind."""

    code: int
    written: str
    stdout: str
    stderr: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The envelope's inner object."""
        inner = json.loads(self.written)["$heavylift"]
        assert isinstance(inner, dict)
        return inner


class Pod:
    """A folder with a user's module ``work`` in it, and the environment of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = folder / "termination-log"
        self.env: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HEAVYLIFT_JOB_ID": "job-1",
            "HEAVYLIFT_JOB_TASK": "main",
            "HEAVYLIFT_JOB_QUEUE": "reports",
            "HEAVYLIFT_JOB_ATTEMPT": "1",
            "HEAVYLIFT_JOB_EXECUTION": EXECUTION,
            "HEAVYLIFT_JOB_PAYLOAD": "{}",
            "HEAVYLIFT_JOB_RESULT_FILE": str(self.result),
        }

    def module(self, code: str, name: str = "work") -> None:
        """Write a module of the user."""
        (self.folder / f"{name}.py").write_text(f"import heavylift\n{code}\n", encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``heavylift run`` without waiting."""
        return subprocess.Popen(
            [sys.executable, "-m", "heavylift", "run", *(arguments or ("work",))],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Ran:
        """Wait for its end."""
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        written = self.result.read_text(encoding="utf-8") if self.result.exists() else ""
        return Ran(process.returncode, written, stdout, stderr)

    def run(self, *arguments: str, data: object = None, task: str = "main") -> Ran:
        """Run a job of this task and data to its end."""
        self.env["HEAVYLIFT_JOB_TASK"] = task
        if data is not None:
            self.env["HEAVYLIFT_JOB_PAYLOAD"] = json.dumps(data)
        return self.finish(self.start(*arguments))


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A pod whose image holds one module, ``work``."""
    return Pod(tmp_path)
