"""The shape without root: the control plane on loopback, nodes simulated by kwok."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tests.cluster import build, controlplane, stages
from tests.cluster.api import wait_for
from tests.cluster.build import Say
from tests.cluster.controlplane import KWOK
from tests.cluster.layout import Layout
from tests.cluster.process import Command, Processes
from tests.cluster.spec import ClusterSpec


class Shape(Protocol):
    """What differs between clusters of simulated and of real nodes."""

    def prepare(self, spec: ClusterSpec, binaries: Path) -> Layout:
        """Choose addresses and ports; write keys, certificates and configuration."""

    def commands(self, spec: ClusterSpec, layout: Layout) -> dict[str, Command]:
        """Return the components in the order in which they start."""

    def start(self, spec: ClusterSpec, layout: Layout, processes: Processes, say: Say) -> None:
        """Start the components and return when pods can run."""

    def clean(self, spec: ClusterSpec, folder: Path) -> None:
        """Remove what lies outside the state folder, once the recorded programs have ended."""


class SimulatedShape:
    """Nodes simulated by kwok."""

    def prepare(self, spec: ClusterSpec, binaries: Path) -> Layout:
        """Take free ports of 127.0.0.1 and write all files."""
        layout = Layout.on_loopback(spec.folder, binaries)
        controlplane.write_identities(layout)
        (spec.folder / "kwok.yaml").write_text(stages.kwok_config(build.stages_dir()))
        return layout

    def commands(self, spec: ClusterSpec, layout: Layout) -> dict[str, Command]:
        """Return the control plane and kwok."""
        parts = controlplane.commands(spec, layout)
        argv = [
            str(layout.bin / KWOK),
            f"--kubeconfig={layout.kubeconfig_of('kwok')}",
            f"--config={layout.folder / 'kwok.yaml'}",
        ]
        parts[KWOK] = Command(KWOK, argv, controlplane.environment(layout))
        return parts

    def start(self, spec: ClusterSpec, layout: Layout, processes: Processes, say: Say) -> None:
        """Start everything, create the nodes and wait until they are Ready."""
        del say
        parts = self.commands(spec, layout)
        controlplane.start(parts, layout, processes)
        api = controlplane.api_of(layout)
        processes.start(parts[KWOK])
        for index in range(spec.node_count):
            api.create("/api/v1/nodes", stages.node(f"node-{index}"))
        wait_for(
            "the simulated nodes to be Ready",
            lambda: controlplane.ready_nodes(api) >= spec.node_count,
            60,
            lambda: controlplane.ended(processes, list(parts)),
        )
        controlplane.wait_service_account(api, processes)

    def clean(self, spec: ClusterSpec, folder: Path) -> None:
        """Leave nothing to do: all is processes and files."""
