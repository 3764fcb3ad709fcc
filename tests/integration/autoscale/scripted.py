"""An external metrics API whose values are written down beforehand, and a notebook of what was asked and done.

Only the numbers are made up here: the aggregator that asks for them and the HPA controller behind it are the real ones.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

from tests.cluster.pki import Identity, create_authority
from tests.proofs.kube import Kube, core
from tests.proofs.waiting import until

Json = dict[str, Any]
GROUP = "/apis/external.metrics.k8s.io/v1beta1"
SERVICE = "scripted-metrics"
APISERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"


@dataclass(frozen=True)
class Asked:
    """One request for a metric: when, and the value given; None = refused."""

    at: float
    value: int | None


@dataclass
class Script:
    """Values by metric, one for each request; the last one stays."""

    values: Mapping[str, Sequence[int | None]]
    asked: dict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, metric: str) -> int | None:
        """Return the next value and note the request; None for a metric that somebody else's autoscaler wants."""
        with self.lock:
            if metric not in self.values:
                return None
            values, asked = self.values[metric], self.asked[metric]
            value = values[min(len(asked), len(values) - 1)]
            asked.append(Asked(time.monotonic(), value))
            return value

    def done(self) -> bool:
        """Whether every value was asked for, and once more, so that what the last one did is over."""
        with self.lock:
            return all(len(self.asked[metric]) > len(values) for metric, values in self.values.items())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:
        """Answer discovery, and values by metric."""
        path = self.path.partition("?")[0]
        if path == GROUP:
            self._send(200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP[6:], "resources": []})
        elif path.startswith(f"{GROUP}/namespaces/"):
            self._value(path.rpartition("/")[2])
        else:
            self._send(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

    def _value(self, metric: str) -> None:
        value = self.script.answer(metric)
        if value is None:
            self._send(503, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503, "message": "none"})
            return
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        item = {"metricName": metric, "metricLabels": {}, "timestamp": stamp, "value": str(value)}
        body = {"kind": "ExternalMetricValueList", "apiVersion": GROUP[6:], "metadata": {}, "items": [item]}
        self._send(200, body)

    def _send(self, status: int, body: Json) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the notebook has it."""


@contextmanager
def serving(kube: Kube, namespace: str, script: Script, folder: Path) -> Iterator[None]:
    """Serve the script as the cluster's external metrics API for the block."""
    create_authority(folder, "ca").issue([Identity("server", "server", names=("localhost",))])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    handler = type("Handler", (_Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, name="scripted metrics", daemon=True)
        thread.start()
        try:
            _register(kube, namespace, server.server_address[1])
            yield
        finally:
            kube.delete(APISERVICE)
            server.shutdown()
            thread.join(10)


def _register(kube: Kube, namespace: str, port: int) -> None:
    meta = {"name": SERVICE, "namespace": namespace}
    spec = {"type": "ExternalName", "externalName": "localhost"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
    kube.apply(core(namespace, "services", SERVICE), service)
    body = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": APISERVICE.rpartition("/")[2]},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": SERVICE, "namespace": namespace, "port": port},
        },
    }
    kube.delete(APISERVICE)  # another proof's, in the same cluster
    until(lambda: kube.get(APISERVICE) is None, "the APIService of before to be gone")
    kube.apply(APISERVICE, body)

    def available() -> bool:
        found = (kube.get(APISERVICE) or {}).get("status", {}).get("conditions") or []
        return any(entry["type"] == "Available" and entry["status"] == "True" for entry in found)

    until(available, "the scripted metrics API to be available", limit=60)


@dataclass(frozen=True)
class Seen:
    """A Deployment as the watch showed it."""

    at: float
    replicas: int
    running: int


class Notebook:
    """Writes down each state of a namespace's Deployments; use it as a context manager."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._path = kube, f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)

    def __enter__(self) -> Self:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching; the stream's own end comes within its silence."""
        self._stop.set()

    def of(self, name: str) -> list[Seen]:
        """Return what was seen of a Deployment, oldest first."""
        with self._lock:
            return list(self._seen[name])

    def _run(self) -> None:
        items, version = self._kube.items(self._path)
        for item in items:
            self._note(item)
        for event in self._kube.watch(self._path, version, seconds=120):
            if self._stop.is_set():
                return
            if event["type"] in {"ADDED", "MODIFIED"}:
                self._note(event["object"])

    def _note(self, item: Json) -> None:
        entry = Seen(time.monotonic(), item["spec"]["replicas"], item.get("status", {}).get("replicas", 0))
        with self._lock:
            self._seen[item["metadata"]["name"]].append(entry)
