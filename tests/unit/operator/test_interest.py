"""What of the events is worth a look: ends at once, starts a little later, repetitions never."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.errors import RedisUnavailableError
from heavylift.runtime import logs
from heavylift.runtime.link import RedisLink
from heavylift.runtime.service import StateLine
from heavylift.store.steps import Op
from heavylift_operator.adapters.clock import ClusterClock
from heavylift_operator.adapters.cluster import Cluster
from heavylift_operator.core.evidence import read_job, read_pod
from heavylift_operator.core.interest import (
    irreplaceable,
    is_dull_job,
    is_dull_pod,
    left,
    on_its_way,
    starting_up,
)
from heavylift_operator.metrics.registry import Metrics
from heavylift_operator.services.finisher import Finisher
from heavylift_operator.services.workqueue import Item, WorkQueue
from tests.unit.operator.objects import COMPLETE, RUNNING, T0, at, disruption, job, pod, terminated, waiting
from tests.unit.operator.test_workqueue import Clock, nothing


@dataclass
class Asked:
    """A link that counts how often Redis was asked, and never reaches it."""

    times: int = 0

    async def run(self, op: Op[Any]) -> Any:
        """Fail."""
        op.close()
        self.times += 1
        raise RedisUnavailableError("away")

    async def run_many(self, operations: list[Op[Any]]) -> list[Any]:
        """Fail."""
        return [await self.run(op) for op in operations]


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


class NoApi:
    """Nothing may be asked of the cluster."""


def finisher(queue: WorkQueue, link: Asked, clock: Clock, *, leads: bool = True) -> Finisher:
    """Return a finisher at T0 + 2 s."""
    clock.at = (T0 + 2_000) / 1000
    cluster = Cluster(cast("Any", NoApi()), install="ns/release", namespaces=("analytics",), clock=ClusterClock(clock))
    return Finisher(
        link=cast("RedisLink", link), cluster=cluster, queue=queue, metrics=Metrics(), install="ns/release",
        grace_ms=1000, horizon_ms=1000, trouble=StateLine(logs.get("test"), "test"), leads=lambda: leads, follow_s=5.0,
    )  # fmt: skip


def of_job(**more: Any) -> Item:
    """Return an event's item of the Job."""
    return Item(namespace="analytics", name="reports-abc-1", job_id="annual-2026", execution="inc-1", **more)


@pytest.mark.parametrize(
    ("found", "young", "last"),
    [
        (pod("Pending", main=waiting("ContainerCreating")), True, False),
        (pod("Pending", main=waiting("ErrImagePull", "no such image")), False, False),
        (pod("Pending", conditions=[UNSCHEDULABLE]), False, False),
        (pod("Running", main=RUNNING), False, False),
        (pod("Running", main=RUNNING, conditions=[disruption("EvictionByEvictionAPI")]), False, True),
        (pod("Running", main=RUNNING, deleted=3), False, True),
        (pod("Running", main=terminated(0)), False, True),
        (pod("Succeeded", main=terminated(0)), False, True),
    ],
)  # fmt: skip
def test_what_a_pod_is_worth(found: dict[str, Any], young: bool, last: bool) -> None:
    """Plain starting up needs no note while it is young; what tells of an end may be the only copy."""
    seen = read_pod(found, container="main")
    assert (starting_up(seen, T0 + 2_000), irreplaceable(seen)) == (young, last)
    assert not starting_up(seen, T0 + 60_000)


def test_a_job_is_on_its_way_until_it_ends_or_is_deleted() -> None:
    """Conditions that only announce the end are not the end."""
    ending = {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}
    assert on_its_way(read_job(job()))
    assert on_its_way(read_job(job(ending)))
    assert not on_its_way(read_job(job(COMPLETE)))
    assert not on_its_way(read_job(job(deleted=4)))


async def test_a_job_on_its_way_costs_nothing_but_a_glance_later() -> None:
    """Redis is not asked at any of its events; once, a little after the first, somebody looks."""
    clock, link = Clock(), Asked()
    queue = WorkQueue(clock=clock)
    works = finisher(queue, link, clock)
    seen = read_job(job())
    for _ in range(3):
        await works.attend(of_job(job=seen))
    assert (link.times, queue.depth) == (0, 0)
    clock.at += 2.1
    due = await queue.get()
    assert (due.key, due.glance, due.execution) == (("analytics", "reports-abc-1"), True, seen.execution)


async def test_what_says_nothing_is_not_even_queued() -> None:
    """Of a job's events only ends, and what is new of its pod, come to the workers."""
    clock = Clock()
    queue = WorkQueue(clock=clock)
    works = finisher(queue, Asked(), clock)
    starting = read_pod(pod("Pending", main=waiting("ContainerCreating")), container="main")
    works.hear(of_job(job=read_job(job())))
    works.hear(of_job(pod=starting, pod_job_uid="uid-1"))
    assert queue.depth == 0
    works.hear(of_job(pod=read_pod(pod("Running", main=RUNNING), container="main"), pod_job_uid="uid-1"))
    works.hear(of_job(job=read_job(job(COMPLETE))))
    found = await queue.get()
    assert (found.pod is not None, found.job is not None, queue.depth) == (True, True, 1)


async def test_an_event_beside_a_glance_takes_it_not_away() -> None:
    """Both come up at once: the Job is looked at."""
    clock, link = Clock(), Asked()
    queue = WorkQueue(clock=clock)
    works = finisher(queue, link, clock)
    seen = of_job(job=read_job(job()))
    await works.attend(seen)
    clock.at += 2.1
    queue.put(seen)
    with pytest.raises(RedisUnavailableError):
        await works.attend(await queue.get())
    assert link.times == 1


async def test_the_end_of_a_job_is_looked_at() -> None:
    """At once; without Redis the item comes back."""
    clock, link = Clock(), Asked()
    works = finisher(WorkQueue(clock=clock), link, clock)
    with pytest.raises(RedisUnavailableError):
        await works.attend(of_job(job=read_job(job(COMPLETE))))
    assert link.times == 1


async def test_the_other_replica_keeps_ends_at_once_and_leaves_the_rest() -> None:
    """A pod that runs waits for the leading replica; one that ended is written down now."""
    clock, link = Clock(), Asked()
    queue = WorkQueue(clock=clock)
    works = finisher(queue, link, clock, leads=False)
    await works.attend(of_job(job=read_job(job())))  # makes the Job known
    await works.attend(of_job(pod=read_pod(pod("Running", main=RUNNING)), pod_job_uid="uid-1"))
    assert link.times == 0
    with pytest.raises(RedisUnavailableError):
        await works.attend(of_job(pod=read_pod(pod("Running", main=terminated(3))), pod_job_uid="uid-1"))


async def test_what_came_in_while_an_item_waited_stays_newer() -> None:
    """An end that was seen is not covered by the item of before it."""
    clock = Clock()
    queue = WorkQueue(clock=clock)
    queue.put_later(of_job(job=read_job(job()), waited=True), 1.0)
    queue.put(of_job(job=read_job(job(COMPLETE))))
    clock.at += 2
    found = await queue.get()
    assert found.job is not None
    assert found.job.over
    assert found.waited


# -- before anything is parsed ----------------------------------------------------------------------------------------
def line(obj: Any, kind: str = "MODIFIED") -> bytes:
    """Return an event's line as the API server writes it."""
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2)}
SUCCESS_AHEAD = {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}


def plain(phase: str = "Pending", **more: Any) -> dict[str, Any]:
    """Return a pod as the API server writes it: without what is empty."""
    found = pod(phase, **more)
    found["status"] = {key: value for key, value in found["status"].items() if value}
    return found


@pytest.mark.parametrize("obj", [job(), job(SUCCESS_AHEAD), job(suspend=True), job(annotations={"x": '"Complete"'})])
def test_what_a_job_on_its_way_says_is_not_read(obj: dict[str, Any]) -> None:
    """Nor is what somebody wrote into an annotation, as long as it is no more than text."""
    assert is_dull_job(line(obj))


@pytest.mark.parametrize("kind", ["ADDED", "DELETED", "BOOKMARK", "ERROR"])
def test_of_a_job_only_changes_are_passed_over(kind: str) -> None:
    """What is new, gone or no Job is read."""
    assert not is_dull_job(line(job(), kind))


@pytest.mark.parametrize("text", ['x"},"status":{"y', ',"status":{'])
def test_what_looks_like_a_status_hides_none(text: str) -> None:
    """Nobody's text ends the part that is looked at before it begins."""
    assert not is_dull_job(line(job(COMPLETE, annotations={"a": text})))
    found = plain("Running", main=RUNNING)
    found["metadata"]["annotations"] = {"a": text}
    assert not is_dull_pod(line(found), T0 + 2_000)


