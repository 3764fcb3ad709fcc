"""What a job costs the cluster and us: writes to the API server, CPU, memory, and the time of a full comparison."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.rounds import Effort
from tests.benchmarks.rows import Row, Target
from tests.benchmarks.site import HOLD, KEPT, Site, control_plane, site
from tests.proofs.processes import Daemon
from tests.proofs.waiting import until

Json = dict[str, Any]
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_OURS: Final = ("heavylift", "kopf")
"""How the user agents of our processes begin."""
_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
"""


# -- per job ----------------------------------------------------------------------------------------------------------
def writes(effort: Effort) -> Iterator[Row]:
    """Writes to the API server and CPU time of our processes per job, two operators, from the server's audit log."""
    with tempfile.TemporaryDirectory() as folder:
        policy, log = Path(folder, "policy.yaml"), Path(folder, "audit.log")
        policy.write_text(_POLICY)
        flags = (f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-maxsize=1000")
        with control_plane(apiserver_flags=flags) as cluster, site(cluster, effort.backing) as here:
            here.serve()  # first with what a queue keeps by default: what stands then is not in the way of the other
            names = ("leading operator", "other operator", "dispatcher")
            daemons = dict(zip(names, [*here.operators(2), here.dispatcher(100)], strict=True))
            few = Costs(effort, here, log, daemons)
            here.serve(retention=KEPT)
            many = Costs(effort, here, log, daemons)
    yield Row(
        bench="writes", what="API writes per job", unit="", runs=many.counts, targets=(Target(2.2, "value", "most"),),
        limit="the create and the one finishing PATCH; Kubernetes deletes when their time is over; the rest is status",
        more=dict(many.kinds),
    )  # fmt: skip
    yield Row(
        bench="writes", what="the same, retention.pods.count 200", unit="", runs=few.counts,
        limit="at more than two ends a second no time to live keeps the count: what is beyond it costs a DELETE each",
        more=dict(few.kinds),
    )  # fmt: skip
    for name, runs in many.spent.items():
        limit = "reading and judging each event of a Job or pod, in both operators"
        yield Row(bench="writes", what=f"CPU per job, {name}", unit="ms", runs=runs, limit=limit)


class Costs:
    """What some rounds of jobs cost."""

    def __init__(self, effort: Effort, here: Site, log: Path, daemons: Mapping[str, Daemon]) -> None:
        count = effort.of(100, 30)
        self.counts: list[float] = []
        """Writes per job, by round."""
        self.kinds: Counter[str] = Counter()
        self.spent: dict[str, list[float]] = {name: [] for name in daemons}
        """CPU per job in ms, by process and round."""
        for _ in range(effort.runs):
            before, cpu = _written(log), {name: cpu_s(daemon) for name, daemon in daemons.items()}
            _carry(here, count)
            new = _written(log) - before
            self.counts.append(new.total() / count)
            self.kinds += new
            for name, daemon in daemons.items():
                self.spent[name].append((cpu_s(daemon) - cpu[name]) * 1000 / count)


def _carry(here: Site, count: int) -> None:
    after = here.last_event()
    here.enqueue(count)
    here.wait_events("completed", count, after)
    here.wait_finalized()


def _written(log: Path) -> Counter[str]:
    """Return our writes so far by verb and resource."""
    found: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        event: Json = json.loads(line)
        if event["verb"] in WRITES and str(event.get("userAgent", "")).lower().startswith(_OURS):
            about = event.get("objectRef") or {}
            parts = [event["verb"], about.get("resource", "?"), about.get("subresource", "")]
            found[" ".join(part for part in parts if part)] += 1
    return found


# -- in flight --------------------------------------------------------------------------------------------------------
def inflight(effort: Effort) -> Iterator[Row]:
    """The operators' memory and a full comparison's time with 2,000 and 10,000 Jobs in flight."""
    stages = (effort.of(2_000, 100), effort.of(10_000, 300))
    with control_plane() as cluster, site(cluster, effort.backing) as here:
        here.serve(ends=HOLD)
        leader, other = here.operators(2, RECONCILE_INTERVAL="10s")
        here.dispatcher(10_000)
        running, pods = 0, Running(here)
        for stage in stages:
            here.enqueue(stage - running)
            running = stage
            pods.wait(stage)
            goal = stage == stages[-1]
            passes = [comparison_s(leader) for _ in range(effort.runs)]
            yield Row(
                bench="inflight", what=f"full comparison, {stage:,} in flight", unit="s", runs=passes,
                targets=(Target(10, "value", "most"),) if goal else (),
                limit="listing Jobs from the API server in pages, and one read of Redis per job, in pipelines",
            )  # fmt: skip
            for name, daemon in (("leading operator", leader), ("other operator", other)):
                yield Row(
                    bench="inflight", what=f"memory, {name}, {stage:,} in flight", unit="MB",
                    runs=[memory(daemon).resident_mb], targets=(Target(250, "value", "most"),) if goal else (),
                    limit="what is remembered of each Job, and a page of Jobs at a time",
                    more={"peakMB": memory(daemon).peak_mb},
                )  # fmt: skip


@dataclass(slots=True)
class Running:
    """Whose pods were seen to run; kept from one stage to the next, for the stream keeps the last events only."""

    here: Site
    seen: dict[str, float] = field(default_factory=dict)
    position: str = "0"

    def wait(self, count: int) -> None:
        """Wait until so many pods run and the operators know."""
        until(lambda: self._count() >= count, f"{count} running jobs", limit=count / 5 + 120, every=0.5)

    def _count(self) -> int:
        self.position = self.here.note_events("running", self.position, self.seen)
        return len(self.seen)


def comparison_s(leader: Daemon) -> float:
    """Return how long the leading operator's next comparison takes, to the last item it led to."""
    stamp = "heavylift_reconcile_last_success_timestamp_seconds"
    before = leader.metric(stamp)
    until(lambda: leader.metric(stamp) > before, "the next comparison", limit=180, every=0.2)
    compared, ended = leader.metric("heavylift_reconcile_seconds"), leader.metric(stamp)
    until(lambda: leader.metric("heavylift_operator_work_items") == 0, "an empty work queue", limit=180, every=0.2)
    return compared + max(0.0, time.time() - ended)


# -- processes --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Memory:
    """A process' memory in MB."""

    resident_mb: float
    peak_mb: float


def memory(daemon: Daemon) -> Memory:
    """Return a process' resident memory and its peak."""
    if daemon.process is None:
        raise ProcessLookupError(daemon.name)
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
    values = {name: int(rest.split()[0]) for line in lines for name, _, rest in [line.partition(":")] if "kB" in rest}
    return Memory(values["VmRSS"] * 1024 / 1e6, values["VmHWM"] * 1024 / 1e6)


def cpu_s(daemon: Daemon) -> float:
    """Return the CPU time a process has used, in seconds."""
    if daemon.process is None:
        raise ProcessLookupError(daemon.name)
    with contextlib.closing(Path(f"/proc/{daemon.process.pid}/stat").open()) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
