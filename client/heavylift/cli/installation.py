"""The part of ``heavylift doctor`` about the cluster: CRDs, Deployments, rights, clock, metrics API, HeavyQueues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.cli.finding import Finding, Level
from heavylift.cli.session import Session
from heavylift.contract.durations import format_ms
from heavylift.errors import ClusterUnavailableError, ConfigurationError

METRICS_API = "v1beta1.external.metrics.k8s.io"
KINDS = ("heavyqueues", "heavyschedules")
SKEW_MS = 5000
"""The API server tells its time in whole seconds."""


@dataclass(frozen=True, slots=True)
class Right:
    """What one process must be allowed in each namespace of HeavyQueues."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    subresource: str = ""

    @property
    def target(self) -> str:
        """What it is a right on, as Roles write it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "dispatcher": (
        Right("heavylift.dev", "heavyqueues", ("get", "list", "watch")),
        Right("batch", "jobs", ("create", "get")),
    ),
    "operator": (
        Right("heavylift.dev", "heavyqueues", ("get", "list", "watch")),
        Right("heavylift.dev", "heavyschedules", ("get", "list", "watch")),
        Right("heavylift.dev", "heavyqueues", ("patch",), "status"),
        Right("heavylift.dev", "heavyschedules", ("patch",), "status"),
        Right("batch", "jobs", ("get", "list", "watch", "patch", "delete")),
        Right("", "pods", ("get", "list", "watch")),
        Right("", "events", ("list",)),
    ),
}
"""As the chart grants them."""

May = Callable[[str, str, Right], bool]
"""Whether a process's account may use a verb of a right in a namespace: (namespace, verb, right)."""


def cluster_findings(here: Session) -> Iterator[Finding]:
    """Yield what the user's kubeconfig shows of the installation."""
    try:
        from heavylift.cli import kube  # noqa: PLC0415 - needs the extra kube

        namespace = str(here.kube)
        yield from crd_findings(kube.kinds_served())
        yield skew_finding(kube.skew_ms())
        down = kube.unready(namespace, here.release)
        for name, state in down.items():
            yield Finding(f"deployment {name}", Level.FAIL, f"{state}: kubectl -n {namespace} get pods")
        if not down:
            yield Finding("deployments", Level.OK, "all ready")
        yield metrics_api_finding(kube.api_service(METRICS_API), namespace)
        queues = kube.heavyqueues()
        yield from queue_findings(queues)
        places = sorted({str(queue.get("metadata", {}).get("namespace")) for queue in queues})
        yield from _rights(kube, namespace, here.release, places)
    except (ConfigurationError, ClusterUnavailableError) as error:
        yield Finding("cluster", Level.FAIL, str(error))


def crd_findings(served: Iterable[str]) -> Iterator[Finding]:
    """Yield whether the cluster serves our kinds."""
    missing = [kind for kind in KINDS if kind not in set(served)]
    if missing:
        names = ", ".join(missing)
        yield Finding("crds", Level.FAIL, f"{names} not served: kubectl apply -f manifests/crds/")
    else:
        yield Finding("crds", Level.OK, f"{', '.join(KINDS)} are served")


def skew_finding(skew: int | None) -> Finding:
    """Return what the API server's clock says; ``skew`` in ms, theirs minus ours, None = it tells no time."""
    check = "clock of the cluster"
    if skew is None:
        return Finding(check, Level.WARN, "the API server tells no time: make sure that NTP runs")
    message = f"{format_ms(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) <= SKEW_MS:
        return Finding(check, Level.OK, message)
    return Finding(check, Level.WARN, f"{message}: run NTP on both; times in messages and ages of pods look wrong")


def metrics_api_finding(found: Mapping[str, Any] | None, namespace: str) -> Finding:
    """Return what an APIService, or that there is none, means for autoscaling by external metrics.

    Args:
        found: the cluster's APIService of external metrics; None = there is none.
        namespace: where Heavylift is installed.
    """
    check = "metrics api"
    if found is None:
        return Finding(check, Level.OK, f"{METRICS_API} is not registered: no HPA reads queues by it")
    service = found.get("spec", {}).get("service") or {}
    owner = f"{service.get('namespace')}/{service.get('name')}"
    if service.get("namespace") != namespace or not str(service.get("name")).endswith("-metrics-api"):
        return Finding(check, Level.WARN, f"{METRICS_API} belongs to {owner}: set autoscaling.provider to what it is")
    conditions = found.get("status", {}).get("conditions", [])
    available: Mapping[str, Any] = next((one for one in conditions if one.get("type") == "Available"), {})
    if available.get("status") == "True":
        return Finding(check, Level.OK, f"{METRICS_API} is served by {owner}")
    why = f"{available.get('reason')}: {available.get('message')}"
    remedy = "no namespace of the cluster can be deleted meanwhile; see the operators' logs"
    return Finding(check, Level.FAIL, f"{METRICS_API} is not available, {why}: {remedy}")


def queue_findings(queues: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield what each HeavyQueue's own condition says."""
    for queue in queues:
        metadata, conditions = queue.get("metadata", {}), queue.get("status", {}).get("conditions", [])
        name = f"heavyqueue {metadata.get('namespace')}/{metadata.get('name')}"
        ready = next((found for found in conditions if found.get("type") == "Ready"), None)
        if ready is None:
            yield Finding(name, Level.WARN, "no Ready condition yet: has the operator seen it? (watchNamespaces)")
        elif ready.get("status") == "True":
            yield Finding(name, Level.OK, str(ready.get("reason")))
        else:
            yield Finding(name, Level.FAIL, f"{ready.get('reason')}: {ready.get('message')}")


def _rights(kube: Any, namespace: str, release: str, places: list[str]) -> Iterator[Finding]:
    for place in places:
        if not kube.may("get", "pods", place, subresource="log"):
            message = "you may not read logs of pods: heavylift jobs logs will not work"
            yield Finding(f"rbac {place}", Level.WARN, message)
    for component, account in kube.accounts(namespace, release).items():

        def may(place: str, verb: str, right: Right, account: str = account) -> bool:
            return bool(kube.account_may(account, place, verb, right))

        try:
            yield from rights_findings(component, account, places, may)
        except ConfigurationError as error:
            yield Finding(f"rbac {component}", Level.WARN, f"what {account} may do is not visible: {error}")


def rights_findings(component: str, account: str, places: list[str], may: May) -> Iterator[Finding]:
    """Yield whether a process may do what it must in each namespace, naming what is missing."""
    for place in places:
        needed = [(verb, right) for right in RIGHTS.get(component, ()) for verb in right.verbs]
        missing = [f"{verb} {right.target}" for verb, right in needed if not may(place, verb, right)]
        check = f"rbac {component} {place}"
        if not missing:
            yield Finding(check, Level.OK, f"{account} may do what it must")
        elif len(missing) == len(needed):
            message = f"{account} may do nothing there: if this release is to serve it, add it to watchNamespaces"
            yield Finding(check, Level.WARN, message)
        else:
            remedy = "compare its Role with the chart's (helm upgrade sets it right)"
            yield Finding(check, Level.FAIL, f"{account} may not {', '.join(missing)}: {remedy}")
