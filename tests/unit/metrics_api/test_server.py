"""The TLS port over real sockets: who is believed, what is answered, and both while they change."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from heavylift.errors import ConfigurationError
from heavylift_operator.metrics_api import documents
from heavylift_operator.metrics_api.access import Access
from heavylift_operator.metrics_api.certificates import Material, Pair, Policy, new_leaf, step
from heavylift_operator.metrics_api.identity import NOBODY, Asked, FrontProxy, User
from heavylift_operator.metrics_api.samples import Queue, Sample, Scope
from heavylift_operator.metrics_api.server import MetricsServer
from heavylift_operator.metrics_api.status import StatusError
from tests.unit.metrics_api import clients

POLICY = Policy(names=("localhost",))
VALUES = "/apis/external.metrics.k8s.io/v1beta1/namespaces/lift/heavylift_queue_demand"
AS_HPA = {"X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler"}
TOKEN = "a-token"


@dataclass
class Rights:
    """Everybody may list metrics and get paths, but for those named here."""

    refused: set[str] = field(default_factory=set)
    asked: list[tuple[User, Asked]] = field(default_factory=list)

    async def user_of(self, token: str) -> User | None:
        """Know one token."""
        return User("sa") if token == TOKEN else None

    async def check(self, user: User, asked: Asked) -> None:
        """Refuse those named."""
        self.asked.append((user, asked))
        if user.name in self.refused:
            raise StatusError(403, f"user {user.name} cannot")


class Fine:
    """Probes that are well, or not."""

    well = True

    def live(self) -> tuple[bool, str]:
        """Return as set."""
        return self.well, "live\n"

    def ready(self) -> tuple[bool, str]:
        """Return as set."""
        return self.well, "ready\n"


@dataclass
class Stand:
    """A running server and those who may ask it."""

    server: MetricsServer
    rights: Rights
    probes: Fine
    material: Material
    proxy_authority: Pair
    folder: Path
    counter: Counter
    sample: Sample | StatusError

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://localhost:{self.server.port}"

    def proxy(self, pair: Pair) -> FrontProxy:
        """Return a configuration that believes this authority."""
        return FrontProxy(
            ca=pair.certificate_pem,
            allowed_names=frozenset({"front-proxy-client"}),
            username_headers=("X-Remote-User",),
            group_headers=("X-Remote-Group",),
        )

    def context(self, signer: Pair | None, common_name: str = "front-proxy-client", **kind: bool) -> ssl.SSLContext:
        """Return a client's context; without a signer it shows no certificate."""
        if signer is None:
            return ssl.create_default_context(cadata=self.material.bundle)
        return clients.client(self.folder, signer, common_name, **kind).context(self.material.bundle)

    async def get(
        self, path: str = VALUES, *, signer: Pair | None = None, method: str = "GET", **more: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Ask on a connection of its own, as the front proxy unless told otherwise; return status, body and reply."""
        context = more.pop("context", None) or self.context(signer or self.proxy_authority)
        connector = aiohttp.TCPConnector(ssl=context)
        headers = more.pop("headers", AS_HPA)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self.url + path, headers=headers, **more) as reply,
        ):
            raw = await reply.read()
            body = json.loads(raw) if raw.startswith(b"{") else raw.decode()
            return reply.status, body, reply

    def counted(self) -> dict[str, float]:
        """Return code -> counted requests for values."""
        (family,) = self.counter.collect()
        return {one.labels["code"]: one.value for one in family.samples if one.name.endswith("_total")}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Stand]:
    """Give a server with a certificate, a front proxy and a sample."""
    rights, probes, registry = Rights(), Fine(), CollectorRegistry()
    counter = Counter("requests", "x", ["code"], registry=registry)
    sample = Sample(0, 0.0, (Queue("reports", "analytics", 3, 1, 4), Queue("idle", "analytics", 0, 0, 0)))

    held: list[Stand] = []

    def newest() -> Sample:
        (one,) = held
        if isinstance(one.sample, StatusError):
            raise one.sample
        return one.sample

    server = MetricsServer(
        host="127.0.0.1",
        asked_port=0,
        scope=Scope("lift", frozenset({"analytics"})),
        probes=probes,
        access=cast("Access", rights),
        newest=newest,
        requests=counter,
    )
    material = step(Material(), POLICY, clients.NOW)[0]
    stand = Stand(server, rights, probes, material, clients.authority(), folder, counter, sample)
    held.append(stand)
    assert material.leaf is not None
    server.door.show(material.leaf.certificate_pem, material.leaf.key_pem)
    server.trust(stand.proxy(stand.proxy_authority))
    await server.start()
    try:
        yield stand
    finally:
        await server.aclose()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """Give a running server."""
    async with running(tmp_path) as found:
        yield found


# -- who is believed --------------------------------------------------------------------------------------------------
async def test_the_front_proxy_speaks_for_a_user(stand: Stand) -> None:
    """Its certificate and its headers: the user and groups are those rights are asked for."""
    status, body, _ = await stand.get(headers=[*AS_HPA.items(), ("X-Remote-Group", "a"), ("X-Remote-Group", "b")])
    assert status == 200
    assert {item["metricLabels"]["queue"]: item["value"] for item in body["items"]} == {"reports": "4", "idle": "0"}
    user, asked = stand.rights.asked[-1]
    assert (user.name, user.groups) == (AS_HPA["X-Remote-User"], ("a", "b", "system:authenticated"))
    assert (asked.verb, asked.namespace, asked.metric) == ("list", "lift", "heavylift_queue_demand")


async def test_headers_without_a_certificate_are_not_believed(stand: Stand) -> None:
    """401, and nobody's rights are asked about."""
    status, body, _ = await stand.get(context=stand.context(None))
    assert (status, body["reason"]) == (401, "Unauthorized")
    assert stand.rights.asked == []


async def test_a_certificate_of_another_name_is_not_believed(stand: Stand) -> None:
    """The authority signs for others, too; only the names the ConfigMap lists speak for users."""
    status, body, _ = await stand.get(context=stand.context(stand.proxy_authority, "kubelet"))
    assert (status, body["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "kind", [{"signer": None}, {"server": True}, {"ended": True}], ids=["another authority", "a server's", "ended"]
)
async def test_certificates_that_do_not_verify_end_the_connection(stand: Stand, kind: dict[str, Any]) -> None:
    """TLS itself refuses what is not signed, not for clients, or over."""
    signer = clients.authority() if "signer" in kind else stand.proxy_authority
    context = stand.context(signer, **{key: value for key, value in kind.items() if key != "signer"})
    with pytest.raises(aiohttp.ClientError):
        await stand.get(context=context)
    assert stand.rights.asked == []


async def test_a_token_of_a_direct_caller_is_reviewed(stand: Stand) -> None:
    """Without a certificate a bearer token counts, a wrong one does not, and headers beside it do not."""
    headers = {**AS_HPA, "Authorization": f"Bearer {TOKEN}"}
    assert (await stand.get(context=stand.context(None), headers=headers))[0] == 200
    assert stand.rights.asked[-1][0] == User("sa")
    assert (await stand.get(context=stand.context(None), headers={"Authorization": "Bearer x"}))[0] == 401
    assert (await stand.get(context=stand.context(None), headers={"Authorization": "Basic YTpi"}))[0] == 401


async def test_whoever_may_not_is_forbidden(stand: Stand) -> None:
    """403 with the words of the refusal, for values and for documents."""
    stand.rights.refused.add(AS_HPA["X-Remote-User"])
    for path in (VALUES, "/apis", "/openapi/v3", "/nowhere"):
        status, body, _ = await stand.get(path)
        assert (status, body["reason"]) == (403, "Forbidden")


async def test_old_tls_is_refused(stand: Stand) -> None:
    """TLS 1.2 could resume a session of a certificate that is trusted no more."""
    context = stand.context(stand.proxy_authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await stand.get(context=context)


# -- while it changes -------------------------------------------------------------------------------------------------
async def test_a_rotated_front_proxy_counts_at_once_and_the_port_stays(stand: Stand) -> None:
    """Old and new together, then the new alone: an open connection of the old one ends, too."""
    old, new = stand.proxy_authority, clients.authority()
    connector = aiohttp.TCPConnector(ssl=stand.context(old), limit=1)
    async with aiohttp.ClientSession(connector=connector, headers=AS_HPA) as session:
        url, port = stand.url + VALUES, stand.server.port
        async with session.get(url) as reply:
            assert reply.status == 200
        both = stand.proxy(old)
        both = FrontProxy(both.ca + new.certificate_pem, both.allowed_names, both.username_headers)
        stand.server.trust(both)
        async with session.get(url) as reply:
            assert reply.status == 200
        assert (await stand.get(signer=new))[0] == 200
        stand.server.trust(stand.proxy(new))
        with pytest.raises(aiohttp.ClientError):
            await session.get(url)
        assert (await stand.get(signer=new))[0] == 200
    assert stand.server.port == port


async def test_a_renewed_certificate_is_shown_to_the_next_connection(stand: Stand) -> None:
    """The open one goes on; nobody is refused in between."""
    connector = aiohttp.TCPConnector(ssl=stand.context(stand.proxy_authority), limit=1)
    async with aiohttp.ClientSession(connector=connector, headers=AS_HPA) as session:
        async with session.get(stand.url + VALUES) as reply:
            assert reply.status == 200
        assert stand.material.authority is not None
        renewed = new_leaf(stand.material.authority, POLICY, clients.NOW)
        stand.server.door.show(renewed.certificate_pem, renewed.key_pem)
        async with session.get(stand.url + VALUES) as reply:
            assert reply.status == 200
    context = stand.context(None)
    reader, writer = await asyncio.open_connection("localhost", stand.server.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert reader.at_eof()
    assert shown == ssl.PEM_cert_to_DER_cert(renewed.certificate_pem)


async def test_what_cannot_be_used_changes_nothing(stand: Stand) -> None:
    """A key that does not fit and an authority that is none are refused; what was there still serves."""
    other = step(Material(), POLICY, clients.NOW)[0].leaf
    assert other is not None
    assert stand.material.leaf is not None
    with pytest.raises(ValueError, match=r"."):
        stand.server.door.show(stand.material.leaf.certificate_pem, other.key_pem)
    with pytest.raises(ValueError, match=r"."):
        stand.server.trust(FrontProxy("no certificate", frozenset(), ("X-Remote-User",)))
    assert (await stand.get())[0] == 200


async def test_believing_nobody_refuses_everybody_with_a_certificate(stand: Stand) -> None:
    """Without an authority no certificate verifies; probes still answer."""
    stand.server.trust(NOBODY)
    with pytest.raises(aiohttp.ClientError):
        await stand.get()
    assert (await stand.get("/readyz", context=stand.context(None)))[0] == 200


async def test_a_client_that_names_no_server_is_served_too(stand: Stand) -> None:
    """A kubelet probes by address, without a server name in its greeting."""
    context = stand.context(None)
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.server.port, ssl=context, server_hostname="")
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"ready\n")


# -- what is answered -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_probes_need_no_certificate(stand: Stand, path: str) -> None:
    """A kubelet has none; nobody's rights are asked about."""
    assert (await stand.get(path, context=stand.context(None), headers={}))[0] == 200
    stand.probes.well = False
    assert (await stand.get(path, context=stand.context(None), headers={}))[0] == 503
    assert stand.rights.asked == []


async def test_discovery_is_what_was_asked_for(stand: Stand) -> None:
    """The document of both with its own type and an entity tag, else the old lists; 404 for OpenAPI."""
    headers = {**AS_HPA, "Accept": f"{documents.DISCOVERY_TYPE},application/json"}
    status, body, reply = await stand.get("/apis", headers=headers)
    assert (status, body) == (200, documents.discovery())
    assert reply.headers["Content-Type"] == documents.DISCOVERY_TYPE
    status, body, again = await stand.get("/apis", headers={**headers, "If-None-Match": reply.headers["ETag"]})
    assert (status, body, again.headers["ETag"]) == (304, "", reply.headers["ETag"])
    assert (await stand.get("/apis"))[1] == documents.groups()
    assert (await stand.get("/apis/external.metrics.k8s.io"))[1] == documents.group()
    assert (await stand.get("/apis/external.metrics.k8s.io/v1beta1"))[1] == documents.resources()
    for path in ("/openapi/v3", "/openapi/v2", "/api", "/version", "/"):
        status, body, _ = await stand.get(path)
        assert (status, body["kind"], body["reason"]) == (404, "Status", "NotFound")


async def test_whatever_is_accepted_the_answer_is_json(stand: Stand) -> None:
    """The HPA asks for protobuf first; an error there would leave it without a number. Other parameters are ignored."""
    accept = {"Accept": "application/vnd.kubernetes.protobuf, */*"}
    path = f"{VALUES}?labelSelector=queue%3Dreports%2C%21x&timeout=5s&limit=500&pretty=true&unknown=1"
    status, body, reply = await stand.get(path, headers=AS_HPA | accept)
    assert (status, [item["value"] for item in body["items"]]) == (200, ["4"])
    assert reply.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        (f"{VALUES}?labelSelector=a+in", 400, "labelSelector: found the end"),
        (f"{VALUES}?labelSelector=queue%3Dnone", 404, "the queues are idle, reports"),
        (VALUES.replace("demand", "depth"), 404, "no metric heavylift_queue_depth"),
        (VALUES.replace("lift/", "default/"), 404, "namespace default has no queues"),
        (VALUES.replace("namespaces/lift", "namespaces/..%2flift"), 404, "has no queues"),
        (VALUES + "/reports", 404, "Not Found"),
    ],
)
async def test_what_cannot_be_answered_is_a_status(stand: Stand, path: str, code: int, words: str) -> None:
    """The HPA shows the message word for word."""
    stand.sample = Sample(0, 0.0, tuple(sorted(cast("Sample", stand.sample).queues, key=lambda one: one.name)))
    status, body, _ = await stand.get(path)
    assert (status, body["kind"], body["code"]) == (code, "Status", code)
    assert words in body["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_written(stand: Stand, method: str) -> None:
    """405 as a Status, to whoever may ask at all."""
    status, body, _ = await stand.get(method=method)
    assert (status, body["reason"]) == (405, "MethodNotAllowed")


async def test_an_old_sample_and_a_fault_of_ours_are_told_in_a_status(stand: Stand) -> None:
    """503 with its words; a bug is 500 without its details. Each answer about values is counted by its code."""
    stand.sample = StatusError(503, "redis unreachable, last sample 31 s old")
    status, body, _ = await stand.get()
    assert (status, body["message"]) == (503, "redis unreachable, last sample 31 s old")
    stand.sample = cast("Sample", None)
    status, body, _ = await stand.get()
    assert (status, body["reason"]) == (500, "InternalError")
    assert "see the operator's log" in body["message"]
    await stand.get("/apis")
    await stand.get(context=stand.context(None))
    counts = stand.counted()
    assert {code for code, count in counts.items() if count == 0} >= {"200", "403", "404"}  # so that the first counts
    assert {code: count for code, count in counts.items() if count} == {"503": 1.0, "500": 1.0, "401": 1.0}


async def test_a_user_of_many_groups_is_heard(stand: Stand) -> None:
    """Four hundred groups of a directory fit into a request's headers."""
    many = [("X-Remote-Group", f"cn=team-{number},ou=groups,dc=example,dc=com") for number in range(400)]
    assert (await stand.get(headers=[*AS_HPA.items(), *many]))[0] == 200
    assert len(stand.rights.asked[-1][0].groups) == 401


async def test_a_taken_port_is_told_with_the_setting_to_change(stand: Stand, tmp_path: Path) -> None:
    """The operator cannot work so: it ends, and says why."""
    async with running(tmp_path) as other:
        await other.server.aclose()
        other.server.asked_port = stand.server.port
        with pytest.raises(ConfigurationError, match="HEAVYLIFT_METRICS_API_PORT"):
            await other.server.start()
