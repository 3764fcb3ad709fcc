"""The Grafana dashboard, from a short description of its rows; written into the chart by scripts/generate.py."""

# ruff: noqa: INP001 - imported by scripts/generate.py, run from the checkout

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]
FILE: Final = "charts/heavylift/monitoring/dashboard.json"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HERE: Final = 'namespace=~"$namespace"'
_QUEUE: Final = 'namespace=~"$namespace", queue=~"$queue"'
_ENDED: Final = f'{_QUEUE}, final="true"'
_WIDTH: Final = 24
_FAILED: Final = 'final="true", class!~"succeeded|cancelled|job-deleted"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: its queries by legend, and how they are drawn."""

    title: str
    queries: dict[str, str]
    says: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stack: bool = False
    red_above: float | None = None
    """Stats only: the value from which on it is shown in red; below it green."""
    options: Json = field(default_factory=dict)


def _stat(title: str, query: str, says: str, unit: str = "short", red_above: float | None = None) -> Panel:
    return Panel(
        title=title, queries={"": query}, says=says, unit=unit, kind="stat", width=3, height=4, red_above=red_above
    )


def _quantiles(name: str, title: str, says: str, over: str) -> Panel:
    """Return median and tail of a histogram; ``over`` adds the replicas up as the reference says: sum or max."""
    rate = f"sum by (le) ({over} by (namespace, queue, task, le) ({_rate(f'job_{name}_seconds_bucket', _QUEUE)}))"
    return Panel(
        title=title,
        queries={f"p{share}": f"histogram_quantile(0.{share}, {rate})" for share in (50, 90, 99)},
        says=says,
        unit="s",
        width=6,
    )


def _rate(name: str, where: str) -> str:
    """Return a counter per second."""
    return f"rate(heavylift_{name}{{{where}}}[$__rate_interval])"


def _told(name: str, *labels: str, more: str = "") -> str:
    """Return a figure of queues, as the leading operator tells it."""
    return f"max by ({', '.join(('namespace', 'queue', *labels))}) (heavylift_{name}{{{_QUEUE}{more}}})"


def _grown(rate: str, *labels: str) -> str:
    """Return how a counter of queues grew, as the leading operator tells it."""
    return f"max by ({', '.join(('namespace', 'queue', *labels))}) ({rate})"


