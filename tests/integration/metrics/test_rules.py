"""The alert rules, checked and tried by the real promtool; and what /metrics says, checked by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from heavylift_operator.metrics.registry import Metrics as OperatorMetrics
from heavylift_worker.metrics import Metrics as DispatcherMetrics
from tests.monitoring import NAMESPACE, rules
from tests.prometheus import promtool
from tests.unit.operator.test_metrics import COUNTS, snapshot

Json = dict[str, Any]
HERE = f'namespace="{NAMESPACE}"'
AWAY = 'namespace="other"'


@dataclass(frozen=True, slots=True)
class Case:
    """One alert over time: series in promtool's notation, a value a minute; when it is looked at, and if it fires."""

    alert: str
    series: dict[str, str]
    at: str
    fires: bool = True


def queue(name: str, values: str, *, more: str = "", pod: str = "a") -> dict[str, str]:
    """Return a series of the queue ``reports`` as one operator tells it."""
    labels = f'{HERE}, instance="{pod}", queue="reports"{more}'
    return {f"heavylift_{name}{{{labels}}}": values}


def of(name: str, values: str, *, more: str = "", pod: str = "a") -> dict[str, str]:
    """Return a series of one pod."""
    return {f'heavylift_{name}{{{HERE}, instance="{pod}"{more}}}': values}


ENDED = ', class="oom", final="true"'
CASES = (
    Case("HeavyliftBacklog", queue("queue_waiting", "1001x30"), "20m"),
    Case("HeavyliftBacklog", queue("queue_waiting", "1001x10 5x3 1001x10"), "20m", fires=False),
    Case("HeavyliftOldestWaiting", queue("queue_oldest_waiting_timestamp_seconds", "0x120"), "70m"),
    Case(
        "HeavyliftOldestWaiting",
        queue("queue_oldest_waiting_timestamp_seconds", "0x120") | queue("queue_paused", "1x120"),
        "70m",
        fires=False,
    ),
    Case("HeavyliftJobsFailed", queue("job_outcomes_total", "0x5 1x20", more=ENDED), "8m"),
    Case("HeavyliftJobsFailed", queue("job_outcomes_total", "5x30", more=ENDED), "20m", fires=False),
    Case(
        "HeavyliftJobsFailed",
        queue("job_outcomes_total", "0x5 9x9", more=', class="succeeded", final="true"'),
        "8m",
        fires=False,
    ),
    Case(
        "HeavyliftJobsFailed",
        queue("job_outcomes_total", "0x5 9x9", more=', class="oom", final="false"'),
        "8m",
        fires=False,
    ),
    Case(
        "HeavyliftQueueNotServed",
        queue("queue_waiting", "1x20") | queue("queue_held", "1x20", more=', reason="no-heavyqueue"'),
        "15m",
    ),
    Case(
        "HeavyliftQueueNotServed",
        queue("queue_waiting", "0x20") | queue("queue_held", "1x20", more=', reason="no-heavyqueue"'),
        "15m",
        fires=False,
    ),
    Case("HeavyliftEntriesQuarantined", queue("queue_events_total", "0x5 1x9", more=', event="quarantined"'), "8m"),
    Case(
        "HeavyliftEntriesQuarantined",
        queue("queue_events_total", "0x5 1x9", more=', event="dropped"'),
        "8m",
        fires=False,
    ),
    Case("HeavyliftTickLate", of("schedule_oldest_due_timestamp_seconds", "0x9"), "4m"),
    Case("HeavyliftTickLate", of("schedule_oldest_due_timestamp_seconds", "0+60x9"), "4m", fires=False),
    Case("HeavyliftBreakerOpen", queue("queue_held", "1x20", more=', reason="breaker"'), "6m"),
    Case(
        "HeavyliftBreakerOpen",
        of("dispatcher_breaker_open", "1x20", more=', scope="namespace", name="analytics"'),
        "6m",
    ),
    Case(
        "HeavyliftBreakerOpen",
        of("dispatcher_breaker_open", "1x3 0x9", more=', scope="queue", name="reports"'),
        "6m",
        fires=False,
    ),
    Case("HeavyliftRedisDown", of("redis_up", "0x9"), "3m"),
    Case("HeavyliftRedisDown", of("redis_up", "0 1x9"), "3m", fires=False),
    Case("HeavyliftOperatorAbsent", {f'heavylift_build_info{{{AWAY}, process="operator"}}': "1x9"}, "6m"),
    Case("HeavyliftOperatorAbsent", of("build_info", "1x9", more=', process="operator"'), "6m", fires=False),
    Case("HeavyliftNobodyLeads", of("operator_leads", "0x9") | of("operator_leads", "0x9", pod="b"), "6m"),
    Case("HeavyliftNobodyLeads", of("operator_leads", "0x9") | of("operator_leads", "1x9", pod="b"), "6m", fires=False),
    Case("HeavyliftReconcileStale", of("reconcile_last_success_timestamp_seconds", "0x9"), "6m"),
    Case(
        "HeavyliftReconcileStale",
        of("reconcile_last_success_timestamp_seconds", "0x9")
        | of("reconcile_last_success_timestamp_seconds", "0+60x9", pod="b"),
        "6m",
        fires=False,
    ),
    Case(
        "HeavyliftWatchStale",
        of("watch_last_event_timestamp_seconds", "0x20", more=', kind="Job"')
        | queue("job_creates_total", "0+1x20", more=', answer="created"', pod="d"),
        "9m",
    ),
    Case(
        "HeavyliftWatchStale",  # nothing was created: silence is right
        of("watch_last_event_timestamp_seconds", "0x20", more=', kind="Job"')
        | queue("job_creates_total", "7x20", more=', answer="created"', pod="d"),
        "9m",
        fires=False,
    ),
    Case("HeavyliftDispatcherAbsent", of("dispatchers", "0x9") | queue("queue_startable", "1x9"), "6m"),
    Case("HeavyliftDispatcherAbsent", of("dispatchers", "0x9") | queue("queue_startable", "0x9"), "6m", fires=False),
    Case("HeavyliftDispatcherAbsent", of("dispatchers", "1x9") | queue("queue_startable", "1x9"), "6m", fires=False),
    Case("HeavyliftRepairs", of("repairs_total", "0+1x60", more=', case="job-missing"'), "20m"),
    Case("HeavyliftRepairs", of("repairs_total", "0x5 9x60", more=', case="job-missing"'), "20m", fires=False),
    Case("HeavyliftRepairs", of("repairs_total", "0+1x60", more=', case="claim-adopted"'), "20m", fires=False),
    Case("HeavyliftUnfinalized", of("unfinalized_jobs", "101x20"), "16m"),
    Case("HeavyliftUnfinalized", of("unfinalized_jobs", "100x20"), "16m", fires=False),
    Case("HeavyliftExternalMetricsFailing", of("external_metrics_requests_total", "0+4x20", more=', code="503"'), "9m"),
    Case("HeavyliftCertificateEnds", of("external_metrics_certificate_expiry_timestamp_seconds", "400000x9"), "1m"),
    Case(
        "HeavyliftCertificateEnds",
        of("external_metrics_certificate_expiry_timestamp_seconds", "0x9"),
        "1m",
        fires=False,
    ),
    Case(
        "HeavyliftExternalMetricsFailing",
        of("external_metrics_requests_total", "0+4x20", more=', code="404"'),
        "9m",
        fires=False,
    ),
)


