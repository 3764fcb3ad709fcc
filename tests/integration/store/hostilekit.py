"""What tests of evil bytes have in common: every operation there is, and how dispatchers, operators and people look."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from heavylift import JobRequest, administration, batches, operations, schedules
from heavylift.allowed import Admission
from heavylift.cli.exits import safe_json
from heavylift.cli.output import job_detail, job_row
from heavylift.cli.why import Surroundings, why
from heavylift.contract import payload
from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import JobState, Phase
from heavylift.errors import HeavyliftError, InvalidInputError, RedisUnavailableError, StoreCorruptError
from heavylift.jobs import JobInfo
from heavylift.requests import draft
from heavylift.spec.models import HeavyQueue
from heavylift.spec.render import render
from heavylift.store import (
    Claim,
    ClaimRequest,
    Fence,
    FinishRequest,
    JobRecord,
    Next,
    Observation,
    Op,
    Spend,
    ops,
    tallies,
)
from heavylift.store.model import Change
from heavylift.store.steps import in_steps
from heavylift_operator.core import plan
from heavylift_operator.core.evidence import Evidence
from heavylift_operator.services.views import Known, Views
from heavylift_operator.services.views import merged as merged_evidence
from heavylift_operator.services.workqueue import Item
from tests.integration.store import schedule_cases
from tests.integration.store.kit import INSTALL, NAMESPACE, QUEUE, WORKER, World, outcome, request

T = TypeVar("T")
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HEAVYQUEUE = HeavyQueue.parse(
    {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {"name": QUEUE, "namespace": NAMESPACE, "uid": "uid", "generation": 1},
        "spec": {
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "reports:1"}]}}}},
            "allow": {"args": True, "env": ["A"], "labels": ["a"], "resources": {"memory": "8Gi", "cpu": "8"}},
            "outcomes": {
                "oom": {"action": "Retry", "memory": {"growthPercent": 50, "max": "64Gi"}},
                "rejected": {"action": "Retry"},
            },
        },
    }
)
"""A queue that lets a producer set as much as a queue can."""


# -- how an operation may end -----------------------------------------------------------------------------------------
def told(what: str, op: Op[T], *, corrupt: bool = False) -> Op[T | None]:
    """Return the operation with its bounds: a value, or an error of ours that does not mean a broken script.

    Args:
        what: named by the assertion.
        op: the operation.
        corrupt: whether it may say that a key is corrupt.
    """
    try:
        return (yield from op)
    except StoreCorruptError:
        assert corrupt, what
        return None
    except RedisUnavailableError as error:
        raise AssertionError(f"{what}: {error}") from error
    except HeavyliftError:
        return None
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error


def side_by_side(w: World, entries: Mapping[str, Op[Any]], *, corrupt: bool = False) -> dict[str, Any]:
    """Run operations in common pipelines, each within its bounds; return their values."""
    values = w.store.run_many([told(what, op, corrupt=corrupt) for what, op in entries.items()])
    for what, value in zip(entries, values, strict=True):
        assert not isinstance(value, Exception), f"{what}: {value}"
    return dict(zip(entries, values, strict=True))


# -- who looks --------------------------------------------------------------------------------------------------------
def shown(what: str, record: JobRecord | None) -> None:
    """Show a job to people: a value, a line of a table, all of it as JSON, and why it is where it is."""
    if record is None:
        return
    try:
        info = JobInfo.read(record)
        lines = [*why(info, Surroundings(now=NOW)), *map(str, job_row(info, NOW).values())]
        safe_json(str(job_detail(info))).encode()
        "\n".join(lines).encode()
    except Exception as error:
        raise AssertionError(f"{what}: showing it: {error!r}") from error


_VIEWS = Views(install=INSTALL, grace_ms=10_000)


def planned(what: str, record: JobRecord | None, settings: Mapping[str, Any] | None = None) -> None:
    """Have the operator plan what to do about a job without a Job in the cluster."""
    if record is None:
        return
    item = Item(namespace=NAMESPACE, name="n", job_id=record.id, execution=record.execution, listed=True)
    try:
        seen: Evidence = merged_evidence(item, record)
        for missing_since in (None, 1):
            known = Known(
                item=item,
                record=record,
                settings=dict(settings or {}),
                seen=seen,
                listed=True,
                missing_since=missing_since,
                now=1_790_000_000_000,
            )
            plan.plan(_VIEWS.view(known), random.Random(1))
    except Exception as error:
        raise AssertionError(f"{what}: planning: {error!r}") from error


def carried(what: str, claim: Claim) -> str:
    """Carry a claim as the dispatcher does up to the Job's manifest; return why it is invalid, empty if it is sound."""
    try:
        decoded = payload.decode(claim.data)
        manifest = render(claim, HEAVYQUEUE, decoded, INSTALL)
        assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "reports:1", what
        assert len(manifest["metadata"]["name"]) <= 63, what
    except InvalidInputError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{what}: rendering: {error!r}") from error
    return ""


