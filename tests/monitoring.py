"""What the chart brings for monitoring, as its tests read it: rules, dashboard, and the names there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "heavylift"
NAMESPACE = "lift"
_ROW = re.compile(r"^\| `(heavylift_\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def rules(*, namespace: str = NAMESPACE, **changes: object) -> list[Json]:
    """Return the groups of rules as the chart renders them: thresholds of values.yaml but for ``changes``."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["prometheusRule"]["thresholds"]
    text = (CHART / "monitoring" / "rules.yaml").read_text().replace("<namespace>", namespace)
    for name, value in {**values, **changes}.items():
        text = text.replace(f"<{name}>", str(value))
    groups: list[Json] = yaml.safe_load(text)["groups"]
    return groups


def dashboard() -> Json:
    """Return the Grafana dashboard."""
    found: Json = json.loads((CHART / "monitoring" / "dashboard.json").read_text())
    return found


@dataclass(frozen=True, slots=True)
class Drawn:
    """One query of the dashboard."""

    row: str
    title: str
    legend: str
    query: str
    """With the variables filled in as Grafana does for All and a long time range."""


def drawn() -> Iterator[Drawn]:
    """Yield every query of every panel."""
    row = ""
    for panel in dashboard()["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1h").replace("$namespace", ".*").replace("$queue", ".*")
            yield Drawn(row, panel["title"], target["legendFormat"], query)


def panels() -> Iterator[tuple[str, str]]:
    """Yield (panel's title, query) of every query."""
    for one in drawn():
        yield one.title, one.query


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Return each metric of the reference page: (type, labels); histograms by their series."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for name, kind, labels, _ in _ROW.findall((ROOT / "docs" / "reference" / "metrics.md").read_text()):
        known = frozenset(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found |= {f"{name}_{part}": (kind, known | {"le"}) for part in ("bucket", "sum", "count")}
        else:
            found[name] = (kind, known | (found[name][1] if name in found else frozenset()))
    return found
