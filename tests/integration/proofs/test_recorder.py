"""The recorder sees each Job that ever stood, also across restarts of the API server."""

from __future__ import annotations

import pytest

from heavylift.contract.names import Annotation
from tests.cluster import Cluster
from tests.proofs.install import ensure_namespace
from tests.proofs.kube import Json, Kube, batch
from tests.proofs.recorder import JobRecorder
from tests.proofs.waiting import until

NAMESPACE = "k-recorder"


@pytest.fixture
def bare(kwok: Cluster) -> Kube:
    """Give the raw client without our CRDs."""
    client = Kube(kwok.kubeconfig)
    ensure_namespace(client, NAMESPACE)
    return client


def manifest(name: str) -> Json:
    """Return a Job that runs for ever."""
    annotations = {Annotation.JOB_ID: name, Annotation.EXECUTION: f"{name}-1"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}
    template = {"metadata": {"annotations": {"heavylift-test/hold": "true"}}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"template": template},
    }


def test_recorder_survives_the_api_server(bare: Kube, kwok: Cluster) -> None:
    """A Job made before, between and after two restarts is recorded once each; one made anew has two UIDs."""
    with JobRecorder(bare, NAMESPACE) as recorder:
        bare.create(batch(NAMESPACE), manifest("before"))
        kwok.restart("kube-apiserver")
        bare.create(batch(NAMESPACE), manifest("between"))
        kwok.kill("kube-apiserver")
        kwok.start("kube-apiserver")
        bare.create(batch(NAMESPACE), manifest("twice"))
        recorder.catch_up()
        bare.delete(batch(NAMESPACE, "twice"), propagationPolicy="Background")
        until(lambda: bare.get(batch(NAMESPACE, "twice")) is None, "the Job to be gone")
        bare.create(batch(NAMESPACE), manifest("twice"))
        recorder.catch_up()
        seen = {job: len(uids) for (job, _), uids in recorder.uids().items()}
        kinds = [sight.kind for sight in recorder.sightings() if sight.job == "twice"]
    assert seen == {"before": 1, "between": 1, "twice": 2}
    assert kinds.count("DELETED") == 1
