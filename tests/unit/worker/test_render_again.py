"""What an attempt inherits from those before it: grown memory, a checkpoint, what is left of the total time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from heavylift.errors import InvalidInputError
from heavylift.spec import quantities
from heavylift.spec.memory import grown_resources
from heavylift_worker.render import render
from tests.unit.worker.rendering import HOUR_MS, make_claim, make_payload, make_queue

MI = 1024**2
FROZEN = {"maxAttempts": 5, "timeouts": {"pending": HOUR_MS, "run": 24 * HOUR_MS}}


GROWTH: dict[str, Any] = {"action": "Retry", "memory": {"max": "1Gi"}}


def rendered(
    resources: Mapping[str, Any] | None = None,
    allow: Mapping[str, Any] | None = None,
    oom: Mapping[str, Any] = GROWTH,
    **claim: Any,
) -> Any:
    """Return the Job of a claim on a template with these resources, whose memory may grow to 1Gi."""
    main = {"name": "main", "image": "reports:1", **({"resources": resources} if resources is not None else {})}
    template = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}, main]}}}}
    queue = make_queue(template=template, container="main", allow={"resources": allow or {}}, outcomes={"oom": oom})
    return render(make_claim(**claim), queue, make_payload(), "heavylift/main")


def main_of(job: Any) -> Any:
    """Return its main container."""
    return job["spec"]["template"]["spec"]["containers"][1]


@pytest.mark.parametrize(
    ("written", "wanted", "limits", "requests"),
    [
        ({"limits": {"memory": "96Mi"}, "requests": {"memory": "32Mi"}}, 144, "144Mi", "48Mi"),
        ({"limits": {"memory": "96Mi", "cpu": "1"}, "requests": {"memory": "96Mi", "cpu": "1"}}, 144, "144Mi", "144Mi"),
        ({"limits": {"memory": "1Gi"}, "requests": {"memory": "100M"}}, 1536, "1536Mi", "150000000"),
        ({"limits": {"memory": "96Mi"}}, 144, "144Mi", None),
        ({"limits": {"memory": "200Mi"}, "requests": {"memory": "50Mi"}}, 144, "200Mi", "50Mi"),
        ({"requests": {"memory": "50Mi"}}, 144, None, "50Mi"),
        ({"limits": {"memory": "lots"}}, 144, "lots", None),
        ({}, 144, None, None),
    ],
)
def test_limit_and_request_grow_in_one_ratio(
    written: dict[str, Any], wanted: int, limits: str | None, requests: str | None
) -> None:
    """The request stays the share of the limit that the template's owner gave it; everything else stays."""
    made = grown_resources(written, wanted * MI)
    assert (made.get("limits") or {}).get("memory") == limits
    assert (made.get("requests") or {}).get("memory") == requests
    assert (made.get("limits") or {}).get("cpu") == (written.get("limits") or {}).get("cpu")


def test_grown_memory_reaches_the_container_whose_end_counts() -> None:
    """No other container changes; a job's own larger wish stands."""
    resources = {"limits": {"memory": "96Mi"}, "requests": {"memory": "96Mi"}}
    job = rendered(resources, memory=144 * MI)
    assert main_of(job)["resources"] == {"limits": {"memory": "144Mi"}, "requests": {"memory": "144Mi"}}
    assert "resources" not in job["spec"]["template"]["spec"]["containers"][0]
    own = rendered(resources, {"memory": "1Gi"}, memory=144 * MI, options={"resources": {"memory": "512Mi"}})
    assert main_of(own)["resources"]["limits"] == {"memory": "512Mi"}
    assert main_of(rendered(resources))["resources"] == resources


def test_growth_is_the_owners_word_and_not_bound_by_what_producers_may_ask() -> None:
    """`allow.resources` is about producers; the end of growth stands in the rule."""
    job = rendered({"limits": {"memory": "96Mi"}}, {"memory": "100Mi"}, memory=144 * MI)
    assert main_of(job)["resources"]["limits"]["memory"] == "144Mi"


@pytest.mark.parametrize(
    ("oom", "stored", "limit"),
    [
        (GROWTH, 2**60, "1Gi"),
        (GROWTH, -5, "96Mi"),
        ({"action": "Retry"}, 512 * MI, "96Mi"),
        ({"action": "Fail", "memory": {"max": "128Mi"}}, 512 * MI, "128Mi"),
    ],
)
def test_the_heavyqueue_bounds_what_redis_says(oom: Mapping[str, Any], stored: int, limit: str) -> None:
    """Whoever can write to Redis cannot ask for more than the owner's rule lets memory grow to."""
    job = rendered({"limits": {"memory": "96Mi"}}, oom=oom, memory=stored)
    assert quantities.to_bytes(main_of(job)["resources"]["limits"]["memory"]) == quantities.to_bytes(limit)


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ('{"page": 3, "note": "$(DB_PASSWORD) ü"}', '{"page":3,"note":"$$(DB_PASSWORD) ü"}'),
        ("{}", "{}"),
        ("", None),
        ("[1]", None),
        ("null", None),
        ("not JSON", None),
        ('{"x": NaN}', None),
        ('{"x": "\\ud800"}', None),
        ("[" * 100_000, None),
        (json.dumps({"x": "y" * 2048}), None),
    ],
)
def test_a_checkpoint_is_given_to_the_pod_if_it_is_sound(stored: str, given: str | None) -> None:
    """It comes from Redis: what is no small JSON object is dropped, and every `$` is escaped."""
    found = {entry["name"]: entry.get("value") for entry in main_of(rendered(checkpoint=stored))["env"]}
    assert found.get("HEAVYLIFT_JOB_CHECKPOINT") == given


@pytest.mark.parametrize(
    ("due", "seconds"),
    [(None, 25 * 3600 + 60), (10**11, 25 * 3600 + 60), (90_500, 91 + 60), (0, 1 + 60), (-5, 1 + 60)],
)
def test_kubernetes_own_deadline_is_cut_to_what_is_left(due: int | None, seconds: int) -> None:
    """As a backstop behind the operator's own deadline; a limit that passed just now leaves one second."""
    frozen = FROZEN if due is None else {**FROZEN, "totalDue": due}
    assert rendered(frozen=frozen)["spec"]["activeDeadlineSeconds"] == seconds


@pytest.mark.parametrize("due", ["soon", [], {}, 10**30])
def test_an_unsound_total_limit_is_refused(due: object) -> None:
    """What claim never writes is no limit to guess about."""
    with pytest.raises(InvalidInputError, match=r"timeouts\.total"):
        rendered(frozen={**FROZEN, "totalDue": due})


@pytest.mark.parametrize(("asked", "limit", "refused"), [(2, "1h", True), (1, "1h", False), (5, None, False)])
def test_a_job_asks_for_no_more_total_time_than_its_queue(asked: int, limit: str | None, refused: bool) -> None:
    """It may shorten it, or set one where the queue has none."""
    queue = make_queue(timeouts={"total": limit} if limit else {})
    claim = make_claim(options={"timeouts": {"total": asked * HOUR_MS}})
    if refused:
        with pytest.raises(InvalidInputError, match=r"timeouts.total is 2h, more than the 1h that spec.timeouts.total"):
            render(claim, queue, make_payload(), "i")
    else:
        render(claim, queue, make_payload(), "i")
