"""For each alert a story: what several queues, installations and replicas tell, and which alerts fire when, exactly.

Series are in promtool's notation, a value a minute. Beside what fires stands, for each part of a rule, what would fire
or be silent without that part: under the threshold, for too short a time, of another kind, told twice, told late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.monitoring import NAMESPACE

AWAY = "away"
"""The namespace of another installation that the same Prometheus scrapes."""
Series = dict[str, str]


@dataclass(frozen=True, slots=True)
class Story:
    """Series over time, and the labels of each alert that fires at a moment."""

    series: Series
    fires: Mapping[str, tuple[str, ...]]
    thresholds: Mapping[str, str] = field(default_factory=dict)
    """What differs from the chart's values."""


def told(name: str, *values: str, of: str = "", at: str = NAMESPACE) -> Series:
    """Return a series of each pod of an installation, as many as there are values; ``of`` = further labels."""
    labels = f", {of}" if of else ""
    return {
        f'heavylift_{name}{{namespace="{at}", instance="{pod}"{labels}}}': text
        for pod, text in zip("ab", values, strict=False)
    }


def queue(name: str, metric: str, *values: str, of: str = "", at: str = NAMESPACE) -> Series:
    """Return the same of a queue."""
    return told(metric, *values, of=f'queue="{name}"' + (f", {of}" if of else ""), at=at)


def named(name: str, at: str = NAMESPACE) -> str:
    """Return a queue's labels."""
    return f'{{namespace="{at}", queue="{name}"}}'


def place(at: str = NAMESPACE) -> str:
    """Return an installation's labels."""
    return f'{{namespace="{at}"}}'


OLDEST = "queue_oldest_waiting_timestamp_seconds"
DUE = "schedule_oldest_due_timestamp_seconds"
SUCCESS = "reconcile_last_success_timestamp_seconds"
HEARD = "watch_last_event_timestamp_seconds"
EXPIRY = "external_metrics_certificate_expiry_timestamp_seconds"
OOM, ERROR = 'class="oom", final="true"', 'class="error", final="true"'
QUARANTINED = 'event="quarantined"'
NO_QUEUE, BREAKER = 'reason="no-heavyqueue"', 'reason="breaker"'
CREATED = 'queue="reports", answer="created"'
OPERATOR, DISPATCHER = 'process="operator"', 'process="dispatcher"'