def _of_install(name: str, *labels: str) -> str:
    """Return a figure of each installation, a namespace each, as its leading operator tells it."""
    return f"max by ({', '.join(('namespace', *labels))}) (heavylift_{name}{{{_HERE}}})"


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Overview": (
        _stat("Waiting", f"sum({_told('queue_waiting')})", "Jobs that wait, delayed ones that are due included."),
        _stat("In flight", f"sum({_told('queue_in_flight')})", "Executions now."),
        _stat(
            "Oldest waiting",
            f"time() - min({_told('queue_oldest_waiting_timestamp_seconds')})",
            "How long the job at the head of a queue has waited.",
            "s",
            3600,
        ),
        _stat(
            "Failed, last hour",
            f"sum({_grown(f'increase(heavylift_job_outcomes_total{{{_QUEUE}, {_FAILED}}}[1h])', 'class')})",
            "Jobs that ended as failed.",
            red_above=1,
        ),
        _stat("Dispatchers", f"sum({_of_install('dispatchers')})", "Live dispatchers, as Redis counts them."),
        _stat(
            "Held queues",
            f"count({_told('queue_held', 'reason')} == 1) or vector(0)",
            "Queues that nothing is claimed of.",
            red_above=1,
        ),
        _stat(
            "Reconciled",
            f"time() - min({_of_install('reconcile_last_success_timestamp_seconds')})",
            "Since Redis and the cluster were compared to the end, in the installation where it is longest ago.",
            "s",
            180,
        ),
        _stat(
            "Without Redis",
            f"count(heavylift_redis_up{{{_HERE}}} == 0) or vector(0)",
            "Pods that Redis does not answer.",
            red_above=1,
        ),
    ),
    "Queues": (
        Panel(
            title="Waiting",
            queries={"{{queue}}": _told("queue_waiting")},
            says="By queue. What only the cap of its key holds back is in it.",
        ),
        Panel(
            title="In flight and its limit",
            queries={
                "{{queue}}": _told("queue_in_flight"),
                "{{queue}} limit": _told("queue_concurrency_limit"),
            },
            says="Executions, and concurrency.max where there is one.",
        ),
        Panel(
            title="Oldest waiting",
            queries={"{{queue}}": f"time() - {_told('queue_oldest_waiting_timestamp_seconds')}"},
            says="Age of the job at the head of the queue.",
            unit="s",
        ),
        Panel(
            title="Enqueued and ended",
            queries={
                "enqueued": f"sum({_grown(_rate('jobs_enqueued_total', _QUEUE))})",
                "ended": f"sum({_grown(_rate('job_outcomes_total', _ENDED), 'class')})",
            },
            says="Jobs per second; above each other: the backlog grows.",
            unit="ops",
        ),
        Panel(
            title="Ended attempts by outcome",
            queries={
                "{{class}}": f"sum by (class) ({_grown(_rate('job_outcomes_total', _QUEUE), 'class', 'final')}) > 0",
            },
            says="Attempts per second by outcome class, retried ones included.",
            unit="ops",
            stack=True,
        ),
        Panel(
            title="Jobs by state",
            queries={"{{state}}": f"sum by (state) ({_told('queue_jobs', 'state')})"},
            says="What Redis holds.",
        ),
        _quantiles("wait", "Wait", "From enqueued, due or retried to each claim.", "max"),
        _quantiles("dispatch", "Claim to Job", "From a claim to its recorded Job.", "sum"),
        _quantiles("pending", "Job to running container", "Scheduling, image, start.", "sum"),
        _quantiles("run", "Run", "From the container's start to its end.", "sum"),
        Panel(
            title="Held back",
            queries={"{{queue}}: {{reason}}": f"{_told('queue_held', 'reason')} == 1"},
            says="Queues that nothing is claimed of, and why.",
        ),
        Panel(
            title="Schedules",
            queries={
                "{{state}}": f"sum by (state) ({_of_install('schedules', 'state')})",
                "seconds a tick is late": f"time() - min({_of_install('schedule_oldest_due_timestamp_seconds')})",
            },
            says="How many there are, and for how long a tick has been due without its job.",
        ),
        Panel(
            title="Beside the usual",
            queries={"{{event}}": f"sum by (event) ({_grown(_rate('queue_events_total', _QUEUE), 'event')}) > 0"},
            says="Retries, claims given back, dropped and quarantined entries, late reports.",
            unit="ops",
        ),
    ),
    "Autoscaling": (
        Panel(
            title="Demand and room",
            queries={
                "demand": f"sum({_told('queue_demand')})",
                "in flight": f"sum({_told('queue_in_flight')})",
                "room (slots of all dispatchers)": f'sum(heavylift_dispatcher_slots{{{_HERE}, state="total"}})',
            },
            says="The autoscaler follows demand, in flight plus what may start now: it asks for demand / slots.",
            width=16,
        ),
        Panel(
            title="Dispatchers",
            queries={
                "live": f"sum({_of_install('dispatchers')})",
                "scraped": f'count(heavylift_build_info{{{_HERE}, process="dispatcher"}})',
            },
            says="Live by their heartbeats in Redis, and found by Prometheus.",
            width=8,
        ),
        Panel(
            title="The external metrics API's certificate",
            queries={
                "{{instance}}": (
                    f"(heavylift_external_metrics_certificate_expiry_timestamp_seconds{{{_HERE}}} > 0) - time()"
                    f" and heavylift_external_metrics_api_owned{{{_HERE}}} == 1"
                )
            },
            says="Time until it ends, where the cluster's APIService is ours; it is renewed long before.",
            unit="s",
            width=12,
        ),
        Panel(
            title="Answers of the external metrics API",
            queries={"{{code}}": f"sum by (code) ({_rate('external_metrics_requests_total', _HERE)})"},
            says="By HTTP status. While it fails, autoscalers keep the replicas they have.",
            unit="reqps",
            width=12,
        ),
    ),
    "Dispatchers": (
        Panel(
            title="Claims",
            queries={"{{instance}}": f"sum by (instance) ({_rate('jobs_claimed_total', _QUEUE)})"},
            says="Per second, by dispatcher.",
            unit="ops",
        ),
        Panel(
            title="Creates by answer",
            queries={"{{answer}}": f"sum by (answer) ({_rate('job_creates_total', _QUEUE)}) > 0"},
            says="What became of the creates of Jobs.",
            unit="ops",
            stack=True,
        ),
        Panel(
            title="Creating now",
            queries={"{{instance}}": f'sum by (instance) (heavylift_dispatcher_slots{{{_HERE}, state="creating"}})'},
            says="Claims whose Job is on its way.",
        ),
        Panel(
            title="Open breakers",
            queries={"{{scope}} {{name}}": f"max by (scope, name) (heavylift_dispatcher_breaker_open{{{_HERE}}}) == 1"},
            says="Queues and namespaces where creates failed in a row.",
            width=12,
        ),
        Panel(
            title="Claims that passed to somebody else",
            queries={"{{queue}}": f"sum by (queue) ({_rate('dispatcher_conflicts_total', _QUEUE)})"},
            says="A dispatcher was slower than its claim's deadline.",
            unit="ops",
            width=12,
        ),
    ),
    "Operators": (
        Panel(
            title="Work queue",
            queries={"{{instance}}": f"heavylift_operator_work_items{{{_HERE}}}"},
            says="Items that wait to be attended to.",
        ),
        Panel(
            title="Age of what was heard and compared",
            queries={
                "{{kind}}, {{instance}}": f"time() - (heavylift_watch_last_event_timestamp_seconds{{{_HERE}}} > 0)",
                "compared": f"time() - min({_of_install('reconcile_last_success_timestamp_seconds')})",
                "comparing took": f"max(heavylift_reconcile_seconds{{{_HERE}}})",
            },
            says="Since the last event of a kind (quiet times are long); since the last pass, and how long it took.",
            unit="s",
        ),
        Panel(
            title="Repairs",
            queries={"{{case}}": f"sum by (case) (increase(heavylift_repairs_total{{{_HERE}}}[$__rate_interval])) > 0"},
            says="Rows of the reconciler's table that mended something.",
        ),
        Panel(
            title="Owed to the cluster",
            queries={"Jobs": f"sum({_of_install('unfinalized_jobs')})"},
            says="Jobs finished in Redis whose last PATCH is not confirmed.",
        ),
        Panel(
            title="Late reports",
            queries={"{{instance}}": _rate("operator_conflicts_total", _HERE)},
            says="Reports of executions that are no longer current; they change nothing.",
            unit="ops",
        ),
        Panel(
            title="Who leads",
            queries={"{{instance}}": f"heavylift_operator_leads{{{_HERE}}}"},
            says="The operator that holds the lock tells what Redis knows of the queues.",
        ),
    ),
}


