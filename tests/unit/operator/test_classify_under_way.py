"""Classification of attempts that have not ended, and of hostile objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift.contract.outcomes import OutcomeClass
from heavylift.contract.states import Phase
from heavylift_operator.core.classify import Asked, classify
from heavylift_operator.core.evidence import Evidence, Stop, read_job, read_pod
from heavylift_operator.core.outcome import Ended, Underway
from tests.unit.operator.objects import (
    EXECUTION,
    FAILED,
    RUNNING,
    T0,
    condition,
    evidence,
    job,
    pod,
    terminated,
    waiting,
)
from tests.unit.operator.verdicts import NOW, ended, underway

# -- under way --------------------------------------------------------------------------------------------------------
PENDING: dict[str, tuple[Any, Any, str, OutcomeClass | None]] = {
    "no pod yet": (job(), None, "no-pod", OutcomeClass.UNSCHEDULABLE),
    "suspended": (job(suspend=True), None, "suspended", None),
    "unschedulable": (
        job(),
        pod(
            "Pending",
            conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}],
        ),
        "unschedulable",
        OutcomeClass.UNSCHEDULABLE,
    ),
    "gated": (
        job(),
        pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
        "gated",
        OutcomeClass.UNSCHEDULABLE,
    ),
    "image": (job(), pod("Pending", main=waiting("ImagePullBackOff", "back-off")), "image", OutcomeClass.IMAGE),
    "image of an init container": (
        job(),
        pod("Pending", main=waiting("PodInitializing"), inits={"fetch": waiting("ErrImagePull")}),
        "image",
        OutcomeClass.IMAGE,
    ),
    "config": (job(), pod("Pending", main=waiting("CreateContainerConfigError")), "image", OutcomeClass.IMAGE),
    "starting": (job(), pod("Pending", main=waiting("ContainerCreating")), "starting", OutcomeClass.UNSCHEDULABLE),
}


@pytest.mark.parametrize("case", PENDING)
def test_a_pending_job_says_what_it_waits_for(case: str) -> None:
    """Each reason, and what it ends as when the pending limit passes."""
    job_object, pod_object, reason, stuck = PENDING[case]
    found = underway(evidence(job_object, *([pod_object] if pod_object else [])))
    assert (found.phase, found.reason, found.stuck) == (Phase.PENDING, reason, stuck)
    assert not found.hopeless


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_no_waiting_mends_is_hopeless(reason: str) -> None:
    """These end the attempt at once."""
    assert underway(evidence(job(), pod("Pending", main=waiting(reason)))).hopeless


def test_a_running_job_runs_since_its_container_started() -> None:
    """The pod's start is the attempt's."""
    found = underway(evidence(job(), pod(main=RUNNING)))
    assert (found.phase, found.running_at, found.reason) == (Phase.RUNNING, T0 + 5000, "")


@pytest.mark.parametrize("interim", ["FailureTarget", "SuccessCriteriaMet"])
def test_an_interim_condition_ends_nothing(interim: str) -> None:
    """Only Complete and Failed are final; the old pod may still run."""
    found = underway(evidence(job(condition(interim, "PodFailurePolicy")), pod(main=RUNNING)))
    assert found.reason == "ending"


def test_a_pod_that_should_be_long_gone_is_on_a_lost_node() -> None:
    """Deletion asked for, grace over, a minute more, and still running."""
    seen = evidence(job(), pod(deleted=10, main=RUNNING))
    assert underway(seen, now=T0 + 99_000).phase is Phase.RUNNING
    found = classify(seen, Asked(execution=EXECUTION, now=T0 + 101_000))
    assert isinstance(found, Ended)
    assert (found.cls, found.since) == (OutcomeClass.NODE_LOST, T0 + 100_000)
    assert "node-1" in found.message


def test_a_cancel_does_not_wait_for_a_lost_node() -> None:
    """No attempt follows it, so nothing can run twice; a deadline's stop waits as its rule says."""
    held = job(deleted=10, finalizers=["foregroundDeletion", "heavylift.dev/outcome"])
    late = Asked(execution=EXECUTION, now=T0 + 101_000)
    found = classify(evidence(held, pod(deleted=10, main=RUNNING)), replace(late, cancelled=True))
    assert isinstance(found, Ended)
    assert found.cls is OutcomeClass.CANCELLED
    stop = Stop(cls="timeout", message="too long", at=T0, execution=EXECUTION)
    found = classify(evidence(held, pod(deleted=10, main=RUNNING), stop=stop), late)
    assert isinstance(found, Ended)
    assert found.cls is OutcomeClass.NODE_LOST


# -- hostile input ----------------------------------------------------------------------------------------------------
KEYS = st.sampled_from(
    ["metadata", "spec", "status", "conditions", "type", "containerStatuses", "state", "terminated", "exitCode", "name"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Failed", "True", "main"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, JSON, max_size=4), st.dictionaries(KEYS, JSON, max_size=4), st.booleans())
def test_nothing_in_an_object_can_make_classification_raise(job_object: Any, pod_object: Any, gone: bool) -> None:
    """Whatever an object holds, there is an answer."""
    seen = Evidence(job=None if gone else read_job(job_object), pod=read_pod(pod_object))
    assert isinstance(classify(seen, Asked(execution=EXECUTION, now=NOW)), Ended | Underway)


def test_control_characters_and_half_characters_never_reach_the_message() -> None:
    """Escape sequences, NUL and lone surrogates become replacement characters."""
    nasty = "ok\x1b[31m red\x00 \ud83d"
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(1, message=nasty))))
    assert "\x1b" not in found.message
    assert "\x00" not in found.evidence["log"]
    found.message.encode()