STORIES: dict[str, Story] = {  # by the alert's name, which other words may follow
    "HeavyliftBacklog": Story(
        queue("long", "queue_waiting", "1001x30")
        | queue("long", "queue_waiting", "0x9 1001x20", at=AWAY)
        | queue("half told", "queue_waiting", "1001x30", "3x30")
        | queue("at the limit", "queue_waiting", "1000x30")
        | queue("told twice", "queue_waiting", "600x30", "600x30")
        | queue("with a break", "queue_waiting", "1001x10 5x3 1001x10"),
        {"14m": (), "16m": (named("long"), named("half told"))},
    ),
    "HeavyliftOldestWaiting": Story(
        queue("old", OLDEST, "0x120")
        | queue("old", "queue_paused", "0x120")
        | queue("old", OLDEST, "0x120", at=AWAY)
        | queue("old", "queue_paused", "1x120", "1x120", at=AWAY)
        | queue("told twice", OLDEST, "500x120", "500x120")
        | queue("young", OLDEST, "3000x120")
        | queue("told anew", OLDEST, "0x120", "4000x120")
        | queue("just paused", OLDEST, "0x120")
        | queue("just paused", "queue_paused", "0x120", "1x120"),
        {"63m": (), "75m": (named("old"), named("told twice"))},
    ),
    "HeavyliftJobsFailed": Story(
        queue("two classes", "job_outcomes_total", "0x5 2x40", of=OOM)
        | queue("two classes", "job_outcomes_total", "0x5 2x40", of=ERROR)
        | queue("half told", "job_outcomes_total", "0x5 4x40", "0x45", of=OOM)
        | queue("told twice", "job_outcomes_total", "0x5 2x40", "0x5 2x40", of=OOM)
        | queue("before", "job_outcomes_total", "9x45", of=OOM)
        | queue("well", "job_outcomes_total", "0x5 9x40", of='class="succeeded", final="true"')
        | queue("cancelled", "job_outcomes_total", "0x5 9x40", of='class="cancelled", final="true"')
        | queue("deleted", "job_outcomes_total", "0x5 9x40", of='class="job-deleted", final="true"')
        | queue("retried", "job_outcomes_total", "0x5 9x40", of='class="oom", final="false"'),
        {"8m": (named("two classes"), named("half told")), "40m": ()},
        {"failedJobs": "3"},
    ),
    "HeavyliftJobsFailed by default": Story(
        queue("one", "job_outcomes_total", "0x5 1x20", of=OOM) | queue("before", "job_outcomes_total", "9x25", of=OOM),
        {"4m": (), "8m": (named("one"),)},
    ),
    "HeavyliftQueueNotServed": Story(
        queue("orphan", "queue_waiting", "1x20", "1x20")
        | queue("orphan", "queue_held", "1x20", "1x20", of=NO_QUEUE)
        | queue("orphan", "queue_waiting", "5x20", at=AWAY)
        | queue("half told", "queue_waiting", "1x20", "0x20")
        | queue("half told", "queue_held", "1x20", "0x20", of=NO_QUEUE)
        | queue("empty", "queue_waiting", "0x20")
        | queue("empty", "queue_held", "1x20", of=NO_QUEUE)
        | queue("served", "queue_waiting", "5x20")
        | queue("served", "queue_held", "0x20", of=NO_QUEUE)
        | queue("paused", "queue_waiting", "5x20")
        | queue("paused", "queue_held", "1x20", of='reason="paused"'),
        {"9m": (), "11m": (named("orphan"), named("half told"))},
    ),
    "HeavyliftEntriesQuarantined": Story(
        queue("new", "queue_events_total", "0x5 1x40", "0x45", of=QUARANTINED)
        | queue("before", "queue_events_total", "3x45", of=QUARANTINED)
        | queue("dropped", "queue_events_total", "0x5 1x40", of='event="dropped"'),
        {"8m": (named("new"),), "40m": ()},
    ),
    "HeavyliftTickLate": Story(
        told(DUE, "0x9")
        | told(DUE, "240x9", "240x9", at="told twice")
        | told(DUE, "-30+60x9", at="soon enough")
        | told(DUE, "0x9", "0+60x9", at="told anew"),
        {"3m": (), "4m": (place(),), "8m": (place(), place("told twice"))},
    ),
    "HeavyliftBreakerOpen": Story(
        queue("open", "queue_held", "1x20", "1x20", of=BREAKER)
        | queue("half told", "queue_held", "1x20", "0x20", of=BREAKER)
        | queue("shut", "queue_held", "0x20", of=BREAKER)
        | queue("paused", "queue_held", "1x20", of='reason="paused"')
        | told("dispatcher_breaker_open", "1x20", "1x20", of='scope="namespace", name="both"')
        | told("dispatcher_breaker_open", "1x20", "0x20", of='scope="namespace", name="one"')
        | told("dispatcher_breaker_open", "1x3 0x20", "0x20", of='scope="queue", name="again well"'),
        {
            "4m": (),
            "6m": (
                named("open"),
                named("half told"),
                *(
                    f'{{namespace="{NAMESPACE}", scope="namespace", name="{name}", queue="{name}"}}'
                    for name in ("both", "one")
                ),
            ),
        },
    ),
    "HeavyliftRedisDown": Story(
        told("redis_up", "0x9", "0 1x9"),
        {"1m": (), "3m": (f'{{namespace="{NAMESPACE}", instance="a"}}',)},
    ),
    "HeavyliftOperatorAbsent": Story(
        told("build_info", "1x9", of=DISPATCHER)
        | told("build_info", "1x30", of=OPERATOR, at=AWAY)
        | told("build_info", "_x9 1x9 _x20", of=OPERATOR),
        {"4m": (), "6m": (f'{{namespace="{NAMESPACE}", process="operator"}}',), "15m": ()},
    ),
    "HeavyliftNobodyLeads": Story(
        told("operator_leads", "0x9", "0x9") | told("operator_leads", "0x9", "1x9", at=AWAY),
        {"4m": (), "6m": (place(),)},
    ),
    "HeavyliftReconcileStale": Story(
        told(SUCCESS, "0x9")
        | told(SUCCESS, "200x9", "200x9", at="told twice")
        | told(SUCCESS, "0x9", "0 0+60x9", at="by the other"),
        {"5m": (), "6m": (place(),), "9m": (place(), place("told twice"))},
    ),
    "HeavyliftWatchStale": Story(
        told(HEARD, "0x40", "0+60x40", of='kind="Job"')
        | told(HEARD, "0x40", of='kind="Pod"')
        | told("operator_leads", "1x40", "0x40")
        | told("job_creates_total", "0+1x20 20x20", of=CREATED)
        | told(HEARD, "0 0 0+60x40", of='kind="Job"', at="in time")
        | told("operator_leads", "1x40", at="in time")
        | told("job_creates_total", "0+1x40", of=CREATED, at="in time")
        | told(HEARD, "0x40", of='kind="Job"', at="quiet")
        | told("operator_leads", "1x40", at="quiet")
        | told(HEARD, "0x40", "0+60x40", of='kind="Job"', at="by the other")
        | told("operator_leads", "0x40", "1x40", at="by the other")
        | told("job_creates_total", "0+1x40", of=CREATED, at="by the other")
        | told("job_creates_total", "7x40", of=CREATED, at="quiet")
        | told("job_creates_total", "0+1x40", of='queue="reports", answer="quota"', at="quiet"),
        {"7m": (), "9m": (f'{{namespace="{NAMESPACE}", instance="a", kind="Job"}}',), "30m": ()},
    ),
    "HeavyliftDispatcherAbsent": Story(
        told("dispatchers", "0x9", "0x9")
        | queue("reports", "queue_startable", "1x9", "0x9")
        | told("dispatchers", "0x9", at="idle")
        | queue("reports", "queue_startable", "0x9", at="idle")
        | told("dispatchers", "0x9", "1x9", at="served")
        | queue("reports", "queue_startable", "1x9", at="served"),
        {"4m": (), "6m": (place(),)},
    ),
    "HeavyliftRepairs": Story(
        told("repairs_total", "0x5 7x200", "0x5 7x200", of='case="job-missing"')
        | told("repairs_total", "0x5 9x200", of='case="job-unknown"')
        | told("repairs_total", "0x5 90x200", of='case="claim-adopted"'),
        {"30m": (f'{{namespace="{NAMESPACE}", case="job-missing"}}',), "90m": ()},
    ),
    "HeavyliftUnfinalized": Story(
        told("unfinalized_jobs", "101x20", "0x20")
        | told("unfinalized_jobs", "100x20", at="at the limit")
        | told("unfinalized_jobs", "60x20", "60x20", at="told twice"),
        {"14m": (), "16m": (place(),)},
    ),
    "HeavyliftExternalMetricsFailing": Story(
        told("external_metrics_requests_total", "0+4x20", of='code="503"')
        | told("external_metrics_requests_total", "0+4x20", of='code="404"', at="not found")
        | told("external_metrics_requests_total", "0x2 1x20", of='code="503"', at="once"),
        {"4m": (), "7m": (place(),), "9m": (place(),)},
    ),
    "HeavyliftCertificateEnds": Story(
        told(EXPIRY, "400000x9", "1000000x9") | told(EXPIRY, "0x9", at="without one"),
        {"1m": (f'{{namespace="{NAMESPACE}", instance="a"}}',)},
    ),
}
