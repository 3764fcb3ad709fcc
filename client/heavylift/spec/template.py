"""What a HeavyQueue's ``jobTemplate`` may hold: checked here before anything is claimed, kept as a plain mapping.

The pod below ``spec.template.spec`` is the cluster's to judge, but for the fields an attempt's meaning hangs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heavylift.contract import names
from heavylift.errors import InvalidTemplateError

_TIMEOUTS = "set spec.timeouts.run instead"
_ATTEMPTS = "one attempt is one Job with one pod; set spec.defaults.maxAttempts and spec.outcomes instead"
REFUSED_IN_JOB: dict[str, str] = {
    "activeDeadlineSeconds": _TIMEOUTS,
    "backoffLimit": _ATTEMPTS,
    "backoffLimitPerIndex": _ATTEMPTS,
    "completionMode": _ATTEMPTS,
    "completions": _ATTEMPTS,
    "managedBy": "outcomes are read from what Kubernetes' own Job controller writes; leave it out",
    "manualSelector": "Kubernetes chooses the selector; leave it out",
    "maxFailedIndexes": _ATTEMPTS,
    "parallelism": _ATTEMPTS,
    "podFailurePolicy": "Heavylift writes it; set spec.outcomes instead",
    "podReplacementPolicy": "Heavylift writes it; leave it out",
    "selector": "Kubernetes chooses the selector; leave it out",
    "successPolicy": _ATTEMPTS,
    "ttlSecondsAfterFinished": "set spec.retention.pods instead",
}
"""Fields of a JobSpec that Heavylift writes or that would make one attempt more than one pod, with the remedy."""
_JOB_FIELDS = frozenset({"suspend", "template"})
_METADATA_FIELDS = frozenset({"labels", "annotations"})
_POD_TEMPLATE_FIELDS = frozenset({"metadata", "spec"})
_RESERVED_DOMAIN = names.GROUP


def check_template(template: Mapping[str, Any], container: str | None) -> None:
    """Check a jobTemplate and that the named container (None = the first) exists.

    Raises:
        InvalidTemplateError: what is wrong, each as ``spec.jobTemplate.<path>: <what to do>``, joined by ``; ``.
    """
    problems = [*_job_problems(template), *_pod_problems(template, container)]
    if problems:
        raise InvalidTemplateError("; ".join(problems))


def containers_of(template: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the pod's (regular) containers as far as they are mappings."""
    pod = _mapping(_mapping(_mapping(template.get("spec")).get("template")).get("spec"))
    listed = pod.get("containers")
    return [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []


def _job_problems(template: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(template, frozenset({"metadata", "spec"}), "")
    yield from _metadata_problems(_mapping(template.get("metadata")), "metadata")
    job = template.get("spec")
    if not isinstance(job, Mapping):
        yield _at("spec", "is missing: give spec.template, as in a batch/v1 Job")
        return
    for name in job:
        if name in REFUSED_IN_JOB:
            yield _at(f"spec.{name}", f"is not allowed here: {REFUSED_IN_JOB[name]}")
    yield from _unknown(job, _JOB_FIELDS | REFUSED_IN_JOB.keys(), "spec.")
    if not isinstance(job.get("suspend", False), bool):
        yield _at("spec.suspend", "is not true or false")


def _pod_problems(template: Mapping[str, Any], container: str | None) -> Iterator[str]:
    outer = _mapping(_mapping(template.get("spec")).get("template"))
    yield from _unknown(outer, _POD_TEMPLATE_FIELDS, "spec.template.")
    yield from _metadata_problems(_mapping(outer.get("metadata")), "spec.template.metadata")
    pod = _mapping(outer.get("spec"))
    path = "spec.template.spec"
    if pod.get("restartPolicy", "Never") != "Never":
        yield _at(f"{path}.restartPolicy", f"is not Never: {_ATTEMPTS}")
    if "activeDeadlineSeconds" in pod:
        yield _at(f"{path}.activeDeadlineSeconds", f"is not allowed here: {_TIMEOUTS}")
    listed = pod.get("containers")
    if not isinstance(listed, list) or not listed:
        yield _at(f"{path}.containers", "is missing: give at least one container with name and image")
        return
    for index, entry in enumerate(listed):
        yield from _container_problems(entry, f"{path}.containers[{index}]")
    chosen = container or _mapping(listed[0]).get("name")
    if container and container not in [entry.get("name") for entry in containers_of(template)]:
        yield f"spec.container: {container!r} is none of the template's containers: use one of their names"
    for index, entry in enumerate(listed):
        if isinstance(entry, Mapping) and entry.get("name") == chosen:
            yield from _main_problems(entry, f"{path}.containers[{index}]")


def _container_problems(entry: object, path: str) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield _at(path, "is not a mapping with name and image")
        return
    for needed in ("name", "image"):
        if not isinstance(entry.get(needed), str) or not entry[needed]:
            yield _at(f"{path}.{needed}", "is missing")
    if entry.get("restartPolicy", "Never") != "Never" or entry.get("restartPolicyRules"):
        yield _at(f"{path}.restartPolicy", f"is not allowed here: {_ATTEMPTS}")


def _main_problems(entry: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, only in (
        ("terminationMessagePath", names.RESULT_FILE),
        ("terminationMessagePolicy", "FallbackToLogsOnError"),
    ):
        if entry.get(name, only) != only:
            yield _at(f"{path}.{name}", f"must be {only}: results and errors come back through it; leave it out")
    listed = entry.get("env", [])
    if not isinstance(listed, list):
        yield _at(f"{path}.env", "is not a list")
        return
    for index, variable in enumerate(listed):
        called: object = _mapping(variable).get("name")
        if not isinstance(called, str) or called == "":
            yield _at(f"{path}.env[{index}].name", "is missing")
        elif called.startswith("HEAVYLIFT_JOB_"):
            yield _at(f"{path}.env[{index}].name", f"{called[:60]!r} is reserved: Heavylift writes HEAVYLIFT_JOB_*")


def _metadata_problems(metadata: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in metadata:
        if name not in _METADATA_FIELDS and not (name == "creationTimestamp" and metadata[name] is None):
            yield _at(f"{path}.{name}", "is not allowed here: give labels and annotations only")
    for kind in _METADATA_FIELDS:
        entries: object = metadata.get(kind) or {}
        if not isinstance(entries, Mapping):
            yield _at(f"{path}.{kind}", "is not a mapping of strings")
            continue
        for key, value in entries.items():
            if not isinstance(value, str):
                yield _at(f"{path}.{kind}[{key}]", f"is not a string: quote it ({str(value)[:40]!r})")
            if key == names.Label.MANAGED_BY or _domain(key) == _RESERVED_DOMAIN:
                yield _at(f"{path}.{kind}[{key}]", "is reserved: Heavylift writes it")


def _domain(key: str) -> str:
    domain, slash, _ = str(key).partition("/")
    return domain if slash else ""


def _unknown(found: Mapping[str, Any], known: frozenset[str], path: str) -> Iterator[str]:
    for name in found:
        if name not in known:
            yield _at(f"{path}{name}", "is no field of a batch/v1 JobTemplateSpec")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _at(path: str, what: str) -> str:
    return f"spec.jobTemplate.{path} {what}"
