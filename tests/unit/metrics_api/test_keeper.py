"""Secret and APIService between two replicas, strangers and failures."""

from __future__ import annotations

import base64
import datetime as dt
from email.utils import format_datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Gauge

from heavylift.runtime import logs
from heavylift.runtime.kube import KubeApi, KubeReply
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.metrics_api.certificates import Material, Policy, new_authority, step
from heavylift_operator.metrics_api.keeper import Keeper, Place
from heavylift_operator.metrics_api.tls import Door

PLACE = Place("lift", "metrics", "certificate", given=False)
POLICY = Policy(names=PLACE.names)
Json = dict[str, Any]


class Api:
    """A Secret and an APIService with resource versions, as the API server keeps them."""

    def __init__(self, *, owner: Json | None = None) -> None:
        self.secret: Json = {"metadata": {"resourceVersion": "1"}}
        service = {"namespace": "lift", "name": "metrics"} if owner is None else owner
        self.registered: Json = {"metadata": {"resourceVersion": "1"}, "spec": {"service": service}}
        self.writes: list[str] = []
        self.refuse: dict[str, int] = {}
        self.before_write: Any = None
        self.date = format_datetime(dt.datetime.now(dt.UTC), usegmt=True)

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> KubeReply:
        """Answer GET, PUT and PATCH."""
        name = "secret" if "/secrets/" in path else "registered"
        if (status := self.refuse.get(f"{method} {name}")) is not None:
            return KubeReply(status, {"message": "refused"})
        held: Json = getattr(self, name)
        if method == "GET":
            return KubeReply(200, {**held, "metadata": dict(held["metadata"])}, {"date": self.date})
        if self.before_write is not None:
            hook, self.before_write = self.before_write, None
            hook()
            held = getattr(self, name)
        if body["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"]:
            return KubeReply(409, {"message": "the object has been modified"})
        self.writes.append(f"{method} {name}")
        body = body if method == "PUT" else {**held, "spec": {**held["spec"], **body["spec"]}}
        version = str(int(held["metadata"]["resourceVersion"]) + 1)
        setattr(self, name, {**body, "metadata": {"resourceVersion": version}})
        return KubeReply(200, getattr(self, name))

    @property
    def bundle(self) -> str:
        """The authorities in the APIService."""
        return base64.b64decode(self.registered["spec"].get("caBundle", "")).decode()


def keeper(api: Api, place: Place = PLACE) -> Keeper:
    """Return one replica's keeper."""
    registry, log = CollectorRegistry(), logs.get("test")
    return Keeper(
        api=cast("KubeApi", api),
        service=Service("test"),
        place=place,
        policy=POLICY,
        door=Door(),
        clock=ClusterClock(),
        interval_s=1.0,
        certificate=StateLine(log, "certificate", ok=False, why="new"),
        registration=StateLine(log, "registration", ok=False, why="new"),
        owned=Gauge("owned", "x", registry=registry),
        expires=Gauge("expires", "x", registry=registry),
    )


def value(gauge: Gauge) -> float:
    """Return a gauge's value."""
    ((sample,),) = (metric.samples for metric in gauge.collect())
    return sample.value


async def test_two_replicas_write_once_and_serve_the_same() -> None:
    """The second reads what the first wrote; further rounds write nothing."""
    api = Api()
    first, second = keeper(api), keeper(api)
    for one in (first, second, first, second):
        await one.once()
        assert (one.certificate.ok, one.registration.ok, one.door.open) == (True, True, True)
    assert api.writes == ["PUT secret", "PATCH registered"]
    assert api.bundle == Material.read(api.secret["data"]).bundle
    assert first.door._chain == second.door._chain == Material.read(api.secret["data"]).leaf.certificate_pem  # type: ignore[union-attr]
    assert value(first.expires) > dt.datetime.now(dt.UTC).timestamp() + 80 * 86_400
    assert value(first.owned) == 1


async def test_whoever_writes_second_takes_what_is_there() -> None:
    """A write between our read and ours is a conflict: the other's certificate counts, ours is forgotten."""
    api = Api()
    other = step(Material(), POLICY, dt.datetime.now(dt.UTC))[0]

    def overtake() -> None:
        api.secret = {"metadata": {"resourceVersion": "2"}, "data": other.data}

    api.before_write = overtake
    one = keeper(api)
    await one.once()
    assert api.secret["data"] == other.data
    assert api.bundle == other.bundle
    assert one.door._chain == other.leaf.certificate_pem if other.leaf else False


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({"namespace": "keda", "name": "keda-metrics-apiserver"}, "belongs to keda/keda-metrics-apiserver"),
        ({"namespace": "lift", "name": "other"}, "belongs to lift/other"),
        ({}, "is served by the API server itself"),
    ],
)
async def test_somebody_elses_api_service_is_told_and_left_alone(owner: Json, words: str) -> None:
    """Log, gauge and readiness' remark say so; the certificate is kept, the operator goes on."""
    api = Api(owner=owner)
    one = keeper(api)
    assert one.standing() is None
    await one.once()
    assert api.writes == ["PUT secret"]
    assert "caBundle" not in api.registered["spec"]
    assert words in one.registration.why
    assert (value(one.owned), one.certificate.ok) == (0, True)
    assert one.standing() == (False, "APIServiceTaken", one.registration.why)
    api.registered["spec"]["service"] = {"namespace": "lift", "name": "metrics"}
    await one.once()
    assert (value(one.owned), one.registration.ok) == (1, True)
    assert one.standing() == (True, "Served", "v1beta1.external.metrics.k8s.io leads to lift/metrics")
    assert api.bundle


