"""What a cluster should be: the one description from which all else follows."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.cluster.errors import ClusterError
from tests.cluster.paths import default_state

SHAPES = ("kwok", "real")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?")
SOCKET_ROOM = 84
"""Characters a state folder may have, so that the longest socket in it stays under the kernel's 108."""
MAX_NODES = 1000


@dataclass(frozen=True)
class ClusterSpec:
    """A cluster to be: its shape, its name, and what its programs are told besides.

    Attributes:
        nodes: ``kwok`` (control plane and simulated nodes, no root) or ``real`` (a kubelet with containerd, root).
        name: tells clusters on one machine apart; lower case letters, digits and dashes, at most 20.
        node_count: simulated nodes; a real cluster has one node.
        state: folder for everything this cluster writes; by default named after the cluster.
        kcm_flags: further flags of kube-controller-manager, such as ``--kube-api-qps=500``.
        apiserver_flags: further flags of kube-apiserver.
        scheduler_flags: further flags of kube-scheduler.
    """

    nodes: str = "kwok"
    name: str = "default"
    node_count: int = 2
    state: Path | None = None
    kcm_flags: tuple[str, ...] = field(default=())
    apiserver_flags: tuple[str, ...] = field(default=())
    scheduler_flags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the reason."""
        if self.nodes not in SHAPES:
            raise ClusterError(f"--nodes={self.nodes}: known shapes are {' and '.join(SHAPES)}")
        if not NAME.fullmatch(self.name):
            raise ClusterError(f"--name={self.name}: use 1 to 20 lower case letters, digits and inner dashes")
        if not 1 <= self.node_count <= MAX_NODES:
            raise ClusterError(f"--node-count={self.node_count}: 1 to {MAX_NODES}")
        if len(str(self.folder)) > SOCKET_ROOM:
            raise ClusterError(f"state folder {self.folder} has over {SOCKET_ROOM} characters; give a shorter --state")
        for flag in (*self.kcm_flags, *self.apiserver_flags, *self.scheduler_flags):
            if not flag.startswith("--"):
                raise ClusterError(f"flag {flag!r}: write it in full, such as --kube-api-qps=500")

    @property
    def folder(self) -> Path:
        """The state folder, absolute."""
        return (self.state or default_state(self.nodes, self.name)).absolute()

    def to_json(self) -> str:
        """Return the spec as JSON, for the state folder."""
        return json.dumps({**asdict(self), "state": str(self.folder)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that ``to_json`` wrote.

        Raises:
            ClusterError: the text is not such a spec.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            for key in ("kcm_flags", "apiserver_flags", "scheduler_flags"):
                raw[key] = tuple(raw[key])
            raw["state"] = Path(raw["state"])
            return cls(**raw)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ClusterError(f"the state folder's spec cannot be read: {error}") from error
