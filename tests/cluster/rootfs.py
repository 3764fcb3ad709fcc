"""The root file system that our images stand on: this machine's Debian, the least of it, made by mmdebstrap once."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.cluster.build import Say
from tests.cluster.errors import ClusterError, MissingToolError

INCLUDE = ("python3", "python3-venv", "ca-certificates")
LEAVE_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
APT = Path("/etc/apt")
EPOCH = "1577836800"
"""Time stamp of what has none of its own (2020-01-01), so that the same content gives the same bytes."""


def codename(os_release: str) -> str | None:
    """Return the distribution's code name from the text of ``/etc/os-release``."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    return match[1] if match else None


def one_line_sources(text: str) -> list[str]:
    """Return the package sources in a ``.list`` file that hold binaries."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("deb ")]


def deb822_sources(text: str) -> list[str]:
    """Return the package sources in a ``.sources`` file that hold binaries, one line for each."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line.strip() and not line.startswith("#")]
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", "\n".join(lines), re.MULTILINE))
        if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes") == "no":
            continue
        signed = fields.get("Signed-By", "")
        options = f"[signed-by={signed}] " if signed.startswith("/") else ""
        for uri in fields.get("URIs", "").split():
            parts = fields.get("Components", "")
            found += [f"deb {options}{uri} {suite} {parts}".strip() for suite in fields.get("Suites", "").split()]
    return found


def of_suite(sources: Iterable[str], suite: str) -> list[str]:
    """Return the sources of a distribution's own suites, such as ``bookworm`` and ``bookworm-security``."""
    wanted = re.compile(rf"deb (\[[^\]]*\] )?\S+ {suite}(-security|-updates)?(/updates)? .*\bmain\b")
    return [source for source in sources if wanted.match(source)]


def host_sources(suite: str, apt: Path = APT) -> list[str]:
    """Return this machine's own package sources of its suite.

    Raises:
        MissingToolError: it has none.
    """
    found: list[str] = []
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*")]):
        if path.is_file() and path.suffix in {".list", ".sources"}:
            text = path.read_text(errors="replace")
            found += deb822_sources(text) if path.suffix == ".sources" else one_line_sources(text)
    mine = of_suite(found, suite)
    if not mine:
        raise MissingToolError(
            f"{apt} names no package source for {suite}; images are made from this machine's own ones"
        )
    return mine


def host_options(dump: str) -> list[str]:
    """Return how this machine's apt reaches its sources (proxies, authorities) from what ``apt-config dump`` prints."""
    wanted = re.compile(r'Acquire::https?::(\S+::)?(Proxy|CAInfo|Verify-Peer|Verify-Host) ".+";')
    return [line for line in dump.splitlines() if wanted.fullmatch(line)]


def plan(suite: str, sources: Iterable[str], options: Iterable[str]) -> tuple[list[str], str]:
    """Return mmdebstrap's arguments but the target and the sources, and the sources as its standard input."""
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={','.join(INCLUDE)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEAVE_OUT]
    argv += [f"--aptopt={option}" for option in options]
    return [*argv, suite], "".join(f"{source}\n" for source in sources)


def ensure(folder: Path, say: Say) -> Path:
    """Return the root file system as a tar archive in ``folder``, named by what it is made of, making it if need be.

    Raises:
        MissingToolError: this machine is no Debian or relative of it.
        ClusterError: mmdebstrap failed; the message has its words.
    """
    suite = codename(Path("/etc/os-release").read_text())
    if suite is None:
        raise MissingToolError(
            "/etc/os-release names no code name: images can be made on Debian and its relatives only"
        )
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    argv, sources = plan(suite, host_sources(suite), host_options(dump))
    key = hashlib.sha256(repr((argv, sources, platform.machine())).encode()).hexdigest()[:16]
    path = folder / f"rootfs-{key}.tar"
    if not path.is_file():
        say(f"making a root file system of Debian's {suite} ({', '.join(INCLUDE)}), once")
        _make(argv, sources, path, {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "LC_ALL": "C.UTF-8"})
    return path


def _make(argv: list[str], sources: str, path: Path, env: Mapping[str, str]) -> None:
    part = path.with_name(f".{path.stem}.part.tar")
    command = ["unshare", "--mount", "--propagation=private", "--", *argv, str(part), "-"]
    done = subprocess.run(command, env=env, input=sources, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        part.unlink(missing_ok=True)
        raise ClusterError(f"mmdebstrap failed:\n{done.stderr[-3000:]}")
    part.replace(path)
