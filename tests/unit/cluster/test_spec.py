"""Descriptions of clusters: what is refused, and what is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import ClusterError, ClusterSpec
from tests.cluster.cluster import ordered


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nodes": "kind"}, "known shapes are kwok and real"),
        ({"name": "Upper"}, "lower case letters"),
        ({"name": "-dash"}, "lower case letters"),
        ({"name": "a" * 21}, "1 to 20"),
        ({"name": "../up"}, "lower case letters"),
        ({"node_count": 0}, "1 to 1000"),
        ({"state": Path("/" + "long/" * 20)}, "give a shorter --state"),
        ({"kcm_flags": ("kube-api-qps=5",)}, "write it in full"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(given: dict[str, Any], words: str) -> None:
    """A wrong description fails before anything is started and says what to write instead."""
    with pytest.raises(ClusterError, match=re.escape(words)):
        ClusterSpec(**given)


def test_a_spec_survives_its_state_folder() -> None:
    """What is written to the state folder is read back equal, so that `up` knows a cluster that runs as asked."""
    spec = ClusterSpec(name="a", node_count=3, state=Path("/s"), kcm_flags=("--kube-api-qps=500",))
    assert ClusterSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": "kwok"}', "null"])
def test_a_damaged_spec_is_an_error_of_ours(text: str) -> None:
    """A state folder written half is told from a whole one."""
    with pytest.raises(ClusterError, match="cannot be read"):
        ClusterSpec.from_json(text)


def test_components_stop_before_what_they_depend_on() -> None:
    """Unknown components go first; the API server outlives its clients, etcd the API server, the node goes last."""
    names = ["containerd", "etcd", "kube-apiserver", "kubelet", "node", "stranger", "kube-scheduler"]
    order = ordered(names)
    assert order == ["stranger", "kubelet", "kube-scheduler", "kube-apiserver", "etcd", "containerd", "node"]
