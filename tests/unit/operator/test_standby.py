"""What a replica keeps while another one leads: pods' ends are seen into Redis, the rest is remembered for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from heavylift.runtime.link import RedisLink
from heavylift.store.steps import Call, Op
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import PodEvidence, pod_json, read_pod
from heavylift_operator.services.identity import Identity
from heavylift_operator.services.standby import KEPT_S, NOTE_S, StandBy
from heavylift_operator.services.workqueue import Item, WorkQueue
from tests.unit.operator.objects import EXECUTION, RUNNING, pod, terminated
from tests.unit.operator.test_workqueue import Clock, nothing

UID = "uid-1"
RUNS = read_pod(pod("Running", main=RUNNING), container="main")
ENDED = read_pod(pod("Succeeded", main=terminated(0)), container="main")


@dataclass
class Hash:
    """A link to a Redis with one job, or none."""

    fields: dict[str, str] | None
    asked: list[str] = field(default_factory=list)

    async def run(self, op: Op[Any]) -> Any:
        """Answer as the script does."""
        step = next(op)
        assert isinstance(step, Call)
        self.asked.append(step.script)
        flat = [part.encode() for pair in (self.fields or {}).items() for part in pair]
        with pytest.raises(StopIteration) as stopped:
            op.send([b"missing" if self.fields is None else b"ok", b"", flat, -1])
        return stopped.value.value


def stored(evidence: PodEvidence | None = RUNS, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a started job's hash."""
    pods = {} if evidence is None else {"pod": pod_json(evidence)}
    return {
        "status": "started", "origin": "reports", "hl:inc": "inc", "hl:seq": "1", "hl:exec": EXECUTION, "hl:uid": UID,
        "hl:phase": "running", "hl:evidence": json.dumps(pods), **(changes or {}),
    }  # fmt: skip


def item(seen: PodEvidence = ENDED, name: str = "a", **more: Any) -> Item:
    """Return a pod's item."""
    known = {"job_id": "annual", "execution": EXECUTION, "pod_job_uid": UID}
    return Item(namespace="ns", name=name, pod=seen, **(known | more))


def stand(link: Hash, clock: Clock | None = None) -> tuple[StandBy, WorkQueue, Identity]:
    """Return what stands by."""
    clock = clock or Clock()
    queue = WorkQueue(clock=clock)
    identity = Identity(link=cast("RedisLink", link), cluster=cast("Cluster", None), install="ns/release")
    standby = StandBy(link=cast("RedisLink", link), queue=queue, identity=identity, monotonic=clock.monotonic)
    return standby, queue, identity


@pytest.mark.parametrize(
    ("fields", "spared"),
    [
        (stored(), False),
        (stored(None), False),
        (stored(ENDED), True),
        (stored(read_pod(pod("Failed", main=terminated(3)), container="main")), False),
        (stored(changes={"hl:outcome": json.dumps({"execution": EXECUTION})}), True),
        (stored(changes={"hl:exec": "inc-2"}), True),
        (stored(changes={"hl:uid": "another"}), True),
        (stored(changes={"hl:uid": ""}), False),
        (None, True),
    ],
    ids=["runs", "nothing", "written", "other-end", "over", "moved-on", "another-job", "unrecorded", "unknown"],
)  # fmt: skip
async def test_what_is_written_already_is_not_written_again(fields: dict[str, str] | None, spared: bool) -> None:
    """Nor what is over, or not known; where no Job is recorded yet somebody looks at the cluster."""
    link = Hash(fields)
    standby, _, identity = stand(link)
    assert await standby.spares(item()) is spared
    assert link.asked == ["get_job"]
    assert identity.knows(UID) is (fields is not None and fields["hl:uid"] == UID and fields["hl:exec"] == EXECUTION
                                   and "hl:outcome" not in fields)  # fmt: skip


async def test_a_pod_that_names_no_job_is_looked_up() -> None:
    """Redis is not asked: its owner tells."""
    link = Hash(stored())
    standby, _, _ = stand(link)
    assert not await standby.spares(item(job_id=""))
    assert link.asked == []


async def test_an_end_is_looked_at_in_a_moment() -> None:
    """By then the leading replica has mostly written it; more of the same pod comes along."""
    clock = Clock()
    standby, queue, _ = stand(Hash(stored()), clock)
    standby.hear(item(RUNS))
    standby.hear(item())
    assert await nothing(queue)
    clock.at += NOTE_S
    found = await queue.get()
    assert found.pod is not None
    assert found.pod.ended
    standby.take_over()
    assert queue.depth == 1, "the start of a pod that ended is no news"


async def test_what_was_heard_lately_is_attended_to_at_a_take_over() -> None:
    """What came while the one that died may have been gone; the rest it has seen to."""
    clock = Clock()
    standby, queue, _ = stand(Hash(stored()), clock)
    standby.hear(item(RUNS, "old"))
    clock.at += KEPT_S
    standby.hear(item(RUNS, "new"))
    clock.at += 1
    standby.prune()
    standby.take_over()
    assert (queue.depth, (await queue.get()).name) == (1, "new")
    standby.take_over()
    assert queue.depth == 1
