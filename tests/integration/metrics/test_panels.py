"""What each panel of the dashboard draws: two installations side by side, each told of by two replicas at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import Drawn, drawn
from tests.prometheus import promtool

Json = dict[str, Any]
AT_S = 5_400
"""When the panels are looked at; every series has a value a minute until then."""
NORTH, SOUTH = 'namespace="north"', 'namespace="south"'
REPORTS = 'queue="reports"'
P50, P90, P99 = 4 / 6, 1.6, 1.96
"""Of six values up to 1 and two from there to 2."""


def minutely(step: float) -> str:
    """Return a counter that grows by so much each minute, in promtool's notation."""
    return f"0+{step}x90"


def told(name: str, north: str, south: str, *, more: str = "") -> dict[str, str]:
    """Return what the leading operator tells of each installation, while another one still tells it, too."""
    labels = f", {more}" if more else ""
    return {
        f'heavylift_{name}{{{where}, instance="{pod}"{labels}}}': values
        for where, values in ((NORTH, north), (SOUTH, south))
        for pod in "ab"
    }


def queues(name: str, north: str, south: str, *, more: str = "") -> dict[str, str]:
    """Return the same of a queue that both installations have."""
    return told(name, north, south, more=f"{REPORTS}, {more}" if more else REPORTS)


def own(name: str, values: dict[str, str], more: str = "") -> dict[str, str]:
    """Return what each pod says of itself: pod -> values; pods c and d are in the south."""
    labels = f", {more}" if more else ""
    return {
        f'heavylift_{name}{{{SOUTH if pod in "cd" else NORTH}, instance="{pod}"{labels}}}': text
        for pod, text in values.items()
    }


def shares(name: str, fast: str, slow: str) -> dict[str, str]:
    """Return a histogram in which pod ``fast`` has six values up to 1 each minute and pod ``slow`` two up to 2."""
    counts = {fast: (6, 6, 6), slow: (0, 2, 2)}
    found: dict[str, str] = {}
    for pod, (one, two, all_) in counts.items():
        for bound, count in (("1", one), ("2", two), ("+Inf", all_)):
            found |= own(f"job_{name}_seconds_bucket", {pod: minutely(count)}, f'{REPORTS}, task="", le="{bound}"')
    return found


def waits() -> dict[str, str]:
    """Return the histogram of waits: told of the north by two replicas, of the south by one."""
    found = shares("wait", "a", "d")
    return found | {name.replace('"a"', '"b"'): values for name, values in found.items() if '"a"' in name}


