"""HeavySchedules: their definitions into Redis, what Redis knows of them into their status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from heavylift import schedules as shared
from heavylift.errors import HeavyliftError, InvalidInputError, StoreCorruptError
from heavylift.options import Backoff, Timeouts
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.spec.heavyschedule import HeavySchedule, ScheduledJob
from heavylift.spec.schedule import ScheduleDefinition
from heavylift.spec.status import ScheduleReason
from heavylift.store import ops
from heavylift.store.model import Json, SettingsOwner, Verdict
from heavylift.store.schedules import ScheduleOwner, ScheduleRecord
from heavylift_operator.adapters.clock import rfc3339
from heavylift_operator.adapters.cluster import NOT_FOUND, Cluster
from heavylift_operator.core import schedules
from heavylift_operator.core.queues import differs
from heavylift_operator.core.schedules import Found, Standing

BY: Final = "HeavySchedule"


@dataclass(slots=True, kw_only=True)
class Schedules:
    """One pass brings the schedules in Redis and the statuses in the cluster up to date."""

    link: RedisLink
    cluster: Cluster
    install: str
    status_interval_ms: int
    _written: dict[str, int] = field(default_factory=dict)
    """HeavySchedule UID -> when its status was written last (ms)."""
    _log: Any = field(default_factory=lambda: logs.get("schedules"))

    async def once(self, *, leads: bool) -> None:
        """Do one pass.

        Args:
            leads: this replica holds the lock: it also writes statuses.

        Raises:
            HeavyliftError: Redis or the cluster failed; statuses say so where they can.
        """
        objects, refusals = await self.cluster.heavyschedules()
        found = [schedules.read(obj) for obj in objects]
        trouble: HeavyliftError | None = None
        faults: list[HeavyliftError] = []
        standings: dict[str, Standing] = {}
        try:
            known = {each.id: each for each in await self.link.run(ops.all_schedules())}
            for one in found:
                record = known.get(f"{one.namespace}/{one.name}")
                try:
                    standings[one.uid] = await self._settle(one, record)
                except StoreCorruptError as error:  # of what this one needs: the others go on
                    faults.append(error)
                    standings[one.uid] = _standing(record, (ScheduleReason.TICK_FAILING, str(error)))
            await self._forget({one.uid for one in found}, known, frozenset(refusals))
        except HeavyliftError as error:
            trouble = error
            unreachable = Standing(trouble=(ScheduleReason.REDIS_UNAVAILABLE, str(error)))
            standings = {one.uid: unreachable for one in found}
        if leads or trouble is not None:
            for one in found:
                await self._write(one, standings[one.uid])
        for problem in (trouble, *faults, *refusals.values()):
            if problem is not None:
                raise _explained(problem)

    # -- into Redis ---------------------------------------------------------------------------------------------------
    async def _settle(self, one: Found, record: ScheduleRecord | None) -> Standing:
        """Bring one schedule to Redis; return how it stands there."""
        if one.parsed is None:
            return _standing(record, None)  # what was sound before stands
        source = shared.Source(
            owner=ScheduleOwner(
                install=self.install, namespace=one.namespace, name=one.name, uid=one.uid, generation=one.generation
            ),
            since=one.since,
        )
        try:
            definition = definition_of(one.parsed)
        except InvalidInputError as error:
            return _standing(record, (ScheduleReason.INVALID, str(error)))
        if record is None or record.owner != source.owner or _differs(record, definition, one.parsed.spec.suspend):
            reply = await self.link.run(
                shared.put(source.id, definition, by=BY, suspended=one.parsed.spec.suspend, source=source)
            )
            if reply.verdict in {Verdict.REFUSED, Verdict.CORRUPT}:
                return _standing(None, (ScheduleReason.NAME_TAKEN, reply.message))
            if reply.verdict is Verdict.APPLIED:
                self._log.info("schedule written", schedule=source.id, generation=one.generation)
            record = await self.link.run(ops.get_schedule(source.id))
        return _standing(record, await self._trouble(one.namespace, definition, record))

    async def _trouble(
        self, namespace: str, definition: ScheduleDefinition, record: ScheduleRecord | None
    ) -> tuple[ScheduleReason, str] | None:
        """Return why a tick could not be fired now, None when it could."""
        queue = definition.queue
        owner: SettingsOwner | None = await self.link.run(ops.settings_owner(queue))
        if owner is None:
            return ScheduleReason.QUEUE_NOT_SERVED, f"no HeavyQueue serves queue {queue}: apply one, or change spec.job"
        if (owner.install, owner.namespace) != (self.install, namespace):
            where = f"the HeavyQueue of queue {queue} is in namespace {owner.namespace}"
            return ScheduleReason.QUEUE_ELSEWHERE, f"{where}: create this HeavySchedule there, or change spec.job.queue"
        try:
            shared.job_request(definition, "tick", await self.link.run(ops.get_settings(queue)))
        except InvalidInputError as error:
            return ScheduleReason.JOB_NOT_ALLOWED, str(error)
        if record is not None and record.problem:
            return ScheduleReason.TICK_FAILING, record.problem
        return None

    async def _forget(self, uids: set[str], known: Mapping[str, ScheduleRecord], unread: frozenset[str]) -> None:
        """Delete schedules whose HeavySchedule is gone; their jobs stay."""
        for record in known.values():
            owner = record.owner
            if owner is None or owner.install != self.install or owner.uid in uids:
                continue
            if owner.namespace not in self.cluster.namespaces or owner.namespace in unread:
                continue
            await self.link.run(ops.delete_schedule(record.id, by=BY, uid=owner.uid))
            self._log.info("schedule removed: no HeavySchedule any more", schedule=record.id)

    # -- into the cluster ---------------------------------------------------------------------------------------------
    async def _write(self, one: Found, standing: Standing) -> None:
        now = self.cluster.clock.now_ms()
        wanted = schedules.status(one, standing, rfc3339, now)
        changed, at_once = differs(one.status, wanted)
        due = now - self._written.get(one.uid, 0) >= self.status_interval_ms
        if at_once or (changed and due):
            await self.cluster.patch_schedule_status(one.namespace, one.name, wanted)
            self._written[one.uid] = now


def _standing(record: ScheduleRecord | None, trouble: tuple[ScheduleReason, str] | None) -> Standing:
    if record is None:
        return Standing(trouble=trouble)
    return Standing(
        trouble=trouble,
        suspended=record.suspended is not None,
        last=record.last,
        next=record.upcoming,
        last_job=record.last_job,
        active=len(record.jobs),
        fired=record.fired,
        missed=record.missed,
        skipped=record.skipped,
        known=True,
    )


def _differs(record: ScheduleRecord, definition: ScheduleDefinition, suspend: bool) -> bool:  # noqa: FBT001 - as spec has it
    return record.definition != definition.to_json() or (record.suspended is not None) != suspend


def _explained(problem: HeavyliftError) -> HeavyliftError:
    if getattr(problem, "status", None) == NOT_FOUND:
        return HeavyliftError("HeavySchedules are not served: install the CRDs (manifests/crds, or crds.install=true)")
    return problem


def definition_of(parsed: HeavySchedule) -> ScheduleDefinition:
    """Return a HeavySchedule's definition, its job checked as a producer's would be.

    Raises:
        InvalidInputError: something of it cannot be used; the message names it.
    """
    spec = parsed.spec
    deadline = spec.starting_deadline_seconds
    when: Json = {
        "cron": spec.schedule,
        "timezone": spec.time_zone,
        "every": None if spec.every is None else timedelta(milliseconds=spec.every),
        "start": spec.start,
        "end": spec.end,
        "limit": spec.limit,
        "concurrency": spec.concurrency_policy,
        "catch_up": spec.catch_up,
        "starting_deadline": deadline,
    }
    return shared.define(spec.job.queue, spec.job.task, spec.job.data, {**when, **_options(spec.job)})


def _options(job: ScheduledJob) -> Json:
    def duration(ms: int | None) -> timedelta | None:
        return None if ms is None else timedelta(milliseconds=ms)

    backoff, timeouts = job.backoff, job.timeouts
    options: Json = {
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "delay": duration(job.delay),
        "expires": duration(job.expires),
        "resources": dict(job.resources) or None,
        "env": dict(job.env) or None,
        "labels": dict(job.labels) or None,
        "key": job.key,
        "lifo": job.lifo or None,
    }
    if backoff is not None:
        options["backoff"] = Backoff(backoff.type, backoff.delay, backoff.max, backoff.jitter_percent)
    if timeouts is not None:
        given = {"pending": timeouts.pending, "run": timeouts.run, "total": timeouts.total}
        options["timeouts"] = Timeouts(**{name: duration(ms) for name, ms in given.items() if ms is not None})
    return {name: value for name, value in options.items() if value is not None}
