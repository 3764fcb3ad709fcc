"""A container image of a few files, written as an OCI archive without any builder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """What the image holds.

    Attributes:
        name: full name with tag, such as ``localhost/heavylift-test/busybox:1``.
        files: path in the image to (content, mode).
        links: path in the image to what it points to.
        folders: path in the image to mode.
        command: what runs by default.
        architecture: Go's name of the machine's architecture.
    """

    name: str
    files: Mapping[str, tuple[bytes, int]]
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    command: Sequence[str] = ()
    architecture: str = "amd64"


def layer(image: Image) -> bytes:
    """Return the image's one layer; the same content gives the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in sorted(image.folders.items()):
            tar.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name, (content, mode) in sorted(image.files.items()):
            entry = _entry(name, tarfile.REGTYPE, mode)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, target in sorted(image.links.items()):
            entry = _entry(name, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            tar.addfile(entry)
    return out.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def write(image: Image, path: Path) -> None:
    """Write the image as an OCI archive that ``ctr images import`` reads."""
    content = layer(image)
    config = {
        "architecture": image.architecture,
        "os": "linux",
        "config": {"Cmd": list(image.command), "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    blobs = [content, _json(config)]
    described = [_describe(LAYER, blobs[0]), _describe(CONFIG, blobs[1])]
    blobs.append(_json({"schemaVersion": 2, "mediaType": MANIFEST, "config": described[1], "layers": described[:1]}))
    top = {**_describe(MANIFEST, blobs[2]), "annotations": _annotations(image.name)}
    files = {f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}": blob for blob in blobs}
    files["index.json"] = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]})
    files["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with tarfile.open(part, "w") as tar:
        for name, blob in files.items():
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(blob)
            tar.addfile(entry, io.BytesIO(blob))
    part.replace(path)


def _annotations(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _describe(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}
