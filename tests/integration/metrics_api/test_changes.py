"""The external metrics API while everything around it changes: replicas, authorities, owners."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from heavylift_operator.metrics_api import certificates
from heavylift_operator.metrics_api.certificates import Material, Policy
from tests.cluster.pki import Identity, create_authority
from tests.integration.metrics_api.direct import HPA, Caller
from tests.integration.metrics_api.followed import active, replicas
from tests.integration.metrics_api.stand import API_SERVICE, DEMAND, GROUP, Replica, Stand, bundle, condition
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Json, core, heavyqueues
from tests.proofs.waiting import until

VALUES = {"a": "3", "b": "0"}
TRUST = core("kube-system", "configmaps", "extension-apiserver-authentication")
CLIENT_CA = "requestheader-client-ca-file"


class Asking(threading.Thread):
    """Asks the API server without pause; ``wrong`` holds each answer that was not the values."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(name="asking", daemon=True)
        self.stand, self.asked, self.wrong = stand, 0, list[str]()
        self._over = threading.Event()

    @override
    def run(self) -> None:
        """Ask until stopped."""
        while not self._over.wait(0.1):
            status, body = self.stand.ask()
            self.asked += 1
            found = {item["metricLabels"].get("queue"): item["value"] for item in body.get("items", [])}
            if status != 200 or found != VALUES:
                self.wrong.append(f"{status} {body}"[:300])
            if condition(self.stand.kube.get(API_SERVICE) or {}, "Available")["status"] != "True":
                self.wrong.append("the APIService is not available")

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join(30)


@contextmanager
def never_wrong(stand: Stand) -> Iterator[None]:
    """Ask all the time, and fail when one answer was wrong or the API was not available for a moment."""
    asking = Asking(stand)
    asking.start()
    try:
        yield
    finally:
        asking.stop()
    assert asking.asked > 0
    assert asking.wrong == []


def authorities(stand: Stand) -> list[bytes]:
    """Return the authorities the API server trusts for our port, DER."""
    pem = bundle(stand.kube.get(API_SERVICE) or {})
    ends = "-----END CERTIFICATE-----\n"
    return [ssl.PEM_cert_to_DER_cert(part + ends) for part in pem.split(ends) if part.strip()]


def material(stand: Stand) -> Material:
    """Return what the Secret holds."""
    return Material.read((stand.kube.get(stand.secret) or {}).get("data") or {})


def test_our_authority_is_rotated_without_a_gap(stand: Stand) -> None:
    """The next one announced, trusted, signing; the old one gone: no request fails and the API stays available."""
    before = material(stand)
    assert before.authority is not None
    policy = Policy(names=(stand.service,))
    coming = certificates.new_authority(policy, dt.datetime.now(dt.UTC))
    announced = Material(before.authority, before.leaf, coming)
    with never_wrong(stand):
        stand.kube.merge(stand.secret, {"data": announced.data})
        until(lambda: len(authorities(stand)) == 2, "the next authority to be trusted")
        signing = "the next authority to sign"
        until(lambda: (material(stand).leaf or coming).certificate.issuer == coming.certificate.subject, signing)
        trusted = Caller(stand.service, coming.certificate_pem)
        for replica in stand.live:
            until(_accepted(trusted, replica), "a replica to serve the new certificate")
        until(lambda: len(authorities(stand)) == 1, "the old authority to be dropped")
    assert authorities(stand) == [ssl.PEM_cert_to_DER_cert(coming.certificate_pem)]
    said = "".join(replica.daemon.log() for replica in stand.live)
    last = "nothing the former authority signed is served any more"
    assert last in said, "dropped with the new signature a request could have failed in that second"


def _accepted(caller: Caller, replica: Replica) -> Callable[[], bool]:
    """Return whether the caller trusts what the replica shows; a refusal is an OSError, which waits."""
    return lambda: caller.get(replica.port, "/livez")[0] == 200


def test_a_bundle_that_is_wrong_is_put_right(stand: Stand) -> None:
    """Whoever overwrites it makes the API unavailable for a second at most; the operator writes it again."""
    other = certificates.new_authority(Policy(names=("x",)), dt.datetime.now(dt.UTC)).certificate_pem
    right = bundle(stand.available())
    stand.kube.merge(API_SERVICE, {"spec": {"caBundle": base64.b64encode(other.encode()).decode()}})
    until(lambda: bundle(stand.kube.get(API_SERVICE) or {}) == right, "the bundle to be right again")
    stand.available()
    stand.told(VALUES)


def test_an_emptied_secret_is_filled_again(stand: Stand) -> None:
    """That is how to begin anew: another authority, and the API is available again by itself."""
    before = authorities(stand)
    stand.kube.merge(stand.secret, {"data": None})
    until(lambda: before != authorities(stand) == _held(stand), "another authority")
    stand.available()
    stand.told(VALUES)


def _held(stand: Stand) -> list[bytes]:
    authority = material(stand).authority
    return [ssl.PEM_cert_to_DER_cert(authority.certificate_pem)] if authority else []


