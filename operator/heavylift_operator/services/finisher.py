"""The finisher: one item of the work queue -> evidence into Redis -> plan -> its actions, in order."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from heavylift.contract import limits
from heavylift.contract.failpoints import afailpoint
from heavylift.contract.states import Phase
from heavylift.errors import ClusterUnavailableError, HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.kube import KubeStatusError
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import StateLine
from heavylift.spec import rules_from_settings
from heavylift.store import ops
from heavylift.store.model import Fence, JobRecord, Observation
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core import plan as plans
from heavylift_operator.core.classify import sighting
from heavylift_operator.core.evidence import (
    Evidence,
    JobEvidence,
    PodEvidence,
    Stop,
    merge_pods,
    pod_from_json,
    pod_json,
    stop_from_json,
    stop_json,
)
from heavylift_operator.core.plan import View
from heavylift_operator.core.reading import Json, child, integer, text
from heavylift_operator.core.reconcile import Row, has_ended, same_data
from heavylift_operator.core.rules import Policy, Random, Spent, backoff_from
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.actions import Actor, Context
from heavylift_operator.services.workqueue import Item, Key, WorkQueue

_KNOWN_MAX: Final = 50_000
_PLANS_MAX: Final = 4
_NO_POD_ASK_MS: Final = 5_000
"""A Job this old without a pod has a reason worth asking the cluster's events for."""
FORBIDDEN: Final = 403