async def test_a_bundle_that_changed_under_us_is_left_for_the_next_round() -> None:
    """No write without the version that was read."""
    api = Api()
    one = keeper(api)
    api.secret = {
        "metadata": {"resourceVersion": "9"},
        "data": step(Material(), POLICY, dt.datetime.now(dt.UTC))[0].data,
    }
    api.before_write = lambda: api.registered["metadata"].update(resourceVersion="5")
    await one.once()
    assert api.writes == []
    await one.once()
    assert api.writes == ["PATCH registered"]


@pytest.mark.parametrize(
    ("refused", "line", "words"),
    [
        ({"GET secret": 403}, "certificate", "the Secret lift/certificate cannot be used"),
        ({"PUT secret": 403}, "certificate", "the Secret lift/certificate cannot be used"),
        ({"GET registered": 404}, "registration", "is not there: the chart makes it"),
        ({"PATCH registered": 403}, "registration", "check the Role"),
    ],
)
async def test_a_refusal_is_told_and_the_rest_goes_on(refused: dict[str, int], line: str, words: str) -> None:
    """Each of both objects fails by itself."""
    api = Api()
    api.refuse = refused
    one = keeper(api)
    await one.once()
    lines = {"certificate": one.certificate, "registration": one.registration}
    assert words in lines.pop(line).why
    assert all(other.ok for other in lines.values())
    api.refuse = {}
    await one.once()
    assert one.certificate.ok
    assert one.registration.ok


async def test_trouble_with_the_secret_keeps_what_is_served_and_trusted() -> None:
    """A Secret that cannot be read changes neither the port nor the APIService."""
    api = Api()
    one = keeper(api)
    await one.once()
    bundle, chain = api.bundle, one.door._chain
    api.refuse = {"GET secret": 500}
    await one.once()
    assert (api.bundle, one.door._chain, one.certificate.ok) == (bundle, chain, False)


async def test_a_given_secret_is_served_and_never_written() -> None:
    """Its certificate is shown, its authority put into the APIService; names and keys are checked."""
    made = step(Material(), POLICY, dt.datetime.now(dt.UTC))[0]
    api = Api()
    one = keeper(api, Place("lift", "metrics", "certificate", given=True))
    await one.once()
    assert "holds no certificate and key" in one.certificate.why
    api.secret["data"] = {key: made.data[key] for key in ("tls.crt", "tls.key", "ca.crt")}
    await one.once()
    assert (one.certificate.ok, one.door.open) == (True, True)
    assert api.writes == ["PATCH registered"]
    wrong = step(Material(), Policy(names=("other.svc",)), dt.datetime.now(dt.UTC))[0]
    api.secret["data"] = {key: wrong.data[key] for key in ("tls.crt", "tls.key", "ca.crt")}
    await one.once()
    assert "is not for metrics.lift.svc" in one.certificate.why
    api.secret["data"] = {"tls.crt": made.data["tls.crt"], "tls.key": wrong.data["tls.key"]}
    await one.once()
    assert "cannot be used" in one.certificate.why
    assert one.door._chain == made.leaf.certificate_pem if made.leaf else False


async def test_the_api_servers_time_counts_whatever_the_machines_clock_says() -> None:
    """Two replicas with clocks years apart agree on when a certificate ends, and do not write in turn."""
    api = Api()
    api.date = "Sat, 22 Nov 2031 10:00:00 GMT"
    one, other = keeper(api), keeper(api)
    for _ in range(3):
        await one.once()
        await other.once()
    assert api.writes == ["PUT secret", "PATCH registered"]
    leaf = Material.read(api.secret["data"]).leaf
    assert leaf is not None
    assert leaf.certificate.not_valid_after_utc.year == 2032


async def test_an_authority_that_could_not_be_announced_does_not_sign() -> None:
    """While the APIService cannot be patched the old one goes on, and its certificate is still renewed."""
    api = Api()
    one = keeper(api)
    await one.once()
    held = Material.read(api.secret["data"])
    coming = new_authority(POLICY, dt.datetime.now(dt.UTC) - dt.timedelta(minutes=11))
    api.secret["data"] = Material(held.authority, held.leaf, coming).data
    api.refuse = {"PATCH registered": 403}
    for _ in range(3):
        await one.once()
    assert one.door._chain == _chain(held)
    api.refuse = {"GET registered": 500}
    await one.once()
    assert one.door._chain == _chain(held)
    api.refuse = {}
    await one.once()
    assert coming.certificate_pem in api.bundle
    await one.once()
    assert Material.read(api.secret["data"]).authority is not None
    assert one.door._chain != _chain(held)


def _chain(held: Material) -> str:
    assert held.leaf is not None
    return held.leaf.certificate_pem
