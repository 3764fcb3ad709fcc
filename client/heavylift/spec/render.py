"""Template x claim x payload -> the batch/v1 Job of one attempt (architecture: "One attempt = one Kubernetes Job").

Pure. What the template's owner wrote stays as written; what is ours is added; what a producer may set is checked
against ``allow`` and every ``$`` of it doubled, since Kubernetes expands ``$(NAME)`` in env values and arguments.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from heavylift.contract import ids, limits
from heavylift.contract.names import FINALIZER, MANAGED_BY_VALUE, RESULT_FILE, Annotation, Env, Label
from heavylift.contract.payload import Payload
from heavylift.contract.plain import dumps
from heavylift.errors import InvalidInputError
from heavylift.spec import memory
from heavylift.spec.models import HeavyQueue
from heavylift.spec.overrides import Overrides, check_options, check_rq_options
from heavylift.spec.template import check_template

Json = dict[str, Any]

GRACE_S: Final = 60
"""Seconds beyond both timeouts before Kubernetes itself ends the Job: the operator's own deadlines come first."""
BACKSTOP_TTL_S: Final = 7 * 24 * 3600
"""Kubernetes deletes a Job this long after its end, should the finishing PATCH never have come."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Attempt(Protocol):
    """What render reads of a claim (``heavylift.store.model.Claim`` is one)."""

    @property
    def job(self) -> str:
        """RQ's job id."""

    @property
    def execution(self) -> str:
        """The execution id, the fencing token."""

    @property
    def incarnation(self) -> str:
        """What tells this job from another of the same id."""

    @property
    def seq(self) -> int:
        """Number of this execution of the job, from 1."""

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What the producer set."""

    @property
    def frozen(self) -> Mapping[str, Any]:
        """What claim resolved: ``maxAttempts``, ``timeouts`` {pending, run} in ms, ``totalDue`` (ms)."""

    @property
    def rq(self) -> Mapping[str, str]:
        """RQ's own fields of a plain RQ job."""

    @property
    def traceparent(self) -> str:
        """W3C trace context or empty."""

    @property
    def epoch(self) -> str:
        """Epoch of the Redis data it was claimed from, or empty."""

    @property
    def claimed_at(self) -> int:
        """When it was claimed, ms since the epoch."""

    @property
    def memory(self) -> int | None:
        """Bytes of memory the container gets at least, grown after an end as oom; None = as written."""

    @property
    def checkpoint(self) -> str:
        """JSON an earlier attempt left, hostile until decoded; empty = none."""


def render(claim: Attempt, queue: HeavyQueue, payload: Payload, install: str) -> Json:
    """Return the manifest of this attempt's Job.

    Raises:
        InvalidTemplateError: the HeavyQueue's template cannot be used.
        InvalidInputError: the job asks for what its HeavyQueue does not allow, or its id or options are unusable.
    """
    check_template(queue.spec.job_template, queue.spec.container)
    ids.check_job_id(claim.job)
    check_rq_options(claim.rq)
    overrides = check_options(claim.options, claim.frozen, claim.rq, queue)
    pending_s, run_s = _timeouts(claim.frozen, queue)
    left_s = _left_s(claim)
    labels = {**overrides.labels, **_labels(claim.job, queue, install)}
    annotations = _annotations(claim, queue, payload, install, (pending_s, run_s))

    template: Json = _copied(queue.spec.job_template)
    job_metadata, job_spec = template.get("metadata") or {}, template["spec"]
    pod = job_spec["template"]
    pod["metadata"] = _metadata(pod.get("metadata") or {}, labels, annotations)
    main = _fill_pod(pod["spec"], queue.container, _environment(claim, queue, payload), overrides)
    growth = queue.spec.outcomes.oom.memory
    if claim.memory is not None and growth is not None:  # the number comes from Redis, its bound does not
        main["resources"] = memory.grown_resources(main.get("resources") or {}, min(claim.memory, growth.max))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": ids.job_name(install, queue.queue, claim.job, claim.incarnation, claim.seq),
            "namespace": queue.namespace,
            **_metadata(job_metadata, labels, annotations),
            "finalizers": [FINALIZER],
        },
        "spec": {
            **job_spec,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(queue)},
            "activeDeadlineSeconds": min(pending_s + run_s, left_s or pending_s + run_s) + GRACE_S,
            "ttlSecondsAfterFinished": BACKSTOP_TTL_S,
        },
    }


def _copied(value: Any) -> Any:
    """Return a copy of plain JSON: a third of what ``copy.deepcopy`` takes, which looks for cycles."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def escape(text: str) -> str:
    """Return text that Kubernetes' expansion of env values and arguments turns back into ``text``."""
    return text.replace("$", "$$")


def _labels(job: str, queue: HeavyQueue, install: str) -> dict[str, str]:
    return {
        Label.MANAGED_BY: MANAGED_BY_VALUE,
        Label.INSTALL: ids.short_hash(install),
        Label.QUEUE: ids.short_hash(queue.queue),
        Label.JOB: ids.short_hash(job),
        Label.GENERATION: str(queue.generation),
    }


