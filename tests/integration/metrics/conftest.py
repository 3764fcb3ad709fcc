"""One story for the module: four queues, two operators and two dispatchers, watched by a real Prometheus throughout."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.integration.metrics.story import Story
from tests.prometheus import Prometheus
from tests.proofs.kube import Kube
from tests.proofs.processes import Supervisor
from tests.proofs.run import Run
from tests.servers import redis_binary, running

PATIENT = {"CLAIM_DEADLINE": "60s", "CREATE_PATIENCE": "40s"}
"""However busy the machine is, no claim goes silent: each is one Job."""


@pytest.fixture(scope="module")
def story(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Give the story once all its jobs have ended, but for those that run on or wait."""
    folder = tmp_path_factory.mktemp("metrics")
    with running(redis_binary(), folder) as server:
        run = Run(kube, server, folder, f"m-{uuid.uuid4().hex[:8]}")
        story = Story(run)
        daemons = [run.daemon("operator", f"operator-{n}") for n in range(2)]
        daemons += [run.daemon("dispatcher", f"dispatcher-{n}", **PATIENT) for n in range(2)]
        targets = {kind: [one.port for one in daemons if one.kind == kind] for kind in ("operator", "dispatcher")}
        prometheus = Prometheus(folder / "prometheus", targets, labels={"namespace": run.name}, rules=story.rules())
        with prometheus, Supervisor(*daemons) as supervisor:
            story.told(prometheus, supervisor)
            yield story
            supervisor.release()
            for daemon in daemons:
                daemon.kill()
