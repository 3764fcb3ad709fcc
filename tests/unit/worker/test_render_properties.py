"""Properties of render: it keeps what the owner wrote, and nothing a producer sends is expanded."""

from __future__ import annotations

import copy
import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.contract.names import Env
from heavylift.errors import InvalidInputError, InvalidTemplateError
from heavylift.spec.models import HeavyQueue
from heavylift.spec.render import render
from tests.unit.worker.rendering import make_claim, make_payload, make_queue

names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
dollars = st.text(st.sampled_from("$()AB_ $\\{}\u00fc"), max_size=24)
labels = st.dictionaries(names.map(lambda name: f"example.com/{name}"), words, max_size=3)
metadata = st.fixed_dictionaries({}, optional={"labels": labels, "annotations": labels})
variables = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "LOG_LEVEL", "TRACEPARENT"]), "value": words}),
    max_size=3,
)
resources = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from(["1", "100m", "2Gi"]), max_size=2)
containers = st.fixed_dictionaries(
    {"image": words.filter(bool)},
    optional={
        "env": variables,
        "args": st.lists(words, max_size=3),
        "command": st.lists(words, max_size=3),
        "resources": st.fixed_dictionaries({}, optional={"limits": resources, "requests": resources}),
    },
)
pods = st.builds(
    lambda found, more: {**more, "containers": [{"name": f"c{i}", **entry} for i, entry in enumerate(found)]},
    st.lists(containers, min_size=1, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "automountServiceAccountToken": st.booleans(),
            "enableServiceLinks": st.booleans(),
            "restartPolicy": st.just("Never"),
            "nodeSelector": labels,
            "volumes": st.just([{"name": "v", "emptyDir": {}}]),
        },
    ),
)
templates = st.builds(
    lambda outer, inner, pod: {"metadata": outer, "spec": {"template": {"metadata": inner, "spec": pod}}},
    metadata,
    metadata,
    pods,
)


def _without_ours(job: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """Return the rendered Job as a template again, without the paths that render may add or change."""
    job, pod = copy.deepcopy(job), template["spec"]["template"]["spec"]
    for added in (
        "backoffLimit",
        "podReplacementPolicy",
        "podFailurePolicy",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ):
        del job["spec"][added]
    rendered_pod = job["spec"]["template"]["spec"]
    for defaulted in ("automountServiceAccountToken", "enableServiceLinks", "restartPolicy"):
        if defaulted not in pod:
            del rendered_pod[defaulted]
    main, written = rendered_pod["containers"][0], pod["containers"][0]
    del main["terminationMessagePolicy"]
    main["env"] = [v for v in main["env"] if not v["name"].startswith("HEAVYLIFT_JOB_")]
    if "env" not in written:
        assert main.pop("env") == []
    for place, original in (
        (job["metadata"], template["metadata"]),
        (job["spec"]["template"]["metadata"], template["spec"]["template"]["metadata"]),
    ):
        for kind in ("labels", "annotations"):
            place[kind] = {k: v for k, v in place[kind].items() if k.startswith("example.com/")}
            if kind not in original:
                assert place.pop(kind) == {}
    return {
        "metadata": {key: job["metadata"][key] for key in ("labels", "annotations") if key in job["metadata"]},
        "spec": job["spec"],
    }


@given(template=templates)
@settings(max_examples=60)
def test_what_the_owner_wrote_stays(template: dict[str, Any]) -> None:
    """But for the documented paths, the rendered Job is the template; the template itself is not touched."""
    queue = make_queue(template=template)
    before = copy.deepcopy(queue.spec.job_template)

    job = render(make_claim(), queue, make_payload({"a": 1}), "i")

    assert _without_ours(job, template) == template
    assert queue.spec.job_template == before
    assert render(make_claim(), queue, make_payload({"a": 1}), "i") == job


def expand(text: str, known: dict[str, str]) -> str:
    """Expand as Kubernetes does (third_party/forked/golang/expansion): ``$$`` -> ``$``, ``$(NAME)`` -> its value."""
    pattern = re.compile(r"\$(?:(\$)|\(([^)]*)\))")

    def one(hit: re.Match[str]) -> str:
        if hit[1]:
            return "$"
        return known.get(hit[2], hit[0])

    return pattern.sub(one, text)


def environment(entries: list[dict[str, str]]) -> dict[str, str]:
    """Return what the program sees: entries in order, each expanded with those before it, as the kubelet does."""
    seen: dict[str, str] = {}
    for entry in entries:
        seen[entry["name"]] = expand(entry["value"], seen)
    return seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [("$(A)", "secret"), ("$$(A)", "$(A)"), ("$$$(A)", "$secret"), ("$(NO)", "$(NO)"), ("$", "$"), ("$(A", "$(A")],
)
def test_the_model_expands_as_kubernetes_documents(text: str, seen: str) -> None:
    """The examples of Kubernetes' own documentation and tests hold in the model."""
    assert expand(text, {"A": "secret"}) == seen