def dashboard_files() -> Iterator[tuple[str, str]]:
    """Yield the dashboard's path and content."""
    yield FILE, json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def dashboard() -> Json:
    """Return the dashboard as Grafana 9 or later reads it."""
    return {
        "uid": "heavylift",
        "title": "Heavylift",
        "description": "Heavy jobs from RQ queues as Kubernetes Jobs: queues, autoscaling, dispatchers, operators.",
        "tags": ["heavylift", "kubernetes", "queue"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source", "current": {}}
    for name, label, query in (
        ("namespace", "Namespace", "label_values(heavylift_build_info, namespace)"),
        ("queue", "Queue", 'label_values(heavylift_queue_waiting{namespace=~"$namespace"}, queue)'),
    ):
        yield {
            "name": name,
            "type": "query",
            "label": label,
            "datasource": _SOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[Json]:
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            "panels": [],
        }
        top, left = top + 1, 0
        for panel in panels:
            number += 1
            if left + panel.width > _WIDTH:
                top, left = top + panel.height, 0
            yield _panel(panel, number, left, top)
            left += panel.width
        top += panels[-1].height


def _panel(panel: Panel, number: int, left: int, top: int) -> Json:
    steps: list[Json] = [{"color": "green" if panel.red_above is not None else "blue", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    custom = {"fillOpacity": 20 if panel.stack else 8, "lineWidth": 1, "showPoints": "never"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {**custom, "stacking": {"mode": "normal"}} if panel.stack else custom,
            },
            "overrides": [],
        },
        "options": _options(panel),
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": query, "legendFormat": legend or "__auto"}
            for n, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        calculated = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": calculated, "colorMode": "value", "graphMode": "area", **panel.options}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}, **panel.options}
