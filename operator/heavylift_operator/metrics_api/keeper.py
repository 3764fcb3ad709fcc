"""Keeps the certificate in its Secret and the bundle in our APIService; both replicas do, and neither fights."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from prometheus_client import Gauge

from heavylift.errors import ClusterUnavailableError, ConfigurationError, HeavyliftError
from heavylift.runtime import logs
from heavylift.runtime.kube import MERGE_PATCH, KubeApi, KubeStatusError
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.core.reading import Json, child, flag, text
from heavylift_operator.metrics_api import certificates
from heavylift_operator.metrics_api.certificates import Material, Policy
from heavylift_operator.metrics_api.documents import API_SERVICE
from heavylift_operator.metrics_api.tls import Door

_API_SERVICE_PATH: Final = f"/apis/apiregistration.k8s.io/v1/apiservices/{API_SERVICE}"
_STEPS_MAX: Final = 8
"""Steps of one round: a fresh Secret takes one, each after it waits for time to pass."""
_PEM_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the Service, the Secret and the APIService of this installation are."""

    namespace: str
    service: str
    secret: str
    given: bool
    """The Secret is somebody else's (cert-manager's): read, never written."""

    @property
    def secret_path(self) -> str:
        """The Secret's path."""
        return f"/api/v1/namespaces/{quote(self.namespace, safe='')}/secrets/{quote(self.secret, safe='')}"

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names the certificate must be good for; the API server asks for the first."""
        full = f"{self.service}.{self.namespace}.svc"
        return full, f"{full}.cluster.local", f"{self.service}.{self.namespace}", self.service


@dataclass(slots=True, kw_only=True)
class Keeper:
    """One round reads the Secret, moves it on if it is ours, shows its certificate, and looks after the APIService."""

    api: KubeApi
    service: Service
    place: Place
    policy: Policy
    door: Door
    clock: ClusterClock
    """The API server's time: replicas whose machines disagree must not renew each other's certificates in turn."""
    interval_s: float
    certificate: StateLine
    registration: StateLine
    """About the APIService: that it names somebody else's Service is told here, and changes nothing else."""
    owned: Gauge
    expires: Gauge
    _taken: bool | None = None
    """Whether somebody else has the APIService; None = it was not read yet."""

    async def run(self) -> None:
        """Go round until told to stop."""
        while not self.service.stop.is_set():
            await self.once()
            await self.service.pause(self.interval_s)

    async def once(self) -> None:
        """Do one round; what fails is said once and tried again in the next."""
        found: Json | None = None
        try:
            found = await self._read(_API_SERVICE_PATH)
            ours = self._is_ours(found)
        except HeavyliftError as error:
            self.registration.bad(str(error))
            ours = True  # nobody else is known to have it: no new authority signs before it is seen there
        bundle = ""
        try:
            known = text(child(found, "spec"), "caBundle", 4 * _PEM_MAX) if ours else None
            bundle = await self._given() if self.place.given else await self._made(_decoded(known))
            self.certificate.good("the serving certificate is there")
        except (HeavyliftError, ValueError) as error:
            self.certificate.bad(_secret_words(error, self.place))
        if found is not None and ours:
            await self._register(found, bundle)

    def standing(self) -> tuple[bool, str, str] | None:
        """Return whether HPAs are led to us, with a condition's reason and message; None = nothing was read yet."""
        if self._taken is None:
            return None
        if self.registration.ok:
            return True, "Served", f"{API_SERVICE} leads to {self.place.namespace}/{self.place.service}"
        return False, "APIServiceTaken" if self._taken else "NotRegistered", self.registration.why

    # -- the Secret ---------------------------------------------------------------------------------------------------
    async def _made(self, known: str | None) -> str:
        """Show our own certificate, making or renewing it first; return the authorities to be trusted."""
        for _ in range(_STEPS_MAX):
            secret = await self._read(self.place.secret_path)
            held = Material.read(child(secret, "data"))
            wanted, why = certificates.step(held, self.policy, self._now(), known=known)
            if why and not await self._write(secret, wanted, why):
                continue  # somebody was quicker: what is there now counts
            if wanted.leaf is not None:
                self._show(wanted.leaf.certificate_pem, wanted.leaf.key_pem)
            if not why:
                return wanted.bundle
        raise ClusterUnavailableError("the Secret changes faster than it can be read")

    async def _write(self, secret: Json, wanted: Material, why: str) -> bool:
        """Replace the Secret's data; return False when it changed since it was read."""
        body = {**secret, "data": wanted.data}
        reply = await self.api.request("PUT", self.place.secret_path, body=body)
        if reply.status == HTTPStatus.CONFLICT:
            return False
        if not reply.ok:
            raise KubeStatusError(reply.status, self.place.secret_path, reply.message)
        logs.get("metrics api").info("certificates changed", why=why, secret=self.place.secret)
        return True

    async def _given(self) -> str:
        """Show the certificate somebody else keeps in the Secret; return the authority beside it, if there is one."""
        data = child(await self._read(self.place.secret_path), "data")
        chain, key, authority = (_pem(data, name) for name in ("tls.crt", "tls.key", "ca.crt"))
        leaf = certificates.leaf_of(chain)
        if leaf is None or not key:
            raise ValueError("it holds no certificate and key as tls.crt and tls.key")
        if self.policy.names[0] not in certificates.names_of(leaf):
            raise ValueError(f"its certificate is not for {self.policy.names[0]}, the name the API server asks for")
        self._show(chain, key)
        return authority

    def _show(self, chain: str, key: str) -> None:
        self.door.show(chain, key)
        leaf = certificates.leaf_of(chain)
        if leaf is not None:
            self.expires.set(leaf.not_valid_after_utc.timestamp())

    # -- the APIService -----------------------------------------------------------------------------------------------
    def _is_ours(self, found: Json) -> bool:
        """Return whether the APIService names our Service; somebody else's is told of."""
        owner = child(found, "spec", "service")
        name = f"{text(owner, 'namespace')}/{text(owner, 'name')}"
        ours = name == f"{self.place.namespace}/{self.place.service}"
        self.owned.set(1 if ours else 0)
        self._taken = not ours
        if not ours:
            whose = f"belongs to {name}" if owner else "is served by the API server itself"
            self.registration.bad(
                f"{API_SERVICE} {whose} and is left alone: no HPA can read Heavylift's metrics there; "
                "set autoscaling.provider=keda or prometheus, or remove the other provider"
            )
        return ours

    async def _register(self, found: Json, bundle: str) -> None:
        """Write the bundle, unless the object changed since it was read: then the next round looks again."""
        spec, wanted = child(found, "spec"), base64.b64encode(bundle.encode()).decode()
        try:
            if bundle and (spec.get("caBundle") != wanted or flag(spec, "insecureSkipTLSVerify")):
                body = {
                    "metadata": {"resourceVersion": text(child(found, "metadata"), "resourceVersion")},
                    "spec": {"caBundle": wanted, "insecureSkipTLSVerify": None},
                }
                reply = await self.api.request("PATCH", _API_SERVICE_PATH, body=body, content_type=MERGE_PATCH)
                if not reply.ok and reply.status != HTTPStatus.CONFLICT:
                    raise KubeStatusError(reply.status, _API_SERVICE_PATH, reply.message)
            self.registration.good(f"{API_SERVICE} names our Service")
        except HeavyliftError as error:
            self.registration.bad(str(error))

    # -- both ---------------------------------------------------------------------------------------------------------
    async def _read(self, path: str) -> Json:
        reply = await self.api.request("GET", path)
        self.clock.learn(reply.headers)
        if reply.status == HTTPStatus.NOT_FOUND:
            raise ConfigurationError(f"{path} is not there: the chart makes it (operator.metricsApi)")
        if not reply.ok:
            raise KubeStatusError(reply.status, path, reply.message)
        return reply.object

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.clock.now_ms() / 1000, dt.UTC)


def _secret_words(error: Exception, place: Place) -> str:
    return f"the Secret {place.namespace}/{place.secret} cannot be used: {error}"


def _pem(data: Mapping[str, Any], key: str) -> str:
    return _decoded(text(data, key, _PEM_MAX)) or ""


def _decoded(raw: str | None) -> str | None:
    try:
        return None if raw is None else base64.b64decode(raw, validate=True).decode("ascii")
    except ValueError:
        return ""
