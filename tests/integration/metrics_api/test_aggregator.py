"""The external metrics API behind the real aggregator: discovery, values, selectors, rights, and an HPA."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift import Client
from heavylift_operator.metrics_api import documents, selector
from heavylift_operator.metrics_api.certificates import Material
from tests.cluster.pki import Authority, Identity
from tests.integration.metrics_api.direct import HPA, Caller
from tests.integration.metrics_api.followed import active, answered, follow, replicas, told
from tests.integration.metrics_api.stand import DEMAND, GROUP, RELEASE, Stand, bundle, condition
from tests.proofs.kube import Json, Kube, core
from tests.proofs.waiting import until

METRICS = ["heavylift_queue_demand", "heavylift_queue_in_flight", "heavylift_queue_waiting"]


def caller(stand: Stand, chain: str = "") -> Caller:
    """Return a caller with one of the cluster's certificates, or none."""
    pki = stand.cluster.layout.pki
    files = (pki / f"{chain}.crt", pki / f"{chain}.key") if chain else (None, None)
    return Caller(stand.service, bundle(stand.available()), *files)


def values_path(stand: Stand, metric: str = DEMAND) -> str:
    """Return the path of a metric in the installation's namespace."""
    return f"{GROUP}/namespaces/{stand.home}/{metric}"


# -- discovery --------------------------------------------------------------------------------------------------------
def test_kubectl_lists_and_reads_the_metrics(stand: Stand) -> None:
    """Their real names are in discovery, under the kind of a value list; `get --raw` reads them."""
    ask = ("api-resources", "--api-group=external.metrics.k8s.io", "--no-headers")
    # The API server reads discovery again within a minute where it asked before we answered.
    listed = until(lambda: stand.cluster.kubectl(*ask), "discovery to be read", limit=75)
    assert [line.split()[0] for line in listed.splitlines()] == METRICS
    assert {tuple(line.split()[1:]) for line in listed.splitlines()} == {
        ("external.metrics.k8s.io/v1beta1", "true", "ExternalMetricValueList")
    }
    read = json.loads(stand.cluster.kubectl("get", "--raw", values_path(stand)))
    assert [(item["metricLabels"]["queue"], item["value"]) for item in read["items"]] == [("a", "3"), ("b", "0")]


def test_the_api_server_reads_both_forms_of_discovery(stand: Stand) -> None:
    """Its own document of all groups has ours from version 2; lists of group and version come from us as they are."""
    chain = stand.cluster.layout.pki
    admin = Caller("localhost", (chain / "ca.crt").read_text(), chain / "admin.crt", chain / "admin.key")
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    status, document = admin.get(stand.cluster.layout.apiserver, "/apis", {"Accept": accept})
    (ours,) = [item for item in document["items"] if item["metadata"]["name"] == "external.metrics.k8s.io"]
    assert (status, [one["resource"] for one in ours["versions"][0]["resources"]]) == (200, METRICS)
    assert ours["versions"][0]["freshness"] == "Current"
    assert [one["name"] for one in (stand.kube.get(GROUP) or {})["resources"]] == METRICS
    assert (stand.kube.get(GROUP.rpartition("/")[0]) or {})["kind"] == "APIGroup"
    assert "external.metrics" not in json.dumps((stand.kube.get("/openapi/v3") or {})["paths"])
    proxy, aggregator = caller(stand, "front-proxy"), {"X-Remote-User": "system:kube-aggregator"}
    for replica in stand.live:
        assert proxy.get(replica.port, "/apis", aggregator) == (200, documents.groups())
        assert proxy.get(replica.port, "/apis", {**aggregator, "Accept": accept}) == (200, documents.discovery())


