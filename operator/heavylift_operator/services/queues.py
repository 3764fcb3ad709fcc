"""HeavyQueues: their settings into Redis, what Redis knows of them into their status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from heavylift.contract import ids
from heavylift.contract.keys import Keys
from heavylift.errors import HeavyliftError, StoreCorruptError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.spec import settings as settings_of
from heavylift.store import ops
from heavylift.store.model import Verdict
from heavylift_operator.adapters.clock import rfc3339
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core import queues
from heavylift_operator.core.queues import Found, Standing
from heavylift_operator.core.reading import Json, child, integer

_LOCKS_TTL_MIN_MS: Final = 60_000
_UNSERVED_MAX: Final = 100
_CORRUPT: Final = "CorruptKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a queue's settings are not in Redis; empty = they are."""

    taken: str = ""
    """Somebody else owns the name."""
    corrupt: str = ""
    """The key is not ours to write."""


@dataclass(slots=True, kw_only=True)
class Queues:
    """One pass brings settings, RQ's locks and statuses up to date."""

    link: RedisLink
    cluster: Cluster
    install: str
    identity: str
    interval_ms: int
    status_interval_ms: int
    found: list[Found] = field(default_factory=list)
    """The HeavyQueues of the last pass."""
    served: Mapping[str, str] | None = None
    """Queue -> namespace of the HeavyQueue that owns its name, where those cannot be read now as known before; None =
    nothing was read yet."""
    metrics_api: Callable[[], tuple[bool, str, str] | None] = lambda: None
    """Whether HPAs can read figures, with reason and message; None = not known, or not served."""
    unserved: tuple[str, ...] = ()
    """Queues in Redis that have no settings, as the last pass found them."""
    _unread: frozenset[str] = frozenset()
    """Namespaces whose HeavyQueues could not be listed: what they own is left alone."""
    _written: dict[str, int] = field(default_factory=dict)
    """HeavyQueue UID -> when its status was written last (ms)."""
    _log: Any = field(default_factory=lambda: logs.get("queues"))

    async def once(self, *, leads: bool) -> None:
        """Do one pass.

        Args:
            leads: this replica holds the lock: it also writes statuses.

        Raises:
            HeavyliftError: Redis or the cluster failed; statuses say so where they can.
        """
        objects, refusals = await self.cluster.heavyqueues()
        self.found, self._unread = [queues.read(obj) for obj in objects], frozenset(refusals)
        owned = queues.owners(self.found)
        kept = {queue: where for queue, where in (self.served or {}).items() if where in self._unread}
        if objects or not refusals or self.served is not None:
            self.served = kept | {queue: one.namespace for queue, one in owned.items()}
        standings: dict[str, Standing] = {}
        trouble: HeavyliftError | None = None
        snapshot: Json | None = None
        try:
            refused = {one.uid: await self._settled(one) for one in owned.values()}
            await self._forget(owned)
            snapshot = await self.link.run(ops.snapshot(self.install, sorted(owned)))
            for one in self.found:
                standings[one.uid] = await self._standing(one, owned, snapshot, refused.get(one.uid, Refused()))
        except HeavyliftError as error:
            trouble = error
            standings = {
                one.uid: Standing(owner=_other(one, owned), redis=str(error), troubles={}, metrics=self.metrics_api())
                for one in self.found
            }
        if leads or trouble is not None:
            for one in self.found:
                await self._write(one, standings[one.uid])
        for problem in (trouble, *refusals.values()):
            if problem is not None:
                raise problem

    # -- into Redis ---------------------------------------------------------------------------------------------------
    async def _settled(self, one: Found) -> Refused:
        """Settle one queue; a corrupt key of its own is its own trouble."""
        try:
            return Refused(taken=await self._settle(one))
        except StoreCorruptError:
            return Refused(corrupt=_mend(Keys.from_env().settings(one.queue)))

    async def _settle(self, one: Found) -> str:
        """Write a queue's settings and hold RQ's locks; return why the name is not ours in Redis, or nothing."""
        if one.parsed is None:
            return ""  # what was sound before stands; the dispatcher sees the broken template itself
        await self._make_room(one)
        reply = await self.link.run(
            ops.put_settings(
                one.queue,
                settings_of(one.parsed),
                generation=one.generation,
                install=self.install,
                namespace=one.namespace,
                uid=one.uid,
            )
        )
        if reply.verdict is Verdict.CORRUPT:
            raise StoreCorruptError(reply.message)
        if reply.verdict is Verdict.REFUSED:
            return await self._taken(one, reply.message)
        if reply.verdict is Verdict.APPLIED:
            self._log.info("settings written", queue=one.queue, generation=one.generation)
        ttl_ms = max(_LOCKS_TTL_MIN_MS, 3 * self.interval_ms)
        await self.link.run(ops.hold_rq_locks(one.queue, f"heavylift:{self.install}", ttl_ms))
        return ""

    async def _make_room(self, one: Found) -> None:
        """Take away settings of a younger or vanished HeavyQueue of this install in another namespace."""
        owner = await self.link.run(ops.settings_owner(one.queue))
        if owner is None or owner.install != self.install or owner.uid == one.uid:
            return
        if owner.namespace != one.namespace and self._watched(owner.namespace):
            await self.link.run(ops.delete_settings(one.queue, owner.uid))

    async def _taken(self, one: Found, why: str) -> str:
        """Say what to do about a name that somebody else owns: settings that nobody gives up need a hand."""
        owner = await self.link.run(ops.settings_owner(one.queue))
        if owner is None or owner.install != self.install or self._watched(owner.namespace):
            return f"{why}: choose another spec.queue"
        if owner.namespace in self.cluster.namespaces:
            state, first = "whose HeavyQueues cannot be read now", "restore the operator's access to it"
        else:
            state, first = "which is not watched any more", "watch it again (watchNamespaces)"
        key = Keys.from_env().settings(one.queue)
        return f"{why}, {state}: {first}, or, once none of its jobs is active, delete the key {key} in Redis"

    def _watched(self, namespace: str) -> bool:
        return namespace in self.cluster.namespaces and namespace not in self._unread

    async def _forget(self, owned: Mapping[str, Found]) -> None:
        """Take away settings whose HeavyQueue is gone; waiting jobs stay."""
        unserved = []
        for queue in await self.link.run(ops.queues()):
            if queue in owned:
                continue
            try:
                owner = await self.link.run(ops.settings_owner(queue))
            except StoreCorruptError:
                continue  # not ours to mend; claims of this queue say so
            if owner is None and _usable(queue):
                unserved.append(queue)
            if owner is None or owner.install != self.install or not self._watched(owner.namespace):
                continue
            await self.link.run(ops.delete_settings(queue, owner.uid))
            self._log.info("settings removed: no HeavyQueue any more", queue=queue)
        self.unserved = tuple(unserved[:_UNSERVED_MAX])

    def told_of(self) -> tuple[str, ...]:
        """Return the queues whose figures the last pass makes ours to show."""
        return (*sorted(queues.owners(self.found)), *self.unserved)

    def apart(self) -> dict[str, tuple[str, ...]]:
        """Return queue -> tasks whose figures are kept apart, of each queue with a sound HeavyQueue."""
        owned = queues.owners(self.found)
        return {queue: tuple(one.parsed.spec.metrics.tasks) for queue, one in owned.items() if one.parsed is not None}

    # -- into the cluster ---------------------------------------------------------------------------------------------
    async def _standing(self, one: Found, owned: Mapping[str, Found], snapshot: Json, refused: Refused) -> Standing:
        troubles: dict[str, Json] = {_CORRUPT: {"message": refused.corrupt}} if refused.corrupt else {}
        pause: Json | None = None
        keys = Keys.from_env()
        try:
            troubles |= await self.link.run(ops.troubles(one.queue))
        except StoreCorruptError:
            troubles[_CORRUPT] = {"message": _mend(keys.trouble(one.queue))}
        try:
            pause = await self.link.run(ops.paused(one.queue))
        except StoreCorruptError:
            troubles[_CORRUPT] = {"message": _mend(keys.pause(one.queue))}
        return Standing(
            owner=_other(one, owned),
            taken=refused.taken,
            counts=child(snapshot, "queues", one.queue),
            dispatchers=integer(snapshot, "dispatchers") or 0,
            troubles=troubles,
            pause=pause,
            metrics=self.metrics_api(),
        )

    async def _write(self, one: Found, standing: Standing) -> None:
        now = self.cluster.clock.now_ms()
        wanted = queues.status(one, standing, rfc3339(now), rfc3339)
        changed, at_once = queues.differs(one.status, wanted)
        due = now - self._written.get(one.uid, 0) >= self.status_interval_ms
        if at_once or (changed and due):
            await self.cluster.patch_status(one.namespace, one.name, wanted)
            self._written[one.uid] = now


def _usable(queue: str) -> bool:
    try:
        ids.check_queue_name(queue)
    except HeavyliftError:
        return False
    return True


def _other(one: Found, owned: Mapping[str, Found]) -> Found | None:
    owner = owned.get(one.queue)
    return owner if owner is not None and owner.uid != one.uid else None


def _mend(key: str) -> str:
    return f"the key {key} in Redis is not what it should be: delete it, what belongs there is written anew"
