"""Bad configuration: one clear line that says what to do, no loop of tracebacks, and recovery once it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.proofs.install import ensure_namespace, install_crds, remove_crds
from tests.proofs.kube import Json, Kube, core
from tests.proofs.processes import Daemon, log_lines, stop_all
from tests.proofs.waiting import until
from tests.servers import StoreServer, free_port, redis_binary

NAMESPACE = "bad-config"
PROBES = 60
"""Looks at /readyz, a twentieth of a second apart at least, in which nothing more may be said."""


@dataclass
class Bench:
    """What a case may spoil and mend: a Redis, a password file, settings, the cluster."""

    kube: Kube
    redis: StoreServer
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def password(self) -> Path:
        """The password file's path."""
        return self.folder / "password"

    def daemons(self) -> list[Daemon]:
        """Return a dispatcher and an operator with this bench's settings."""
        settings = {
            "REDIS_URL": self.redis.url,
            "INSTALL_ID": "bad/config",
            "NAMESPACES": NAMESPACE,
            "KUBECONFIG": str(self.kube.kubeconfig),
            "RECONCILE_INTERVAL": "1s",
            **self.settings,
        }
        whole = {f"HEAVYLIFT_{key}": value for key, value in settings.items()}
        return [Daemon(kind, whole, self.folder, kind) for kind in ("dispatcher", "operator")]


@dataclass(frozen=True)
class Case:
    """One kind of bad configuration."""

    spoil: Callable[[Bench], None]
    mend: Callable[[Bench], None]
    words: tuple[str, ...]
    """What the one line must say, in any case: what is wrong, and what to do."""
    ready: bool = False
    """It is told of, but does not keep the processes from being ready."""


# -- Redis ------------------------------------------------------------------------------------------------------------
def _no_redis(bench: Bench) -> None:
    bench.redis.port = free_port()


def _start_redis(bench: Bench) -> None:
    bench.redis.start()


def _wrong_password(bench: Bench) -> None:
    bench.redis.start(requirepass="right")
    bench.password.write_text("wrong\n")
    bench.settings["REDIS_PASSWORD_FILE"] = str(bench.password)


def _right_password(bench: Bench) -> None:
    bench.password.write_text("right\n")


def _password_file_missing(bench: Bench) -> None:
    bench.redis.start(requirepass="right")
    bench.settings["REDIS_PASSWORD_FILE"] = str(bench.password)


def _password_file_empty(bench: Bench) -> None:
    _password_file_missing(bench)
    bench.password.write_text("")


def _evicting(bench: Bench) -> None:
    bench.redis.start(maxmemory_policy="allkeys-lru")


def _not_evicting(bench: Bench) -> None:
    with bench.redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")


# -- Kubernetes -------------------------------------------------------------------------------------------------------
def _no_crds(bench: Bench) -> None:
    bench.redis.start()
    remove_crds(bench.kube)


def _crds(bench: Bench) -> None:
    install_crds(bench.kube)


def _no_rights(bench: Bench) -> None:
    bench.redis.start()
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerless"}}
    bench.kube.apply(core(NAMESPACE, "serviceaccounts", "powerless"), account)
    request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = bench.kube.create(core(NAMESPACE, "serviceaccounts", "powerless/token"), request)["status"]["token"]
    config = yaml.safe_load(bench.kube.kubeconfig.read_text())
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    own = bench.folder / "powerless.kubeconfig"
    own.write_text(yaml.safe_dump(config))
    bench.settings["KUBECONFIG"] = str(own)


def _rights(bench: Bench) -> None:
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": ["heavylift.dev"],
            "resources": ["heavyqueues", "heavyschedules"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["heavylift.dev"],
            "resources": ["heavyqueues/status", "heavyschedules/status"],
            "verbs": ["get", "patch"],
        },
    ]
    api = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
    group = "rbac.authorization.k8s.io"
    role: Json = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "powerful"}, "rules": rules}
    subjects = [{"kind": "ServiceAccount", "name": "powerless", "namespace": NAMESPACE}]
    ref = {"apiGroup": group, "kind": "Role", "name": "powerful"}
    binding = {**role, "kind": "RoleBinding", "subjects": subjects, "roleRef": ref}
    del binding["rules"]
    bench.kube.apply(f"{api}/roles/powerful", role)
    bench.kube.apply(f"{api}/rolebindings/powerful", binding)


CASES: Mapping[str, Case] = {
    "no Redis": Case(_no_redis, _start_redis, ("redis", "reach")),
    "wrong password": Case(_wrong_password, _right_password, ("password",)),
    "password file missing": Case(_password_file_missing, _right_password, ("password", "file")),
    "password file empty": Case(_password_file_empty, _right_password, ("password", "empty")),
    "eviction policy": Case(_evicting, _not_evicting, ("maxmemory-policy", "noeviction"), ready=True),
    "CRDs missing": Case(_no_crds, _crds, ("heavyqueue", "install")),
    "rights missing": Case(_no_rights, _rights, ("heavyqueues", "role")),
}