# -- values -----------------------------------------------------------------------------------------------------------
def test_each_queue_is_an_item_and_a_selector_chooses(stand: Stand) -> None:
    """Idle queues are "0"; selectors as an HPA writes them; a watched namespace sees its own queues."""
    assert stand.values_of() == {"a": "3", "b": "0"}
    assert stand.values_of("heavylift_queue_waiting") == {"a": "3", "b": "0"}
    assert stand.values_of("heavylift_queue_in_flight") == {"a": "0", "b": "0"}
    assert stand.values_of(selector="queue=b,!x") == {"b": "0"}
    assert stand.values_of(selector="queue in (a,c)", namespace=stand.watched) == {"a": "3"}
    assert stand.values_of(namespace=stand.watched) == {"a": "3", "b": "0"}


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"selector": "queue in"}, 400, "labelSelector: found the end, expected '('"),
        ({"selector": "queue=c"}, 404, "no queue matches the selector queue=c: the queues are a, b"),
        ({"metric": "heavylift_queue_depth"}, 404, "no metric heavylift_queue_depth"),
        ({"namespace": "default"}, 404, "namespace default has no queues of this installation"),
    ],
)
def test_errors_come_through_word_for_word(stand: Stand, asked: dict[str, str], code: int, words: str) -> None:
    """The aggregator passes our Status on."""
    status, body = stand.ask(**asked)  # type: ignore[arg-type]
    assert (status, body["kind"], body["code"]) == (code, "Status", code)
    assert words in body["message"]


LABELS: dict[str, dict[str, str]] = {
    "none": {},
    "one": {"queue": "a"},
    "two": {"queue": "b", "n": "7"},
    "empty": {"queue": "", "in": "notin"},
    "odd": {"example.com/x": "A_b-c.d", "n": "x"},
}
WORDS = ["queue", "n", "in", "notin", "a", "b", "7", "6", "x", "example.com/x", "A_b-c.d", "-", "_", "a b", ""]
SIGNS = ["=", "==", "!=", " in (", ")", " notin (", ",", "!", ">", "<", "(", " "]


@pytest.fixture(scope="module")
def labelled(stand: Stand) -> Stand:
    """Give a namespace of ConfigMaps with these labels and a mark."""
    for name, labels in LABELS.items():
        metadata = {"name": name, "labels": {**labels, "marked": "yes"}}
        obj: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        stand.kube.apply(core(stand.watched, "configmaps", name), obj)
    return stand


@settings(max_examples=120, deadline=None, derandomize=True)
@given(text=st.lists(st.sampled_from(WORDS + SIGNS), max_size=9).map("".join))
def test_selectors_mean_what_they_mean_to_the_api_server(labelled: Stand, text: str) -> None:
    """The API server accepts and refuses the same texts, and finds the same objects among labelled ones."""
    path = f"{core(labelled.watched, 'configmaps')}?labelSelector={quote(text)}"
    status, body = labelled.kube.request("GET", path)
    try:
        ours = selector.parse(text)
    except selector.InvalidSelectorError:
        assert status == 400, text
        return
    assert status == 200, text
    theirs = {item["metadata"]["name"] for item in body["items"]} & LABELS.keys()
    assert {name for name, labels in LABELS.items() if ours.matches({**labels, "marked": "yes"})} == theirs, text


# -- identity and rights ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def people(stand: Stand) -> dict[str, Kube]:
    """Give a person with the chart's view role and one without any."""
    found = {}
    for name in ("viewer", "stranger"):
        account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        stand.kube.apply(core(stand.home, "serviceaccounts", name), account)
        found[name] = Kube(stand.kubeconfig(name))
    group = "rbac.authorization.k8s.io"
    binding: Json = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": f"{stand.home}:{RELEASE}:metrics-view"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": stand.home}],
    }
    stand.kube.apply(f"/apis/{group}/v1/namespaces/{stand.home}/rolebindings/viewer", binding)
    return found


def test_people_need_the_view_role(stand: Stand, people: dict[str, Kube]) -> None:
    """Through the API server: with the chart's role the metrics can be read, in that namespace; without they cannot."""
    until(lambda: stand.ask(kube=people["viewer"])[0] == 200, "the role to count")
    assert stand.values_of(kube=people["viewer"]) == {"a": "3", "b": "0"}
    assert stand.ask(kube=people["viewer"], namespace=stand.watched)[0] == 403
    assert stand.ask(kube=people["stranger"])[0] == 403


