"""``heavylift doctor``: what is wrong with the installation, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import typer

from heavylift.cli.exits import Exit
from heavylift.cli.output import Format, Output, emit
from heavylift.cli.session import Session, session
from heavylift.cli.versions import judge_version
from heavylift.client import Client
from heavylift.contract.durations import format_ms
from heavylift.errors import ClusterUnavailableError, ConfigurationError, RedisUnavailableError
from heavylift.store import ops

SKEW_MS = 2000
"""Clocks further apart than this make times in messages misleading; Redis's own clock decides all else."""
_FULL = 0.9
COLUMNS = ("check", "level", "message")
METRICS_API = "v1beta1.external.metrics.k8s.io"


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing."""

    check: str
    level: Level
    message: str


def doctor(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Check Redis, the queues and, with --kube, the installation in the cluster.

    Example: heavylift --kube heavylift doctor
    """
    here = session(context)
    findings = list(_cluster(here)) if here.kube else []
    unreachable = False
    try:
        with here.client() as client:
            findings += redis_findings(client.run(ops.server_report()))
            findings += _queue_findings(client)
    except (RedisUnavailableError, ClusterUnavailableError) as error:
        unreachable = True
        findings.append(Finding("redis", Level.FAIL, str(error)))
    rows = [{key: str(value) for key, value in asdict(finding).items()} for finding in findings]
    emit(rows, output, COLUMNS, key="check")
    if unreachable:
        raise typer.Exit(Exit.UNREACHABLE)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(Exit.JOB_FAILED)


def redis_findings(report: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what a server report says about a Redis that is to keep jobs."""
    server, version = str(report.get("server")), str(report.get("version"))
    warning = judge_version(server, version)
    named = f"{server} {version}"
    yield Finding("redis version", Level.WARN if warning else Level.OK, f"{named}: {warning}" if warning else named)
    yield _role(str(report.get("role")))
    yield _persistence(str(report.get("persistence")))
    yield _policy(str(report.get("maxmemory_policy")))
    yield from _memory(report.get("used_memory"), report.get("maxmemory"))
    skew = report.get("skew_ms")
    if isinstance(skew, int):
        message = f"Redis's clock is {format_ms(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this machine's"
        if abs(skew) <= SKEW_MS:
            yield Finding("clocks", Level.OK, message)
        else:
            yield Finding("clocks", Level.WARN, f"{message}: run NTP on both; jobs are not harmed, times look wrong")


def _role(role: str) -> Finding:
    if role in {"master", "unknown"}:
        return Finding("redis role", Level.OK, role)
    return Finding("redis role", Level.FAIL, f"this is a {role}, it takes no writes: connect to the primary")


def _persistence(kind: str) -> Finding:
    message, level = {
        "aof": ("append-only file", Level.OK),
        "rdb": ("snapshots only: a crash loses the minutes since the last one; set appendonly yes", Level.WARN),
        "none": ("none: a restart loses every job; set appendonly yes and keep /data on a volume", Level.FAIL),
    }.get(kind, ("not visible (INFO and CONFIG are refused): make sure that it is on", Level.WARN))
    return Finding("redis persistence", level, message)


def _policy(policy: str) -> Finding:
    if policy == "noeviction":
        return Finding("redis maxmemory-policy", Level.OK, policy)
    if policy == "unknown":
        return Finding("redis maxmemory-policy", Level.WARN, "not visible: make sure that it is noeviction")
    return Finding(
        "redis maxmemory-policy",
        Level.FAIL,
        f"{policy} deletes jobs when memory is short: CONFIG SET maxmemory-policy noeviction, and in redis.conf",
    )


def _memory(used: object, most: object) -> Iterator[Finding]:
    if not isinstance(used, int) or not isinstance(most, int) or most == 0:
        return
    share = used / most
    message = f"{used:,} of {most:,} bytes used"
    if share < _FULL:
        yield Finding("redis memory", Level.OK, message)
    else:
        yield Finding("redis memory", Level.WARN, f"{message}: enqueues will fail soon; raise maxmemory or retention")


def _queue_findings(client: Client) -> Iterator[Finding]:
    for name in client.queues():
        check = f"queue {name}"
        owner = client.run(ops.settings_owner(name))
        if owner is None:
            yield Finding(check, Level.WARN, "no HeavyQueue serves it: its jobs wait until one is applied")
            continue
        for kind, note in client.run(ops.troubles(name)).items():
            yield Finding(check, Level.FAIL, f"{kind}: {note.get('message') or 'no details'}")
        snapshot = client.run(ops.snapshot(owner.install, [name]))
        if not snapshot.get("dispatchers"):
            yield Finding(check, Level.FAIL, f"no dispatcher of install {owner.install} is running: check its pods")
        else:
            live, running = snapshot["dispatchers"], snapshot.get("inflight", 0)
            message = f"served by {owner.namespace}/{name}, {live} dispatchers, {running} jobs in flight"
            yield Finding(check, Level.OK, message)
        bad = client.queue(name).counts().quarantined
        if bad:
            yield Finding(check, Level.WARN, f"{bad} bad entries in quarantine (heavylift queues show {name})")


def _cluster(here: Session) -> Iterator[Finding]:
    """Yield what the user's kubeconfig shows of the installation."""
    try:
        from heavylift.cli import kube  # noqa: PLC0415 - needs the extra kube

        namespace = str(here.kube)
        if kube.crds_served():
            yield Finding("crds", Level.OK, "HeavyQueue is served")
        else:
            yield Finding("crds", Level.FAIL, "HeavyQueue is not served: kubectl apply -f manifests/crds/")
        down = kube.unready(namespace, here.release)
        for name, state in down.items():
            yield Finding(f"deployment {name}", Level.FAIL, f"{state}: kubectl -n {namespace} get pods")
        if not down:
            yield Finding("deployments", Level.OK, "all ready")
        yield metrics_api_finding(kube.api_service(METRICS_API), namespace)
        yield from _resources(kube.heavyqueues(), kube.may)
    except (ConfigurationError, ClusterUnavailableError) as error:
        yield Finding("cluster", Level.FAIL, str(error))


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


def _resources(queues: list[dict[str, Any]], may: Any) -> Iterator[Finding]:
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
    for namespace in sorted({str(queue.get("metadata", {}).get("namespace")) for queue in queues}):
        if not may("get", "pods", namespace, subresource="log"):
            yield Finding(
                f"rbac {namespace}", Level.WARN, "you may not read logs of pods: heavylift jobs logs will not work"
            )
