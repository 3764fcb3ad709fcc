"""A real Prometheus and promtool for tests: Debian's package, unpacked into the user's cache without installing it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.cluster.paths import cache_root
from tests.proofs.waiting import until
from tests.servers import free_port

Json = dict[str, Any]
PROGRAMS = ("prometheus", "promtool")
START_LIMIT_S = 60.0


def programs() -> Path:
    """Return the folder that holds ``prometheus`` and ``promtool``; the first call downloads them if need be.

    Raises:
        RuntimeError: they are not there and cannot be had; the message says how to get them.
    """
    found = shutil.which("prometheus")
    if found is not None and (Path(found).parent / "promtool").exists():
        return Path(found).parent
    folder = cache_root() / "prometheus"
    if not _complete(folder):
        _unpack(folder)
    return folder


def _unpack(folder: Path) -> None:
    """Put the programs into the folder, all at once, so that others who do the same do no harm."""
    remedy = "install Prometheus with promtool (Debian: apt-get install prometheus)"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError(f"no prometheus and no apt-get here: {remedy}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        if _run("apt-get", "download", "prometheus", cwd=place) and os.geteuid() == 0:
            _run("apt-get", "update", "-qq", cwd=place)  # a fresh container has no lists
            _run("apt-get", "download", "prometheus", cwd=place)
        packages = sorted(Path(place).glob("prometheus_*.deb"))
        if not packages:
            raise RuntimeError(f"apt-get download prometheus brought nothing (are there package lists?): {remedy}")
        if error := _run("dpkg-deb", "-x", str(packages[0]), "tree", cwd=place):
            raise RuntimeError(f"{packages[0].name} cannot be unpacked: {error}")
        ready = Path(place) / "ready"
        ready.mkdir()
        for name in PROGRAMS:
            shutil.move(Path(place) / "tree" / "usr" / "bin" / name, ready / name)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            ready.rename(folder)
        except OSError:
            if not _complete(folder):  # else somebody else was quicker
                raise


def _complete(folder: Path) -> bool:
    return all((folder / name).exists() for name in PROGRAMS)


def _run(*command: str, cwd: str) -> str:
    """Run a command; return what it said if it failed, else nothing."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""


def promtool(*arguments: str, text: str = "") -> str:
    """Run promtool on a text and return all it says.

    Raises:
        AssertionError: it found something.
    """
    command = [str(programs() / "promtool"), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@dataclass
class Prometheus:
    """One server that scrapes given targets."""

    folder: Path
    targets: Mapping[str, Sequence[int]]
    """Job name -> ports on the loopback that serve /metrics."""
    rules: Sequence[Json] = ()
    """Groups of rules."""
    interval: str = "2s"
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels every target gets, as Kubernetes would give ``namespace``."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yml").write_text(yaml.safe_dump({"groups": list(self.rules)}))
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(self._config()))
        command = [
            str(programs() / "prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        until(self._ready, "Prometheus to be ready", limit=START_LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def _config(self) -> Json:
        return {
            "global": {
                "scrape_interval": self.interval,
                "evaluation_interval": self.interval,
                "scrape_timeout": self.interval,
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": name,
                    "static_configs": [
                        {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": dict(self.labels)}
                    ],
                }
                for name, ports in self.targets.items()
            ],
        }

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the ``data`` of an answer of the HTTP API.

        Raises:
            AssertionError: Prometheus refused; with its words.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode(errors='replace')}") from None

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return an instant vector: sorted label pairs -> value."""
        found = self.ask("query", query=expression)["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that gives one series; None when it gives none."""
        found = list(self.query(expression).values())
        assert len(found) <= 1, f"{expression} gives {len(found)} series"
        return found[0] if found else None

    def alerts(self, state: str = "firing") -> set[str]:
        """Return the names of alerts that fire, or with ``pending`` of those that will if it lasts."""
        return {one["labels"]["alertname"] for one in self.ask("alerts")["alerts"] if one["state"] == state}