def test_direct_callers_are_known_by_their_token_and_need_the_same_rights(
    stand: Stand, people: dict[str, Kube]
) -> None:
    """Past the API server we ask it ourselves, with no more rights than the chart gives: TokenReview, then access."""
    until(lambda: stand.ask(kube=people["viewer"])[0] == 200, "the role to count")
    nobody = caller(stand)
    for replica in stand.live:
        answers = {
            name: nobody.get(replica.port, values_path(stand), {"Authorization": f"Bearer {kube._token}"})
            for name, kube in people.items()
        }
        assert answers["viewer"][0] == 200
        assert answers["stranger"][0] == 403
        assert f"user system:serviceaccount:{stand.home}:stranger cannot list" in answers["stranger"][1]["message"]
        assert nobody.get(replica.port, values_path(stand), {"Authorization": "Bearer x.y.z"})[0] == 401


def test_headers_count_only_beside_the_front_proxys_certificate(stand: Stand) -> None:
    """The cluster's own certificates: the front proxy's is believed, none and the administrator's are not."""
    replica, path = stand.live[0], values_path(stand)
    proxy = caller(stand, "front-proxy")
    assert proxy.get(replica.port, path, {"X-Remote-User": HPA})[0] == 200
    status, body = proxy.get(replica.port, path, {"X-Remote-User": "jane", "X-Remote-Group": "dev"})
    assert (status, body["reason"]) == (403, "Forbidden")
    assert proxy.get(replica.port, path, {"X-Remote-User": "jane", "X-Remote-Group": "system:masters"})[0] == 200
    assert proxy.get(replica.port, path)[0] == 401
    assert caller(stand).get(replica.port, path, {"X-Remote-User": HPA})[0] == 401
    with pytest.raises((ssl.SSLError, ConnectionError)):
        caller(stand, "admin").get(replica.port, path, {"X-Remote-User": HPA})


