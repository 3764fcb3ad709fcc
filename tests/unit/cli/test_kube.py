"""What the command line reads of a cluster, by the real client over HTTP from a scripted API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from heavylift.cli import kube
from heavylift.cli.app import main
from heavylift.cli.installation import RIGHTS, Right
from heavylift.errors import ConfigurationError

Json = dict[str, Any]
Replies = dict[str, Json | int | Callable[[Json], Json]]

QUEUES = "/apis/heavylift.dev/v1alpha1/heavyqueues"
TEMPLATE = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example"}]}}}}


def queue(name: str, namespace: str, made: str, served: str | None = None) -> Json:
    """Return a HeavyQueue as the API server holds it."""
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}",
            "generation": 3,
            "creationTimestamp": made,
        },
        "spec": {"jobTemplate": TEMPLATE, **({"queue": served} if served else {})},
        "status": {"conditions": []},
    }


@pytest.fixture
def replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replies]:
    """What the API server answers, by path: an object, a status, or a function of the request's object."""
    answers: Replies = {}

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = json.loads(self.rfile.read(length)) if length else {}
            found = answers.get(self.path.partition("?")[0].rstrip("/"), 404)
            status, body = (found, {"message": "no"}) if isinstance(found, int) else (200, found)
            raw = json.dumps(body(asked) if callable(body) else body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            """Answer."""
            self._answer()

        def do_POST(self) -> None:
            """Answer."""
            self._answer()

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", **config}))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield answers
        server.shutdown()


def test_render_reads_the_heavyqueue_by_kubeconfig(replies: Replies, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the oldest HeavyQueue of that queue is rendered, for the release that is named."""
    replies[QUEUES] = {
        "items": [
            queue("reports", "late", "2026-11-22T10:00:00Z"),
            queue("yearly", "analytics", "2026-11-21T10:00:00Z", served="reports"),
            queue("other", "analytics", "2026-11-20T10:00:00Z"),
        ]
    }

    assert main(["--kube", "lifts", "--release", "lift", "render", "reports", "-o", "json"]) == 0
    job = json.loads(capsys.readouterr().out)

    assert (job["kind"], job["metadata"]["namespace"]) == ("Job", "analytics")
    assert job["metadata"]["annotations"]["heavylift.dev/install-id"] == "lifts/lift"


def test_render_of_one_namespace(replies: Replies, capsys: pytest.CaptureFixture[str]) -> None:
    """``--namespace`` is enough where one may not list all; what is not there is said, with what is."""
    replies[QUEUES] = 403
    replies["/apis/heavylift.dev/v1alpha1/namespaces/late/heavyqueues"] = {
        "items": [queue("reports", "late", "2026-11-22T10:00:00Z")]
    }

    assert main(["render", "reports"]) == 2
    assert "may not read HeavyQueues in all namespaces (name one with --namespace)" in capsys.readouterr().err
    assert main(["render", "reports", "-n", "late", "-o", "name"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["render", "nothing", "-n", "late"]) == 2
    assert "no HeavyQueue for queue 'nothing' in late of the cluster; there is: reports" in capsys.readouterr().err


def test_kinds_and_clock(replies: Replies) -> None:
    """A group that is not there serves nothing; the clock is read off any answer."""
    assert kube.kinds_served() == set()
    kinds = [
        {"name": name, "kind": "K", "namespaced": True, "singularName": "", "verbs": ["get"]}
        for name in ("heavyqueues", "heavyschedules")
    ]
    replies["/apis/heavylift.dev/v1alpha1"] = {"groupVersion": "heavylift.dev/v1alpha1", "resources": kinds}
    parts = ("major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler")
    replies["/version"] = {**dict.fromkeys(parts, "1"), "platform": "linux/amd64"}

    assert kube.kinds_served() == {"heavyqueues", "heavyschedules"}
    skew = kube.skew_ms()
    assert skew is not None
    assert abs(skew) < 60_000


def test_deployments_that_are_not_ready(replies: Replies) -> None:
    """Each with how many of its replicas are; a release that is not there is named as such."""
    container = {"spec": {"containers": [{"name": "x"}]}}
    replies["/apis/apps/v1/namespaces/heavylift/deployments"] = {
        "items": [
            {
                "metadata": {"name": name},
                "spec": {"selector": {}, "replicas": 2, "template": container},
                "status": {"readyReplicas": ready} if ready else {},
            }
            for name, ready in (("whole", 2), ("half", 1), ("none", 0))
        ]
    }
    state = "{} of 2 replicas are ready"
    assert kube.unready("heavylift", "lift") == {"half": state.format(1), "none": state.format(0)}

    replies["/apis/apps/v1/namespaces/heavylift/deployments"] = {"items": []}
    assert kube.unready("heavylift", "lift") == {"lift": "there is no such release in namespace heavylift"}


def test_rights_of_the_processes(replies: Replies) -> None:
    """Each process's account is read off its Deployment, and the API server judges it as that user."""
    replies["/apis/apps/v1/namespaces/heavylift/deployments"] = {
        "items": [
            {
                "metadata": {"name": f"heavylift-{name}", "labels": {"app.kubernetes.io/component": name}},
                "spec": {
                    "selector": {},
                    "template": {"spec": {"containers": [{"name": "x"}], "serviceAccountName": f"heavylift-{name}"}},
                },
            }
            for name in RIGHTS
        ]
    }
    asked: list[Json] = []

    def review(body: Json) -> Json:
        asked.append(body["spec"])
        return {"spec": body["spec"], "status": {"allowed": body["spec"]["resourceAttributes"]["verb"] == "get"}}

    replies["/apis/authorization.k8s.io/v1/subjectaccessreviews"] = review
    accounts = kube.accounts("heavylift", "heavylift")

    assert accounts["operator"] == "system:serviceaccount:heavylift:heavylift-operator"
    assert kube.account_may(accounts["operator"], "analytics", "get", Right("batch", "jobs", ("get",)))
    assert not kube.account_may(accounts["operator"], "analytics", "patch", Right("", "x", ("patch",), "status"))
    assert asked[0]["user"] == accounts["operator"]
    assert "system:serviceaccounts:heavylift" in asked[0]["groups"]
    assert asked[1]["resourceAttributes"]["subresource"] == "status"


def test_rights_that_may_not_be_asked_for(replies: Replies) -> None:
    """Most people may not ask what others may do: the message says so."""
    replies["/apis/authorization.k8s.io/v1/subjectaccessreviews"] = 403

    with pytest.raises(ConfigurationError, match="may not read the rights of service accounts"):
        kube.account_may("system:serviceaccount:a:b", "analytics", "get", Right("batch", "jobs", ("get",)))