def without_words(rule: Json) -> Json:
    """Return a rule without annotations, which promtool would compare letter for letter."""
    return {key: value for key, value in rule.items() if key != "annotations"}


@pytest.mark.parametrize("alert", dict.fromkeys(case.alert for case in CASES))
def test_an_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    """Each has a story in which it fires and one, close by, in which it does not."""
    (rule,) = [rule for group in rules() for rule in group["rules"] if rule["alert"] == alert]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [without_words(rule)]}]}))
    cases = [case for case in CASES if case.alert == alert]
    assert {case.fires for case in cases} == {True, False}
    tests = []
    for case in cases:
        count = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        tests.append(
            {
                "name": f"{alert} {case.series}",
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "promql_expr_test": [
                    {"expr": count, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": int(case.fires)}]}
                ],
            }
        )
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_every_alert_has_its_story() -> None:
    """None was added without one."""
    assert {case.alert for case in CASES} == {rule["alert"] for group in rules() for rule in group["rules"]}


def test_the_rules_are_sound(tmp_path: Path) -> None:
    """As the real promtool judges, templates of the annotations included; with large thresholds, too."""
    for changes in ({}, {"backlog": "1e+06"}):
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": rules(**changes)}))
        assert "SUCCESS" in promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_the_words_of_an_alert_are_filled_in(tmp_path: Path) -> None:
    """Queue and age stand in the summary as people say them."""
    (rule,) = [rule for group in rules() for rule in group["rules"] if rule["alert"] == "HeavyliftOldestWaiting"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [rule]}]}))
    expected = {
        "exp_labels": {"severity": "warning", "namespace": NAMESPACE, "queue": "reports"},
        "exp_annotations": {
            "summary": "A job of queue reports has waited for 1h 10m 0s",
            "description": "The queue is not paused. `heavylift jobs why ID` says what the job waits for.",
        },
    }
    series = queue("queue_oldest_waiting_timestamp_seconds", "0x120")
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "70m", "alertname": rule["alert"], "exp_alerts": [expected]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    promtool("test", "rules", str(tmp_path / "test.yml"))


def registries() -> dict[str, CollectorRegistry]:
    """Return the registry of each process, with a queue in it."""
    operator = OperatorMetrics()
    operator.queues.snapshot = snapshot(reports=COUNTS | {"rateLeft": 3})
    return {"operator": operator.registry, "dispatcher": DispatcherMetrics().registry}


@pytest.mark.parametrize("process", ["operator", "dispatcher"])
def test_what_a_process_exports_is_clean(process: str) -> None:
    """The real promtool finds nothing to say about names, types and help."""
    assert promtool("check", "metrics", text=generate_latest(registries()[process]).decode()) == ""