def test_without_our_authority_the_api_server_refuses_to_ask(stand: Stand) -> None:
    """While nobody mends it: FailedDiscoveryCheck with the words of the verifier, and 503 for every request."""
    name = f"{API_SERVICE.rpartition('.external')[0]}.other.metrics.k8s.io"
    spec = (stand.kube.get(API_SERVICE) or {})["spec"]
    other = certificates.new_authority(Policy(names=("x",)), dt.datetime.now(dt.UTC)).certificate_pem
    wrong = {**spec, "group": "other.metrics.k8s.io", "caBundle": base64.b64encode(other.encode()).decode()}
    obj = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name.rpartition("/")[2]},
    }
    stand.kube.apply(name, {**obj, "spec": wrong})
    try:
        until(lambda: "x509" in condition(stand.kube.get(name) or {}, "Available")["message"], "the check to fail")
        found = condition(stand.kube.get(name) or {}, "Available")
        assert (found["status"], found["reason"]) == ("False", "FailedDiscoveryCheck")
    finally:
        stand.kube.delete(name)


def test_somebody_elses_api_service_is_told_and_never_overwritten(stand: Stand) -> None:
    """Gauge, log, readiness and a condition say whose it is; operators go on, and take it up again when it is ours.

    While nobody answers under it no namespace can be deleted, which is why nothing of it may stay behind.
    """
    ours = (stand.kube.get(API_SERVICE) or {})["spec"]
    theirs = {"namespace": "keda", "name": "keda-metrics-apiserver", "port": 443}
    stand.kube.merge(API_SERVICE, {"spec": {"service": theirs, "caBundle": "Y2E="}})
    gauge = "heavylift_external_metrics_api_owned"
    for replica in stand.live:
        until(lambda daemon=replica.daemon: daemon.metric(gauge) == 0, "the gauge to tell")  # type: ignore[misc]
        status, body = replica.daemon.probe()
        assert status == 200
        assert "v1beta1.external.metrics.k8s.io belongs to keda/keda-metrics-apiserver and is left alone" in body
        assert "set autoscaling.provider=keda" in replica.daemon.log()
    until(lambda: _served(stand)["reason"] == "APIServiceTaken", "the condition to tell")
    short = f"/api/v1/namespaces/short-{secrets.token_hex(3)}"
    ensure_namespace(stand.kube, short.rpartition("/")[2])
    stand.kube.delete(short)
    blocked = "NamespaceDeletionDiscoveryFailure"
    until(lambda: condition(stand.kube.get(short) or {}, blocked)["status"] == "True", "a namespace to be stuck")
    held = (stand.kube.get(API_SERVICE) or {})["spec"]
    assert (held["service"], held["caBundle"]) == (theirs, "Y2E=")
    stand.kube.merge(API_SERVICE, {"spec": {"service": ours["service"]}})
    until(lambda: (stand.kube.get(API_SERVICE) or {})["spec"]["caBundle"] == ours["caBundle"], "our bundle")
    stand.available()
    stand.told(VALUES)
    for replica in stand.live:
        until(lambda daemon=replica.daemon: daemon.metric(gauge) == 1, "the gauge to tell")  # type: ignore[misc]

    until(lambda: _served(stand)["status"] == "True", "the condition to tell")
    until(lambda: stand.kube.get(short) is None, "the namespace to be gone", limit=90)


def _served(stand: Stand) -> Json:
    return condition(stand.kube.get(heavyqueues(stand.watched, "a")) or {}, "MetricsServed")


@pytest.fixture
def next_proxy(tmp_path: Path) -> Caller:
    """Give a front proxy's certificate of another authority; its authority's file is ``front-proxy-ca.crt``."""
    create_authority(tmp_path, "front-proxy-ca").issue([Identity("front-proxy", "front-proxy-client")])
    return Caller("", "", tmp_path / "front-proxy.crt", tmp_path / "front-proxy.key")


def test_the_front_proxys_authority_is_rotated_without_a_gap(stand: Stand, next_proxy: Caller) -> None:
    """kube-apiserver's own rotation: both authorities, its new certificate, then the new alone; the old is refused."""
    pki, path = stand.cluster.layout.pki, f"{GROUP}/namespaces/{stand.home}/{DEMAND}"
    assert next_proxy.chain is not None
    assert next_proxy.key is not None
    old_chain, old_key = next_proxy.chain.with_name("old.crt"), next_proxy.chain.with_name("old.key")
    old_chain.write_bytes((pki / "front-proxy.crt").read_bytes())
    old_key.write_bytes((pki / "front-proxy.key").read_bytes())
    old_ca = (pki / "front-proxy-ca.crt").read_text()
    new_ca = next_proxy.chain.with_name("front-proxy-ca.crt").read_text()
    trusted = bundle(stand.available())
    old = Caller(stand.service, trusted, old_chain, old_key)
    new = Caller(stand.service, trusted, next_proxy.chain, next_proxy.key)
    ports = [replica.port for replica in stand.live]

    def believed(caller: Caller) -> list[bool]:
        return [_believed(caller, port, path) for port in ports]

    assert (believed(old), believed(new)) == ([True, True], [False, False])
    with never_wrong(stand):
        (pki / "front-proxy-ca.crt").write_text(old_ca + new_ca)
        until(lambda: believed(new) == [True, True], "the new authority to be believed", limit=80)
        assert believed(old) == [True, True]
        (pki / "front-proxy.key").write_bytes(next_proxy.key.read_bytes())
        (pki / "front-proxy.crt").write_bytes(next_proxy.chain.read_bytes())
        (pki / "front-proxy-ca.key").write_bytes(next_proxy.chain.with_name("front-proxy-ca.key").read_bytes())
        (pki / "front-proxy-ca.crt").write_text(new_ca)
    # kube-apiserver only ever adds to the ConfigMap: taking the old authority away is the administrator's step.
    until(lambda: _only(stand, new_ca) and believed(old) == [False, False], "the old authority to be refused", limit=80)
    assert believed(new) == [True, True]
    stand.told(VALUES)