@pytest.fixture
def proxy_authority(stand: Stand, tmp_path: Path) -> Authority:
    """Give the cluster's own front-proxy authority, which writes what it issues to a folder of the test's."""
    own = stand.cluster.layout.pki / "front-proxy-ca.crt"
    key = serialization.load_pem_private_key(own.with_suffix(".key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(tmp_path, key, x509.load_pem_x509_certificate(own.read_bytes()))


@pytest.mark.parametrize(("common_name", "status"), [("front-proxy-client", 200), ("another-client", 401)])
def test_headers_count_only_under_an_allowed_name(
    stand: Stand, proxy_authority: Authority, common_name: str, status: int
) -> None:
    """A certificate of the front proxy's own authority speaks for others under the allowed common name alone."""
    proxy_authority.issue([Identity("client", common_name)])
    chain = proxy_authority.folder / "client.crt"
    client = Caller(stand.service, bundle(stand.available()), chain, chain.with_suffix(".key"))
    for headers in ({"X-Remote-User": HPA}, {"X-Remote-User": "jane", "X-Remote-Group": "system:masters"}):
        for replica in stand.live:
            assert client.get(replica.port, values_path(stand), headers)[0] == status


def test_the_aggregators_own_calls_for_openapi_are_answered_by_404(stand: Stand) -> None:
    """They come as a user without groups: the group of the authenticated lets it ask."""
    proxy = caller(stand, "front-proxy")
    for path in ("/openapi/v3", "/openapi/v2"):
        assert proxy.get(stand.live[0].port, path, {"X-Remote-User": "system:aggregator"})[0] == 404


def test_a_kubelet_probes_without_a_certificate(stand: Stand) -> None:
    """All three paths, on the port the readiness probe of the chart names."""
    for path in ("/healthz", "/livez", "/readyz"):
        assert caller(stand).get(stand.live[0].port, path)[0] == 200


# -- certificates -----------------------------------------------------------------------------------------------------
def test_two_operators_that_start_at_once_share_one_certificate(stand: Stand) -> None:
    """One wrote it, the other took it; the APIService trusts its authority."""
    shown = {caller(stand).certificate(replica.port) for replica in stand.live}
    held = Material.read((stand.kube.get(stand.secret) or {})["data"])
    assert len(shown) == 1
    assert bundle(stand.available()) == held.bundle
    wrote = [replica for replica in stand.replicas if "certificates changed" in replica.daemon.log()]
    assert len(wrote) == 1


# -- an HPA -----------------------------------------------------------------------------------------------------------
def test_an_hpa_adds_up_all_queues_or_those_it_selects(followed: Stand) -> None:
    """Seven jobs in two queues: four replicas; three in the one selected: two; none selected: told, and two stay."""
    stand = followed
    stand.queue("b", jobs=4)
    stand.told({"a": "3", "b": "4"})
    until(lambda: replicas(stand) == 4, "the HPA to add them up")
    expressions = [
        {"key": "queue", "operator": "In", "values": ["a", "c"]},
        {"key": "queue", "operator": "NotIn", "values": ["b"]},
        {"key": "namespace", "operator": "Exists"},
        {"key": "x", "operator": "DoesNotExist"},
    ]
    follow(stand, DEMAND, selector={"matchLabels": {"queue": "a"}, "matchExpressions": expressions})
    until(lambda: replicas(stand) == 2, "the HPA to select")
    follow(stand, DEMAND, selector={"matchLabels": {"queue": "c"}})
    words = "no queue matches the selector queue=c: the queues are a, b"
    until(lambda: any(words in message for message in told(stand)), "an event with our words")
    assert words in active(stand)["message"]
    assert replicas(stand) == 2
    with Client(stand.server.url) as client:
        client.queue("b").purge(state="waiting")
    stand.told({"a": "3", "b": "0"})
    follow(stand, DEMAND)


def test_an_hpa_follows_the_queues_and_keeps_its_replicas_without_redis(followed: Stand) -> None:
    """Three jobs, two a replica: two. Without Redis the last number, then 503 in its condition; never nought."""
    stand = followed
    until(lambda: replicas(stand) == 2, "the HPA to follow")
    until(lambda: active(stand)["status"] == "True", "the HPA to say so: it scales first")
    seen = answered(stand, "200")
    until(lambda: answered(stand, "200") > seen, "the HPA's next request")
    stand.server.stop()
    words = "redis unreachable, last sample"
    until(lambda: words in active(stand)["message"], "the HPA to be told")
    assert active(stand)["status"] == "False"
    status, body = stand.ask()
    assert (status, body["reason"]) == (503, "ServiceUnavailable")
    assert answered(stand, "503") > 0
    assert replicas(stand) == 2
    assert condition(stand.available(), "Available")["status"] == "True"
    for replica in stand.live:
        assert replica.daemon.probe()[0] == 503
        assert caller(stand).get(replica.port, "/readyz")[0] == 200
    stand.server.start()
    stand.told({"a": "3", "b": "0"})
    until(lambda: active(stand)["status"] == "True", "the HPA to go on")
    assert replicas(stand) == 2


def test_a_paused_queue_asks_for_nobody(followed: Stand) -> None:
    """Demand falls to what is in flight, and the HPA with it; the waiting jobs are still told of."""
    stand = followed
    stand.queue("a", paused=True)
    stand.told({"a": "0", "b": "0"})
    assert stand.values_of("heavylift_queue_waiting") == {"a": "3", "b": "0"}
    until(lambda: replicas(stand) == 1, "the HPA to follow")
    stand.queue("a", paused=False)
    stand.told({"a": "3", "b": "0"})


def test_one_metric_that_fails_lets_an_hpa_grow_and_not_shrink(followed: Stand) -> None:
    """Beside one that nobody serves ours still scales up; on the way down the HPA waits for both."""
    stand = followed
    follow(stand, DEMAND, "heavylift_queue_nowhere")
    until(lambda: replicas(stand) == 2, "the HPA to grow")
    stand.queue("a", paused=True)
    stand.told({"a": "0", "b": "0"})
    misses = answered(stand, "404")
    until(lambda: answered(stand, "404") >= misses + 2, "the HPA to look twice more")
    assert replicas(stand) == 2
    follow(stand, DEMAND)
    until(lambda: replicas(stand) == 1, "the HPA to shrink")
    stand.queue("a", paused=False)
    stand.told({"a": "3", "b": "0"})
