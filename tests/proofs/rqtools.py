"""What RQ's own tools show: ``rq info``, rq-dashboard's JSON pages and django-rq's, each as the real program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.proofs.waiting import until
from tests.servers import free_port

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
_QUEUE = re.compile(
    r"queue (?P<name>\S+) (?P<waiting>\d+), (?P<started>\d+) executing, "
    r"(?P<finished>\d+) finished, (?P<failed>\d+) failed"
)


@dataclass(frozen=True)
class Shown:
    """A queue's figures as a tool shows them."""

    waiting: int
    started: int
    finished: int
    failed: int


def rq_info(url: str) -> tuple[dict[str, Shown], list[str]]:
    """Return what ``rq info --raw`` shows: figures by queue, and the lines about workers.

    Raises:
        RuntimeError: it failed.
    """
    argv = [sys.executable, "-m", "rq.cli", "info", "--url", url, "--raw"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"rq info ended with {done.returncode}: {done.stdout}{done.stderr}")
    found = {match["name"]: _shown(match) for match in _QUEUE.finditer(done.stdout)}
    return found, [line for line in done.stdout.splitlines() if line.startswith("worker ")]


def django_rq(url: str, *queues: str) -> Json:
    """Return what django-rq's pages show of these queues, as ``tests.proofs.django_pages`` says.

    Raises:
        RuntimeError: a page failed.
    """
    argv = [sys.executable, "-m", "tests.proofs.django_pages", url, *queues]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"django-rq's pages ended with {done.returncode}: {done.stdout}{done.stderr}")
    found: Json = json.loads(done.stdout)
    return found


def _shown(match: re.Match[str]) -> Shown:
    return Shown(*(int(match[name]) for name in ("waiting", "started", "finished", "failed")))


@dataclass(frozen=True)
class Dashboard:
    """A running rq-dashboard."""

    url: str

    def get(self, path: str) -> Json:
        """Return one of its JSON pages."""
        with urllib.request.urlopen(f"{self.url}/0/data/{path}", timeout=10) as reply:  # noqa: S310 - loopback
            found: Json = json.load(reply)
            return found

    def queue(self, name: str) -> Shown:
        """Return a queue's figures."""
        entry = next(entry for entry in self.get("queues.json")["queues"] if entry["name"] == name)
        kinds = ("started", "finished", "failed")
        return Shown(entry["count"], *(entry[f"{kind}_job_registry_count"] for kind in kinds))

    def jobs(self, queue: str, registry: str) -> list[str]:
        """Return the ids one of its tables lists."""
        return [job["id"] for job in self.get(f"jobs/{queue}/{registry}/20/asc/1.json")["jobs"]]

    def job(self, job: str) -> Json:
        """Return what it shows of a job."""
        return self.get(f"job/{job}.json")


@contextmanager
def dashboard(redis_url: str, folder: Path) -> Iterator[Dashboard]:
    """Run rq-dashboard with the JSON serializer for the block."""
    port = free_port()
    argv = [sys.executable, "-m", "rq_dashboard", "-b", "127.0.0.1", "-p", str(port), "-u", redis_url, "--json"]
    log = folder / "dashboard.log"
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    shown = Dashboard(f"http://127.0.0.1:{port}")
    try:
        until(lambda: "queues" in shown.get("queues.json"), "rq-dashboard to answer")
        yield shown
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{log.read_text()[-2000:]}") from None
    finally:
        process.terminate()
        process.wait(20)
