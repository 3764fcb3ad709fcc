"""Names seen by Kubernetes and by programs in the pod: labels, annotations, environment, exit codes."""

from __future__ import annotations

GROUP = "heavylift.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class Label:
    """Label keys; values are only ever generated (hashes, slugs, numbers), never copied from a producer."""

    MANAGED_BY = "app.kubernetes.io/managed-by"  # "heavylift"
    INSTALL = "heavylift.dev/install"  # hash of the install id
    QUEUE = "heavylift.dev/queue"  # hash of the queue name
    JOB = "heavylift.dev/job"  # hash of the job id
    GENERATION = "heavylift.dev/queue-generation"
    FINALIZED = "heavylift.dev/finalized"  # "true" once Redis holds the outcome


class Annotation:
    """Annotation keys; values are the true ones."""

    JOB_ID = "heavylift.dev/job-id"
    QUEUE = "heavylift.dev/queue-name"
    EXECUTION = "heavylift.dev/execution"
    INSTALL = "heavylift.dev/install-id"
    ATTEMPT = "heavylift.dev/attempt"
    SEQ = "heavylift.dev/seq"
    TASK = "heavylift.dev/task"
    CONTAINER = "heavylift.dev/container"
    RUN_DEADLINE = "heavylift.dev/run-timeout"  # seconds
    PENDING_DEADLINE = "heavylift.dev/pending-timeout"  # seconds
    OUTCOME = "heavylift.dev/outcome"  # JSON, written by the finishing PATCH
    TRACEPARENT = "heavylift.dev/traceparent"
    EPOCH = "heavylift.dev/epoch"  # of the Redis data it was claimed from


FINALIZER = "heavylift.dev/outcome"
MANAGED_BY_VALUE = "heavylift"


class Env:
    """Environment of the job's container."""

    JOB_ID = "HEAVYLIFT_JOB_ID"
    TASK = "HEAVYLIFT_JOB_TASK"
    QUEUE = "HEAVYLIFT_JOB_QUEUE"
    ATTEMPT = "HEAVYLIFT_JOB_ATTEMPT"
    EXECUTION = "HEAVYLIFT_JOB_EXECUTION"
    PAYLOAD = "HEAVYLIFT_JOB_PAYLOAD"
    CHECKPOINT = "HEAVYLIFT_JOB_CHECKPOINT"
    RESULT_FILE = "HEAVYLIFT_JOB_RESULT_FILE"
    TRACEPARENT = "TRACEPARENT"


RESULT_FILE = "/dev/termination-log"
RESULT_LIMIT = 4096
"""Bytes kubelet keeps of a termination message (its own limit per container)."""


class ExitCode:
    """Exit codes with a meaning in the pod's contract."""

    OK = 0
    NO_RETRY = 64
    SNOOZE = 75
    OOM = 137
    TERMINATED = 143


OUTSIDE_POD_FUNC = "heavylift.pod.refuse.outside_pod"
"""RQ's function path of our own jobs: it refuses, so that a stock worker never runs heavy work in-process."""
UNREADABLE = "$unreadable"
"""Instead of options that cannot be read as JSON, so that nothing of them is dropped silently."""