@given(value=dollars, argument=dollars, data=st.dictionaries(dollars, dollars, max_size=3))
@settings(max_examples=150)
def test_nothing_of_a_producer_is_expanded(value: str, argument: str, data: dict[str, str]) -> None:
    """Payload, env values and arguments arrive exactly as sent, whatever secrets stand beside them."""
    queue = _queue_with_secret()
    payload = make_payload(data)
    claim = make_claim(options={"env": {"B": value, "LATE": value}, "args": [argument, value]})

    main = render(claim, queue, payload, "i")["spec"]["template"]["spec"]["containers"][0]
    seen = environment(main["env"])

    assert seen[Env.PAYLOAD] == payload.data_json
    assert (seen["B"], seen["LATE"]) == (value, value)
    assert [expand(text, seen) for text in main["args"]] == [argument, value]
    assert seen["OWNER"] == "secret and j1"


def _queue_with_secret() -> HeavyQueue:
    variables_written = [
        {"name": "A", "value": "secret"},
        {"name": "B", "value": "replaced"},
        {"name": "OWNER", "value": "$(A) and $(HEAVYLIFT_JOB_ID)"},
    ]
    main = {"name": "main", "image": "x", "env": variables_written}
    return make_queue(
        template={"spec": {"template": {"spec": {"containers": [main]}}}}, allow={"args": True, "env": ["B", "LATE"]}
    )


@given(
    options=st.dictionaries(
        st.sampled_from(["args", "env", "labels", "resources", "maxAttempts", "timeouts", "priority", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["B", "run", "memory"]), inner),
            max_leaves=5,
        ),
        max_size=4,
    )
)
@settings(max_examples=300)
def test_hostile_options_render_or_are_refused(options: dict[str, Any]) -> None:
    """Whatever stands in a job's options, render returns a Job or says clearly why not."""
    queue = make_queue(allow={"args": True, "env": ["B"], "labels": ["B"], "resources": {"memory": "4Gi"}})

    try:
        rendered: object = render(make_claim(options=options, frozen=options), queue, make_payload(), "i")["kind"]
    except InvalidInputError as error:
        rendered = error

    assert rendered == "Job" or (isinstance(rendered, InvalidInputError) and "\n" not in str(rendered))


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"backoffLimit": 3, "template": {"spec": {"containers": [{"name": "m", "image": "x"}]}}}},
        {"spec": {"template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "m", "image": "x"}]}}}},
        {"spec": {"template": {"spec": {"containers": []}}}},
    ],
)
def test_refused_templates_never_render(change: dict[str, Any]) -> None:
    """A template that did not come through parse is checked all the same."""
    sound = make_queue()
    queue = _replaced(sound, change)

    with pytest.raises(InvalidTemplateError):
        render(make_claim(), queue, make_payload(), "i")


def _replaced(queue: HeavyQueue, template: dict[str, Any]) -> HeavyQueue:
    return HeavyQueue(
        name=queue.name,
        namespace=queue.namespace,
        uid=queue.uid,
        generation=queue.generation,
        created="",
        queue=queue.queue,
        spec=queue.spec.model_copy(update={"job_template": template}),
    )
