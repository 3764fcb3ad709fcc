"""The Kubernetes connection against scripted HTTP servers on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from heavylift.errors import ClusterUnavailableError, ConfigurationError
from heavylift.runtime import kube
from heavylift.runtime.kube import KubeApi, KubeStatusError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Connect = Callable[[Handler], Awaitable[KubeApi]]


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    """Give a function that serves a handler and returns a connection to it."""
    runners: list[web.AppRunner] = []
    apis: list[KubeApi] = []

    async def made(handler: Handler) -> KubeApi:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api = await KubeApi.connect(kubeconfig=str(_kubeconfig(tmp_path, runner.addresses[0][1])))
        apis.append(api)
        return api

    yield made
    for api in apis:
        await api.aclose()
    for runner in runners:
        await runner.cleanup()


def _kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "s3cret"}}],
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            }
        )
    )
    return path


async def test_request_sends_dicts_and_returns_any_status(connect: Connect) -> None:
    """The body goes out as JSON with the bearer token; a 429 comes back as a reply with its Retry-After."""
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(method=request.method, path=request.path_qs, auth=request.headers["Authorization"])
        seen["body"] = await request.json()
        return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "7"})

    api = await connect(handler)
    reply = await api.request("POST", kube.jobs_path("a b"), body={"x": 1}, query={"dryRun": "All"})

    assert seen["path"] == "/apis/batch/v1/namespaces/a%20b/jobs?dryRun=All"
    assert (seen["method"], seen["auth"], seen["body"]) == ("POST", "Bearer s3cret", {"x": 1})
    assert (reply.status, reply.ok, reply.message, reply.retry_after_s) == (429, False, "slow down", 7.0)


@pytest.mark.parametrize(
    ("method", "path", "brief"),
    [
        ("POST", kube.jobs_path("n"), True),
        ("PATCH", kube.jobs_path("n", "j"), True),
        ("GET", kube.jobs_path("n", "j"), False),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", False),
        ("PATCH", kube.heavyqueues_path("n", "q") + "/status", False),
    ],
)
async def test_of_a_written_job_only_the_metadata_comes_back(
    connect: Connect, method: str, path: str, brief: bool
) -> None:
    """Where an answer is read further it comes whole."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Accept"])
        return web.json_response({})

    await (await connect(handler)).request(method, path, body={})
    assert ("PartialObjectMetadata" in seen[0]) is brief
    assert "application/json" in seen[0]


async def test_patch_keeps_its_content_type(connect: Connect) -> None:
    """A strategic merge patch arrives as one."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"type": request.content_type, "body": await request.json()})

    api = await connect(handler)
    reply = await api.request("PATCH", kube.jobs_path("n", "j"), body={"a": 1}, content_type=kube.STRATEGIC_PATCH)

    assert reply.object == {"type": "application/strategic-merge-patch+json", "body": {"a": 1}}


async def test_body_that_is_no_json_is_text(connect: Connect) -> None:
    """A proxy's error page becomes the message."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway</html>")

    reply = await (await connect(handler)).request("GET", "/x")

    assert (reply.status, reply.body, reply.object, reply.message) == (
        502,
        "<html>bad gateway</html>",
        {},
        "<html>bad gateway</html>",
    )


