"""Builds an image from a Dockerfile by buildah, with a storage of its own and without a registry."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.rootfs import EPOCH

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The machine's authorities, seen by builds where a proxy signs anew; the image keeps its own."""

PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy")
PIP_FILES = (Path("/etc/pip.conf"), Path("~/.pip/pip.conf"), Path("~/.config/pip/pip.conf"))
SCRATCH = "scratch"
"""Folder, in the builder's, of what one call needs; whoever holds the builder's lock may clear it."""

MOST_STORED = 150
"""Images in the storage, one for each step of a build: some ten builds after a change each."""

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
NOT_INPUTS = ("__pycache__", "*.pyc", ".git", ".venv")


@dataclass(frozen=True)
class Recipe:
    """What an image is made of.

    Attributes:
        dockerfile: the Dockerfile.
        context: the folder its COPY paths are relative to.
        inputs: files and folders in ``context`` that the build reads; nothing else is seen by it.
        args: build arguments, BASE among them.
    """

    dockerfile: Path
    context: Path
    inputs: Sequence[str]
    args: Mapping[str, str]


def input_files(recipe: Recipe) -> Iterator[Path]:
    """Yield the files a build reads, in a fixed order.

    Raises:
        ClusterError: an input does not exist.
    """
    for name in sorted(recipe.inputs):
        top = recipe.context / name
        if not top.exists():
            raise ClusterError(f"{recipe.dockerfile}: its input {top} does not exist")
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(recipe.context)
            ignored = any(relative.match(pattern) or pattern in relative.parts for pattern in NOT_INPUTS)
            if path.is_file() and not ignored:
                yield path


def key_of(recipe: Recipe) -> str:
    """Return a name for the recipe's content: it changes when a rebuild is needed."""
    digest = hashlib.sha256(recipe.dockerfile.read_bytes())
    digest.update(repr(sorted(recipe.args.items())).encode())
    for path in input_files(recipe):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(recipe.context)} {path.stat().st_mode & 0o111:o} {content}\n".encode())
    return digest.hexdigest()[:16]


def declared_args(dockerfile: str) -> set[str]:
    """Return the names a Dockerfile declares by ARG."""
    lines = re.findall(r"^\s*ARG\s+(.+)$", dockerfile, re.MULTILINE | re.IGNORECASE)
    return {word.partition("=")[0] for line in lines for word in line.split()}


def pip_settings(environ: Mapping[str, str], files: Sequence[Path] = PIP_FILES) -> dict[str, str]:
    """Return how this machine's pip reaches its index, as build arguments such as PIP_INDEX_URL."""
    config = configparser.RawConfigParser(strict=False)
    config.read([path.expanduser() for path in files])
    found = {}
    for name in PIP_SETTINGS:
        variable = f"PIP_{name.replace('-', '_').upper()}"
        value = environ.get(variable) or config.get("global", name, fallback="")
        if value:
            found[variable] = value
    return found


class Buildah:
    """buildah with its storage in ``folder``.

    Each call has a mount namespace of its own, so that storage mounts end with it.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "storage"
        self._policy = folder / "policy.json"
        self._scratch = folder / SCRATCH

    def _run(self, *args: str) -> str:
        for path in (self._root, self._scratch):
            path.mkdir(parents=True, exist_ok=True)
        self._policy.write_text(POLICY)
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._scratch) as scratch:
            storage = [f"--root={self._root}", f"--runroot={scratch}/run", "--storage-driver=overlay"]
            private = ["unshare", "--mount", "--propagation=private", "--"]
            done = subprocess.run(
                [*private, "buildah", *storage, *args],
                env={**os.environ, "TMPDIR": scratch},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        if done.returncode != 0:
            raise ClusterError(f"buildah {args[0]} failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def trim(self, limit: int = MOST_STORED) -> None:
        """Begin with an empty storage if it holds more images than the limit: buildah compares each step with all."""
        listed = self._root / "overlay-images"
        if listed.is_dir() and sum(path.is_dir() for path in listed.iterdir()) > limit:
            shutil.rmtree(self._root)

    def has(self, tag: str) -> bool:
        """Tell whether the storage holds an image."""
        try:
            self._run("inspect", "--type=image", "--format={{.FromImageID}}", tag)
        except ClusterError:
            return False
        return True

    def build(self, recipe: Recipe, tag: str) -> None:
        """Build an image and keep it in the storage as ``tag``.

        Raises:
            ClusterError: the build failed; the message ends with what it said.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="context-", dir=self._scratch) as folder:
            context = Path(folder)
            stage(recipe, context)
            declared = declared_args(recipe.dockerfile.read_text())
            args = {**recipe.args, **{k: v for k, v in pip_settings(os.environ).items() if k in declared}}
            mounts = []
            if CERTIFICATES.is_file():
                mounts = [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"]
                if "PIP_CERT" in declared:
                    args["PIP_CERT"] = str(CERTIFICATES)
            self._run(
                "bud",
                *("--isolation=chroot", "--network=host", "--layers", "--pull=never", f"--timestamp={EPOCH}"),
                f"--signature-policy={self._policy}",
                *mounts,
                *(f"--build-arg={name}={value}" for name, value in sorted(args.items())),
                f"--file={context / '.Dockerfile'}",
                f"--tag={tag}",
                str(context),
            )

    def export(self, tag: str, name: str, path: Path) -> None:
        """Write an image of the storage to an OCI archive, under the full name ``name``."""
        part = path.with_name(f".{path.name}.part")
        part.unlink(missing_ok=True)
        policy = f"--signature-policy={self._policy}"
        self._run("push", "--quiet", policy, "--disable-compression", tag, f"oci-archive:{part}:{name}")
        part.replace(path)


def stage(recipe: Recipe, folder: Path) -> None:
    """Copy a recipe's Dockerfile and inputs to an empty folder, with one time stamp, so that layers are found again."""
    shutil.copyfile(recipe.dockerfile, folder / ".Dockerfile")
    for path in input_files(recipe):
        target = folder / path.relative_to(recipe.context)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (int(EPOCH), int(EPOCH)))
