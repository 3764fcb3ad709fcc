"""``heavylift doctor``: what is wrong with the installation, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import typer

from heavylift.cli.exits import Exit
from heavylift.cli.finding import Finding, Level
from heavylift.cli.installation import cluster_findings
from heavylift.cli.output import Format, Output, emit
from heavylift.cli.session import session
from heavylift.cli.versions import judge_version
from heavylift.client import Client
from heavylift.contract.durations import format_ms
from heavylift.errors import ClusterUnavailableError, RedisUnavailableError
from heavylift.store import ops

SKEW_MS = 2000
"""Clocks further apart than this make times in messages misleading; Redis's own clock decides all else."""
_FULL = 0.9
COLUMNS = ("check", "level", "message")


def doctor(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Check Redis, the queues and, with --kube, the installation in the cluster.

    Example: heavylift --kube heavylift doctor
    """
    here = session(context)
    findings = list(cluster_findings(here)) if here.kube else []
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