@dataclass(slots=True, kw_only=True)
class Finisher:
    """Attends to items until none is left; any number of workers, each key with one at a time."""

    link: RedisLink
    cluster: Cluster
    queue: WorkQueue
    metrics: Metrics
    install: str
    grace_ms: int
    horizon_ms: int
    """Looks further ahead than this are left to the reconciler."""
    trouble: StateLine
    leads: Callable[[], bool] = lambda: True
    """Whether this replica holds the lock; the other keeps evidence at once and does the rest a little later."""
    follow_s: float = 2.0
    random: Random = field(default_factory=random.Random)
    _actor: Actor = field(init=False)
    _known: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
    """Job UID -> (job, execution), from Jobs themselves: the trust chain of their pods."""
    _suspects: dict[tuple[Key, str], int] = field(default_factory=dict)
    """When a Job was first found missing, or unknown to Redis (ms)."""
    _log: Any = field(default_factory=lambda: logs.get("finisher"))

    def __post_init__(self) -> None:
        """Make what carries the actions out."""
        self._actor = Actor(link=self.link, cluster=self.cluster, metrics=self.metrics, install=self.install)

    async def work(self) -> None:
        """Attend to items for ever; failures keep their evidence and come back."""
        while True:
            item = await self.queue.get()
            try:
                await self.attend(item)
            except RedisUnavailableError:
                self.queue.failed(item)  # the link has said so
            except (ClusterUnavailableError, KubeStatusError) as error:
                self.trouble.bad(str(error))
                self.queue.failed(item)
            except HeavyliftError as error:
                self._log.error("an item could not be attended to", why=str(error), item=item.name)
                self.queue.failed(item)
            except Exception:  # noqa: BLE001 - one bad item must not end the worker
                self._log.exception("an item could not be attended to", item=item.name, namespace=item.namespace)
                self.queue.failed(item)
            else:
                self.queue.done(item)

    async def attend(self, item: Item) -> None:
        """Bring one execution a step further.

        Raises:
            RedisUnavailableError: nothing is lost, the item comes back.
            ClusterUnavailableError: as above.
            KubeStatusError: the API server refuses what we may do; the message says what to check.
        """
        known = None if self._is_echo(item) else await self._identified(item)
        if known is None or not known.execution:
            return
        record = await self._noted(known)
        if record is not None and record.job_uid not in {"", known.pod_job_uid}:
            known = replace(known, pod=None)  # a pod of another Job under our name
        if known.job is None and self._quiet(known, record):
            return
        if not known.waited and not self.leads():
            self.queue.put_later(replace(known, pod=None, waited=True), self.follow_s)
            return
        fresh = known.job is None
        if fresh:
            known = await self._live(known)
        for _ in range(_PLANS_MAX):
            context, row, actions = await self._planned(known, record)
            kinds = {type(action) for action in actions}
            if plans.Adopt in kinds:
                self._count(row)
                record = await self._adopt(known)
            elif plans.Delete in kinds and not fresh:
                known, fresh = await self._with_pods(await self._live(known)), True  # an event's news may be old
                record = await self.link.run(ops.get_job(known.job_id))
            else:
                break
        await self._act(known, context, row, actions)

    async def _with_pods(self, item: Item) -> Item:
        """Return the item with its Job's pods as a live list shows them."""
        return item if item.job is None else replace(item, pod=await self._pods(item.job, item.pod))

    def _is_echo(self, item: Item) -> bool:
        """Return whether the item says no more than that an end was seen through, by us or by the leading replica."""
        if self._actor.just_patched(item.key) and not item.asked:
            return True
        return item.left and item.pod is None and not self.leads()

    async def _live(self, item: Item) -> Item:
        """Return the item with its Job as a live GET shows it; one without a place has none."""
        if not item.namespace:
            return item
        job = await self.cluster.get_job(item.namespace, item.name)
        self.trouble.good()
        return replace(item, job=job)

    # -- who is it ----------------------------------------------------------------------------------------------------
    async def _identified(self, item: Item) -> Item | None:
        """Return the item with job and execution as their Job says, which only our dispatchers may create.

        A pod counts by its owner's UID: that of a Job we saw, or the one Redis recorded.
        """
        if item.job is not None:
            self._learn(item.job)
            return self._with_ids(item, item.job)
        if item.pod is None:
            if item.execution:
                return item
        elif item.pod_job_uid in self._known:
            job, execution = self._known[item.pod_job_uid]
            return replace(item, job_id=job, execution=execution)
        found = await self.cluster.get_job(item.namespace, item.name)
        if found is not None and item.pod_job_uid in {"", found.uid}:
            self._learn(found)
            return self._with_ids(replace(item, job=found), found)
        return await self._by_record(item)

    def _with_ids(self, item: Item, job: JobEvidence) -> Item | None:
        if job.install != self.install:
            return None
        mine = not item.execution or item.execution == job.execution
        return replace(item, job_id=job.job, execution=job.execution) if mine else item

    async def _by_record(self, item: Item) -> Item | None:
        """Return a pod's item although its Job is gone, if Redis recorded that Job."""
        if not item.job_id:
            return None
        record = await self.link.run(ops.get_job(item.job_id))
        if record is None or record.execution != item.execution:
            return None
        if item.pod is not None and record.job_uid != item.pod_job_uid:
            return replace(item, pod=None)
        return item

    def _learn(self, job: JobEvidence) -> None:
        self._known[job.uid] = (job.job, job.execution)
        self._known.move_to_end(job.uid)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)

    # -- what does Redis know -----------------------------------------------------------------------------------------
    async def _noted(self, item: Item) -> JobRecord | None:
        """Write the item's evidence into Redis, if there is any, and return the job's record."""
        if item.pod is None:
            return await self.link.run(ops.get_job(item.job_id))
        seen = sighting(item.pod)
        observation = Observation(
            phase=seen.phase,
            reason=f"{seen.reason}: {seen.message}" if seen.message else seen.reason,
            running_at=seen.running_at,
            evidence={"pod": pod_json(item.pod)},
            terminal=item.pod.ended or item.pod.over,
        )
        return await self._observe(item, observation, uid=item.pod_job_uid or (item.job.uid if item.job else ""))

    async def _observe(self, item: Item, observation: Observation, *, uid: str) -> JobRecord | None:
        fence = Fence(job=item.job_id, execution=item.execution, uid=uid or None)
        await afailpoint("operator.observe.before")
        _, record = await self.link.run(ops.observe(fence, observation))
        await afailpoint("operator.observe.after")
        return record if record is not None else await self.link.run(ops.get_job(item.job_id))

    async def _adopt(self, item: Item) -> JobRecord | None:
        seen = Observation(phase=Phase.PENDING, reason="adopted")
        return await self._observe(item, seen, uid=item.job.uid if item.job else "")

    def _quiet(self, item: Item, record: JobRecord | None) -> bool:
        """Return whether a pod's evidence, now in Redis, needs nothing more: its Job's own events follow."""
        if item.pod is None or record is None:
            return False
        if has_ended(record, item.execution):
            return True  # the pod's last stirrings; a PATCH still owed is the reconciler's to see
        if record.execution != item.execution or record.cancel:
            return False
        stopped = record.rq_status in {"canceled", "stopped"} or "stop" in record.evidence
        return bool(record.job_uid) and not stopped and not sighting(item.pod).hopeless

    # -- the plan -----------------------------------------------------------------------------------------------------
    async def _planned(self, item: Item, record: JobRecord | None) -> tuple[Context, Row, list[plans.Action]]:
        current = record is not None and record.execution == item.execution
        settings = await self.link.run(ops.get_settings(record.queue)) if record is not None else None
        seen = await self._evidence(item, record if current else None)
        now = self.cluster.clock.now_ms()
        suspect = (item.key, item.execution)
        listed = item.listed or bool(seen.job and seen.job.uid in self._actor.condemned)
        view = View(
            install=self.install,
            execution=item.execution,
            record=record,
            evidence=seen,
            spent=_spent(record),
            policy=_policy(record, settings),
            result_policy=text(child(settings, "result"), "policy") or "Optional",
            pending_ms=_limit(record, "pending", seen.job.pending_ms if seen.job else None),
            run_ms=_limit(record, "run", seen.job.run_ms if seen.job else None),
            total_ms=_total_ms(record),
            epoch=record is not None or await self._same_data(seen.job, listed=listed),
            listed=listed,
            owed=item.owed,
            missing_since=self._suspects.get(suspect),
            grace_ms=self.grace_ms,
            now=now,
        )
        row, actions = plans.plan(view, self.random)
        if row.name in _SUSPICIOUS:
            self._suspects.setdefault(suspect, now)
        else:
            self._suspects.pop(suspect, None)
        return Context(item=item, record=record, job=seen.job, settings=settings or {}, now=now), row, actions

    async def _evidence(self, item: Item, record: JobRecord | None) -> Evidence:
        stored = record.evidence if record is not None else {}
        pod = merge_pods(pod_from_json(stored.get("pod")), item.pod)
        job, stop = item.job, stop_from_json(stored.get("stop"), item.execution)
        if record is not None and record.job_uid and job is not None and job.uid != record.job_uid:
            job = None  # another Job under our name: ours is gone
        if job is not None and _needs_pods(job, pod):
            pod = await self._pods(job, pod)
        refused = ""
        if job is not None and pod is None and not job.over and record is not None:
            refused = await self._refused(item, job, record)
        return Evidence(job=job, pod=pod, stop=stop, refused=refused)

    async def _pods(self, job: JobEvidence, pod: PodEvidence | None) -> PodEvidence | None:
        """Return the evidence completed by a live list; a pod that is not in it is gone."""
        found = await self.cluster.pods_of(job)
        if pod is not None and pod.uid not in {one.uid for one in found}:
            pod = replace(pod, gone=True)
        for one in found:
            pod = merge_pods(pod, one)
        return pod

    async def _refused(self, item: Item, job: JobEvidence, record: JobRecord) -> str:
        """Return why a Job that should have a pod by now has none, and write it down for ``why``."""
        age = self.cluster.clock.now_ms() - job.created_at if job.created_at is not None else 0
        if job.suspended or age < _NO_POD_ASK_MS or record.job_uid not in {"", job.uid}:
            return ""
        try:
            words = await self.cluster.failed_create(job)
        except KubeStatusError as error:
            if error.status != FORBIDDEN:
                raise
            self.trouble.bad(f"events cannot be read, so quota and admission go unexplained: {error}")
            return ""
        if words and words not in record.reason:
            await self._observe(item, Observation(phase=Phase.PENDING, reason=words[:900]), uid=job.uid)
        return words

    async def _same_data(self, job: JobEvidence | None, *, listed: bool) -> bool:
        epoch = await self.link.run(ops.get_epoch())
        return same_data(epoch or "", job, listed=listed)

    # -- carrying it out ----------------------------------------------------------------------------------------------
    async def _act(self, item: Item, context: Context, row: Row, actions: list[plans.Action]) -> None:
        if actions:
            self._count(row)
        for action in actions:
            match action:
                case plans.Again():
                    if action.after_ms <= self.horizon_ms:
                        self.queue.put_later(item.bare(), action.after_ms / 1000)
                case plans.Adopt():
                    return  # refused by Redis: the next look sees why
                case plans.KeepStop():
                    await self._keep_stop(item, action.stop)
                case _:
                    if not await self._actor.do(action, context, row):
                        return

    async def _keep_stop(self, item: Item, stop: Stop) -> None:
        phase = Phase.RUNNING if stop.cls == "timeout" else Phase.PENDING
        seen = Observation(phase=phase, reason=f"stopping: {stop.message}"[:900], evidence={"stop": stop_json(stop)})
        await self._observe(item, seen, uid=item.job.uid if item.job else "")

    def _count(self, row: Row) -> None:
        if row.repair:
            self.metrics.repairs.labels(case=row.name).inc()