# -- every operation --------------------------------------------------------------------------------------------------
def ask(*queues: str, most: int = 20) -> ClaimRequest:
    """Return a claim's request."""
    return ClaimRequest(
        worker=WORKER,
        request=request().id,
        install=INSTALL,
        queues=queues or (QUEUE,),
        max=most,
        slots=100_000,
        deadline_ms=60_000,
    )


def changed(job: str, change: Change) -> Op[Any]:
    """Change a job as far as it can be read."""
    found = yield from ops.get_job(job)
    return (yield from ops.change(found, change)) if found is not None else None


def retried(job: str, change: Change) -> Op[Any]:
    """Retry a job as part of a bulk retry, as far as it can be read."""
    found = yield from ops.get_job(job)
    return (yield from ops.retry_many([found], change, by="ann")) if found is not None else None


def _finish(fence: Fence, next_: Next, **more: Any) -> Op[Any]:
    return ops.finish(FinishRequest(fence=fence, outcome=outcome(OutcomeClass.ERROR), next=next_, **more))


Step = Callable[[str, str], Op[Any]]
"""(job, its execution) -> an operation on it."""


def _fenced(make: Callable[[Fence], Op[Any]]) -> Step:
    return lambda job, execution: make(Fence(job=job, execution=execution))


STEPS: Mapping[str, Step] = {
    "get_job": lambda job, _: ops.get_job(job, position=True),
    "attend": _fenced(ops.attend),
    "check": _fenced(ops.check),
    "record": _fenced(lambda fence: ops.record(fence, job_name="n", uid="u", namespace=NAMESPACE)),
    "observe": _fenced(
        lambda fence: ops.observe(
            fence, Observation(phase=Phase.RUNNING, evidence={"pod": {"name": "p", "stop": {}}}, terminal=True)
        )
    ),
    "cancel": lambda job, _: ops.cancel(job, by="ann", reason="why"),
    "release": _fenced(lambda fence: ops.release(fence, reason="r", silent=True)),
    "finish retry": _fenced(
        lambda fence: _finish(fence, Next.RETRY, delay_ms=1, spend=Spend.BUDGET, memory=2**30, job_exists=True)
    ),
    "promote": lambda job, _: ops.promote(job),
    "change": lambda job, _: changed(job, Change(data_json='{"year":2027}')),
    "change place": lambda job, _: changed(job, Change(delay_ms=1, priority=-3)),
    "ended": lambda job, _: operations.ended(job),
    "finish": _fenced(lambda fence: _finish(fence, Next.FAIL, spend=Spend.ATTEMPT, started_at=1, ended_at=2)),
    "retry": lambda job, _: ops.retry(job, Change(options={"a": 1}, priority=3), by="ann"),
    "retry_many": lambda job, _: retried(job, Change(data_json="{}")),
    "retry by a person": lambda job, _: administration.retry(job, "ann", {"max_attempts": 2}),
    "change by a person": lambda job, _: administration.change(job, {"priority": 1}),
    "enqueue again": lambda job, _: ops.enqueue(request(id=job, if_exists="return")),
    "enqueue retry": lambda job, _: ops.enqueue(request(id=job, if_exists="retry_failed")),
    "finish late": _fenced(lambda fence: _finish(fence, Next.COMPLETE, result="1")),
    "replace": lambda job, _: ops.enqueue(request(id=job, if_exists="replace")),
    "remove": lambda job, _: ops.remove(job),
}


def _purge_nothing(state: JobState) -> Op[Any]:
    return administration.purge(QUEUE, state, dry_run=True, progress=None)


def reads(queue: str = QUEUE) -> Iterator[tuple[str, Op[Any]]]:
    """Yield everything that only looks at a queue and an installation."""
    for state in JobState:
        yield f"list_jobs {state}", ops.list_jobs(queue, state)
        yield f"jobs {state}", administration.jobs(queue, administration.Filter.of(state, None, None, {"a": "b"}), 100)
    for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
        yield f"find_ended {state}", ops.find_ended(queue, state, cls="error", since=1)
        yield f"purge nothing {state}", _purge_nothing(state)
    yield "counts", ops.counts(queue)
    yield "gauges", ops.gauges(INSTALL, [queue, "second"])
    yield "counters", _tallied(queue)
    yield "events", operations.queue_events(queue, "0", follow=False)
    yield "newest event", ops.events(queue, "$")
    yield "quarantine", ops.quarantine(queue)
    yield "queues", operations.queues()
    yield "settings", _admitted(queue)
    yield "settings_owner", ops.settings_owner(queue)
    yield "breaker", ops.breaker(queue)
    yield "troubles", ops.troubles(queue)
    yield "paused", ops.paused(queue)
    yield "key_standing", ops.key_standing(queue, "tenant")
    yield "dedupe_holder", ops.dedupe_holder(queue, "annual")
    yield "inflight", inflight()
    yield "inflight_count", ops.inflight_count(INSTALL)
    yield "own_claims", ops.own_claims(INSTALL, WORKER)
    yield "unfinalized", ops.unfinalized(INSTALL)
    yield "epoch", ops.get_epoch()
    yield "schedules", schedules.schedules(None)
    yield "schedule", schedules.info("s")


