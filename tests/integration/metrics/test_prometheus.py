"""A real Prometheus scrapes the real processes; what it says is what Redis, RQ and the events say."""

from __future__ import annotations

import re

import pytest
import yaml

from heavylift.contract import limits
from tests import monitoring
from tests.cluster import Cluster
from tests.integration.chart.helm import Helm, named
from tests.integration.metrics.story import JOBS, LIMIT_S, Story
from tests.prometheus import promtool
from tests.proofs.waiting import until

pytestmark = pytest.mark.timeout(240)


OF_TARGETS = {"__name__", "instance", "job", "namespace"}
QUEUE = {"queue"}
PROMISED: dict[str, set[str]] = {
    "heavylift_queue_waiting": QUEUE,
    "heavylift_queue_in_flight": QUEUE,
    "heavylift_queue_demand": QUEUE,
    "heavylift_queue_jobs": {"queue", "state"},
    "heavylift_queue_oldest_waiting_timestamp_seconds": QUEUE,
    "heavylift_queue_paused": QUEUE,
    "heavylift_queue_concurrency_limit": QUEUE,
    **{f"heavylift_job_{step}_seconds_bucket": {"queue", "task", "le"} for step in ("dispatch", "pending", "run")},
    "heavylift_job_wait_seconds_bucket": {"queue", "task", "le"},
    "heavylift_jobs_enqueued_total": QUEUE,
    "heavylift_jobs_claimed_total": QUEUE,
    "heavylift_job_outcomes_total": {"queue", "class", "final"},
    "heavylift_repairs_total": {"case"},
    "heavylift_reconcile_last_success_timestamp_seconds": set(),
    "heavylift_watch_last_event_timestamp_seconds": {"kind"},
    "heavylift_dispatcher_slots": {"state"},
    "heavylift_redis_up": set(),
    "heavylift_build_info": {"version", "process"},
}
"""What other people's dashboards and rules are written against: metric -> labels."""


@pytest.mark.parametrize("name", PROMISED)
def test_what_people_build_on_is_there_under_its_name(story: Story, name: str) -> None:
    """Prometheus has it with these labels and, beside its own, no others; an empty label is none to it."""
    found = story.prometheus.ask("series", **{"match[]": name})
    assert found
    labels = set().union(*(set(one) - OF_TARGETS for one in found))
    assert labels == PROMISED[name]


def test_no_job_stands_in_a_label(story: Story) -> None:
    """However many jobs there are, they add no series."""
    jobs = {line.job for short in story.queues for line in story.events(short)} - {""}
    assert len(jobs) > JOBS
    values = {
        value for one in story.prometheus.ask("series", **{"match[]": '{__name__=~".+"}'}) for value in one.values()
    }
    assert not [value for value in values if any(job in value for job in jobs)]


def test_promtool_finds_nothing_to_say_about_what_the_processes_serve(story: Story) -> None:
    """As they stand after some work, the one that leads and the others."""
    for daemon in story.supervisor.daemons:
        status, page = daemon.probe("/metrics")
        assert status == 200
        assert promtool("check", "metrics", text=page) == ""


def test_states_are_those_of_rqs_own_registries(story: Story) -> None:
    """For each queue and state; told by one operator only, so that a plain sum is not doubled."""
    for short, name in story.queues.items():
        shown = story.by("state", f'heavylift_queue_jobs{{queue="{name}"}}')
        assert {state: shown[state] for state in story.states(short)} == story.states(short)
    (tellers,) = set(story.prometheus.query("count by (queue) (heavylift_queue_waiting)").values())
    assert tellers == 1
    assert story.prometheus.value("sum(up)") == 4


