"""A running cluster, and how it comes up and goes down."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, flock
from pathlib import Path

from typing_extensions import override

from tests.cluster import build, controlplane, doctor, leftovers, packages, simulated
from tests.cluster.access import Access
from tests.cluster.api import wait_for
from tests.cluster.build import Say
from tests.cluster.controlplane import APISERVER, ETCD
from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout
from tests.cluster.paths import PREFIX, state_root
from tests.cluster.process import Command, Processes
from tests.cluster.spec import SHAPES, ClusterSpec

SPEC = "spec.json"
STOP_ORDER = (
    "kubelet",
    "kube-proxy",
    "coredns",
    "kwok",
    "kube-scheduler",
    "kube-controller-manager",
    APISERVER,
    ETCD,
    "containerd",
    "node",
)
"""Who goes first: those that would report or repair what vanishes under them."""


@dataclass(frozen=True)
class Cluster(Access):
    """A cluster that was brought up; no I/O in its attributes.

    Attributes:
        spec: what it was asked to be.
        layout: where its parts listen and lie.
    """

    spec: ClusterSpec
    layout: Layout

    @property
    @override
    def name(self) -> str:
        """The cluster's name."""
        return self.spec.name

    @property
    @override
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def gateway(self) -> str:
        """Address of this machine as pods see it; empty on simulated nodes."""
        return self.layout.gateway

    @property
    def processes(self) -> Processes:
        """The cluster's programs."""
        return Processes(self.layout.folder)

    @override
    def bin(self, name: str) -> Path:
        """Return the path of a built program, such as ``kubectl`` or ``helm``.

        Raises:
            ClusterError: no such program is built.
        """
        path = self.layout.bin / name
        if not path.is_file():
            raise ClusterError(f"no program {name} in {self.layout.bin}")
        return path

    def components(self) -> dict[str, Command]:
        """Return all components by name, in the order in which they start."""
        return _shape(self.spec).commands(self.spec, self.layout)

    def pid(self, component: str) -> int | None:
        """Return the process id of a component, or None if it does not run."""
        self._known(component)
        return self.processes.pid(component)

    def stop(self, component: str) -> None:
        """End a component by SIGTERM and wait until it is gone."""
        self._known(component)
        self.processes.stop(component)

    def kill(self, component: str) -> None:
        """End a component by SIGKILL and wait until it is gone."""
        self._known(component)
        self.processes.signal(component, signal.SIGKILL)
        self.processes.stop(component)

    def start(self, component: str) -> None:
        """Start a component that was stopped; for etcd and the API server wait until the API answers."""
        command = self._known(component)
        self.processes.start(command)
        if component == APISERVER or (component == ETCD and self.processes.pid(APISERVER) is not None):
            controlplane.wait_ready(self.processes, controlplane.api_of(self.layout))

    def restart(self, component: str) -> None:
        """Stop a component and start it again, on the same ports and data."""
        self.stop(component)
        self.start(component)

    def healthy(self) -> bool:
        """Tell whether all components run and the API server is ready."""
        processes = self.processes
        if any(processes.pid(name) is None for name in self.components()):
            return False
        return controlplane.api_of(self.layout).ok("/readyz")

    def _known(self, component: str) -> Command:
        parts = self.components()
        if component not in parts:
            raise ClusterError(f"no component {component}; this cluster has {', '.join(parts)}")
        return parts[component]


def _shape(spec: ClusterSpec) -> simulated.Shape:
    if spec.nodes == "real":
        from tests.cluster.real import shape as real  # noqa: PLC0415 - the simulated shape needs none of it

        return real.RealShape()
    return simulated.SimulatedShape()


def up(spec: ClusterSpec, say: Say = print) -> Cluster:
    """Bring the cluster up and return it; one that already runs as asked is left as it is.

    One that runs otherwise, or only in part, is taken down first, with all it held.

    Raises:
        ClusterError: it cannot come up; the message says why and what to do.
    """
    shape = _shape(spec)
    doctor.require(doctor.machine_problems(spec.nodes))
    packages.ensure(spec.nodes, say)
    binaries = build.ensure_built(spec.nodes, say)
    with _locked(spec.folder):
        found = find(spec.folder)
        if found is not None and found.spec == replace(spec, state=spec.folder) and found.healthy():
            return found
        if any(spec.folder.iterdir()) or leftovers.processes_of(spec.folder):
            say(f"removing the remains of an earlier cluster {spec.name}")
            _remove(spec.folder, spec)
        return _bring_up(spec, shape, binaries, say)


