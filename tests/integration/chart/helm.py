"""The chart, rendered and installed by the real helm."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
CHART = Path(__file__).parents[3] / "charts" / "heavylift"


class HelmError(Exception):
    """Helm refused; the message has its words."""


@dataclass(frozen=True, slots=True)
class Helm:
    """A helm program and, for what needs one, a cluster."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Run helm with these values and return what it prints.

        Raises:
            HelmError: it failed.
        """
        command = [str(self.program), *arguments, "--kubeconfig", str(self.kubeconfig)]
        if values is not None:
            command += ["--values", "-"]
        done = subprocess.run(
            command, input=json.dumps(values or {}), capture_output=True, text=True, check=False, timeout=280
        )
        if done.returncode:
            raise HelmError(done.stderr.strip())
        return done.stdout

    def render(self, values: Mapping[str, Any] | None = None, *, namespace: str = "lift") -> list[Json]:
        """Return all objects of the chart, hooks too, as release ``rel``; CRDs only when the values speak of them."""
        wanted = {"crds": {"install": False}, **(values or {})}
        return copy.deepcopy(_render(self, json.dumps(wanted, sort_keys=True), namespace))


@cache
def _render(helm: Helm, values: str, namespace: str) -> list[Json]:
    text = helm.run("template", "rel", str(CHART), "--namespace", namespace, values=json.loads(values))
    return [doc for doc in yaml.load_all(text, Loader=yaml.CSafeLoader) if doc]


def named(objects: Iterable[Json], kind: str, name: str, namespace: str | None = None) -> Json:
    """Return the one object of that kind and name."""
    (found,) = [
        obj
        for obj in objects
        if (obj["kind"], obj["metadata"]["name"]) == (kind, name)
        and namespace in {None, obj["metadata"].get("namespace")}
    ]
    return found


def pods(objects: Iterable[Json]) -> dict[str, Json]:
    """Return every pod template's spec, by ``Kind/name``."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["spec"]["template"]["spec"]
        for obj in objects
        if obj["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


def adapter_query(rule: Json, labels: Mapping[str, str]) -> str:
    """Return the query that prometheus-adapter makes of its rule for an autoscaler's selector."""
    series = re.fullmatch(r'\{__name__="(\w+)"\}', rule["seriesQuery"])
    assert series is not None
    matchers = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    query: str = rule["metricsQuery"].replace("<<.Series>>", series[1]).replace("<<.LabelMatchers>>", matchers)
    return query
