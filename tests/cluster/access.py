"""A cluster as tests see it: a kubeconfig and the programs that use it."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from tests.cluster import build
from tests.cluster.errors import ClusterError, MissingToolError

VARIABLE = "HEAVYLIFT_E2E_KUBECONFIG"
"""Environment variable with the kubeconfig of a cluster to be used instead of ours."""


class Access(ABC):
    """What any cluster offers, ours or a given one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The cluster's name."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """The kubeconfig."""

    @abstractmethod
    def bin(self, name: str) -> Path:
        """Return the path of a program such as ``kubectl`` or ``helm``."""

    def environment(self) -> dict[str, str]:
        """Return this process's environment with KUBECONFIG and PATH set for this cluster."""
        path = f"{self.bin('kubectl').parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Run kubectl and return what it prints.

        Raises:
            ClusterError: it failed (with ``check``); the message has its words.
        """
        done = subprocess.run(
            [self.bin("kubectl"), *args],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout


@dataclass(frozen=True)
class GivenCluster(Access):
    """A cluster of the caller's: its programs are the caller's too, or those that were built.

    Attributes:
        path: its kubeconfig.
    """

    path: Path

    @property
    @override
    def name(self) -> str:
        return "given"

    @property
    @override
    def kubeconfig(self) -> Path:
        return self.path

    @override
    def bin(self, name: str) -> Path:
        found = shutil.which(name) or shutil.which(name, path=str(build.bin_dir()))
        if found is None:
            raise MissingToolError(f"{name} is not on PATH; install it, or build it: python -m tests.cluster build")
        return Path(found)


def given_cluster() -> GivenCluster | None:
    """Return the cluster that HEAVYLIFT_E2E_KUBECONFIG names, or None if it names none.

    Raises:
        ClusterError: it names a file that does not exist.
    """
    value = os.environ.get(VARIABLE, "")
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ClusterError(f"{VARIABLE}={value}: no such file; name a kubeconfig, or unset it to use a cluster of ours")
    return GivenCluster(path)