@pytest.fixture
def bench(bare_kube: Kube, tmp_path: Path) -> Iterator[Bench]:
    """Give a namespace, the CRDs, and a Redis that is not started."""
    ensure_namespace(bare_kube, NAMESPACE)
    install_crds(bare_kube)
    made = Bench(bare_kube, StoreServer(redis_binary(), tmp_path / "redis"), tmp_path)
    try:
        yield made
    finally:
        made.redis.kill()


@contextmanager
def started(daemons: list[Daemon]) -> Iterator[None]:
    """Run the processes for the block."""
    try:
        for daemon in daemons:
            daemon.start()
        yield
    finally:
        stop_all(*daemons)


def complaints(daemon: Daemon) -> list[Json]:
    """Return its log's lines of level warning and above, and those that are no JSON."""
    return [
        line
        for line in log_lines(daemon.log())
        if line.get("level") in {"warning", "error", "critical"} or "raw" in line
    ]


def says(daemon: Daemon, words: tuple[str, ...]) -> list[str]:
    """Return its complaints that have all these words."""
    texts = [" ".join(str(value) for value in line.values()) for line in complaints(daemon)]
    return [text for text in texts if all(word in text.lower() for word in words)]


@pytest.mark.parametrize("kind", CASES)
def test_bad_configuration(bench: Bench, kind: str) -> None:
    """It is told of in one clear line by each process, which lives on and mends itself when its cause is mended."""
    case = CASES[kind]
    case.spoil(bench)
    daemons = bench.daemons()
    with started(daemons):
        for daemon in daemons:
            complained(daemon, case)
        for daemon in daemons:
            ready = 200 if case.ready else 503
            settled(daemon, ready)
            before = len(complaints(daemon))
            codes = {daemon.probe()[0] for _ in range(PROBES)}
            assert codes == {ready}
            assert len(complaints(daemon)) - before <= 1, daemon.log()
        case.mend(bench)
        for daemon in daemons:
            daemon.wait_ready(40)
            assert (daemon.starts, daemon.returncode) == (1, None)
            assert "Traceback" not in daemon.log()
            assert len(says(daemon, case.words)) == 1, daemon.log()


def settled(daemon: Daemon, code: int) -> None:
    """Wait for the answer of /readyz: the line may come before the process is up."""
    until(lambda: daemon.probe()[0] == code, f"/readyz of the {daemon.kind} to say {code}", limit=40)


def complained(daemon: Daemon, case: Case) -> None:
    """Wait for the clear line; /readyz says no with the same reason, while /livez says yes."""
    until(lambda: says(daemon, case.words), f"{daemon.kind} to say {case.words}", limit=40)
    if not case.ready:
        until(lambda: daemon.probe()[0] == 503, f"{daemon.kind} to be unready")
        assert case.words[0] in daemon.probe()[1].lower()
    assert daemon.probe("/livez")[0] == 200


WRONG_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "no url": {"REDIS_URL": ""},
    "url is none": {"REDIS_URL": "localhost"},
    "unknown failpoint": {"FAILPOINT": "nowhere:kill"},
    "bad duration": {"CLAIM_DEADLINE": "ten seconds", "RECONCILE_INTERVAL": "ten seconds"},
}


@pytest.mark.parametrize("kind", WRONG_SETTINGS)
@pytest.mark.parametrize("process", ["dispatcher", "operator"])
def test_wrong_setting_ends_at_once(bench: Bench, kind: str, process: str) -> None:
    """A setting that cannot be right ends the process with one line that names it, and no traceback."""
    bench.redis.start()
    bench.settings.update(WRONG_SETTINGS[kind])
    daemon = next(daemon for daemon in bench.daemons() if daemon.kind == process).start()
    try:
        code = until(lambda: daemon.returncode, f"{process} to end", limit=20)
    finally:
        stop_all(daemon)
    assert code in {1, 2}
    text = daemon.log()
    assert "Traceback" not in text
    assert any(f"HEAVYLIFT_{name}" in text for name in WRONG_SETTINGS[kind])
    assert len(text.strip().splitlines()) <= 3, text


def test_help_lists_the_settings(tmp_path: Path) -> None:
    """``--help`` of each process lists its settings without any environment."""
    for kind in ("dispatcher", "operator"):
        daemon = Daemon(kind, {}, tmp_path, kind, ("--help",)).start()
        assert daemon.wait_exit(30) == 0
        assert {"HEAVYLIFT_REDIS_URL", "HEAVYLIFT_INSTALL_ID"} <= set(_words(daemon.log()))


def _words(text: str) -> Iterator[Any]:
    return (word.strip(".,:;()[]`") for word in text.split())