def _annotations(
    claim: Attempt, queue: HeavyQueue, payload: Payload, install: str, timeouts_s: tuple[int, int]
) -> dict[str, str]:
    pending_s, run_s = timeouts_s
    annotations = {
        Annotation.JOB_ID: claim.job,
        Annotation.QUEUE: queue.queue,
        Annotation.EXECUTION: claim.execution,
        Annotation.INSTALL: install,
        Annotation.ATTEMPT: str(claim.attempt),
        Annotation.SEQ: str(claim.seq),
        Annotation.TASK: payload.task,
        Annotation.CONTAINER: queue.container,
        Annotation.PENDING_DEADLINE: str(pending_s),
        Annotation.RUN_DEADLINE: str(run_s),
    }
    if _TRACEPARENT.fullmatch(claim.traceparent):
        annotations[Annotation.TRACEPARENT] = claim.traceparent
    if claim.epoch:
        annotations[Annotation.EPOCH] = claim.epoch
    return annotations


def _environment(claim: Attempt, queue: HeavyQueue, payload: Payload) -> dict[str, str]:
    environment = {
        Env.JOB_ID: claim.job,
        Env.TASK: payload.task,
        Env.QUEUE: queue.queue,
        Env.ATTEMPT: str(claim.attempt),
        Env.EXECUTION: claim.execution,
        Env.PAYLOAD: payload.data_json,
        Env.RESULT_FILE: RESULT_FILE,
    }
    if checkpoint := _checkpoint(claim.checkpoint):
        environment[Env.CHECKPOINT] = checkpoint
    if _TRACEPARENT.fullmatch(claim.traceparent):
        environment[Env.TRACEPARENT] = claim.traceparent
    return environment


def _checkpoint(stored: str) -> str:
    """Return what an earlier attempt left, if it is the JSON object that a pod can be given; else nothing."""
    try:
        found = json.loads(stored) if stored else None
        text = dumps(found, "checkpoint") if isinstance(found, dict) else ""
    except (ValueError, RecursionError):
        return ""
    return text if len(text.encode()) <= limits.CHECKPOINT_MAX else ""


def _metadata(written: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]) -> Json:
    return {
        "labels": {**(written.get("labels") or {}), **labels},
        "annotations": {**(written.get("annotations") or {}), **annotations},
    }


def _fill_pod(pod: Json, container: str, environment: Mapping[str, str], overrides: Overrides) -> Json:
    """Fill in a pod's spec and return its container whose end counts."""
    pod["restartPolicy"] = "Never"
    pod.setdefault("automountServiceAccountToken", False)
    pod.setdefault("enableServiceLinks", False)
    main = next(entry for entry in pod["containers"] if entry["name"] == container)
    main["terminationMessagePolicy"] = "FallbackToLogsOnError"
    main["env"] = _variables(main.get("env") or [], environment, overrides.env)
    if overrides.args is not None:
        main["args"] = [escape(argument) for argument in overrides.args]
    if overrides.resources:
        written = main.get("resources") or {}
        main["resources"] = {
            **written,
            # Both, so that the scheduler finds room for what the kubelet will admit.
            "limits": {**(written.get("limits") or {}), **overrides.resources},
            "requests": {**(written.get("requests") or {}), **overrides.resources},
        }
    return main  # type: ignore[no-any-return]  # a template is any JSON


def _variables(written: list[Json], ours: Mapping[str, str], asked: Mapping[str, str]) -> list[Json]:
    """Ours first, so that the template can refer to them; a producer's value takes the place of the template's."""
    replaced = [{"name": v["name"], "value": escape(asked[v["name"]])} if v["name"] in asked else v for v in written]
    added = {name: value for name, value in asked.items() if all(v["name"] != name for v in written)}
    kept = [v for v in replaced if v["name"] not in ours]
    return [*({"name": name, "value": escape(value)} for name, value in {**ours, **added}.items()), *kept]


def _failure_rules(queue: HeavyQueue) -> list[Json]:
    rules: list[Json] = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    codes = sorted(set(queue.spec.outcomes.error.no_retry.exit_codes))
    if codes:
        exits = {"containerName": queue.container, "operator": "In", "values": codes}
        rules.append({"action": "FailJob", "onExitCodes": exits})
    return rules


def _timeouts(frozen: Mapping[str, Any], queue: HeavyQueue) -> tuple[int, int]:
    resolved = frozen.get("timeouts")
    known = resolved if isinstance(resolved, Mapping) else {}
    return (
        _seconds("timeouts.pending", known.get("pending", queue.spec.timeouts.pending)),
        _seconds("timeouts.run", known.get("run", queue.spec.timeouts.run)),
    )


def _left_s(claim: Attempt) -> int | None:
    """Return the seconds left of the time for all attempts, at least 1; None = there is no such limit."""
    due = claim.frozen.get("totalDue")
    if due is None:
        return None
    return _seconds("timeouts.total", max(due - claim.claimed_at, 1) if isinstance(due, int | float) else due)


def _seconds(what: str, ms: Any) -> int:
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 < ms < _TIMEOUT_MAX_MS:
        raise InvalidInputError(f"{what} is {str(ms)[:40]!r}, not a duration in ms")
    return math.ceil(ms / 1000)


_TIMEOUT_MAX_MS: Final = 10 * 365 * 24 * 3600 * 1000
