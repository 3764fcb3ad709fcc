"""Kubernetes' own words sorted into our classes: reasons of pods, containers, Jobs and FailedCreate events."""

from __future__ import annotations

import re

from heavylift.contract.outcomes import OutcomeClass

IMAGE_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Waiting reasons that no waiting mends."""
IMAGE_WAITING = IMAGE_HOPELESS | {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
"""Waiting reasons of class image."""
IMAGE_ENDED = frozenset({"StartError", "ContainerCannotRun", "CreateContainerError", "CreateContainerConfigError"})
"""Terminated reasons of class image: the container could not be made to run."""
_DISRUPTED = frozenset(
    {
        "NodeShutdown",
        "Shutdown",
        "NodeLost",
        "NodeAffinity",
        "Preempting",
        "Preempted",
        "Terminated",
        "UnexpectedAdmissionError",
        "ContainerStatusUnknown",
        "Unknown",  # containerd after a crash of the node: exit code 255 stands for "nobody saw the end"
    }
)
_ADMISSION_OUT_OF = re.compile(r"Outof\w+|OutOf\w+")
_OWN_LIMIT = re.compile(r"exceeds|exceeded", re.IGNORECASE)
_RULE_EXIT = re.compile(r"with exit code (\d{1,3})\b")
_QUOTA = re.compile(r"exceeded quota|must specify|quota", re.IGNORECASE)


def pod_reason(reason: str, message: str) -> OutcomeClass | None:
    """Return the class a failed pod's ``status.reason`` stands for, or None when it says nothing.

    Kubelet's refusal to admit a pod (OutOfcpu, UnexpectedAdmissionError) is a fault of the infrastructure; ``Evicted``
    without DisruptionTarget is a pod over its own storage limit.
    """
    if reason == "DeadlineExceeded":
        return OutcomeClass.TIMEOUT
    if reason == "Evicted":
        return OutcomeClass.ERROR if _OWN_LIMIT.search(message) else OutcomeClass.DISRUPTED
    if reason in _DISRUPTED or _ADMISSION_OUT_OF.fullmatch(reason):
        return OutcomeClass.DISRUPTED
    return None


def policy_exit_code(reason: str, message: str) -> int | None:
    """Return the exit code a Job's PodFailurePolicy condition names, or None."""
    found = _RULE_EXIT.search(message) if reason.startswith("PodFailurePolicy") else None
    return int(found.group(1)) if found else None


def policy_disruption(reason: str, message: str) -> bool:
    """Return whether a Job's PodFailurePolicy condition names a disruption."""
    return reason.startswith("PodFailurePolicy") and "DisruptionTarget" in message


def failed_create(message: str) -> OutcomeClass:
    """Return the class of a FailedCreate event's words: ``quota``, else ``rejected`` (PodSecurity, webhooks, ...)."""
    return OutcomeClass.QUOTA if _QUOTA.search(message) else OutcomeClass.REJECTED
