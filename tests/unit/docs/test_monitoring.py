"""Dashboard and alert rules speak of metrics and labels that there are, and the guide of every alert."""

from __future__ import annotations

import re

import pytest

from tests.monitoring import ROOT, dashboard, documented, panels, rules

TARGET_LABELS = {"namespace", "instance", "pod", "job"}
"""What Prometheus adds to each series of a target."""
QUERIES = [
    *(pytest.param(query, id=f"panel {title}") for title, query in panels()),
    *(pytest.param(rule["expr"], id=rule["alert"]) for group in rules() for rule in group["rules"]),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_there_are(query: str) -> None:
    """As the reference page lists them, which is made from the code."""
    known = documented()
    names = set(re.findall(r"heavylift_\w+", query))
    assert names
    assert names <= set(known)
    labels = set().union(*(known[name][1] for name in names)) | TARGET_LABELS
    matched = {label for inside in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+) *[=!]", inside)}
    grouped = {label for inside in re.findall(r"(?:by|on) *\(([^)]*)\)", query) for label in re.findall(r"\w+", inside)}
    assert matched | grouped <= labels


def test_every_metric_is_looked_at_somewhere() -> None:
    """On the dashboard or by an alert; else nobody would miss it."""
    text = " ".join(
        [*(query for _, query in panels()), *(rule["expr"] for group in rules() for rule in group["rules"])]
    )
    shown = set(re.findall(r"heavylift_\w+", text))
    names = {
        re.sub(r"_(bucket|sum|count)$", "", name) if kind == "histogram" else name
        for name, (kind, _) in documented().items()
    }
    unseen = {name for name in names if not any(one.startswith(name) for one in shown)}
    assert unseen <= {
        "heavylift_snapshot_timestamp_seconds",
        "heavylift_executions",
        "heavylift_queue_rate_left",
        "heavylift_queue_aside",
    }


def test_panels_stand_beside_each_other() -> None:
    """Each in the grid of 24, none on top of another, each with a sentence that explains it."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith(".")
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_the_dashboard_asks_the_source_that_is_chosen() -> None:
    """Every panel, query and variable names the variable of the data source, and uses only variables there are."""
    found = dashboard()
    variables = {one["name"]: one for one in found["templating"]["list"]}
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert {one["datasource"]["uid"] for one in variables.values() if one["type"] == "query"} == {chosen["uid"]}
    used = set()
    for panel in found["panels"]:
        targets = panel.get("targets", [])
        assert bool(targets) is (panel["type"] != "row")
        assert all(one["datasource"] == chosen for one in [panel, *targets] if panel["type"] != "row")
        assert len({target["refId"] for target in targets}) == len(targets)
        used |= {name for target in targets for name in re.findall(r"\$(\w+)", target["expr"])}
    assert used == {"namespace", "queue", "__rate_interval"}
    assert used - {"__rate_interval"} <= set(variables)


def test_the_guide_lists_every_alert() -> None:
    """With what to do about it, in the rules' order."""
    guide = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    listed = re.findall(r"^\| `(Heavylift\w+)` \|", guide, re.MULTILINE)
    assert listed == [rule["alert"] for group in rules() for rule in group["rules"]]
