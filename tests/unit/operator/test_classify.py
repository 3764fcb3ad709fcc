"""Classification: every class from the evidence that stands for it."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift.contract.envelope import Raised, encode_checkpoint, encode_error, encode_result, encode_snooze
from heavylift.contract.outcomes import OutcomeClass
from heavylift_operator.core.evidence import Stop, merge_pods, read_pod
from tests.unit.operator.objects import (
    COMPLETE,
    EXECUTION,
    FAILED,
    RUNNING,
    T0,
    condition,
    disruption,
    evidence,
    job,
    pod,
    terminated,
    waiting,
)
from tests.unit.operator.verdicts import ended, underway


# -- the four situations measured on a real cluster -------------------------------------------------------------------
def test_exit_64_is_an_error_that_is_not_retried() -> None:
    """Exit 64, matched by the FailJob rule for exit codes: error, no retry."""
    said = "Container main for pod a/b failed with exit code 64 matching FailJob rule at index 1"
    found = ended(evidence(job(condition("Failed", "PodFailurePolicy", said)), pod("Failed", main=terminated(64))))
    assert (found.cls, found.exit_code, found.no_retry) == (OutcomeClass.ERROR, 64, True)


def test_a_memory_limit_hit_is_oom_with_limit_and_log_tail() -> None:
    """137 with OOMKilled: oom, naming the limit, the log's tail in the evidence."""
    dying = terminated(137, "OOMKilled", "loading year 1990\nloading year 1991")
    found = ended(evidence(job(FAILED), pod("Failed", main=dying)))
    assert found.cls is OutcomeClass.OOM
    assert "64Mi" in found.message
    assert found.evidence["log"].endswith("1991")


def test_an_evicted_pod_is_disrupted_although_its_object_is_gone() -> None:
    """DisruptionTarget seen in the last watch event: disrupted, with who did it."""
    last = pod("Failed", deleted=20, main=terminated(143), conditions=[disruption("EvictionByEvictionAPI")])
    said = "Pod a/b has condition DisruptionTarget matching FailJob rule at index 0"
    found = ended(evidence(job(condition("Failed", "PodFailurePolicy", said)), read_pod(last, gone=True)))
    assert found.cls is OutcomeClass.DISRUPTED
    assert "EvictionByEvictionAPI" in found.message


def test_a_deleted_pod_that_exits_0_is_no_success() -> None:
    """Job Complete, exit 0, but the pod was being deleted when its container ended: pod-deleted."""
    last = pod("Succeeded", deleted=20, main=terminated(0, end=22))
    found = ended(evidence(job(COMPLETE), read_pod(last, gone=True)))
    assert (found.cls, found.exit_code) == (OutcomeClass.POD_DELETED, 0)


def test_a_deleted_pod_with_a_valid_result_envelope_is_a_success() -> None:
    """The envelope of this execution says that the work was done."""
    last = pod("Succeeded", deleted=20, main=terminated(0, message=encode_result(EXECUTION, {"rows": 7}), end=22))
    found = ended(evidence(job(COMPLETE), last))
    assert (found.cls, found.result) == (OutcomeClass.SUCCEEDED, '{"rows":7}')


@pytest.mark.parametrize("message", ['{"rows":7}', encode_result("inc-2", 1), "half {", ""])
def test_a_deleted_pod_with_anything_else_is_no_success(message: str) -> None:
    """Plain JSON, another execution's envelope and log lines do not count while the pod is being deleted."""
    found = ended(evidence(job(COMPLETE), pod("Succeeded", deleted=20, main=terminated(0, message=message, end=22))))
    assert found.cls is OutcomeClass.POD_DELETED


def test_a_pod_deleted_after_its_end_is_a_success() -> None:
    """Seen terminated without deletionTimestamp first, then deleted within the same second."""
    clean = read_pod(pod("Succeeded", main=terminated(0, end=22)), container="main")
    later = read_pod(pod("Succeeded", deleted=22, main=terminated(0, end=22)), container="main", gone=True)
    both = merge_pods(clean, later)
    assert both is not None
    assert ended(evidence(job(COMPLETE), both)).cls is OutcomeClass.SUCCEEDED