def _only(stand: Stand, authority: str) -> bool:
    stand.kube.merge(TRUST, {"data": {CLIENT_CA: authority}})
    return True


def _believed(caller: Caller, port: int, path: str) -> bool:
    try:
        return caller.get(port, path, {"X-Remote-User": HPA})[0] == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_namespaces_go_while_both_replicas_are_replaced(stand: Stand) -> None:
    """A rolling restart, new before old: every request is answered and each namespace deleted meanwhile is gone."""
    paths = [f"/api/v1/namespaces/short-{secrets.token_hex(3)}" for _ in range(2)]
    for path in paths:
        ensure_namespace(stand.kube, path.rpartition("/")[2])
    old = stand.live
    with never_wrong(stand):
        fresh = [stand.replica(wait=False) for _ in old]
        for path, before, after in zip(paths, old, fresh, strict=True):
            stand.kube.delete(path)
            stand.join(after)
            stand.retire(before)
            until(lambda path=path: stand.kube.get(path) is None, f"{path} to be gone")  # type: ignore[misc]
    assert stand.live == fresh


def test_one_replica_that_dies_is_not_missed(stand: Stand) -> None:
    """The other answers by itself, whoever held the lock; without its endpoint no request goes astray."""
    both = stand.live
    leading = [one for one in both if one.daemon.metric("heavylift_operator_leads") == 1]
    for replica in both:
        stand.front.ports[:] = [replica.port]
        stand.told(VALUES)
    (last,) = [one for one in both if one not in leading]
    stand.front.ports[:] = [last.port]
    leading[0].daemon.kill()
    with never_wrong(stand):
        until(lambda: last.daemon.metric("heavylift_operator_leads") == 1, "the other to lead")


def test_with_nobody_left_the_replicas_stay(followed: Stand) -> None:
    """No values are made up: 503, in the HPA's condition too, and the replicas are as they were."""
    stand = followed
    until(lambda: replicas(stand) == 2, "the HPA to follow")
    for replica in stand.live:
        replica.daemon.kill()
    status, body = stand.ask()
    assert status == 503
    assert "items" not in body
    words = "the server is currently unable to handle the request"
    until(lambda: words in active(stand)["message"], "the HPA to be told")
    assert active(stand)["status"] == "False"
    assert replicas(stand) == 2
    stand.front.ports.clear()


def test_a_given_certificate_is_served_and_followed_and_never_written(stand: Stand) -> None:
    """Somebody else keeps it, as cert-manager: the chart gives the right to read it, and its authority is trusted."""
    policy, now = Policy(names=(stand.service,)), dt.datetime.now(dt.UTC)
    first, second = (certificates.step(Material(), policy, now)[0] for _ in range(2))
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls"}
    secret["metadata"] = {"name": "given", "namespace": stand.home}
    stand.make({**secret, "data": _given(first)})
    for obj in stand.objects(existingSecret="given"):
        if obj["kind"] == "Role":
            stand.make(obj)
    stand.front.ports.clear()
    replica = stand.replica(HEAVYLIFT_METRICS_API_SECRET="given", HEAVYLIFT_METRICS_API_SECRET_GIVEN="true")
    for held in (first, second):
        assert held.authority is not None
        assert held.leaf is not None
        stand.make({**secret, "data": _given(held)})
        trusted = Caller(stand.service, held.authority.certificate_pem)
        until(_accepted(trusted, replica), "the certificate to be shown")
        until(lambda held=held: bundle(stand.available()) == held.bundle, "its authority to be trusted")  # type: ignore[misc]
        stand.told(VALUES)
    found = stand.kube.get(core(stand.home, "secrets", "given")) or {}
    assert found["data"] == _given(second)
    assert {one["manager"] for one in found["metadata"]["managedFields"]} == {"proofs"}


def _given(material: Material) -> dict[str, str]:
    return {key: material.data[key] for key in ("tls.crt", "tls.key", "ca.crt")}
