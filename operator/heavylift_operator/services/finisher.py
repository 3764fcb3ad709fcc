"""The finisher: one item of the work queue -> evidence into Redis -> plan -> its actions, in order."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from heavylift.contract.failpoints import afailpoint
from heavylift.contract.states import Phase
from heavylift.errors import ClusterUnavailableError, HeavyliftError, RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.kube import KubeStatusError
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import StateLine
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
    pod_json,
    stop_json,
)
from heavylift_operator.core.interest import irreplaceable, on_its_way, starting_up
from heavylift_operator.core.reading import Json
from heavylift_operator.core.reconcile import Row, has_ended, same_data
from heavylift_operator.core.rules import Random
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.actions import Actor, Context
from heavylift_operator.services.identity import Identity, put_bounded
from heavylift_operator.services.records import Records
from heavylift_operator.services.shelf import Shelf
from heavylift_operator.services.standby import StandBy
from heavylift_operator.services.views import Known, Views, merged, needs_pods
from heavylift_operator.services.workqueue import Item, Key, WorkQueue

_PLANS_MAX: Final = 4
_NO_POD_ASK_MS: Final = 5_000
"""A Job this old without a pod has a reason worth asking the cluster's events for."""
_GLANCE_S: Final = 2.0
"""How long after its Job came to be an execution is looked at, should nothing happen before."""
_YOUNG_MS: Final = 10_000
"""Of a Job this much older than two intervals a comparison has seen what a cancel wants."""
_LEFT_MAX: Final = 5_000
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
    stands_by: Callable[[], bool] = lambda: False
    """Whether another replica is known to hold it: only pods' ends are seen to."""
    follow_s: float = 2.0
    shelf: Shelf | None = None
    """Makes room for finished Jobs."""
    random: Random = field(default_factory=random.Random)
    _actor: Actor = field(init=False)
    _views: Views = field(init=False)
    _identity: Identity = field(init=False)
    _records: Records = field(init=False)
    standby: StandBy = field(init=False)
    """What is kept while another replica leads."""
    _noted_pods: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Pod UID -> hash of the evidence last seen to."""
    _left: dict[str, bytes] = field(default_factory=dict)
    """Execution -> its evidence as we left it in Redis."""
    _suspects: dict[tuple[Key, str], int] = field(default_factory=dict)
    """When a Job was first found missing, or unknown to Redis (ms)."""
    _log: Any = field(default_factory=lambda: logs.get("finisher"))

    def __post_init__(self) -> None:
        """Make what carries the actions out."""
        self._actor = Actor(
            link=self.link, cluster=self.cluster, metrics=self.metrics, install=self.install, shelf=self.shelf
        )
        self.cluster.echoes = self._echoes
        self._identity = Identity(link=self.link, cluster=self.cluster, install=self.install)
        self._views = Views(install=self.install, grace_ms=self.grace_ms)
        self._records = Records(link=self.link, monotonic=self.cluster.clock.monotonic)
        self.standby = StandBy(
            link=self.link, queue=self.queue, identity=self._identity, monotonic=self.cluster.clock.monotonic
        )

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

    def hear(self, item: Item) -> None:
        """Take what an event says; what needs nobody goes no further."""
        if self._is_dull(item):
            return
        if self.stands_by() and item.pod is not None:
            self.standby.hear(item)
        else:
            self.queue.put(item)

    def passes(self, item: Item, record: JobRecord | None, settings: Json) -> bool:
        """Return whether an execution that the reconciler meets needs nothing: Redis and its Job agree, and it goes on.

        What falls due before the next pass is noted. No I/O: thousands of them pass in a second.
        """
        job = item.job
        if job is None or record is None or job.install != self.install or not on_its_way(job):
            return False
        if record.execution != job.execution or record.job_uid != job.uid:
            return False
        seen, now = merged(item, record), self.cluster.clock.now_ms()
        if seen.pod is None and self._wants_reasons(job, record):
            return False
        known = Known(item=item, record=record, settings=settings, seen=seen, listed=item.listed, now=now)
        row, actions = plans.plan(self._views.view(known), self.random)
        later = [action.after_ms for action in actions if isinstance(action, plans.Again)]
        if row.repair or row.name in _SUSPICIOUS or len(later) < len(actions):
            return False
        self._identity.learn(job)
        if later and min(later) <= self.horizon_ms:
            self.queue.put_later(item.bare(), min(later) / 1000)
        return True

    async def attend(self, item: Item) -> None:
        """Bring one execution a step further.

        Raises:
            RedisUnavailableError: nothing is lost, the item comes back.
            ClusterUnavailableError: as above.
            KubeStatusError: the API server refuses what we may do; the message says what to check.
        """
        if item.left and self.shelf is not None:
            self.shelf.left(item.queue, item.key, item.left_uid)
        if self._is_echo(item) or self._is_dull(item):
            return
        follows = not item.waited and not self.leads()
        if follows and (item.pod is None or not irreplaceable(item.pod)):
            self.queue.put_later(replace(item, waited=True), self.follow_s)
            return
        if follows and self.stands_by() and await self.standby.spares(item):
            self._remember(item)
            return
        known = await self._identity.identified(item)
        if known is None or not known.execution:
            return
        record, settings = await self._noted(known)
        if record is not None and record.job_uid not in {"", known.pod_job_uid}:
            known = replace(known, pod=None)  # a pod of another Job under our name
        if known.job is None and self._quiet(known, record):
            self._remember(item)
            return
        if follows:
            self.queue.put_later(replace(known, pod=None, waited=True), self.follow_s)
            return
        await self._see_through(known, record, settings)
        self._remember(item)

    async def _see_through(self, known: Item, record: JobRecord | None, settings: Json | None) -> None:
        """Plan and act, looking anew where the plan asks for it."""
        fresh = known.job is None
        if fresh:
            known = await self._live(known)
        for _ in range(_PLANS_MAX):
            context, row, actions = await self._planned(known, record, settings)
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

    def _echoes(self, key: Key) -> bool:
        """Return whether that a Job left our watch is but the echo of its end, seen through by us just now."""
        if not self._actor.just_patched(key):
            return False
        self.queue.forget(key)
        return True

    def _is_dull(self, item: Item) -> bool:
        """Return whether an event needs nobody now: a Job on its way, a pod starting up or as it was before.

        A Job seen for the first time gets a glance a little later, for a cancel that came before it; of one that is not
        new a comparison has seen it, or will.
        """
        job, pod = item.job, item.pod
        if item.met or item.asked or item.left or item.waited or item.glance:
            return False
        if (job is None and pod is None) or (job is not None and not on_its_way(job)):
            return False
        now = self.cluster.clock.now_ms()
        if job is not None and not self._identity.knows(job.uid) and job.install == self.install:
            self._identity.learn(job)
            if now - (job.created_at or now) < 2 * self.horizon_ms + _YOUNG_MS:
                bare = Item(namespace=item.namespace, name=item.name, job_id=job.job, execution=job.execution)
                self.queue.put_later(replace(bare, glance=True), _GLANCE_S)
        return pod is None or self._noted_pods.get(pod.uid) == hash(pod) or starting_up(pod, now)

    def _remember(self, item: Item) -> None:
        """Remember what of a pod was seen to, so that an event that says the same again is none."""
        if item.pod is not None:
            put_bounded(self._noted_pods, item.pod.uid, hash(item.pod))

    async def _live(self, item: Item) -> Item:
        """Return the item with its Job as a live GET shows it; one without a place has none."""
        if not item.namespace:
            return item
        job = await self.cluster.get_job(item.namespace, item.name)
        self.trouble.good()
        return replace(item, job=job)

    # -- what does Redis know -----------------------------------------------------------------------------------------
    async def _noted(self, item: Item) -> tuple[JobRecord | None, Json | None]:
        """Write the item's evidence into Redis, if there is any; return the job's record and its queue's settings.

        The settings are None where they are not known yet.
        """
        if item.pod is None and item.job is not None:
            return await self._records.read(item.job_id, item.job.queue)
        if item.pod is None:
            return await self.link.run(ops.get_job(item.job_id)), None
        seen = sighting(item.pod)
        observation = Observation(
            phase=seen.phase,
            reason=f"{seen.reason}: {seen.message}" if seen.message else seen.reason,
            running_at=seen.running_at,
            evidence={"pod": pod_json(item.pod)},
            terminal=item.pod.ended or item.pod.over,
        )
        uid = item.pod_job_uid or (item.job.uid if item.job else "")
        return await self._observe(item, observation, uid=uid), None

    async def _observe(self, item: Item, observation: Observation, *, uid: str) -> JobRecord | None:
        fence = Fence(job=item.job_id, execution=item.execution, uid=uid or None)
        await afailpoint("operator.observe.before")
        while len(self._left) > _LEFT_MAX:
            del self._left[next(iter(self._left))]
        _, record = await self.link.run(ops.observe(fence, observation, self._left))
        await afailpoint("operator.observe.after")
        return record if record is not None else await self.link.run(ops.get_job(item.job_id))

    async def _adopt(self, item: Item) -> JobRecord | None:
        seen = Observation(phase=Phase.PENDING, reason="adopted")
        return await self._observe(item, seen, uid=item.job.uid if item.job else "")

    def _quiet(self, item: Item, record: JobRecord | None) -> bool:
        """Return whether a pod's evidence, now in Redis, needs nothing more: its Job's own events follow."""
        if (item.pod is None and not item.glance) or record is None:
            return False
        if has_ended(record, item.execution):
            return True  # the pod's last stirrings; a PATCH still owed is the reconciler's to see
        if record.execution != item.execution or record.cancel:
            return False
        stopped = record.rq_status in {"canceled", "stopped"} or "stop" in record.evidence
        return bool(record.job_uid) and not stopped and not (item.pod is not None and sighting(item.pod).hopeless)

    # -- the plan -----------------------------------------------------------------------------------------------------
    async def _planned(
        self, item: Item, record: JobRecord | None, settings: Json | None
    ) -> tuple[Context, Row, list[plans.Action]]:
        current = record is not None and record.execution == item.execution
        if settings is None and record is not None:
            settings = await self.link.run(ops.get_settings(record.queue))
        seen = await self._evidence(item, record if current else None)
        suspect = (item.key, item.execution)
        listed = item.listed or bool(seen.job and seen.job.uid in self._actor.condemned)
        known = Known(
            item=item,
            record=record,
            settings=settings or {},
            seen=seen,
            listed=listed,
            epoch=record is not None or await self._same_data(seen.job, listed=listed),
            missing_since=self._suspects.get(suspect),
            now=self.cluster.clock.now_ms(),
        )
        row, actions = plans.plan(self._views.view(known), self.random)
        if row.name in _SUSPICIOUS:
            self._suspects.setdefault(suspect, known.now)
        else:
            self._suspects.pop(suspect, None)
        return Context(item=item, record=record, job=seen.job, settings=known.settings, now=known.now), row, actions

    async def _evidence(self, item: Item, record: JobRecord | None) -> Evidence:
        seen = merged(item, record)
        job, pod = seen.job, seen.pod
        if job is not None and needs_pods(job, pod):
            pod = await self._pods(job, pod)
        refused = ""
        if job is not None and pod is None and not job.over and record is not None:
            refused = await self._refused(item, job, record)
        return replace(seen, pod=pod, refused=refused)

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
        if not self._wants_reasons(job, record):
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

    def _wants_reasons(self, job: JobEvidence, record: JobRecord) -> bool:
        """Return whether a Job without a pod should have one by now."""
        age = self.cluster.clock.now_ms() - job.created_at if job.created_at is not None else 0
        return not job.suspended and age >= _NO_POD_ASK_MS and record.job_uid in {"", job.uid}

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