def test_the_kubelets_last_delete_is_no_proof_of_a_clean_end() -> None:
    """No grace period and a later deletionTimestamp: what the kubelet leaves of a pod deleted before its end."""
    last = read_pod(pod("Succeeded", deleted=24, grace=0, main=terminated(0, end=22)), gone=True)
    assert ended(evidence(job(COMPLETE), last)).cls is OutcomeClass.POD_DELETED


@pytest.mark.parametrize("flipped", [False, True])
def test_the_view_with_a_grace_period_knows_when_deletion_was_asked_for(flipped: bool) -> None:
    """Asked for after the end, then the kubelet's last delete: a success, whichever view came first."""
    asked = read_pod(pod("Succeeded", deleted=23, main=terminated(0, end=22)), container="main")
    last = read_pod(pod("Succeeded", deleted=24, grace=0, main=terminated(0, end=22)), container="main", gone=True)
    both = merge_pods(last, asked) if flipped else merge_pods(asked, last)
    assert both is not None
    assert (both.deleted_at, both.grace_ms) == (asked.deleted_at, 30_000)
    assert ended(evidence(job(COMPLETE), both)).cls is OutcomeClass.SUCCEEDED


# -- complete ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "policy", "cls", "result"),
    [
        (encode_result(EXECUTION, [1]), "Required", OutcomeClass.SUCCEEDED, "[1]"),
        (encode_result(EXECUTION, [1]), "None", OutcomeClass.SUCCEEDED, None),
        (encode_result("inc-2", [1]), "Required", OutcomeClass.NO_RESULT, None),
        (encode_result("inc-2", [1]), "Optional", OutcomeClass.SUCCEEDED, None),
        ('{"a": 1}', "Required", OutcomeClass.SUCCEEDED, '{"a":1}'),
        ('{"a": 1}', "Optional", OutcomeClass.SUCCEEDED, '{"a":1}'),
        ("", "Required", OutcomeClass.NO_RESULT, None),
        ("", "Optional", OutcomeClass.SUCCEEDED, None),
        ("not json", "Required", OutcomeClass.NO_RESULT, None),
        ("not json", "Optional", OutcomeClass.SUCCEEDED, None),
        ("not json", "None", OutcomeClass.SUCCEEDED, None),
        (encode_error(EXECUTION, Raised("ValueError", "no")), "Optional", OutcomeClass.ERROR, None),
    ],
)
def test_the_result_policy_decides_what_a_result_must_be(
    message: str, policy: str, cls: OutcomeClass, result: str | None
) -> None:
    """None ignores it, Optional takes what is valid, Required insists."""
    found = ended(evidence(job(COMPLETE), pod("Succeeded", main=terminated(0, message=message))), policy=policy)
    assert (found.cls, found.result) == (cls, result)


def test_an_unreadable_optional_result_leaves_a_warning() -> None:
    """Null and a warning, not silence."""
    found = ended(evidence(job(COMPLETE), pod("Succeeded", main=terminated(0, message="oops"))))
    assert "not JSON" in found.evidence["warning"]


@pytest.mark.parametrize(
    ("policy", "cls"),
    [
        ("None", OutcomeClass.SUCCEEDED),
        ("Optional", OutcomeClass.NO_RESULT),
        ("Required", OutcomeClass.NO_RESULT),
    ],
)
def test_a_complete_job_whose_pod_was_never_seen(policy: str, cls: OutcomeClass) -> None:
    """What the pod left behind is lost; only a queue without results does not mind."""
    assert ended(evidence(job(COMPLETE)), policy=policy).cls is cls


# -- failed -----------------------------------------------------------------------------------------------------------
DEADLINE = condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
POLICY_0 = condition("Failed", "PodFailurePolicy", "Pod a/b has condition DisruptionTarget matching FailJob rule")
NAMED_RULE = condition("Failed", "PodFailurePolicy_NoRetry", "Container main failed with exit code 3 matching ...")

