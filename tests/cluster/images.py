"""Container images without a registry: built on this machine, cached by content, imported into a real cluster."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Protocol

from tests.cluster import ociarchive
from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout
from tests.cluster.paths import cache_root

BUSYBOX = Path("/usr/bin/busybox")
BUSYBOX_IMAGE = "localhost/heavylift-test/busybox:1"
"""A shell and the usual small programs; also what keeps a pod's sandbox."""

APPLETS = [
    "awk",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mount",
    "mv",
    "nc",
    "nslookup",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "rm",
    "sed",
    "seq",
    "sh",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
    "wget",
    "which",
]
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class HasLayout(Protocol):
    """A running cluster, as far as images are concerned."""

    @property
    def layout(self) -> Layout:
        """Where the cluster's parts lie."""


def folder() -> Path:
    """Return the cache folder of images and root file systems."""
    path = cache_root() / "images"
    path.mkdir(parents=True, exist_ok=True)
    return path


def sandbox_archive() -> Path:
    """Return an archive with ``BUSYBOX_IMAGE``, made of the machine's static busybox."""
    program = BUSYBOX.read_bytes()
    path = folder() / f"busybox-{hashlib.sha256(program + repr(APPLETS).encode()).hexdigest()[:16]}.tar"
    if not path.is_file():
        ociarchive.write(busybox_image(program), path)
    return path


def busybox_image(program: bytes) -> ociarchive.Image:
    """Return the image of a static busybox; by default it waits for ever."""
    return ociarchive.Image(
        name=BUSYBOX_IMAGE,
        files={
            "bin/busybox": (program, 0o755),
            "etc/passwd": (b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644),
            "etc/group": (b"root:x:0:\nnobody:x:65534:\n", 0o644),
        },
        links={f"bin/{name}": "busybox" for name in APPLETS},
        folders={"bin": 0o755, "etc": 0o755, "tmp": 0o1777},
        command=("/bin/tail", "-f", "/dev/null"),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def load_image(cluster: HasLayout, archive: Path) -> None:
    """Import an OCI archive into a real cluster; pods need ``imagePullPolicy: Never`` or ``IfNotPresent`` to use it.

    Raises:
        ClusterError: the archive cannot be imported; the message has containerd's words.
    """
    import_archive(cluster.layout, archive)


def list_images(cluster: HasLayout) -> list[str]:
    """Return the names of a real cluster's images."""
    names = ctr(cluster.layout, "images", "list", "-q").split()
    return sorted(name for name in names if not name.startswith("sha256:"))


def import_archive(layout: Layout, archive: Path) -> None:
    """Import an OCI archive under the names that stand in it."""
    ctr(layout, "images", "import", "--all-platforms", str(archive))


def ctr(layout: Layout, *args: str) -> str:
    """Run containerd's own client against the cluster's containerd, in the namespace that kubelet uses."""
    socket = layout.folder / "containerd.sock"
    if not socket.exists():
        raise ClusterError(f"no containerd at {socket}: images need a cluster with a real node (up --nodes=real)")
    command = ["/usr/bin/ctr", f"--address={socket}", "--namespace=k8s.io", *args]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"ctr {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout
