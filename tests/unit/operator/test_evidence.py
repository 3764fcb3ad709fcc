"""Evidence: what is read of objects, how it merges and how it survives Redis."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_operator.core.evidence import (
    MESSAGE_LIMIT,
    PodEvidence,
    Stop,
    merge_pods,
    pod_from_json,
    pod_json,
    read_job,
    read_pod,
    stop_from_json,
    stop_json,
)
from tests.unit.operator.objects import RUNNING, T0, disruption, job, pod, terminated, waiting


def test_the_container_is_found_by_name_not_by_place() -> None:
    """Injected sidecars come first in the list."""
    seen = read_pod(pod("Failed", others={"istio-proxy": terminated(9)}, main=terminated(3)), container="main")
    assert (seen.exit_code, seen.culprit, seen.culprit_exit) == (3, "istio-proxy", 9)


def test_the_moment_of_deletion_is_the_request_not_the_end_of_grace() -> None:
    """Kubernetes adds the grace period to deletionTimestamp."""
    seen = read_pod(pod(deleted=10, grace=30, main=RUNNING))
    assert (seen.deleted_at, seen.grace_ms) == (T0 + 10_000, 30_000)


@pytest.mark.parametrize(("deleted", "before"), [(21, True), (22, True), (23, False)])
def test_deletion_in_the_second_of_the_end_counts_as_before(deleted: float, before: bool) -> None:
    """Times have whole seconds: doubt is no success."""
    seen = read_pod(pod("Succeeded", deleted=deleted, main=terminated(0, end=22)))
    assert seen.deleted_before_end is before


def test_an_end_once_seen_is_never_unseen() -> None:
    """A later, poorer state of the same pod takes nothing away."""
    rich = read_pod(pod("Failed", main=terminated(3, message="boom"), conditions=[disruption("Preempted")]))
    poor = read_pod(pod("Running", main=waiting("PodInitializing")), gone=True)
    both = merge_pods(rich, poor)
    assert both is not None
    assert (both.exit_code, both.end_message, both.disruption, both.gone) == (3, "boom", "Preempted", True)
    assert both.phase == "Failed"


def test_of_two_pods_the_one_that_ended_counts() -> None:
    """The same program may start twice; the end that was seen is the evidence."""
    first = read_pod(pod("Failed", main=terminated(3)))
    second = replace(read_pod(pod("Pending")), uid="pod-2", created_at=T0 + 9000)
    assert merge_pods(first, second) == first
    assert merge_pods(second, first) == first


def test_a_job_says_who_it_is_and_how_it_stands() -> None:
    """Annotations hold the true ids; our finalizer and a pods-first deletion are told apart."""
    seen = read_job(job(deleted=4, finalizers=["foregroundDeletion", "heavylift.dev/outcome"], suspend=True))
    assert (seen.job, seen.execution, seen.queue, seen.container) == ("annual-2026", "inc-1", "reports", "main")
    assert (seen.deleted_at, seen.foreground, seen.held, seen.suspended) == (T0 + 4000, True, True, True)
    assert (seen.pending_ms, seen.run_ms) == (60_000, 600_000)


@pytest.mark.parametrize("code", [0, 3])
def test_evidence_survives_redis(code: int) -> None:
    """What is stored as JSON comes back the same, an exit code of 0 too."""
    seen = read_pod(pod("Failed", deleted=10, main=terminated(code, message="x\x00ü"), conditions=[disruption("Y")]))
    assert pod_from_json(json.loads(json.dumps(pod_json(seen)))) == seen
    stop = Stop(cls="timeout", message="too long", at=T0, execution="inc-1")
    assert stop_from_json(json.loads(json.dumps(stop_json(stop))), "inc-1") == stop
    assert stop_from_json(stop_json(stop), "inc-2") is None


@pytest.mark.parametrize("stored", [None, [], "x", {}, {"exit_code": "3"}, {"phase": 7, "gone": "yes"}])
def test_unsound_stored_evidence_is_nothing(stored: Any) -> None:
    """Parts of the wrong type are dropped."""
    assert pod_from_json(stored) is None


def test_a_termination_message_is_cut_to_whole_characters() -> None:
    """4,096 bytes at most, never half a character, no lone surrogate."""
    seen = read_pod(pod("Failed", main=terminated(1, message="\ud800" + "ü" * 5000)))
    assert len(seen.end_message.encode()) <= MESSAGE_LIMIT
    assert seen.end_message.startswith("\N{REPLACEMENT CHARACTER}ü")


VALUES = st.none() | st.booleans() | st.integers(-5, 10**13) | st.text(max_size=5)


@given(st.builds(PodEvidence, uid=st.sampled_from(["a", "b"]), phase=st.sampled_from(["Running", "Failed"]),
                 ended=st.booleans(), exit_code=st.none() | st.integers(0, 255), gone=st.booleans()),
       st.builds(PodEvidence, uid=st.sampled_from(["a", "b"]), phase=st.sampled_from(["Running", "Failed"]),
                 ended=st.booleans(), exit_code=st.none() | st.integers(0, 255), gone=st.booleans()))  # fmt: skip
def test_merging_never_loses_an_end(old: PodEvidence, new: PodEvidence) -> None:
    """If either saw an end, the two together know one."""
    both = merge_pods(old, new)
    assert both is not None
    assert both.ended == (old.ended or new.ended)


@given(st.dictionaries(st.sampled_from(sorted(PodEvidence.__dataclass_fields__)), VALUES))
def test_any_stored_evidence_can_be_read(stored: dict[str, Any]) -> None:
    """Reading never raises and never lets a wrong type in."""
    seen = pod_from_json(stored)
    assert seen is None or isinstance(seen.end_message, str)