async def test_no_connection_and_timeout_raise(connect: Connect, tmp_path: Path) -> None:
    """No reply is an error that names the request and what to check."""

    async def handler(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    api = await connect(handler)
    with pytest.raises(ClusterUnavailableError, match=r"POST /x .*check the API server"):
        await api.request("POST", "/x", body={})

    nobody = await KubeApi.connect(kubeconfig=str(_kubeconfig(tmp_path, 1)))
    with pytest.raises(ClusterUnavailableError, match="GET /y"):
        await nobody.request("GET", "/y", timeout=0.5)
    await nobody.aclose()


async def test_pages_follow_continue_and_restart_when_expired(connect: Connect) -> None:
    """Pages are chained by their token; 410 in the middle starts anew and loses nothing."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        token = request.query.get("continue", "")
        asked.append(token)
        if token == "t1" and asked.count("t1") == 1:
            return web.json_response({"code": 410}, status=410)
        item = {"metadata": {"name": token or "first"}}
        metadata = {"resourceVersion": "7", **({} if token else {"continue": "t1"})}
        return web.json_response({"kind": "JobList", "apiVersion": "batch/v1", "metadata": metadata, "items": [item]})

    api = await connect(handler)
    names = [item["metadata"]["name"] async for item in api.pages("/jobs", query={"labelSelector": "a=b"}, limit=1)]
    assert names == ["first", "first", "t1"]
    assert asked == ["", "t1", "", "t1"]

    listing = await api.list("/jobs")
    assert [item["kind"] for item in listing.items] == ["Job", "Job"]
    assert listing.resource_version == "7"


@pytest.mark.parametrize(("status", "words"), [(403, "Role"), (404, "CRDs"), (401, "credentials")])
async def test_refused_list_says_what_to_check(connect: Connect, status: int, words: str) -> None:
    """A refused list raises with the status and a remedy."""

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"message": "no"}, status=status)

    api = await connect(handler)
    with pytest.raises(KubeStatusError, match=words) as caught:
        await api.list(kube.heavyqueues_path("n"))
    assert caught.value.status == status


async def test_watch_yields_events_and_raises_expiry(connect: Connect) -> None:
    """Events come one by one; an ERROR event of 410 raises so that the caller lists again."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        assert request.query["resourceVersion"] == "5"
        response = web.StreamResponse()
        await response.prepare(request)
        big = "x" * 300_000
        for event in (
            {"type": "ADDED", "object": {"big": big}},
            {"type": "ERROR", "object": {"code": 410, "message": "too old"}},
        ):
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    api = await connect(handler)
    events = api.watch("/jobs", resource_version="5", timeout_seconds=5)
    first = await anext(events)
    assert (first["type"], len(first["object"]["big"])) == ("ADDED", 300_000)
    with pytest.raises(KubeStatusError) as caught:
        await anext(events)
    assert caught.value.status == kube.EXPIRED


async def test_a_watch_passes_over_what_nobody_needs_read(connect: Connect) -> None:
    """It shows that something came, and not what: even what is no JSON."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'dull {\n{"type":"ADDED","object":{"n":1}}\ndull\n')
        return response

    api = await connect(handler)
    events = [event async for event in api.watch("/jobs", skips=lambda line: line.startswith(b"dull"))]
    assert events == [kube.SKIPPED, {"type": "ADDED", "object": {"n": 1}}, kube.SKIPPED]


@pytest.mark.parametrize("body", [None, {"a": "\u00e9\ud800", "b": [1, None, True]}, "text"])
async def test_a_body_arrives_as_it_was_given(connect: Connect, body: Any) -> None:
    """Text that is no Unicode too; nothing is sent where there is none."""
    seen: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.json_response({})

    await (await connect(handler)).request("POST", "/x", body=body)
    assert seen == [b""] if body is None else json.loads(seen[0]) == body


async def test_broken_watch_raises(connect: Connect) -> None:
    """A stream cut inside an event is an error, a stream that ends is the end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if request.path == "/cut":
            await response.write(b'{"type": "ADDED", "obj')
        return response

    api = await connect(handler)
    assert [event async for event in api.watch("/whole")] == []
    with pytest.raises(ClusterUnavailableError, match="broke off"):
        _ = [event async for event in api.watch("/cut")]


async def test_missing_credentials_are_a_clear_error(tmp_path: Path) -> None:
    """No kubeconfig, or a broken one, says which setting to set."""
    with pytest.raises(ConfigurationError, match="HEAVYLIFT_KUBECONFIG"):
        await KubeApi.connect(kubeconfig=str(tmp_path / "none"))
    (tmp_path / "broken").write_text("a: [")
    with pytest.raises(ConfigurationError, match="HEAVYLIFT_KUBECONFIG"):
        await KubeApi.connect(kubeconfig=str(tmp_path / "broken"))