FAILURES: dict[str, tuple[Any, Any, OutcomeClass, str]] = {
    "exit code": (FAILED, pod("Failed", main=terminated(3)), OutcomeClass.ERROR, "exit code 3"),
    "log tail": (FAILED, pod("Failed", main=terminated(3, message="a\nBoom!\n")), OutcomeClass.ERROR, "Boom!"),
    "sigterm of its own": (FAILED, pod("Failed", main=terminated(143)), OutcomeClass.ERROR, "SIGTERM"),
    "137 without another reason": (FAILED, pod("Failed", main=terminated(137)), OutcomeClass.OOM, "64Mi"),
    "137 of a deleted pod": (
        FAILED,
        pod("Failed", deleted=10, main=terminated(137)),
        OutcomeClass.POD_DELETED,
        "exit code 137",
    ),
    "cannot start": (
        FAILED,
        pod("Failed", main=terminated(128, "StartError", "exec: no such file")),
        OutcomeClass.IMAGE,
        "no such file",
    ),
    "node pressure": (
        POLICY_0,
        pod("Failed", reason="Evicted", conditions=[disruption("TerminationByKubelet")]),
        OutcomeClass.DISRUPTED,
        "TerminationByKubelet",
    ),
    "storage limit": (
        FAILED,
        pod("Failed", reason="Evicted", message="Pod ephemeral local storage usage exceeds the total limit of 1Gi"),
        OutcomeClass.ERROR,
        "storage usage exceeds",
    ),
    "kubelet admission": (
        FAILED,
        pod("Failed", reason="OutOfcpu", message="Node didn't have enough resource"),
        OutcomeClass.DISRUPTED,
        "OutOfcpu",
    ),
    "node shutdown": (FAILED, pod("Failed", reason="NodeShutdown"), OutcomeClass.DISRUPTED, "NodeShutdown"),
    "status unknown": (
        FAILED,
        pod("Failed", main=terminated(137, "ContainerStatusUnknown")),
        OutcomeClass.DISRUPTED,
        "ContainerStatusUnknown",
    ),
    "node came back": (
        FAILED,
        pod("Failed", main=terminated(255, "Unknown")),
        OutcomeClass.DISRUPTED,
        "ended as Unknown",
    ),
    "disruption without a pod": (POLICY_0, None, OutcomeClass.DISRUPTED, "DisruptionTarget"),
    "exit rule without a pod": (NAMED_RULE, None, OutcomeClass.ERROR, "exit code 3"),
    "job deadline": (DEADLINE, pod("Failed", deleted=20, main=terminated(143)), OutcomeClass.TIMEOUT, "deadline"),
    "job deadline without a pod": (DEADLINE, None, OutcomeClass.TIMEOUT, "deadline"),
    "job deadline before a start": (
        DEADLINE,
        pod("Pending", deleted=20, main=waiting("ImagePullBackOff", "no such host")),
        OutcomeClass.IMAGE,
        "no such host",
    ),
    "pod deadline": (FAILED, pod("Failed", reason="DeadlineExceeded"), OutcomeClass.TIMEOUT, "DeadlineExceeded"),
    "pod never seen": (FAILED, None, OutcomeClass.NO_RESULT, "gone"),
    "init container": (
        FAILED,
        pod("Failed", main=waiting("PodInitializing"), inits={"fetch": terminated(2)}),
        OutcomeClass.ERROR,
        "fetch (init) ended with exit code 2",
    ),
    "init container oom": (
        FAILED,
        pod("Failed", inits={"fetch": terminated(137, "OOMKilled")}),
        OutcomeClass.OOM,
        "fetch",
    ),
    "another container": (
        FAILED,
        pod("Failed", main=terminated(0), others={"proxy": terminated(9)}),
        OutcomeClass.ERROR,
        "proxy ended with exit code 9",
    ),
    "a new reason": (condition("Failed", "SolarFlare", "too bright"), None, OutcomeClass.UNKNOWN, "too bright"),
    "a new reason, the pod knows": (
        condition("Failed", "SolarFlare", "too bright"),
        pod("Failed", main=terminated(4)),
        OutcomeClass.ERROR,
        "exit code 4",
    ),
    "nothing fits": (FAILED, pod("Failed", reason="Odd"), OutcomeClass.UNKNOWN, "Odd"),
    "deleted by hand": (FAILED, pod("Failed", deleted=10, main=terminated(143)), OutcomeClass.POD_DELETED, "143"),
    "deleted before it started": (FAILED, pod("Pending", deleted=10), OutcomeClass.POD_DELETED, "deleted"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_job_is_explained_by_its_pod(case: str) -> None:
    """Each failure has its class and words a person understands."""
    final, pod_object, cls, words = FAILURES[case]
    found = ended(evidence(job(final), *([pod_object] if pod_object else [])))
    assert found.cls is cls
    assert words in found.message


def test_a_typed_error_carries_type_traceback_delay_and_no_retry() -> None:
    """The envelope of this execution says more than the exit code."""
    said = encode_error(EXECUTION, Raised("ValueError", "year < 1990", "Traceback ..."), no_retry=True, delay_ms=5)
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(1, message=said))))
    assert (found.error_type, found.no_retry, found.delay_ms) == ("ValueError", True, 5)
    assert found.message == "ValueError: year < 1990"
    assert found.evidence["traceback"] == "Traceback ..."


