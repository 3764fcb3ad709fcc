"""The chart's part of the external metrics API on a simulated cluster: real aggregator, real rights, real operators.

A Service of type ExternalName leads the API server to this machine, where ``Front`` stands for kube-proxy. Everything
else is what the chart renders, and the operators have the rights of its service account and no others.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import yaml

from heavylift import Client
from heavylift.store import Store, ops
from tests.cluster import Cluster
from tests.integration.chart.helm import Helm
from tests.proofs.install import apply_queue, ensure_namespace, heavyqueue
from tests.proofs.kube import Json, Kube, core
from tests.proofs.processes import Daemon
from tests.proofs.waiting import until
from tests.servers import StoreServer, free_port

API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
GROUP = "/apis/external.metrics.k8s.io/v1beta1"
DEMAND = "heavylift_queue_demand"
RELEASE = "rel"
_OPERATOR = {"metrics-api", "operator"}


class Front:
    """Forwards TCP connections to one of ``ports`` at random; a port that refuses ends the connection."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="front", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, IndexError):
            server = socket.create_connection(("127.0.0.1", random.choice(self.ports)), timeout=5)
            with server:
                server.settimeout(None)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@dataclass
class Replica:
    """One operator process with its TLS port."""

    daemon: Daemon
    port: int


@dataclass
class Stand:
    """One installation; ``with`` removes everything cluster-wide at its end."""

    cluster: Cluster
    kube: Kube
    server: StoreServer
    folder: Path
    values: Json = field(default_factory=dict)
    home: str = field(default_factory=lambda: f"lift-{secrets.token_hex(4)}")
    watched: str = field(default_factory=lambda: f"work-{secrets.token_hex(4)}")
    front: Front = field(default_factory=Front)
    replicas: list[Replica] = field(default_factory=list)
    store: Store = field(init=False)
    _made: list[str] = field(default_factory=list)
    _config: Path | None = None

    def __enter__(self) -> Self:
        """Make namespaces and all objects of the chart's metrics API."""
        for name in (self.home, self.watched):
            ensure_namespace(self.kube, name)
        self.store = Store.connect(self.server.url)
        for obj in self.objects():
            self.make(obj)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, remove the objects: a cluster with a dead APIService deletes no namespace."""
        for replica in self.replicas:
            replica.daemon.stop()
        self.front.close()
        for path in reversed(self._made):
            self.kube.delete(path)
        self.store.close()

    # -- the installation ---------------------------------------------------------------------------------------------
    @property
    def install(self) -> str:
        """The install id."""
        return f"{self.home}/{RELEASE}"

    @property
    def service(self) -> str:
        """The Service's name, which the certificate is for, as the API server asks for it."""
        return f"{RELEASE}-metrics-api.{self.home}.svc"

    @property
    def secret(self) -> str:
        """Path of the Secret with the certificate."""
        return core(self.home, "secrets", f"{RELEASE}-metrics-api")

    def make(self, obj: Json) -> None:
        """Apply an object; it is removed at the end."""
        path = _path(obj)
        self.kube.apply(path, obj)
        self._made.append(path)

    def objects(self, **metrics_api: Any) -> list[Json]:
        """Return what the chart renders for the operator with these values of its metrics API, without its pods."""
        values = {
            "watchNamespaces": [{"name": self.watched}],
            "autoscaling": {"enabled": False},
            "operator": {"metricsApi": {"enabled": True, **metrics_api}},
            **self.values,
        }
        helm = Helm(self.cluster.bin("helm"), self.cluster.kubeconfig)
        found = []
        for obj in helm.render(values, namespace=self.home):
            part = obj["metadata"]["labels"].get("app.kubernetes.io/component")
            if obj["kind"] in {"Deployment", "PodDisruptionBudget"} or part not in _OPERATOR:
                continue
            if obj["kind"] == "Service":
                obj["spec"] = {"type": "ExternalName", "externalName": "127.0.0.1"}
            elif obj["kind"] == "APIService":
                obj["spec"]["service"]["port"] = self.front.port
            found.append(obj)
        return found

    def kubeconfig(self, account: str = f"{RELEASE}-operator") -> Path:
        """Return a kubeconfig with a service account's own token."""
        path = core(self.home, "serviceaccounts", account)
        token = self.kube.create(f"{path}/token", {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        target = self.folder / f"{account}.kubeconfig"
        target.touch(mode=0o600)
        target.write_text(json.dumps(config))
        return target

    def replica(self, *, wait: bool = True, **settings: str) -> Replica:
        """Start another operator; ``wait`` = until it is ready, and the front leads to it."""
        self._config = self._config or self.kubeconfig()
        port = free_port()
        environment = {
            "HEAVYLIFT_REDIS_URL": self.server.url,
            "HEAVYLIFT_REDIS_PATIENCE": "1s",
            "HEAVYLIFT_INSTALL_ID": self.install,
            "HEAVYLIFT_NAMESPACES": self.watched,
            "HEAVYLIFT_KUBECONFIG": str(self._config),
            "HEAVYLIFT_RECONCILE_INTERVAL": "1s",
            "HEAVYLIFT_METRICS_API_SERVICE": f"{self.home}/{RELEASE}-metrics-api",
            "HEAVYLIFT_METRICS_API_SECRET": f"{RELEASE}-metrics-api",
            "HEAVYLIFT_METRICS_API_HOST": "127.0.0.1",
            "HEAVYLIFT_METRICS_API_PORT": str(port),
            "HEAVYLIFT_METRICS_API_SAMPLE": "100ms",
            "HEAVYLIFT_METRICS_API_STALE": "6s",
            "HEAVYLIFT_METRICS_API_SETTLE": "3s",
            **settings,
        }
        daemon = Daemon("operator", environment, self.folder, name=f"operator-{len(self.replicas)}")
        made = Replica(daemon.start(), port)
        self.replicas.append(made)
        return self.join(made) if wait else made

    def join(self, replica: Replica) -> Replica:
        """Wait until a replica is ready, then let the front lead to it."""
        replica.daemon.wait_ready()
        self.front.ports.append(replica.port)
        return replica

    @property
    def live(self) -> list[Replica]:
        """The replicas the front leads to."""
        return [replica for replica in self.replicas if replica.port in self.front.ports]

    def retire(self, replica: Replica) -> None:
        """Take a replica's endpoint away, then end it, as a rolling update does."""
        self.front.ports.remove(replica.port)
        replica.daemon.stop()

    def available(self) -> Json:
        """Wait until the API server says that our API is available, and return the APIService."""

        def look() -> Json | None:
            found = self.kube.get(API_SERVICE)
            return found if found is not None and condition(found, "Available")["status"] == "True" else None

        found = until(look, "the APIService to be available")
        assert found is not None
        return found

    # -- queues -------------------------------------------------------------------------------------------------------
    def queue(self, name: str, jobs: int = 0, **spec: Any) -> None:
        """Apply a HeavyQueue in the watched namespace, wait for its settings, and enqueue so many jobs."""
        apply_queue(self.kube, heavyqueue(name, self.watched, **spec))
        until(lambda: self.store.run(ops.get_settings(name)) is not None, f"settings of {name}")
        with Client(self.server.url) as client:
            for _ in range(jobs):
                client.queue(name).enqueue("task", {})

    # -- asking -------------------------------------------------------------------------------------------------------
    def ask(
        self, metric: str = DEMAND, *, selector: str | None = None, namespace: str = "", kube: Kube | None = None
    ) -> tuple[int, Json]:
        """Ask the API server for a metric, as an HPA does; return status and body."""
        query = "" if selector is None else f"?labelSelector={quote(selector)}"
        return (kube or self.kube).request("GET", f"{GROUP}/namespaces/{namespace or self.home}/{metric}{query}")

    def values_of(self, metric: str = DEMAND, **more: Any) -> dict[str, str]:
        """Return queue -> value."""
        status, body = self.ask(metric, **more)
        assert status == 200, body
        return {item["metricLabels"].get("queue", ""): item["value"] for item in body["items"]}

    def told(self, wanted: Mapping[str, str], metric: str = DEMAND) -> None:
        """Wait until the API answers exactly these values."""

        def same() -> bool:
            status, body = self.ask(metric)
            return status == 200 and {i["metricLabels"].get("queue", ""): i["value"] for i in body["items"]} == wanted

        until(same, f"{metric} to be {dict(wanted)}")


def condition(obj: Json, kind: str) -> Json:
    """Return an object's condition of that type, of status Unknown when it has none."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in found if one["type"] == kind), {"type": kind, "status": "Unknown", "message": ""})


def bundle(obj: Json) -> str:
    """Return the certificates in an APIService's caBundle."""
    return base64.b64decode(obj["spec"].get("caBundle") or "").decode()


def _path(obj: Json) -> str:
    """Return an object's path; every plural here is the kind and an s."""
    root = f"/apis/{obj['apiVersion']}" if "/" in obj["apiVersion"] else f"/api/{obj['apiVersion']}"
    where = f"/namespaces/{obj['metadata']['namespace']}" if "namespace" in obj["metadata"] else ""
    return f"{root}{where}/{obj['kind'].lower()}s/{quote(obj['metadata']['name'], safe=':')}"
