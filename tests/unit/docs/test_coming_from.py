"""The pages for people who come from RQ or BullMQ: every option of theirs is there, and every name of ours exists."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rq.decorators
import typer.main
import yaml
from rq.cli.cli import main as rq_command
from rq.cron import CronScheduler
from rq.job import Dependency
from rq.rate_limit import RateLimit
from rq.worker_pool import WorkerPool

import heavylift
from heavylift.cli.app import app
from heavylift.options import ChangeOptions, RetryOptions
from heavylift.tasks import TaskSettings

HOW_TO = Path(__file__).resolve().parents[3] / "docs" / "how-to"
ROOT = HOW_TO.parents[1]
_CODE = re.compile(r"`([^`]+)`")


def tables(page: str) -> dict[str, list[tuple[str, str, str]]]:
    """Return the rows of each table of a page, by the heading above it."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    heading = ""
    for line in (HOW_TO / page).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("| ---"):
            theirs, ours, remarks = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(heading, []).append((theirs.strip("`"), ours, remarks))
    return {name: rows[1:] for name, rows in found.items()}


def parameters(function: Any, *, without: tuple[str, ...] = ()) -> set[str]:
    """Return the names of a function's own parameters."""
    kinds = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    named = inspect.signature(function).parameters.values()
    return {found.name for found in named if found.kind not in kinds} - {"self", *without}


def _dotted(name: str, kind: Any) -> set[str]:
    return {f"{name}.{option}" for option in parameters(kind.__init__)}


_FAMILY = (
    *(rq.Queue.enqueue_at, rq.Queue.enqueue_in, rq.Queue.enqueue_many, rq.Queue.prepare_data),
    *(rq.Queue.create_job, rq.Queue.enqueue_job),
)


def _taken() -> set[str]:
    """Return the options that ``enqueue`` takes out of its keywords, in the words of its code."""
    words = inspect.unwrap(rq.Queue.parse_args).__code__.co_consts
    return {word for word in words if isinstance(word, str) and word.isidentifier()} - {"__main__"}


RQ = {
    "Queue.enqueue": parameters(rq.Queue.enqueue_call),
    "The other ways to enqueue": set[str]().union(*map(parameters, _FAMILY), _taken())
    - parameters(rq.Queue.enqueue_call)
    - {"f"},
    "Queue": parameters(rq.Queue.__init__),
    "Retry, Repeat, Dependency, RateLimit, Callback, Webhook": _dotted("Retry", rq.Retry)
    | _dotted("Repeat", rq.Repeat)
    | _dotted("Dependency", Dependency)
    | _dotted("RateLimit", RateLimit)
    | _dotted("Callback", rq.Callback)
    | _dotted("Webhook", rq.Webhook),
    "Worker": parameters(rq.Worker.__init__),
    "Worker.work": parameters(rq.Worker.work),
    "WorkerPool": parameters(WorkerPool.__init__),
    "Cron": parameters(CronScheduler.register),
    "The decorator": parameters(rq.decorators.job.__init__),
    "The command": {f"rq {name}" for name in rq_command.commands},
}
_BASE = "connection prefix blockingConnection skipVersionCheck telemetry skipWaitingForReady"
BULLMQ = {
    "JobsOptions": "timestamp priority delay attempts backoff lifo removeOnComplete removeOnFail keepLogs "
    "stackTraceLimit sizeLimit repeatJobKey jobId parent prevMillis deduplication failParentOnFailure "
    "continueParentOnFailure ignoreDependencyOnFailure removeDependencyOnFailure telemetry",
    "Deduplication": "id ttl extend replace reschedule keepLastIfActive",
    "QueueOptions": f"{_BASE} defaultJobOptions streams skipMetasUpdate settings",
    "WorkerOptions": f"{_BASE} name autorun concurrency limiter metrics maximumRateLimitDelay maxStartedAttempts "
    "maxStalledCount stalledInterval removeOnComplete removeOnFail skipStalledCheck skipLockRenewal drainDelay "
    "lockDuration lockRenewTime runRetryDelay settings useWorkerThreads workerForkOptions workerThreadsOptions",
    "Job schedulers": "endDate startDate pattern key limit every immediately count offset prevMillis jobId tz",
    "Backoff": "type delay jitter",
    "removeOnComplete, removeOnFail": "count age limit",
    "limiter": "max duration",
    "Flows": "name queueName data prefix opts children queuesOptions flowProducer.add flowProducer.addBulk "
    "flowProducer.getFlow",
    "QueueEventsOptions": "connection prefix blockingConnection skipVersionCheck skipWaitingForReady autorun "
    "lastEventId blockingTimeout",
    "Queue": "add addBulk addJobLog clean count defaultJobOptions drain exportPrometheusMetrics getActive "
    "getActiveCount getCompleted getCompletedCount getCountsPerPriority getDebounceJobId getDeduplicationJobId "
    "getDelayed getDelayedCount getDependencies getFailed getFailedCount getGlobalConcurrency getGlobalRateLimit "
    "getJob getJobCountByTypes getJobCounts getJobLogs getJobScheduler getJobSchedulers getJobSchedulersCount "
    "getJobState getJobs getMeta getMetrics getPrioritized getPrioritizedCount getQueueEvents getRanges "
    "getRateLimitTtl getVersion getWaiting getWaitingChildren getWaitingChildrenCount getWaitingCount getWorkers "
    "getWorkersCount isMaxed isPaused jobScheduler metaValues obliterate pause promoteJobs rateLimit "
    "recordJobCountsMetric remove removeDebounceKey removeDeduplicationKey removeDeprecatedPriorityKey "
    "removeGlobalConcurrency removeGlobalRateLimit removeJobScheduler removeOrphanedJobs removeRateLimitKey resume "
    "retryJobs setGlobalConcurrency setGlobalRateLimit trimEvents updateJobProgress upsertJobScheduler",
    "Job": "addJob addJobLog asJSON asJSONSandbox changeDelay changePriority clearLogs create createBulk extendLock "
    "fromId fromJSON getChildrenValues getDependencies getDependenciesCount getFailedChildrenValues "
    "getIgnoredChildrenFailures getState isActive isCompleted isDelayed isFailed isWaiting isWaitingChildren log "
    "moveToCompleted moveToDelayed moveToFailed moveToWait moveToWaitingChildren optsFromJSON prefix promote "
    "queueName remove removeChildDependency removeDeduplicationKey removeUnprocessedChildren retry toFlowEntry "
    "toJSON updateData updateProgress waitUntilFinished",
    "Worker": "RateLimitError cancelAllJobs cancelJob concurrency delay extendJobLocks getNextJob isPaused isRunning "
    "jobScheduler maximumBlockTimeout minimumBlockTimeout pause processJob rateLimit resume run "
    "startStalledCheckTimer",
    "Events": "active added cleaned completed deduplicated delayed drained duplicated error failed paused progress "
    "removed resumed retries-exhausted stalled waiting waiting-children",
    "Errors": "DelayedError RateLimitError UnrecoverableError WaitingChildrenError WaitingError",
}
"""Names of the options, calls and events in BullMQ 6.7's own type declarations, but for what only wires a process."""


