"""The alert rules, checked and tried by the real promtool; and what /metrics says, checked by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from heavylift_operator.metrics.registry import Metrics as OperatorMetrics
from heavylift_worker.metrics import Metrics as DispatcherMetrics
from tests.integration.metrics.alert_stories import OLDEST, STORIES, queue
from tests.monitoring import NAMESPACE, rules
from tests.prometheus import promtool
from tests.unit.operator.test_metrics import COUNTS, snapshot

Json = dict[str, Any]


def without_words(rule: Json) -> Json:
    """Return a rule without annotations, which promtool would compare letter for letter."""
    return {key: value for key, value in rule.items() if key != "annotations"}


@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """Each has a story in which exactly those fire that should, with their labels, and those beside them do not."""
    story, alert = STORIES[name], name.split(maxsplit=1)[0]
    assert any(story.fires.values())
    (rule,) = [rule for group in rules(**story.thresholds) for rule in group["rules"] if rule["alert"] == alert]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [without_words(rule)]}]}))
    fires = f'sum without (alertname, alertstate, severity) (ALERTS{{alertname="{alert}", alertstate="firing"}})'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in story.series.items()],
        "promql_expr_test": [
            {"expr": fires, "eval_time": at, "exp_samples": [{"labels": labels, "value": 1} for labels in expected]}
            for at, expected in story.fires.items()
        ],
    }
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_every_alert_has_its_story() -> None:
    """None was added without one."""
    told = list(dict.fromkeys(name.split(maxsplit=1)[0] for name in STORIES))
    assert told == [rule["alert"] for group in rules() for rule in group["rules"]]


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
    series = queue("reports", OLDEST, "0x120")
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