def test_demand_is_what_runs_and_what_may_start(story: Story) -> None:
    """A capped queue asks for its cap, a paused one for nothing."""
    here = f'namespace="{story.run.name}"'
    shown = story.by("queue", f"max by (queue) (heavylift_queue_demand{{{here}}})")
    names = story.queues
    assert shown == {names["busy"]: 0, names["capped"]: 2, names["paused"]: 0, names["orphan"]: 0}
    held = {
        (dict(labels)["queue"], dict(labels)["reason"])
        for labels in story.prometheus.query("heavylift_queue_held == 1")
    }
    assert held == {(names["paused"], "paused"), (names["orphan"], "no-heavyqueue")}
    assert story.by("queue", "heavylift_queue_concurrency_limit") == {names["capped"]: 2}
    assert story.by("state", 'sum by (state) (heavylift_dispatcher_slots{state="total"})') == {"total": 40}
    assert story.prometheus.value("max(heavylift_dispatchers)") == 2


@pytest.mark.parametrize("provider", ["keda", "prometheus"])
def test_autoscalers_are_given_a_query_that_tells_the_demand(story: Story, kwok: Cluster, provider: str) -> None:
    """KEDA's, and prometheus-adapter's rule filled in as it does with the HPA's selector: what Redis says."""
    helm = Helm(kwok.bin("helm"), kwok.kubeconfig)
    values = {"autoscaling": {"provider": provider, "prometheus": {"serverAddress": "http://prometheus:9090"}}}
    objects = helm.render(values, namespace=story.run.name)
    if provider == "keda":
        (trigger,) = named(objects, "ScaledObject", "rel-dispatcher")["spec"]["triggers"]
        query = trigger["metadata"]["query"]
    else:
        (metric,) = named(objects, "HorizontalPodAutoscaler", "rel-dispatcher")["spec"]["metrics"]
        (rule,) = yaml.safe_load(named(objects, "ConfigMap", "rel-prometheus-adapter")["data"]["values.yaml"])["rules"][
            "external"
        ]
        wanted = metric["external"]["metric"]
        assert story.prometheus.ask("series", **{"match[]": rule["seriesQuery"]})
        assert rule["name"]["as"] == wanted["name"]
        matchers = ",".join(f'{name}="{value}"' for name, value in wanted["selector"]["matchLabels"].items())
        query = rule["metricsQuery"].replace("<<.Series>>", wanted["name"]).replace("<<.LabelMatchers>>", matchers)
    running = sum(story.states(short)["active"] for short in story.queues)
    assert story.prometheus.value(query) == running == 2


def test_outcomes_are_those_of_the_events(story: Story) -> None:
    """Attempts by class, retried and final ones apart."""
    shown = {
        (dict(labels)["class"], dict(labels)["final"]): value
        for labels, value in story.prometheus.query(
            f'heavylift_job_outcomes_total{{queue="{story.queues["busy"]}"}} > 0'
        ).items()
    }
    expected = story.outcomes("busy")
    assert shown == expected
    assert {("error", "false"), ("error", "true"), ("oom", "false"), ("succeeded", "true")} <= set(expected)


def test_the_wait_histogram_is_what_the_events_give(story: Story) -> None:
    """Every bucket, the sum and the count; the task that is kept apart has them all."""
    name = story.queues["busy"]
    waits = [int(line.fields["wait"]) for line in story.events("busy") if line.name == "active"]
    shown = story.by("le", f'heavylift_job_wait_seconds_bucket{{queue="{name}", task="proof"}}')
    expected = {bound / 1000: sum(wait <= bound for wait in waits) for bound in limits.WAIT_BOUNDS_MS}
    assert {float(bound): count for bound, count in shown.items()} == {**expected, float("inf"): len(waits)}
    total = story.prometheus.value(f'heavylift_job_wait_seconds_sum{{queue="{name}", task="proof"}}')
    assert total == pytest.approx(sum(waits) / 1000)
    assert len(waits) > story.states("busy")["completed"]


