"""Installing by the real helm, and reaching what it installed from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.proofs.waiting import until
from tests.servers import free_port

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "heavylift"


class ToolError(Exception):
    """helm or kubectl failed; the message has its words."""


@dataclass(frozen=True)
class Tools:
    """kubectl and helm for one cluster."""

    kubeconfig: Path
    folder: Path | None = None
    """Where they are; None = on PATH."""

    def run(self, program: str, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Run a program and return what it prints.

        Raises:
            ToolError: it failed.
        """
        done = subprocess.run(
            [self.path(program), *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if done.returncode:
            raise ToolError(f"{program} {' '.join(arguments)}: {done.stderr.strip()[-3000:]}")
        return done.stdout

    def path(self, program: str) -> str:
        """Return a program's path.

        Raises:
            ToolError: it is not there.
        """
        found = str(self.folder / program) if self.folder else shutil.which(program)
        if not found:
            raise ToolError(f"{program} is not on PATH: install it, or run without HEAVYLIFT_E2E_KUBECONFIG")
        return found

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin)

    @contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Forward a free local port to a pod or Service for the block; gives the local port."""
        local = free_port()
        argv = [self.path("kubectl"), "-n", namespace, "port-forward", target, f"{local}:{port}"]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                if "Forwarding" not in line:
                    raise ToolError(f"port-forward to {target}: {line}")
                yield local
            finally:
                process.terminate()


@dataclass(frozen=True)
class Release:
    """One helm release of our chart."""

    tools: Tools
    name: str
    namespace: str
    values: Mapping[str, Any]

    def install(self) -> None:
        """Install or upgrade to the values, and wait until all is ready."""
        self._helm("upgrade", "--install", "--create-namespace", "--wait", "--timeout=180s", str(CHART))

    def upgrade(self, **changes: Any) -> None:
        """Upgrade with changed values, by dotted names with ``__`` for the dot, and wait."""
        flags = [f"--set-json={key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()]
        self._helm("upgrade", "--wait", "--timeout=180s", *flags, str(CHART))

    def uninstall(self) -> None:
        """Uninstall and wait until the pods are gone."""
        self.tools.run("helm", "uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout=120s")
        until(lambda: not self.pods(), f"the pods of {self.name} to be gone", limit=60)

    def pods(self) -> list[Json]:
        """Return the release's pods."""
        found: Json = json.loads(self.tools.kubectl("-n", self.namespace, "get", "pods", "-o", "json", *self._mine()))
        items: list[Json] = found["items"]
        return items

    def _mine(self) -> tuple[str, str]:
        return ("-l", f"app.kubernetes.io/instance={self.name}")

    def _helm(self, verb: str, *arguments: str) -> None:
        *flags, chart = arguments
        values = json.dumps(self.values)
        base = [verb, self.name, chart, "--namespace", self.namespace, "--values", "-"]
        self.tools.run("helm", *base, *flags, stdin=values)

    def password(self) -> str:
        """Return the embedded Redis' password from its Secret."""
        template = '{{index .data "password" | base64decode}}'
        secret = f"{self.name}-redis"
        return self.tools.kubectl("-n", self.namespace, "get", "secret", secret, "-o", f"go-template={template}")
