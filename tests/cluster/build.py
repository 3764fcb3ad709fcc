"""Builds the cluster's programs from their Go modules, once per version, into the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.golang import ensure_go
from tests.cluster.paths import TOOLS, cache_root

KUBERNETES = "v1.36.3"
HELM = "v3.22.0"
_VERSION = "k8s.io/component-base/version"
LDFLAGS = " ".join(
    [
        "-s -w",
        *(
            f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=36"
            f" -X {package}.gitTreeState=clean -X {package}.gitCommit={KUBERNETES}"
            for package in (_VERSION, "k8s.io/client-go/pkg/version")
        ),
        f"-X helm.sh/helm/v3/internal/version.version={HELM}",
        *(
            f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor=36"
            for package in ("chartutil", "lint/rules")
        ),
    ],
)
FLAGS = ("-trimpath", "-buildvcs=false")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """A program to build: its name, its Go package, and the folder of the module that fixes its version."""

    name: str
    package: str
    module: Path = TOOLS
    real_only: bool = False


PROGRAMS = (
    Program("etcd", "go.etcd.io/etcd/server/v3", TOOLS / "etcd"),
    Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    Program("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    Program("helm", "helm.sh/helm/v3/cmd/helm"),
    Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", real_only=True),
    Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", real_only=True),
    Program("coredns", "./coredns", real_only=True),
)
STAGES = "stages"
"""Folder beside ``bin`` with the stage files of kwok's own module."""


def programs_for(nodes: str) -> tuple[Program, ...]:
    """Return what the shape ``nodes`` (``kwok`` or ``real``) needs, in the order in which it is built."""
    return tuple(program for program in PROGRAMS if nodes == "real" or not program.real_only)


def version_key() -> str:
    """Return a name for this set of versions and flags: it changes when a rebuild is needed."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "coredns/main.go", "etcd/go.mod", "etcd/go.sum"):
        digest.update((TOOLS / name).read_bytes())
    digest.update(" ".join((*FLAGS, LDFLAGS, os.uname().machine)).encode())
    return f"{KUBERNETES}-{digest.hexdigest()[:12]}"


def home() -> Path:
    """Return the cache folder of this version's programs."""
    return cache_root() / version_key()


def bin_dir() -> Path:
    """Return the folder of this version's finished programs."""
    return home() / "bin"


def stages_dir() -> Path:
    """Return the folder of kwok's own stage files."""
    return home() / STAGES


def missing(nodes: str) -> list[Program]:
    """Return the programs of a shape that are not built yet."""
    return [program for program in programs_for(nodes) if not (bin_dir() / program.name).is_file()]


def ensure_built(nodes: str, say: Say) -> Path:
    """Build what the shape still lacks and return the folder of the programs.

    A program counts only once it is whole: it is built under another name and renamed. Two builders wait for each
    other.

    Raises:
        ClusterError: a build failed; the message ends with what Go said.
    """
    if not missing(nodes) and stages_dir().is_dir():
        return bin_dir()
    bin_dir().mkdir(parents=True, exist_ok=True)
    with build_lock(say):
        go = ensure_go()
        todo = missing(nodes)
        for index, program in enumerate(todo, 1):
            _build(go, program, f"{index}/{len(todo)}", say)
        if not stages_dir().is_dir():
            _copy_stages(go)
    return bin_dir()


@contextmanager
def build_lock(say: Say) -> Iterator[None]:
    """Hold the lock of the cache folder; say so once when another process has it."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "build.lock").open("w") as handle:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            say("another process is building; waiting for it")
            flock(handle, LOCK_EX)
        yield


def _environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}


def _build(go: Path, program: Program, count: str, say: Say) -> None:
    started = time.monotonic()
    say(f"[{count}] building {program.name} ...")
    target = bin_dir() / program.name
    part = target.with_name(f".{program.name}.part")
    command = [str(go), "build", "-v", *FLAGS, "-ldflags", LDFLAGS, "-o", str(part), program.package]
    tail = _run_build(command, program, say)
    if tail is not None:
        msg = f"building {program.name} failed:\n{tail}"
        raise ClusterError(msg)
    part.replace(target)
    say(f"[{count}] {program.name} built in {time.monotonic() - started:.0f} s")


def _run_build(command: list[str], program: Program, say: Say, every: float = 15.0) -> str | None:
    """Run ``go build -v``, report every ``every`` seconds, and return its last words if it failed."""
    lines: list[str] = []
    spoke = time.monotonic()
    with subprocess.Popen(
        command, cwd=program.module, env=_environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            if time.monotonic() - spoke > every:
                spoke = time.monotonic()
                say(f"      {program.name}: {len(lines)} packages, now {lines[-1]}")
    return None if process.returncode == 0 else "\n".join(lines[-20:])


def _copy_stages(go: Path) -> None:
    listed = subprocess.run(
        [str(go), "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"],
        cwd=TOOLS,
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    part = home() / f".{STAGES}.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(Path(listed.stdout.strip()) / "kustomize" / "stage", part, copy_function=shutil.copyfile)
    for folder in (part, *(path for path in part.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # the module cache is read-only, and so would be its copy
    part.rename(stages_dir())