SERIES = {
    **queues("queue_waiting", "5x90", "7x90"),
    **queues("queue_in_flight", "2x90", "3x90"),
    **queues("queue_demand", "9x90", "11x90"),
    **queues("queue_concurrency_limit", "4x90", "6x90"),
    **queues("queue_oldest_waiting_timestamp_seconds", "5100x90", "5300x90"),
    **queues("queue_jobs", "5x90", "7x90", more='state="waiting"'),
    **queues("queue_jobs", "2x90", "3x90", more='state="active"'),
    **queues("queue_held", "1x90", "_x90", more='reason="paused"'),
    **queues("jobs_enqueued_total", minutely(6), minutely(12)),
    **queues("job_outcomes_total", minutely(1), minutely(2), more='class="oom", final="true"'),
    **queues("job_outcomes_total", minutely(3), minutely(3), more='class="oom", final="false"'),
    **queues("job_outcomes_total", minutely(6), minutely(6), more='class="succeeded", final="true"'),
    **queues("queue_events_total", minutely(1), minutely(2), more='event="retrying"'),
    **told("dispatchers", "2x90", "3x90"),
    **told("unfinalized_jobs", "4x90", "6x90"),
    **told("schedules", "3x90", "4x90", more='state="active"'),
    **told("schedules", "1x90", "0x90", more='state="suspended"'),
    **told("schedule_oldest_due_timestamp_seconds", "5390x90", "5370x90"),
    **waits(),
    **{name: values for one in ("dispatch", "pending", "run") for name, values in shares(one, "a", "b").items()},
    **own("reconcile_last_success_timestamp_seconds", {"a": "5340x90", "b": "0x90", "c": "0x90", "d": "5280x90"}),
    **own("reconcile_seconds", {"a": "2x90", "b": "0x90", "c": "0x90", "d": "4x90"}),
    **own("redis_up", {"a": "1x90", "b": "0x90", "c": "1x90"}),
    **own("dispatcher_slots", {"a": "10x90", "b": "10x90", "c": "10x90"}, 'state="total"'),
    **own("dispatcher_slots", {"a": "1x90", "c": "3x90"}, 'state="creating"'),
    **own("build_info", {"a": "1x90", "b": "1x90", "c": "1x90"}, 'process="dispatcher"'),
    **own("external_metrics_certificate_expiry_timestamp_seconds", {"a": "91800x90", "b": "91800x90", "c": "0x90"}),
    **own("external_metrics_api_owned", {"a": "1x90", "b": "0x90", "c": "1x90"}),
    **own("external_metrics_requests_total", {"a": minutely(6), "b": minutely(6)}, 'code="503"'),
    **own("jobs_claimed_total", {"a": minutely(6), "c": minutely(12)}, REPORTS),
    **own("job_creates_total", {"a": minutely(6), "c": minutely(12)}, f'{REPORTS}, answer="created"'),
    **own("dispatcher_conflicts_total", {"a": minutely(6), "c": minutely(12)}, REPORTS),
    **own("dispatcher_breaker_open", {"a": "1x90", "b": "0x90"}, 'scope="queue", name="reports"'),
    **own("operator_work_items", {"a": "3x90"}),
    **own("watch_last_event_timestamp_seconds", {"a": "5340x90", "b": "0x90"}, 'kind="Job"'),
    **own("repairs_total", {"a": minutely(1), "c": minutely(1)}, 'case="job-missing"'),
    **own("operator_conflicts_total", {"a": minutely(6)}),
    **own("operator_leads", {"a": "1x90", "b": "0x90"}),
}


def each(north: float, south: float) -> dict[str, float]:
    """Return a value for the queue of each installation."""
    return {f"{{{NORTH}, {REPORTS}}}": north, f"{{{SOUTH}, {REPORTS}}}": south}


def pod(values: dict[str, float], more: str = "") -> dict[str, float]:
    """Return values by pod with all labels it has."""
    labels = f", {more}" if more else ""
    return {f'{{{NORTH}, instance="{name}"{labels}}}': value for name, value in values.items()}


