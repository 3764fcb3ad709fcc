"""A job's image without Python or anything of ours: the contract is enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from heavylift.errors import JobFailedError
from tests.e2e.bench import Bench
from tests.e2e.conftest import wait_serving
from tests.proofs.kube import heavyqueues
from tests.proofs.waiting import until

QUEUE = Path(__file__).parents[2] / "examples" / "any-language" / "queue.yaml"
IMAGE = os.environ.get("HEAVYLIFT_E2E_SHELL_IMAGE", "localhost/heavylift/job-shell:dev")


@pytest.fixture(scope="module")
def words(bench: Bench) -> Bench:
    """Give the bench with the example's queue served, as it stands in the repository."""
    queue = yaml.safe_load(QUEUE.read_text())
    queue["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
    bench.kube.apply(heavyqueues(bench.namespace, "words"), queue)
    wait_serving(bench.kube, bench.namespace, ["words"])
    return bench


def test_a_shell_script_brings_back_its_result(words: Bench) -> None:
    """What the script wrote to its result file is the job's result."""
    job = words.enqueue("words", "count", {"text": "heavy jobs lifted with ease"})
    assert job.wait(timeout="60s") == {"words": 5, "characters": 27}


def test_a_shell_script_says_that_no_retry_helps(words: Bench) -> None:
    """Exit code 64 ends the job at its first of three attempts, with the script's last words."""
    job = words.enqueue("words", "count", {"txt": "misspelt"})
    with pytest.raises(JobFailedError, match='has no field "text"'):
        job.wait(timeout="60s")
    assert len(words.sightings(job)) == 1


def test_a_shell_script_is_stopped_by_cancel(words: Bench) -> None:
    """The script ends on SIGTERM, and its pod goes well within its grace period."""
    job = words.enqueue("words", "count", {"text": "slow", "seconds": 600})
    pod = words.running_pod(job)
    assert job.cancel(reason="obsolete")
    until(lambda: not words.phase(pod), "the pod to be gone", limit=20)
    until(lambda: job.info().state.value == "cancelled", "the job to be cancelled", limit=30)
