"""HeavyQueue: defaults, what is refused and how it is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from heavylift.contract.outcomes import CONFIGURABLE, Action, OutcomeClass
from heavylift.errors import InvalidInputError, InvalidTemplateError
from heavylift.spec import HeavyQueue, Rule, default_rules, rules_from_settings, settings
from heavylift.spec.template import REFUSED_IN_JOB

HOUR = 3_600_000
QUEUE: dict[str, Any] = {
    "apiVersion": "heavylift.dev/v1alpha1",
    "kind": "HeavyQueue",
    "metadata": {
        "name": "reports",
        "namespace": "analytics",
        "uid": "7d4e",
        "generation": 3,
        "creationTimestamp": "2026-11-22T08:00:00Z",
    },
    "spec": {
        "jobTemplate": {
            "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team-a"}},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "reports:1.4"}]}}},
        }
    },
}


def with_spec(**changes: Any) -> dict[str, Any]:
    """Return the example with these fields of spec set."""
    queue = copy.deepcopy(QUEUE)
    queue["spec"].update(changes)
    return queue


def with_template(path: str, value: object) -> dict[str, Any]:
    """Return the example with one field below jobTemplate set."""
    queue = copy.deepcopy(QUEUE)
    target = queue["spec"]["jobTemplate"]
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part)] if part.isdigit() else target.setdefault(part, {})
    target[last] = value
    return queue


DEFAULT_OUTCOMES = {
    "error": {"action": "Retry", "noRetry": {"exitCodes": [64], "errors": []}},
    "oom": {"action": "Retry"},
    "timeout": {"action": "Fail"},
    "disrupted": {"action": "Retry", "maxRetries": 20},
    "nodeLost": {"action": "Wait"},
    "jobDeleted": {"action": "Cancel"},
    "podDeleted": {"action": "Retry", "maxRetries": 20},
    "image": {"action": "Requeue", "maxRetries": 5},
    "unschedulable": {"action": "Requeue", "maxRetries": 10},
    "quota": {"action": "Requeue"},
    "rejected": {"action": "Fail"},
    "noResult": {"action": "Retry", "maxRetries": 2},
    "lost": {"action": "Retry", "maxRetries": 2},
    "unknown": {"action": "Fail"},
}


def test_a_minimal_queue_has_the_documented_defaults() -> None:
    """Everything left out has the value of the reference, in ms and bytes."""
    assert settings(HeavyQueue.parse(QUEUE)) == {
        "queue": "reports",
        "name": "reports",
        "generation": 3,
        "paused": False,
        "concurrencyPerKey": None,
        "concurrencyOrder": "Fifo",
        "rateLimit": None,
        "concurrencyMax": None,
        "defaults": {
            "priority": 0,
            "maxAttempts": 1,
            "backoff": {"type": "Exponential", "delay": 60_000, "max": HOUR, "jitterPercent": 50},
        },
        "timeouts": {"pending": HOUR, "run": 24 * HOUR, "heartbeat": None, "total": None},
        "payload": {"format": "JSON", "maxSize": 65536},
        "result": {"policy": "Optional"},
        "outcomes": DEFAULT_OUTCOMES,
        "allow": {
            "args": False,
            "env": [],
            "labels": [],
            "resources": {},
            "maxAttempts": 10,
            "runTimeout": 24 * HOUR,
            "delay": 720 * HOUR,
            "minPriority": 0,
        },
        "retention": {
            "completed": {"count": 1000, "age": 24 * HOUR},
            "failed": {"count": 5000, "age": 168 * HOUR},
            "pods": {"succeeded": 600_000, "failed": 24 * HOUR, "count": 200},
        },
        "metrics": {"tasks": []},
        "breaker": {"consecutiveFailures": 3},
        "container": None,
    }


def test_a_parsed_queue_knows_who_it_is() -> None:
    """Name, namespace, uid, generation, queue name, container and template are as given."""
    queue = HeavyQueue.parse(QUEUE)
    assert (queue.name, queue.namespace, queue.uid, queue.generation) == ("reports", "analytics", "7d4e", 3)
    assert (queue.queue, queue.container) == ("reports", "main")
    assert queue.spec.job_template == QUEUE["spec"]["jobTemplate"]
    assert HeavyQueue.parse(with_spec(queue="annual.reports")).queue == "annual.reports"


def test_the_oldest_queue_has_seniority() -> None:
    """Creation time decides, then the uid."""
    older, younger = copy.deepcopy(QUEUE), copy.deepcopy(QUEUE)
    older["metadata"].update(creationTimestamp="2026-11-22T07:59:59Z", uid="ffff")
    assert HeavyQueue.parse(older).seniority < HeavyQueue.parse(younger).seniority


def test_every_configurable_class_has_a_rule() -> None:
    """The model, the settings in Redis and the defaults name the same classes."""
    assert set(default_rules()) == set(CONFIGURABLE)
    assert set(settings(HeavyQueue.parse(QUEUE))["outcomes"]) == {cls.spec_key for cls in CONFIGURABLE}


def test_rules_survive_the_settings_in_redis() -> None:
    """What a person wrote is what the operator decides by after a round trip through the settings."""
    queue = with_spec(
        outcomes={
            "error": {"action": "Retry", "maxRetries": 4, "noRetry": {"exitCodes": [2, 65], "errors": ["KeyError"]}},
            "nodeLost": {"action": "Replace", "after": "10m"},
            "disrupted": {"action": "Retry"},
        }
    )
    rules = rules_from_settings(settings(HeavyQueue.parse(queue)))
    assert rules[OutcomeClass.ERROR] == Rule(
        action=Action.RETRY,
        max_retries=4,
        no_retry_exit_codes=frozenset({2, 65}),
        no_retry_errors=frozenset({"KeyError"}),
    )
    assert rules[OutcomeClass.NODE_LOST] == Rule(action=Action.REPLACE, after_ms=600_000)
    assert rules[OutcomeClass.DISRUPTED] == Rule(action=Action.RETRY)
    assert rules[OutcomeClass.OOM] == default_rules()[OutcomeClass.OOM]


@pytest.mark.parametrize(
    "stored",
    [{}, {"outcomes": None}, {"outcomes": []}, {"outcomes": {"oom": 3}}, {"outcomes": {"oom": {"action": "Explode"}}}],
)
def test_unsound_rules_in_redis_fall_back_to_the_defaults(stored: Mapping[str, Any]) -> None:
    """Bytes from Redis never make a decision impossible."""
    assert rules_from_settings(stored) == default_rules()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeouts": {"run": "5d"}}, "spec.timeouts.run: '5d' is not a duration: write it like 90s"),
        ({"timeouts": {"run": 30}}, "spec.timeouts.run: 30 is not a duration: write a string like 90s"),
        ({"timeouts": {"run": "0s"}}, "spec.timeouts.run: 0s is too short: use at least 1s"),
        ({"timeouts": {"run": "99999h"}}, "is over ten years"),
        ({"paused": "yes"}, "spec.paused must be true or false"),
        ({"concurrency": {"max": 0}}, "spec.concurrency.max: input should be greater than or equal to 1"),
        ({"concurrency": {"max": 2.0}}, "spec.concurrency.max must be a whole number"),
        ({"concurrency": {"max": True}}, "spec.concurrency.max must be a whole number"),
        ({"concurency": {"max": 2}}, "spec.concurency is no field here: check its spelling"),
        ({"queue": "a@b"}, "spec.queue: queue name 'a@b' is not usable"),
        ({"defaults": {"backoff": {"delay": "2h"}}}, "spec.defaults.backoff: delay is longer than max"),
        ({"defaults": {"backoff": {"type": "Linear"}}}, "spec.defaults.backoff.type"),
        ({"payload": {"maxSize": "101Ki"}}, "spec.payload.maxSize: 103424 bytes is out of bounds: use 1 to 100Ki"),
        ({"payload": {"maxSize": "lots"}}, "spec.payload.maxSize: 'lots' is not a quantity"),
        ({"result": {"policy": "required"}}, "spec.result.policy"),
        ({"outcomes": {"oom": {"action": "Wait"}}}, "'Wait' is not possible here: use Retry, Requeue, Fail, Cancel"),
        ({"outcomes": {"timeout": {"action": "Fail", "maxRetries": 1}}}, "maxRetries does not go with action Fail"),
        ({"outcomes": {"nodeLost": {"action": "Replace"}}}, "write {action: Replace, after: 10m}"),
        ({"outcomes": {"succeeded": {"action": "Retry"}}}, "spec.outcomes.succeeded is no field here"),
        ({"outcomes": {"error": {"action": "Retry", "noRetry": {"exitCodes": [0]}}}}, "0 is not a failing exit code"),
        ({"allow": {"env": ["HEAVYLIFT_JOB_ID"]}}, "'HEAVYLIFT_JOB_ID' is reserved"),
        ({"allow": {"env": ["*"]}}, "'*' is not a variable's name"),
        ({"allow": {"labels": ["heavylift.dev/job"]}}, "'heavylift.dev/job' is reserved"),
        ({"allow": {"resources": {"memory": "16 GB"}}}, "spec.allow.resources.memory: '16 GB' is not a quantity"),
    ],
)
def test_bad_settings_are_refused_with_path_and_remedy(changes: dict[str, Any], words: str) -> None:
    """Each refusal names the object, the path and what to do."""
    with pytest.raises(InvalidInputError) as caught:
        HeavyQueue.parse(with_spec(**changes))
    assert str(caught.value).startswith("HeavyQueue analytics/reports: spec.")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"timeouts": {"heartbeat": "5m"}},
        {"payload": {"format": "Pickle"}},
    ],
)
def test_what_nothing_honours_yet_is_refused_by_name(changes: dict[str, Any]) -> None:
    """A setting that would have no effect is an error, never ignored."""
    with pytest.raises(InvalidInputError, match="not supported yet"):
        HeavyQueue.parse(with_spec(**changes))


def test_rate_and_keys_reach_the_settings() -> None:
    """Limits as numbers, times in ms; a queue that says nothing has neither, and serves in the order jobs came."""
    kept = settings(HeavyQueue.parse(QUEUE))
    assert (kept["rateLimit"], kept["concurrencyPerKey"], kept["concurrencyOrder"]) == (None, None, "Fifo")
    spec = with_spec(
        rateLimit={"limit": 100, "period": "1m"}, concurrency={"max": 9, "perKey": 2, "order": "RoundRobin"}
    )
    kept = settings(HeavyQueue.parse(spec))
    assert kept["rateLimit"] == {"limit": 100, "period": 60_000}
    assert (kept["concurrencyMax"], kept["concurrencyPerKey"], kept["concurrencyOrder"]) == (9, 2, "RoundRobin")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rateLimit": {"limit": 100}}, "spec.rateLimit.period is missing"),
        ({"rateLimit": {"limit": 0, "period": "1s"}}, "spec.rateLimit.limit"),
        ({"rateLimit": {"limit": 1, "period": "10ms"}}, "too short: use at least 1s"),
        ({"rateLimit": {"limit": 1, "period": "25h"}}, "too long: use at most 24h"),
        ({"concurrency": {"perKey": 0}}, "spec.concurrency.perKey"),
        ({"concurrency": {"order": "Lifo"}}, "spec.concurrency.order"),
    ],
)
def test_bounds_without_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    """A limit that lets nothing through, and an order nobody knows, are errors."""
    with pytest.raises(InvalidInputError, match=words):
        HeavyQueue.parse(with_spec(**changes))


def test_memory_growth_and_total_time_reach_the_settings() -> None:
    """Sizes in bytes, times in ms; growth is half as much again unless told otherwise."""
    oom = {"action": "Retry", "memory": {"max": "64Gi"}}
    kept = settings(HeavyQueue.parse(with_spec(outcomes={"oom": oom}, timeouts={"total": "48h"})))
    assert kept["outcomes"]["oom"] == {"action": "Retry", "memory": {"growthPercent": 50, "max": 64 * 1024**3}}
    assert kept["timeouts"]["total"] == 48 * HOUR
    rule = rules_from_settings(json.loads(json.dumps(kept)))[OutcomeClass.OOM]
    assert (rule.growth_percent, rule.memory_max) == (50, 64 * 1024**3)


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ({"growthPercent": 50}, "memory.max is missing"),
        ({"max": "64Gi", "growthPercent": 0}, "growthPercent"),
        ({"max": "1k"}, "no amount of memory"),
        ({"max": "64 GB"}, "not a quantity"),
    ],
)
def test_growth_without_a_sound_end_is_refused(memory: dict[str, Any], words: str) -> None:
    """Nothing may grow without bound."""
    with pytest.raises(InvalidInputError, match=words):
        HeavyQueue.parse(with_spec(outcomes={"oom": {"action": "Retry", "memory": memory}}))


@pytest.mark.parametrize("name", sorted(REFUSED_IN_JOB))
def test_fields_that_heavylift_owns_are_refused_in_the_template(name: str) -> None:
    """Each refused field of the Job's spec is named, with what to set instead."""
    with pytest.raises(InvalidTemplateError, match=rf"spec\.jobTemplate\.spec\.{name} is not allowed here: "):
        HeavyQueue.parse(with_template(f"spec.{name}", 1))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec", None, "spec.jobTemplate.spec is missing"),
        ("spec.replicas", 3, "spec.jobTemplate.spec.replicas is no field of a batch/v1 JobTemplateSpec"),
        ("kind", "Job", "spec.jobTemplate.kind is no field"),
        ("spec.suspend", "no", "spec.suspend is not true or false"),
        ("spec.template.spec.restartPolicy", "OnFailure", "restartPolicy is not Never"),
        ("spec.template.spec.activeDeadlineSeconds", 5, "set spec.timeouts.run instead"),
        ("spec.template.spec.containers", [], "containers is missing"),
        ("spec.template.spec.containers", ["x"], "containers[0] is not a mapping"),
        ("spec.template.spec.containers", [{"name": "main"}], "containers[0].image is missing"),
        ("spec.template.spec.containers.0.restartPolicy", "Always", "containers[0].restartPolicy is not allowed"),
        ("spec.template.spec.containers.0.terminationMessagePath", "/x", "must be /dev/termination-log"),
        ("spec.template.spec.containers.0.env", [{"name": "HEAVYLIFT_JOB_ID"}], "'HEAVYLIFT_JOB_ID' is reserved"),
        ("spec.template.spec.containers.0.env", [{"value": "x"}], "env[0].name is missing"),
        ("spec.template.metadata", {"finalizers": ["a/b"]}, "metadata.finalizers is not allowed here"),
        ("metadata", {"name": "x"}, "metadata.name is not allowed here"),
        ("metadata", {"labels": {"heavylift.dev/job": "x"}}, "is reserved: Heavylift writes it"),
        ("metadata", {"annotations": {"a": 1}}, "is not a string: quote it"),
    ],
)
def test_templates_that_cannot_work_are_refused(path: str, value: object, words: str) -> None:
    """Each refusal names the path below jobTemplate."""
    with pytest.raises(InvalidTemplateError) as caught:
        HeavyQueue.parse(with_template(path, value))
    assert words in str(caught.value)