_SUSPICIOUS: Final = frozenset({"job-missing", "superseded", "vanished-live"})


def _needs_pods(job: JobEvidence, pod: PodEvidence | None) -> bool:
    """Return whether a decision about this Job wants a live look at its pods."""
    if job.finalized:
        return False
    if job.deleted_at is not None:
        return pod is None or not pod.over
    return job.over and (pod is None or not (pod.ended or pod.over))


def _spent(record: JobRecord | None) -> Spent:
    if record is None:
        return Spent()
    limit = record.max_attempts or integer(record.frozen, "maxAttempts") or 1
    return Spent(
        attempts=record.attempts_made,
        max_attempts=max(1, limit),
        starts=min(record.starts, limits.STARTS_MAX),
        budgets=record.budgets,
        total_due=integer(record.frozen, "totalDue"),
    )


def _total_ms(record: JobRecord | None) -> int | None:
    """Return the limit over all attempts as claim found it."""
    due = integer(record.frozen, "totalDue") if record is not None else None
    return due - record.first_claimed_at if record and due is not None and record.first_claimed_at is not None else None


def _policy(record: JobRecord | None, settings: Json | None) -> Policy:
    options = record.options if record is not None else {}
    return Policy(rules=rules_from_settings(settings or {}), backoff=backoff_from(options, child(settings, "defaults")))


def _limit(record: JobRecord | None, name: str, annotated: int | None) -> int | None:
    """Return a limit in ms as claim froze it; a Job says the same in whole seconds."""
    frozen = integer(child(record.frozen, "timeouts"), name) if record is not None else None
    return frozen if frozen is not None else annotated