def test_another_executions_envelope_is_only_log() -> None:
    """A forged or late envelope changes nothing but the log shown."""
    said = encode_error("inc-9", Raised("ValueError", "x"), no_retry=True)
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(1, message=said))))
    assert (found.cls, found.error_type, found.no_retry) == (OutcomeClass.ERROR, "", False)
    assert "inc-9" in found.evidence["log"]


@pytest.mark.parametrize(
    ("message", "delay"), [("", None), (encode_snooze(EXECUTION, 600_000), 600_000), ("tail of a log", None)]
)
def test_exit_75_is_a_snooze(message: str, delay: int | None) -> None:
    """75 asks to be run again; the envelope may name the time."""
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(75, message=message))))
    assert (found.snooze, found.delay_ms) == (True, delay)


KEPT = encode_error(EXECUTION, Raised("Stopped", "stopped by SIGTERM"), checkpoint='{"page":7}')
HALF_WAY = encode_checkpoint(EXECUTION, '{"page":7}')
FOREIGN = encode_checkpoint("inc-9", '{"page":9}')
EVICTED: dict[str, Any] = {"deleted": 20, "conditions": [disruption("EvictionByEvictionAPI")]}


@pytest.mark.parametrize(
    ("dying", "more", "cls", "kept"),
    [
        (terminated(143, message=KEPT), EVICTED, OutcomeClass.DISRUPTED, '{"page":7}'),
        (terminated(137, message=HALF_WAY), EVICTED, OutcomeClass.DISRUPTED, '{"page":7}'),
        (terminated(137, "OOMKilled", HALF_WAY), {}, OutcomeClass.OOM, '{"page":7}'),
        (terminated(1, message=KEPT), {}, OutcomeClass.ERROR, '{"page":7}'),
        (terminated(143, message=KEPT), {"deleted": 20}, OutcomeClass.POD_DELETED, '{"page":7}'),
        (terminated(1, message=FOREIGN), {}, OutcomeClass.ERROR, None),
        (terminated(1, message="page 7 of 9"), {}, OutcomeClass.ERROR, None),
    ],
)
def test_a_checkpoint_is_read_however_the_attempt_ended(
    dying: dict[str, Any], more: dict[str, Any], cls: OutcomeClass, kept: str | None
) -> None:
    """Evicted, out of memory, failed: what this execution left counts, and only that."""
    found = ended(evidence(job(FAILED), read_pod(pod("Failed", main=dying, **more), gone=bool(more))))
    assert (found.cls, found.checkpoint) == (cls, kept)


def test_a_checkpoint_alone_is_no_result() -> None:
    """Exit 0 with nothing but a checkpoint: completed without a result, or no-result where one is required."""
    seen = evidence(job(COMPLETE), pod("Succeeded", main=terminated(0, message=HALF_WAY)))
    assert (ended(seen).cls, ended(seen).result, "warning" in ended(seen).evidence) == (
        OutcomeClass.SUCCEEDED,
        None,
        False,
    )
    assert ended(seen, policy="Required").cls is OutcomeClass.NO_RESULT


def test_a_checkpoint_is_not_shown_as_log() -> None:
    """The result file held it, so there is no log to show; the words name the exit code alone."""
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(9, message=HALF_WAY))))
    assert (found.message, "log" in found.evidence) == ("exit code 9", False)


@pytest.mark.parametrize(("hold", "ms"), [(True, 90_000), (False, 0)])
def test_a_snooze_may_hold_its_queue_back(hold: bool, ms: int) -> None:
    """RateLimited says for how long."""
    said = encode_snooze(EXECUTION, 90_000, hold=hold)
    found = ended(evidence(job(FAILED), pod("Failed", main=terminated(75, message=said))))
    assert (found.snooze, found.hold_ms) == (True, ms)