def _bring_up(spec: ClusterSpec, shape: simulated.Shape, binaries: Path, say: Say) -> Cluster:
    doctor.require(doctor.watcher_problems(spec.nodes))
    spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (spec.folder / SPEC).write_text(spec.to_json())
    try:
        layout = shape.prepare(spec, binaries)
        layout.save()
        cluster = Cluster(replace(spec, state=spec.folder), layout)
        shape.start(spec, layout, cluster.processes, say)
    except BaseException:
        _keep_logs(spec.folder)
        _remove(spec.folder, spec)
        raise
    return cluster


def _keep_logs(folder: Path) -> None:
    """Keep the logs of a start that failed beside the state folder, where the next one overwrites them."""
    kept = folder.with_name(f"{folder.name}-failed")
    shutil.rmtree(kept, ignore_errors=True)
    with contextlib.suppress(OSError):
        shutil.copytree(folder / "log", kept)


def down(name: str = "default", state: Path | None = None, nodes: str | None = None) -> bool:
    """Take a cluster down and remove all it left: processes, files, and for a real one mounts, interfaces and cgroups.

    Args:
        name: the cluster's name.
        state: its state folder, if it was given one.
        nodes: its shape; without it, the clusters of this name of every shape.

    Returns:
        Whether there was anything.

    Raises:
        ClusterError: something cannot be removed, by name.
    """
    shapes = (nodes,) if nodes else SHAPES
    specs = [ClusterSpec(nodes=shape, name=name, state=state) for shape in (shapes[-1:] if state else shapes)]
    taken = [_take_down(spec) for spec in specs]
    return any(taken)


def _take_down(spec: ClusterSpec) -> bool:
    if not spec.folder.is_dir() and not leftovers.processes_of(spec.folder):
        return False
    with _locked(spec.folder):
        _remove(spec.folder, spec)
        _lock_file(spec.folder).unlink(missing_ok=True)
    return True


def running(nodes: str | None = None, name: str | None = None, state: Path | None = None) -> list[Cluster]:
    """Return the clusters that were brought up and not taken down, of a shape, a name or a state folder if given."""
    if state is not None:
        folders = [state.absolute()]
    else:
        shapes = (nodes,) if nodes else SHAPES
        folders = [path for shape in shapes for path in sorted(state_root(shape).glob(f"{PREFIX}{name or '*'}"))]
    found = [find(folder) for folder in dict.fromkeys(folders)]
    return [cluster for cluster in found if cluster is not None and nodes in {None, cluster.spec.nodes}]


def find(folder: Path) -> Cluster | None:
    """Return the cluster whose state lies in ``folder``, or None if there is no whole state."""
    try:
        return Cluster(ClusterSpec.from_json((folder / SPEC).read_text()), Layout.load(folder))
    except (OSError, ClusterError):
        return None


def _remove(folder: Path, spec: ClusterSpec) -> None:
    """Stop and remove everything, whatever state it is in."""
    with contextlib.suppress(OSError, ClusterError):
        spec = ClusterSpec.from_json((folder / SPEC).read_text())
    processes = Processes(folder)
    shape = _shape(spec)
    for name in ordered(processes.recorded()):
        processes.stop(name)
    leftovers.end_processes(folder)
    shape.clean(spec, folder)
    wait_for(f"the programs of {folder} to end", lambda: not leftovers.processes_of(folder), 10)
    leftovers.remove_tree(folder)


def ordered(names: Sequence[str]) -> list[str]:
    """Return component names in the order in which they are stopped; unknown ones first."""
    return sorted(names, key=lambda name: STOP_ORDER.index(name) if name in STOP_ORDER else -1)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the cluster's lock, which lies beside its folder, and make sure that the folder is ours."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = _lock_file(folder)
    while True:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as handle:
            flock(handle, LOCK_EX)
            if not _same_file(handle.fileno(), path):
                continue  # whoever held it took the cluster down and removed the file
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise ClusterError(f"{folder} belongs to another user; give another --name or --state")
            yield
            return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
