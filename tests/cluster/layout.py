"""Where one cluster's parts listen and lie: chosen once at its start, kept in its state folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.cluster.errors import ClusterError
from tests.cluster.ports import free_ports

FILE = "layout.json"


@dataclass(frozen=True)
class Layout:
    """Addresses and ports of a cluster's parts.

    Attributes:
        folder: the state folder.
        bin: folder of the built programs.
        host: address of the API server, also the real node's.
        etcd: etcd's port for clients.
        etcd_peer: etcd's port for other members, of which there are none.
        apiserver: the API server's port.
        controller_manager: health and metrics port of kube-controller-manager.
        scheduler: health and metrics port of kube-scheduler.
        services: CIDR of ClusterIPs.
        pods: CIDR of pod addresses.
        gateway: address of this machine as pods and the node see it; empty where they cannot.
    """

    folder: Path
    bin: Path
    host: str
    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int
    services: str
    pods: str
    gateway: str = ""

    @classmethod
    def on_loopback(cls, folder: Path, binaries: Path) -> Self:
        """Return a layout on free ports of 127.0.0.1."""
        etcd, peer, apiserver, manager, scheduler = free_ports(5)
        return cls(
            folder=folder,
            bin=binaries,
            host="127.0.0.1",
            etcd=etcd,
            etcd_peer=peer,
            apiserver=apiserver,
            controller_manager=manager,
            scheduler=scheduler,
            services="10.96.0.0/16",
            pods="10.244.0.0/16",
        )

    @property
    def pki(self) -> Path:
        """Folder of keys and certificates."""
        return self.folder / "pki"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.host}:{self.apiserver}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    def kubeconfig_of(self, identity: str) -> Path:
        """Return the path of a component's own kubeconfig."""
        return self.folder / "conf" / f"{identity}.kubeconfig"

    def save(self) -> None:
        """Write the layout into the state folder."""
        content = {**asdict(self), "folder": str(self.folder), "bin": str(self.bin)}
        (self.folder / FILE).write_text(json.dumps(content, indent=2))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the layout of a state folder.

        Raises:
            ClusterError: there is none, or it cannot be read.
        """
        try:
            raw = json.loads((folder / FILE).read_text())
            return cls(folder=Path(raw.pop("folder")), bin=Path(raw.pop("bin")), **raw)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ClusterError(f"no running cluster in {folder}: {error}") from error