def inflight() -> Op[Any]:
    """Read all that an install runs."""
    found, cursor = [], 0
    while True:
        cursor, page = yield from ops.inflight(INSTALL, cursor)
        found += page
        if cursor == 0:
            return found


def _tallied(queue: str) -> Op[Any]:
    return tallies.read((yield from ops.counters(queue)))


def _admitted(queue: str) -> Op[Any]:
    settings, _ = yield from ops.read_settings(queue)
    Admission.of(settings).check({"timeouts": {"run": 1}, "resources": {"memory": "1Gi"}, "priority": 5}, 5)
    return settings


def tidying(queue: str = QUEUE) -> Iterator[tuple[str, Op[Any]]]:
    """Yield what the operator does about a queue whether or not anything happened to it."""
    yield "trim", ops.trim(queue)
    yield "sweep_dedupe", ops.sweep_dedupe(queue)
    yield "sweep_keys", ops.sweep_keys(queue)
    yield "take_lock", ops.take_lock("operator", "me", 1000)
    yield "drop_lock", ops.drop_lock("operator", "me")
    yield "hold_rq_locks", ops.hold_rq_locks(queue, "me", 1000)
    yield "release_rq_locks", ops.release_rq_locks(queue, "me")
    yield "ensure_epoch", ops.ensure_epoch()
    yield "finalized", ops.finalized(INSTALL, NAMESPACE, "n")
    yield "register", ops.register_dispatcher(INSTALL, WORKER, 60_000)
    yield "set_trouble", ops.set_trouble(queue, "k", {"message": "m"})
    yield "clear_trouble", ops.clear_trouble(queue, "k")
    yield "due_schedules", ops.due_schedules()
    yield "sweep_dependents", ops.sweep_dependents(queue)
    yield "sweep_ended", ops.sweep_ended(queue)
    yield "put_settings", ops.put_settings("third", {}, generation=1, install=INSTALL, namespace=NAMESPACE, uid="u")
    yield "delete_settings", ops.delete_settings("third", "u")


def producing(queue: str, *keys: str) -> Iterator[tuple[str, Op[Any]]]:
    """Yield what producers and people do beside a job of their own."""
    known = operations.Admissions()
    yield "enqueue", operations.enqueue(queue, draft("annual", {"year": 1}, {}), known, strict=True)
    for mode in ("first", "keep_last", "debounce"):
        dedupe = {"id": "annual", "mode": mode, "ttl": 5}
        yield f"enqueue {mode}", ops.enqueue(request(queue=queue, options={"dedupe": dedupe}))
    yield "enqueue keyed", ops.enqueue(request(queue=queue, options={"key": "tenant", "lifo": True}))
    yield "enqueue level", ops.enqueue(request(queue=queue, options={"priority": 3}))
    yield "enqueue delayed", ops.enqueue(request(queue=queue, delay_ms=60_000))
    yield "enqueue deferred", ops.enqueue(request(queue=queue, depends_on=keys or ("job",)))
    yield (
        "enqueue_many",
        in_steps(batches.enqueue_many(queue, [JobRequest("annual", {"n": n}) for n in range(3)], strict=True)),
    )
    yield "release_key", ops.release_dedupe(queue, "annual")
    yield "pause", ops.pause(queue, by="ann")
    yield "resume", ops.resume(queue)
    wanted = administration.Filter.of(JobState.FAILED, None, None, None)
    yield "purge", ops.purge(queue, JobState.CANCELLED, 10)
    yield "retry_failed", administration.BulkRetry(queue=queue, wanted=wanted, changes={}).run("ann")


def scheduling() -> Iterator[tuple[str, Op[Any]]]:
    """Yield what people and operators do to schedules."""
    definition = schedules.define(QUEUE, "annual", {}, {"every": "1m"})
    yield "schedule_put", schedules.schedule("s", definition, by="ann", strict=False)
    for name in ("schedule_fire", "schedule_fire missed", "schedule_fire forbid", "schedule_fire replace"):
        yield name, schedule_cases.CASES[name][1]()
    yield "schedule_defer", schedule_cases.CASES["schedule_defer"][1]()
    yield "schedule_trigger", schedules.trigger("s")
    yield "suspend", schedules.suspend("s", "ann")
    yield "resume", schedules.resume("s", "ann")
    yield "schedule_delete", schedules.delete("s", "ann")


def all_claims(w: World, *queues: str, rounds: int = 400) -> list[Claim]:
    """Claim until the first queue says why there is nothing more."""
    found: list[Claim] = []
    for _ in range(rounds):
        reply = w.run(ops.claim(ask(*queues)))
        found += reply.claims
        if not reply.claims and (queues or (QUEUE,))[0] in reply.blocked:
            return found
    raise AssertionError(f"{rounds} claims in a row, and there is more: {reply}")


def ids_of(claims: Sequence[Claim]) -> set[str]:
    """Return the claims' jobs."""
    return {claim.job for claim in claims}