def test_each_step_of_a_job_is_measured_once(story: Story) -> None:
    """Enqueued, claimed, created, pending and run, over all replicas."""
    name = story.queues["busy"]
    claims = sum(line.name == "active" for line in story.events("busy"))
    here = f'queue="{name}"'
    for expression, expected in {
        f"max(heavylift_jobs_enqueued_total{{{here}}})": story.states("busy")["completed"]
        + story.states("busy")["failed"],
        f"sum(heavylift_jobs_claimed_total{{{here}}})": claims,
        f'sum(heavylift_job_creates_total{{{here}, answer="created"}})': claims,
        f'sum(heavylift_job_dispatch_seconds_count{{{here}, task="proof"}})': claims,
        f'sum(heavylift_job_pending_seconds_count{{{here}, task="proof"}})': claims,
        f'sum(heavylift_job_run_seconds_count{{{here}, task="proof"}})': claims,
    }.items():
        story.seen(f"{expression} == {expected}")


def test_the_oldest_waiting_is_the_first_of_those_that_wait(story: Story) -> None:
    """To the millisecond of its event."""
    name = story.queues["paused"]
    added = min(line.at for line in story.events("paused") if line.name == "added")
    shown = story.prometheus.value(f'heavylift_queue_oldest_waiting_timestamp_seconds{{queue="{name}"}}')
    assert shown == pytest.approx(added / 1000, abs=0.002)


def test_every_panel_has_something_to_draw(story: Story) -> None:
    """Each of its queries is taken; what has no data is only what has not happened."""
    quiet = {
        ("Open breakers", "{{scope}} {{name}}"),
        ("Repairs", "{{case}}"),
        ("Answers of the external metrics API", "{{code}}"),
        ("The external metrics API's certificate", "{{instance}}"),
        ("Schedules", "seconds a tick is late"),
    }

    def undrawn() -> set[tuple[str, str]]:
        return {(one.title, one.legend) for one in monitoring.drawn() if not story.prometheus.query(one.query)}

    until(lambda: undrawn() <= quiet, "each query to have something to draw: a rate needs two scrapes")


def test_the_dashboards_variables_are_filled(story: Story) -> None:
    """Grafana asks for a label's values; the queues offered are those of the namespaces chosen."""
    asked = {
        one["name"]: one["definition"] for one in monitoring.dashboard()["templating"]["list"] if "definition" in one
    }
    found = {}
    for name, definition in asked.items():
        wanted = re.fullmatch(r"label_values\((.+), (\w+)\)", definition.replace("$namespace", story.run.name))
        assert wanted is not None, definition
        found[name] = story.prometheus.ask(f"label/{wanted[2]}/values", **{"match[]": wanted[1]})
    assert found == {"namespace": [story.run.name], "queue": sorted(story.queues.values())}


def test_alerts_are_those_there_is_reason_for(story: Story) -> None:
    """Failed jobs, and a queue without a HeavyQueue."""
    story.seen('ALERTS{alertname="HeavyliftJobsFailed", alertstate="firing"}')
    busy = {"HeavyliftRepairs"}  # a slow machine makes the reconciler mend what was only late
    assert story.prometheus.alerts() - busy == {"HeavyliftJobsFailed"}
    assert "HeavyliftQueueNotServed" in story.prometheus.alerts("pending")


def test_another_leader_tells_the_same(story: Story) -> None:
    """Killed, the leader is followed by the other; no figure is doubled in between, no counter begins anew."""
    before, name = story.leader(), story.queues["capped"]
    enqueued = "max by (queue) (heavylift_jobs_enqueued_total)"
    counted = story.by("queue", enqueued)
    story.supervisor.release()
    before.kill()
    after = story.leader(limit=LIMIT_S)
    assert after is not before
    story.seen(f'heavylift_queue_in_flight{{instance="127.0.0.1:{after.port}", queue="{name}"}} == 2')
    assert story.by("queue", enqueued) == counted
    told = story.prometheus.ask("query", query=f'sum(heavylift_queue_in_flight{{queue="{name}"}})[2m:1s]')["result"]
    values = [float(value) for _, value in told[0]["values"]]
    assert max(values) == 2
    assert min(values[values.index(2.0) :]) == 2
    story.seen("sum(up) == 3")
