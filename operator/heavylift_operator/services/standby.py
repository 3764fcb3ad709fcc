"""What a replica that stands by does: it sees that pods' ends are in Redis, and keeps what else it heard in memory.

Jobs are not heard at all: all of them are listed when it begins to lead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from heavylift.runtime.link import RedisLink
from heavylift.store import ops
from heavylift.store.model import JobRecord
from heavylift_operator.core.evidence import PodEvidence, merge_pods, pod_from_json
from heavylift_operator.core.interest import irreplaceable
from heavylift_operator.core.reconcile import has_ended
from heavylift_operator.services.identity import Identity
from heavylift_operator.services.workqueue import Item, Key, WorkQueue

NOTE_S: Final = 0.2
"""How long an end is left to the leading replica, which mostly has written it down by then."""
KEPT_S: Final = 60.0
"""What was heard longer ago than this the leading replica has seen to: it had the lock after that."""
_KEPT_MAX: Final = 20_000


@dataclass(slots=True, kw_only=True)
class StandBy:
    """Memory of one replica that does not lead."""

    link: RedisLink
    queue: WorkQueue
    identity: Identity
    monotonic: Callable[[], float]
    _aside: OrderedDict[Key, tuple[float, Item]] = field(default_factory=OrderedDict)
    """Pods' news that somebody else attends to, and when it came; oldest first."""

    def hear(self, item: Item) -> None:
        """Take a pod's event: its end is looked at soon, all else is kept for a while."""
        _, known = self._aside.pop(item.key, (0.0, None))
        if item.pod is not None and irreplaceable(item.pod):
            self.queue.put_later(item, NOTE_S)
            return
        self._aside[item.key] = (self.monotonic(), item if known is None else known.merged(item))
        if len(self._aside) > _KEPT_MAX:
            self._aside.popitem(last=False)

    def prune(self) -> None:
        """Forget what is old, now that another replica is known to lead."""
        before = self.monotonic() - KEPT_S
        while self._aside and next(iter(self._aside.values()))[0] < before:
            self._aside.popitem(last=False)

    def take_over(self) -> None:
        """Queue all that was kept: from here on it is ours."""
        for _, item in self._aside.values():
            self.queue.put(item)
        self._aside.clear()

    async def spares(self, item: Item) -> bool:
        """Return whether Redis needs nothing of what a pod's event says: another replica wrote it, or it is over.

        A pod is believed as far as Redis recorded its owner's UID as that of the Job of that execution. Where no Job is
        recorded yet somebody has to look; what Redis knows nothing of is left to the replica that leads.
        """
        if item.pod is None or not item.job_id:
            return False
        record = await self.link.run(ops.get_job(item.job_id))
        if record is None or record.execution != item.execution or has_ended(record, item.execution):
            return True
        if record.job_uid == item.pod_job_uid:
            self.identity.vouch(record.job_uid, item.job_id, item.execution)
            return stands(record, item.pod)
        return bool(record.job_uid)


def stands(record: JobRecord, pod: PodEvidence) -> bool:
    """Return whether Redis has all that this pod says."""
    kept = pod_from_json(record.evidence.get("pod"))
    return kept is not None and kept.uid == pod.uid and merge_pods(kept, pod) == kept