@pytest.mark.parametrize("heading", RQ)
def test_every_option_of_rq_is_mapped(heading: str) -> None:
    """The table has exactly the parameters of the RQ that is installed."""
    assert {theirs for theirs, _, _ in tables("from-rq.md")[heading]} == RQ[heading]


@pytest.mark.parametrize("heading", BULLMQ)
def test_every_option_of_bullmq_is_mapped(heading: str) -> None:
    """The table has exactly the options of BullMQ."""
    rows = [theirs for theirs, _, _ in tables("from-bullmq.md")[heading]]

    assert sorted(rows) == sorted(BULLMQ[heading].split())


ROWS = [
    pytest.param(ours, remarks, id=f"{page} {theirs}")
    for page in ("from-rq.md", "from-bullmq.md")
    for rows in tables(page).values()
    for theirs, ours, remarks in rows
]


@pytest.mark.parametrize(("ours", "remarks"), ROWS)
def test_every_name_of_ours_exists(ours: str, remarks: str) -> None:
    """What a person is told to use is there; what is not there is said to be none."""
    names = _CODE.findall(ours)

    assert names or ours == "none"
    for name in [*names, *(found for found in _CODE.findall(remarks) if _ours(found))]:
        assert exists(name), name


def _ours(name: str) -> bool:
    return name.startswith(("spec.", "heavylift ", "heavylift.", "Backoff.", "Timeouts.")) or name.endswith("=")


def _options() -> Iterator[str]:
    for shape in (heavylift.EnqueueOptions, heavylift.ScheduleOptions, ChangeOptions, RetryOptions):
        for kind in shape.__mro__:
            yield from getattr(kind, "__annotations__", {})
    yield from TaskSettings.__slots__
    yield from parameters(heavylift.Client.__init__)


OWNERS = {
    "queue": heavylift.Queue,
    "job": heavylift.Job,
    "client": heavylift.Client,
    "Client": heavylift.Client,
    "schedule": heavylift.Schedule,
    "task": TaskSettings,
    "heavylift": heavylift,
    "Dedupe": heavylift.Dedupe,
    "Backoff": heavylift.Backoff,
    "Timeouts": heavylift.Timeouts,
}


@functools.cache
def _read(path: str) -> Any:
    return yaml.load((ROOT / path).read_text(), yaml.CSafeLoader)


def exists(name: str) -> bool:
    """Return whether a name of ours, as the pages write them, is there."""
    if name.startswith("heavylift "):
        return _command(name.split()[1:])
    if name.endswith("="):
        return name[:-1] in set(_options())
    if name.startswith("spec."):
        return _field(name.split(".")[1:])
    owner, _, rest = name.partition(".")
    if owner in OWNERS:
        return not rest or _member(OWNERS[owner], re.split(r"[ (]", rest)[0])
    values: Any = _read("charts/heavylift/values.yaml")
    for part in name.split("."):
        if part not in values:
            return False
        values = values[part]
    return True


def _member(owner: Any, name: str) -> bool:
    fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set[str]()
    made = parameters(owner.__init__) if inspect.isclass(owner) else set[str]()
    return hasattr(owner, name) or name in fields | made


def _command(words: list[str]) -> bool:
    command: Any = typer.main.get_command(app)
    for word in words:
        if word.startswith("-"):
            return any(word in parameter.opts for parameter in command.params) or "run" in words
        if not hasattr(command, "commands"):
            return True
        if word not in command.commands:
            return False
        command = command.commands[word]
    return True


def _field(parts: list[str]) -> bool:
    crd = _read("manifests/crds/heavyqueues.yaml")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for part in parts:
        schema = schema.get("properties", {}).get(part)
        if schema is None:
            return False
    return True


@pytest.mark.parametrize("name", ["nothing=", "spec.nothing", "queue.nothing", "heavylift jobs nothing", "nothing"])
def test_a_name_that_is_not_there_is_noticed(name: str) -> None:
    """The comparison above can fail."""
    assert not exists(name)
