"""Container images without a registry: built on this machine, cached by content, imported into a real cluster."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, flock
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tests.cluster import ociarchive, rootfs
from tests.cluster.build import Say
from tests.cluster.buildah import SCRATCH, Buildah, Recipe, key_of
from tests.cluster.errors import ClusterError
from tests.cluster.layout import Layout
from tests.cluster.paths import PROJECT, cache_root

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


LIST = PROJECT / "images" / "images.toml"
PREFIX = "localhost/heavylift"
TAG = "dev"
BASE_PREFIX = "localhost/heavylift-test"
KEPT = 3
"""Archives of one image that stay in the cache, the newest."""


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


def load_listed(cluster: HasLayout, names: Sequence[str] = (), say: Say = print) -> None:
    """Build images of the list, all or those named, and import them into a real cluster."""
    for archive in build_listed(names, say).values():
        load_image(cluster, archive)


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


@dataclass(frozen=True)
class Listed:
    """An image of ``images/images.toml``.

    Attributes:
        name: its name in the list.
        dockerfile: path of its Dockerfile in the repository.
        inputs: what its build reads, in the repository.
        base: name of the listed image that BASE stands for; empty: the root file system.
    """

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    base: str = ""

    @property
    def tag(self) -> str:
        """The full name under which clusters know it."""
        return f"{PREFIX}/{self.name}:{TAG}"


def listed(path: Path = LIST) -> dict[str, Listed]:
    """Return the images of the list, each after the one it stands on.

    Raises:
        ClusterError: the list cannot be read or names a base that is not in it before.
    """
    try:
        raw: dict[str, dict[str, Any]] = tomllib.loads(path.read_text())
        found = {
            name: Listed(name, entry["dockerfile"], tuple(entry.get("inputs", ())), entry.get("base", ""))
            for name, entry in raw.items()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{path}: {error!r}") from error
    names = list(found)
    for image in found.values():
        if image.base and image.base not in names[: names.index(image.name)]:
            raise ClusterError(f"{path}: the base {image.base!r} of {image.name} must stand before it")
    return found


def build_listed(names: Sequence[str] = (), say: Say = print) -> dict[str, Path]:
    """Build images of the list, all or those named, and return their archives by name.

    Raises:
        ClusterError: one is not in the list, or a build failed.
    """
    known = listed()
    for name in names:
        if name not in known:
            raise ClusterError(f"no image {name!r} in {LIST}; there are {', '.join(known)}")
    with _lock():
        orders = _orders(known, say)
        return {name: _ensure(orders[name], say) for name in names or known}


def build_image(
    dockerfile: Path,
    context: Path,
    tag: str,
    build_args: Mapping[str, str] | None = None,
    *,
    inputs: Sequence[str] = (".",),
) -> Path:
    """Build an image and return its OCI archive, which is cached by the content of all that went in.

    Args:
        dockerfile: the Dockerfile.
        context: the folder its COPY paths are relative to.
        tag: full name, such as ``localhost/example:1``.
        build_args: build arguments; BASE is our root file system unless given.
        inputs: files and folders in ``context`` that the build reads; by default all of it.

    Raises:
        ClusterError: the build failed; the message ends with what it said.
    """
    with _lock():
        root = _root_order(print)
        recipe = Recipe(dockerfile, context, inputs, {"BASE": root.stored, **(build_args or {})})
        return _ensure(_Order(tag, recipe, root if recipe.args["BASE"] == root.stored else None), print)


@dataclass(frozen=True)
class _Order:
    """An image to be there: known by the content of all that goes in, before anything is built.

    Attributes:
        tag: the full name under which clusters know it.
        recipe: what it is made of.
        base: the order of the image that it stands on, if that is one of ours.
    """

    tag: str
    recipe: Recipe
    base: _Order | None = None

    @property
    def name(self) -> str:
        """The tag's last word."""
        return self.tag.rpartition(":")[0].rpartition("/")[2]

    @cached_property
    def stored(self) -> str:
        """Its name in the builder's storage; computed once, so that one call means one content."""
        return f"{BASE_PREFIX}/built-{self.name}:{key_of(self.recipe)}"


def _orders(known: Mapping[str, Listed], say: Say) -> dict[str, _Order]:
    """Return the orders of all listed images; those they stand on come before them."""
    root, found = _root_order(say), dict[str, _Order]()
    for name, image in known.items():
        base = found[image.base] if image.base else root
        recipe = Recipe(PROJECT / image.dockerfile, PROJECT, image.inputs, {"BASE": base.stored})
        found[name] = _Order(image.tag, recipe, base)
    return found


def _root_order(say: Say) -> _Order:
    """Return the order of our root file system as an image, making the file system itself if need be."""
    tar = rootfs.ensure(folder(), say)
    dockerfile = folder() / "rootfs.Dockerfile"
    dockerfile.write_text(f'FROM scratch\nADD {tar.name} /\nCMD ["/bin/sh"]\n')
    return _Order(f"{BASE_PREFIX}/rootfs:{tar.stem}", Recipe(dockerfile, folder(), (), {"ROOTFS": tar.name}))


def _ensure(order: _Order, say: Say) -> Path:
    """Return the archive of an image, building what is missing."""
    stored = order.stored
    archive = folder() / f"{order.name}-{hashlib.sha256(f'{order.tag} {stored}'.encode()).hexdigest()[:16]}.tar"
    if archive.is_file():
        archive.touch()
        return archive
    builder = Buildah(folder())
    builder.trim()
    _store(builder, order, stored, say)
    builder.export(stored, order.tag, archive)
    _forget_old(order.name)
    return archive


def _store(builder: Buildah, order: _Order, stored: str, say: Say) -> None:
    """Have an image in the builder's storage, and before it the one that it stands on."""
    if builder.has(stored):
        return
    recipe = order.recipe
    if order.base is None:
        tar = recipe.args.get("ROOTFS")
        recipe = replace(recipe, inputs=(tar,)) if tar else recipe  # named by its key, so not read for the order's
    else:
        _store(builder, order.base, order.base.stored, say)
    say(f"building image {order.tag}")
    builder.build(recipe, stored)


def _forget_old(name: str) -> None:
    """Remove all but the newest archives of an image."""
    archives = [path for path in folder().glob(f"{name}-*.tar") if len(path.stem) == len(name) + 17]
    for path in sorted(archives, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        path.unlink(missing_ok=True)


@contextmanager
def _lock() -> Iterator[None]:
    with (folder() / "lock").open("w") as handle:
        flock(handle, LOCK_EX)
        shutil.rmtree(folder() / SCRATCH, ignore_errors=True)  # of a build that was killed
        yield