QUANTILES: dict[str, dict[str, float]] = {"p50": {"{}": P50}, "p90": {"{}": P90}, "p99": {"{}": P99}}
EXPECTED: dict[str, dict[str, dict[str, float]]] = {
    "Overview: Waiting": {"__auto": {"{}": 12}},
    "Overview: In flight": {"__auto": {"{}": 5}},
    "Overview: Oldest waiting": {"__auto": {"{}": 300}},
    "Overview: Failed, last hour": {"__auto": {"{}": 180}},
    "Overview: Dispatchers": {"__auto": {"{}": 5}},
    "Overview: Held queues": {"__auto": {"{}": 1}},
    "Overview: Reconciled": {"__auto": {"{}": 120}},
    "Overview: Without Redis": {"__auto": {"{}": 1}},
    "Queues: Waiting": {"{{queue}}": each(5, 7)},
    "Queues: In flight and its limit": {"{{queue}}": each(2, 3), "{{queue}} limit": each(4, 6)},
    "Queues: Oldest waiting": {"{{queue}}": each(300, 100)},
    "Queues: Enqueued and ended": {"enqueued": {"{}": 0.3}, "ended": {"{}": 0.25}},
    "Queues: Ended attempts by outcome": {"{{class}}": {'{class="oom"}': 0.15, '{class="succeeded"}': 0.2}},
    "Queues: Jobs by state": {"{{state}}": {'{state="waiting"}': 12, '{state="active"}': 5}},
    "Queues: Wait": QUANTILES,
    "Queues: Claim to Job": QUANTILES,
    "Queues: Job to running container": QUANTILES,
    "Queues: Run": QUANTILES,
    "Queues: Held back": {"{{queue}}: {{reason}}": {f'{{{NORTH}, {REPORTS}, reason="paused"}}': 1}},
    "Queues: Schedules": {
        "{{state}}": {'{state="active"}': 7, '{state="suspended"}': 1},
        "seconds a tick is late": {"{}": 30},
    },
    "Queues: Beside the usual": {"{{event}}": {'{event="retrying"}': 0.05}},
    "Autoscaling: Demand and room": {
        "demand": {"{}": 20},
        "in flight": {"{}": 5},
        "room (slots of all dispatchers)": {"{}": 30},
    },
    "Autoscaling: Dispatchers": {"live": {"{}": 5}, "scraped": {"{}": 3}},
    "Autoscaling: The external metrics API's certificate": {"{{instance}}": pod({"a": 86_400})},
    "Autoscaling: Answers of the external metrics API": {"{{code}}": {'{code="503"}': 0.2}},
    "Dispatchers: Claims": {"{{instance}}": {'{instance="a"}': 0.1, '{instance="c"}': 0.2}},
    "Dispatchers: Creates by answer": {"{{answer}}": {'{answer="created"}': 0.3}},
    "Dispatchers: Creating now": {"{{instance}}": {'{instance="a"}': 1, '{instance="c"}': 3}},
    "Dispatchers: Open breakers": {"{{scope}} {{name}}": {'{scope="queue", name="reports"}': 1}},
    "Dispatchers: Claims that passed to somebody else": {"{{queue}}": {f"{{{REPORTS}}}": 0.3}},
    "Operators: Work queue": {"{{instance}}": pod({"a": 3})},
    "Operators: Age of what was heard and compared": {
        "{{kind}}, {{instance}}": pod({"a": 60}, 'kind="Job"'),
        "compared": {"{}": 120},
        "comparing took": {"{}": 4},
    },
    "Operators: Repairs": {"{{case}}": {'{case="job-missing"}': 120}},
    "Operators: Owed to the cluster": {"Jobs": {"{}": 10}},
    "Operators: Late reports": {"{{instance}}": pod({"a": 0.1})},
    "Operators: Who leads": {"{{instance}}": pod({"a": 1, "b": 0})},
}
"""Row and title of a panel -> legend of a query -> labels of each line -> value."""


def by_row() -> dict[str, list[Drawn]]:
    """Return all queries by row."""
    found: dict[str, list[Drawn]] = {}
    for one in drawn():
        found.setdefault(one.row, []).append(one)
    return found


def test_every_query_is_known_here() -> None:
    """None was added to the dashboard without its lines."""
    assert [(f"{one.row}: {one.title}", one.legend) for one in drawn()] == [
        (panel, legend) for panel, queries in EXPECTED.items() for legend in queries
    ]


@pytest.mark.parametrize("row", by_row())
def test_what_is_drawn_is_right_for_two_installations_of_two_replicas(row: str, tmp_path: Path) -> None:
    """The same figure told twice counts once, those of two installations are added up, as Prometheus reckons it."""
    tests = [
        {
            "expr": f"round({one.query}, 0.0001)",
            "eval_time": f"{AT_S}s",
            "exp_samples": [
                {"labels": labels, "value": round(value, 4)}
                for labels, value in EXPECTED[f"{one.row}: {one.title}"][one.legend].items()
            ],
        }
        for one in by_row()[row]
    ]
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    test: Json = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(tmp_path / "test.yml"))