def test_without_a_status_a_line_is_read() -> None:
    """It may be of a kind that nobody thought of."""
    found = job()
    del found["status"]
    assert not is_dull_job(line(found))


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
@pytest.mark.parametrize("obj", [plain(), plain(conditions=[SCHEDULED]), plain("")])
def test_what_a_pod_says_that_starts_up_is_not_read(obj: dict[str, Any], kind: str) -> None:
    """While it is young; later it is worth a word."""
    assert is_dull_pod(line(obj, kind), T0 + 2_000)
    assert not is_dull_pod(line(obj, kind), T0 + 60_000)
    assert not is_dull_pod(line(obj, "DELETED"), T0 + 2_000)
    assert not is_dull_pod(line(obj, kind).replace(b":", b": "), T0 + 2_000), "not as the API server writes"


_TEXTS = st.sampled_from(["", "Complete", '"type":"Complete"', "Pending", '"phase":"Pending"', "x\u2028", "é", "\\"])
_CONDITIONS = st.builds(
    lambda kind, status, reason: {"type": kind, "status": status} | ({"reason": reason} if reason else {}),
    st.sampled_from(["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "PodScheduled", "DisruptionTarget"]),
    st.sampled_from(["True", "False", "Unknown"]),
    _TEXTS,
)
_STATES = st.sampled_from([RUNNING, terminated(0), terminated(1), waiting("ErrImagePull"), waiting(""), {}])
_DELETED = st.sampled_from([None, 1.0])
_JOBS = st.builds(
    lambda conditions, deleted, label, note: job(
        *conditions, deleted=deleted, labels={"heavylift.dev/finalized": "true"} if label else {}, annotations=note
    ),
    st.lists(_CONDITIONS, max_size=3), _DELETED, st.booleans(), st.fixed_dictionaries({"a": _TEXTS}),
)  # fmt: skip
_PODS = st.builds(
    lambda phase, conditions, deleted, reason, states: plain(
        phase, conditions=conditions, deleted=deleted, reason=reason, **states
    ),
    st.sampled_from(["", "Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    st.lists(_CONDITIONS, max_size=3), _DELETED, _TEXTS,
    st.fixed_dictionaries({}, optional={"main": _STATES, "inits": st.dictionaries(st.just("init"), _STATES),
                                        "others": st.dictionaries(st.just("other"), _STATES)}),
)  # fmt: skip


def test_a_job_that_leaves_is_told_by_its_name() -> None:
    """In the form that the API server writes; anything else is read."""
    written = {"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "a-1", "namespace": "ns", "uid": "u"}}
    assert left(line(written, "DELETED")) == ("ns", "a-1")
    assert left(line(written)) is None
    assert left(line(written, "DELETED").replace(b'"Job"', b'"Pod"')) is None
    assert left(b" " + line(written, "DELETED")) is None


async def test_the_echo_of_an_own_end_is_not_read() -> None:
    """The glance that its beginning had set goes with it; the end of another's is told."""
    clock = Clock()
    queue = WorkQueue(clock=clock)
    works = finisher(queue, Asked(), clock)
    works.hear(of_job(job=read_job(job())))
    gone = line({"kind": "Job", "apiVersion": "batch/v1"} | job(), "DELETED")
    shown = gone.replace(b'"uid":"uid-1",', b"")
    assert not works.cluster._is_dull_job(shown)
    works._actor._patched["analytics", "reports-abc-1"] = clock.monotonic()
    assert works.cluster._is_dull_job(shown)
    clock.at += 10
    assert await nothing(queue)


@given(obj=_JOBS, kind=st.sampled_from(["ADDED", "MODIFIED", "DELETED"]))
def test_no_job_is_passed_over_that_says_something(obj: dict[str, Any], kind: str) -> None:
    """Whatever it says: what is not read would have been let pass after reading."""
    if is_dull_job(line(obj, kind)):
        seen = read_job(obj)
        assert kind == "MODIFIED"
        assert on_its_way(seen)


@given(obj=_PODS, kind=st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), age=st.sampled_from([1, 4_000, 10_000]))
def test_no_pod_is_passed_over_that_says_something(obj: dict[str, Any], kind: str, age: int) -> None:
    """Nor is any pod."""
    if is_dull_pod(line(obj, kind), T0 + age):
        assert kind != "DELETED"
        assert starting_up(read_pod(obj), T0 + age)
