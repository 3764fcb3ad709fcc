"""The README's Python is run as it stands: the task in a pod's runner, the producer against a real Redis."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heavylift.contract import envelope
from heavylift.contract.payload import decode

if TYPE_CHECKING:
    from heavylift.store.model import Claim
    from tests.integration.client.conftest import Player
    from tests.servers import StoreServer

ROOT = Path(__file__).parents[3]
LIMIT_S = 60


def blocks(path: Path) -> list[str]:
    """Return a page's Python blocks."""
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def run_in_pod(claim: Claim, folder: Path, module: str) -> tuple[int, str]:
    """Run the claimed job as its pod would; return exit code and termination message."""
    payload, result = decode(claim.data), folder / "termination-log"
    env = {
        "PATH": os.environ["PATH"],
        "HEAVYLIFT_JOB_ID": claim.job,
        "HEAVYLIFT_JOB_TASK": payload.task,
        "HEAVYLIFT_JOB_QUEUE": claim.queue,
        "HEAVYLIFT_JOB_ATTEMPT": str(claim.attempt),
        "HEAVYLIFT_JOB_EXECUTION": claim.execution,
        "HEAVYLIFT_JOB_PAYLOAD": payload.data_json,
        "HEAVYLIFT_JOB_RESULT_FILE": str(result),
    }
    command = [sys.executable, "-m", "heavylift", "run", module]
    code = subprocess.run(command, cwd=folder, env=env, timeout=LIMIT_S, check=False).returncode
    return code, result.read_text(encoding="utf-8")


def test_readme_runs_as_it_stands(served: Player, redis_server: StoreServer, tmp_path: Path) -> None:
    """The README's producer prints what the README's task returns."""
    task, producer = blocks(ROOT / "README.md")
    (tmp_path / "work.py").write_text(task, encoding="utf-8")
    (tmp_path / "producer.py").write_text(producer, encoding="utf-8")
    env = {**os.environ, "HEAVYLIFT_REDIS_URL": redis_server.url}
    with subprocess.Popen([sys.executable, "producer.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        claim = None
        while claim is None and process.poll() is None:
            claim = served.claim()
        assert claim is not None
        code, message = run_in_pod(claim, tmp_path, "work")
        served.complete(claim, envelope.decode(message, claim.execution).value_json)
        printed, _ = process.communicate(timeout=LIMIT_S)

    assert code == 0
    assert printed.decode().strip() == str({"report": "annual/2024.pdf"})
