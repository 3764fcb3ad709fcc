"""Render against golden files: what the API server gets for a queue, a claim and a payload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from heavylift.errors import HeavyliftError
from heavylift.spec.models import HeavyQueue
from heavylift.spec.render import render
from tests.unit.worker.rendering import make_claim, make_payload

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix(".input.yaml") for path in GOLDEN.glob("*.input.yaml"))


def _rendered(name: str) -> Any:
    given = yaml.safe_load((GOLDEN / f"{name}.input.yaml").read_text())
    payload = make_payload(**given["payload"])
    try:
        return render(make_claim(**given["claim"]), HeavyQueue.parse(given["queue"]), payload, given["install"])
    except HeavyliftError as error:
        return {"error": {"type": type(error).__name__, "message": str(error)}}


@pytest.mark.parametrize("name", NAMES)
def test_render_equals_its_golden_file(name: str) -> None:
    """Each input renders to exactly its output."""
    path, rendered = GOLDEN / f"{name}.output.yaml", _rendered(name)
    if os.environ.get("HEAVYLIFT_GOLDEN") == "write":
        path.write_text(yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True, width=140))

    assert rendered == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_golden_jobs_fit_the_api_schema(name: str) -> None:
    """Every rendered Job fits Kubernetes' own schema, strictly."""
    rendered = _rendered(name)

    assert ("error" in rendered) == name.startswith("refused-")
    if "error" not in rendered:
        kubernetes_validate.validate(rendered, "1.36", strict=True)