# -- deletions, stops, cancels ----------------------------------------------------------------------------------------
def test_a_deleted_job_is_job_deleted_at_once() -> None:
    """Its finalizer keeps the pods running until the operator acts."""
    assert ended(evidence(job(deleted=12), pod(main=RUNNING))).cls is OutcomeClass.JOB_DELETED


def test_a_job_deleted_after_its_end_keeps_its_end() -> None:
    """Complete at 30 s, deleted at 31 s: the truth is a success."""
    seen = evidence(job(COMPLETE, deleted=31), pod("Succeeded", main=terminated(0)))
    assert ended(seen).cls is OutcomeClass.SUCCEEDED


def test_a_job_that_failed_because_it_was_deleted_is_job_deleted() -> None:
    """Deleted pods first: the condition comes after the deletion."""
    seen = evidence(job(FAILED, deleted=20), pod("Failed", deleted=20, main=terminated(143)))
    assert ended(seen).cls is OutcomeClass.JOB_DELETED


def test_a_cancelled_job_ends_when_its_pod_is_gone() -> None:
    """Still stopping while the pod is there; cancelled when it is not."""
    stopping = job(deleted=12, finalizers=["foregroundDeletion", "heavylift.dev/outcome"])
    assert underway(evidence(stopping, pod(deleted=12, main=RUNNING)), cancelled=True).reason == "stopping"
    last = read_pod(pod("Failed", deleted=12, main=terminated(143)), gone=True)
    assert ended(evidence(stopping, last), cancelled=True).cls is OutcomeClass.CANCELLED
    assert ended(evidence(None, last), cancelled=True).cls is OutcomeClass.CANCELLED


def test_a_background_deletion_is_not_waited_for() -> None:
    """Without pods-first, the pod goes only once our finalizer does: waiting would be for ever."""
    assert ended(evidence(job(deleted=12), pod(main=RUNNING)), cancelled=True).cls is OutcomeClass.CANCELLED


def test_a_cancel_that_came_too_late_leaves_a_success() -> None:
    """Complete with its pod not deleted: done is done."""
    seen = evidence(job(COMPLETE), pod("Succeeded", main=terminated(0)))
    assert ended(seen, cancelled=True).cls is OutcomeClass.SUCCEEDED


@pytest.mark.parametrize("message", ["", encode_result(EXECUTION, 1)])
def test_a_program_that_exits_0_on_the_cancels_sigterm_is_cancelled(message: str) -> None:
    """What it says on its way out does not undo the cancel."""
    seen = evidence(job(COMPLETE, deleted=12), pod("Succeeded", deleted=12, main=terminated(0, message=message)))
    assert ended(seen, cancelled=True).cls is OutcomeClass.CANCELLED


def test_a_failure_under_a_cancel_is_cancelled() -> None:
    """It must not be retried."""
    assert ended(evidence(job(FAILED), pod("Failed", main=terminated(1))), cancelled=True).cls is OutcomeClass.CANCELLED


def test_our_own_stop_keeps_its_class() -> None:
    """What we stopped at a deadline ends with the deadline's class and words."""
    stop = Stop(cls="timeout", message="ran longer than its limit of 5m", at=T0, execution=EXECUTION)
    seen = evidence(job(FAILED, deleted=12), pod("Failed", deleted=12, main=terminated(143)), stop=stop)
    found = ended(seen)
    assert (found.cls, found.message) == (OutcomeClass.TIMEOUT, "ran longer than its limit of 5m")


def test_a_program_that_ended_by_itself_before_our_stop_keeps_its_end() -> None:
    """The stop was decided, but the program was faster."""
    stop = Stop(cls="timeout", message="too long", at=T0, execution=EXECUTION)
    assert ended(evidence(job(FAILED), pod("Failed", main=terminated(3)), stop=stop)).cls is OutcomeClass.ERROR


def test_a_job_gone_without_a_trace_is_lost() -> None:
    """Unless its pod's own end was seen."""
    assert ended(evidence(None)).cls is OutcomeClass.LOST
    assert ended(evidence(None, pod(main=RUNNING))).cls is OutcomeClass.LOST
    assert ended(evidence(None, pod("Failed", main=terminated(3)))).cls is OutcomeClass.ERROR
    assert ended(evidence(None, pod("Succeeded", main=terminated(0, message="1")))).result == "1"
