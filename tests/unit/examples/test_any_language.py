"""The shell job keeps the contract that any program must keep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from heavylift.contract.names import Env, ExitCode
from heavylift.spec import HeavyQueue

EXAMPLE = Path(__file__).parents[3] / "examples" / "any-language"


def start(payload: object, result: Path) -> subprocess.Popen[str]:
    """Start the job with a payload, as a pod would."""
    env = {
        "PATH": os.environ["PATH"],
        Env.JOB_ID: "words-1",
        Env.ATTEMPT: "1",
        Env.PAYLOAD: json.dumps(payload),
        Env.RESULT_FILE: str(result),
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(["/bin/sh", EXAMPLE / "job.sh"], env=env, stdout=pipe, stderr=pipe, text=True)


def test_the_result_is_json_in_the_result_file(tmp_path: Path) -> None:
    """Exit code 0, and the file holds what the README shows."""
    result = tmp_path / "result"
    job = start({"text": "heavy jobs lifted with ease"}, result)
    assert job.communicate(timeout=30)[1] == ""
    assert job.returncode == ExitCode.OK
    assert json.loads(result.read_text()) == {"words": 5, "characters": 27}
    assert result.read_text() in (EXAMPLE / "README.md").read_text()


def test_input_that_no_retry_can_mend_ends_with_64(tmp_path: Path) -> None:
    """The last line says what to do; no result is written."""
    job = start({"txt": "misspelt"}, tmp_path / "result")
    words = job.communicate(timeout=30)[1]
    assert job.returncode == ExitCode.NO_RETRY
    assert 'enqueue with --data \'{"text": "some words"}\'' in words
    assert not (tmp_path / "result").exists()


def test_sigterm_ends_it_non_zero_at_once(tmp_path: Path) -> None:
    """A stopped job never counts as done."""
    job = start({"text": "slow", "seconds": 60}, tmp_path / "result")
    assert job.stdout is not None
    assert "counting" in job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=30)
    assert job.returncode == ExitCode.TERMINATED
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("path", sorted(EXAMPLE.glob("*.yaml")), ids=lambda path: path.name)
def test_the_queue_is_sound(path: Path) -> None:
    """The HeavyQueue of the example can be served."""
    assert HeavyQueue.parse(yaml.safe_load(path.read_text())).queue == "words"
