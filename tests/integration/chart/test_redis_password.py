"""The embedded Redis takes the very password that its clients and probes send."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from heavylift.runtime.settings import ProcessSettings
from heavylift.store.connection import read_password
from tests.integration.chart.helm import Helm, named
from tests.proofs.waiting import until
from tests.servers import free_port

Json = dict[str, Any]


def here(command: str, folder: Path, port: int) -> list[str]:
    """Return a command of the pod's as one for this machine."""
    moved = command.replace("/etc/heavylift/", f"{folder}/").replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {port}")
    return ["/bin/sh", "-euc", moved]


@contextlib.contextmanager
def started(objects: list[Json], folder: Path, port: int) -> Iterator[Json]:
    """Run the pod's server on this password file; give its container."""
    conf = named(objects, "ConfigMap", "rel-redis")["data"]["redis.conf"]
    (folder / "conf").mkdir()
    own = conf.replace("dir /data", f"dir {folder}").replace("port 6379", f"port {port}\nbind 127.0.0.1")
    (folder / "conf" / "redis.conf").write_text(own)
    (container,) = named(objects, "StatefulSet", "rel-redis")["spec"]["template"]["spec"]["containers"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(here(container["command"][-1], folder, port), stdout=log, stderr=log)
    try:
        yield container
    finally:
        server.terminate()
        server.wait(timeout=30)


def answers(port: int, password: str) -> bool:
    """Return whether the server is up and lets this password in."""
    with contextlib.closing(redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=10)) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise
        except redis.ConnectionError:
            return False


@pytest.mark.parametrize("stored", ["plain\n", "quo\"te back\\slash \\x41 $HOME `id` 'é' #\n", "ends in a space \r\n"])
def test_any_password_opens_the_embedded_redis(helm: Helm, tmp_path: Path, stored: str) -> None:
    """Quotes, backslashes, spaces: the server, the processes, the store and both probes read the same one."""
    secret = tmp_path / "redis" / "password"
    secret.parent.mkdir()
    secret.write_bytes(stored.encode())
    settings = ProcessSettings(
        redis_url="redis://r", install_id="i/1", namespaces=("analytics",), redis_password_file=secret
    )
    password, port = settings.password(), free_port()

    with started(helm.render(), tmp_path, port) as container:
        assert password == read_password(str(secret)) == stored.rstrip("\r\n")
        until(lambda: answers(port, password), "the server to let the password in")
        for probe in ("livenessProbe", "readinessProbe"):
            subprocess.run(here(container[probe]["exec"]["command"][-1], tmp_path, port), check=True)
        with pytest.raises(redis.AuthenticationError):
            answers(port, f"{password}x")


def test_an_empty_password_stops_the_start(helm: Helm, tmp_path: Path) -> None:
    """A Redis that anybody may use is never the answer to a Secret without content."""
    secret = tmp_path / "redis" / "password"
    secret.parent.mkdir()
    secret.write_bytes(b"\r\n")
    (container,) = named(helm.render(), "StatefulSet", "rel-redis")["spec"]["template"]["spec"]["containers"]

    done = subprocess.run(here(container["command"][-1], tmp_path, 0), capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "the password in Secret rel-redis is empty\n"