def test_the_named_container_must_exist() -> None:
    """spec.container names one of the template's containers."""
    with pytest.raises(InvalidTemplateError, match="'worker' is none of the template's containers"):
        HeavyQueue.parse(with_spec(container="worker"))


@pytest.mark.parametrize(
    "obj",
    [{}, {**QUEUE, "kind": "Job"}, {**QUEUE, "metadata": {}}, {**QUEUE, "spec": None}, {**QUEUE, "spec": []}],
)
def test_other_objects_are_refused(obj: dict[str, Any]) -> None:
    """Not a HeavyQueue, nameless or empty: an error of ours, never a KeyError."""
    with pytest.raises(InvalidInputError):
        HeavyQueue.parse(obj)


def test_tasks_measured_apart_are_names_of_tasks() -> None:
    """At most twenty; a name no task can have is refused with the remedy."""
    apart = {"tasks": ["annual", "myapp.tasks:monthly"]}
    assert settings(HeavyQueue.parse({**QUEUE, "spec": {**QUEUE["spec"], "metrics": apart}}))["metrics"] == apart
    for tasks in (["a b"], [""], [f"t{n}" for n in range(21)]):
        with pytest.raises(InvalidInputError, match=r"spec\.metrics\.tasks"):
            HeavyQueue.parse({**QUEUE, "spec": {**QUEUE["spec"], "metrics": {"tasks": tasks}}})
