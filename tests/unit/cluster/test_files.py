"""What the test cluster writes: certificates, kubeconfigs, flags, and the life of simulated pods."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from tests.cluster import ClusterError, ClusterSpec, controlplane, packages, stages
from tests.cluster.access import VARIABLE, given_cluster
from tests.cluster.layout import Layout
from tests.cluster.real import config, manifests

NODE_STAGE = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": "node"}}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Give a layout on loopback in an empty folder."""
    return Layout.on_loopback(tmp_path, tmp_path / "bin")


def test_every_component_has_an_identity_of_its_own(layout: Layout) -> None:
    """Users, groups and names are as Kubernetes' own roles expect, and keys are their owner's alone."""
    controlplane.write_identities(layout)
    certificate = x509.load_pem_x509_certificate((layout.pki / "scheduler.crt").read_bytes())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["system:kube-scheduler"]
    server = x509.load_pem_x509_certificate((layout.pki / "apiserver.crt").read_bytes())
    found = server.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(found, x509.SubjectAlternativeName)
    assert "kubernetes.default.svc" in found.get_values_for_type(x509.DNSName)
    assert {str(ip) for ip in found.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "10.96.0.1"}
    authority = x509.load_pem_x509_certificate((layout.pki / "ca.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    for path in [*layout.pki.glob("*.key"), layout.kubeconfig, *(layout.folder / "conf").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_kubeconfigs_point_to_their_identity(layout: Layout) -> None:
    """Each component's kubeconfig reaches the one server with the component's own key."""
    controlplane.write_identities(layout)
    content = yaml.safe_load(layout.kubeconfig_of("kwok").read_text())
    assert content["clusters"][0]["cluster"]["server"] == layout.server
    assert content["users"][0]["user"]["client-key"] == str(layout.pki / "kwok.key")


def test_a_layout_is_read_back_as_it_was(layout: Layout) -> None:
    """Ports are chosen once: a later command finds the same."""
    layout.save()
    assert Layout.load(layout.folder) == layout
    with pytest.raises(ClusterError, match="no running cluster"):
        Layout.load(layout.folder / "none")


def test_the_callers_flags_come_last_and_win(layout: Layout) -> None:
    """Flags of the spec stand after ours, where Kubernetes' programs take the last."""
    spec = ClusterSpec(kcm_flags=("--concurrent-job-syncs=20",), apiserver_flags=("--v=2",), scheduler_flags=("--v=3",))
    parts = controlplane.commands(spec, layout)
    assert parts["kube-controller-manager"].argv[-1] == "--concurrent-job-syncs=20"
    assert parts["kube-apiserver"].argv[-1] == "--v=2"
    assert parts["kube-scheduler"].argv[-1] == "--v=3"


def test_programs_get_none_of_the_callers_settings(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and Kubernetes settings of the caller's shell reach no program; the mark of the cluster does."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    env = controlplane.environment(layout)
    assert set(env) == {"PATH", "HOME", controlplane.MARK}
    assert env[controlplane.MARK] == str(layout.folder)


def test_stages_select_states_that_exclude_each_other(tmp_path: Path) -> None:
    """Kwok draws lots among stages that match at once, so no state of a pod may have two."""
    for name in stages.NODE_STAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump(NODE_STAGE))
    documents = list(yaml.safe_load_all(stages.kwok_config(tmp_path)))
    assert documents[0]["kind"] == "KwokConfiguration"
    pods = documents[3:]
    assert {pod["spec"]["resourceRef"]["kind"] for pod in pods} == {"Pod"}
    selectors = []
    for pod in pods:
        parts = pod["spec"]["selector"]["matchExpressions"]
        keys = {part["key"].splitlines()[-1]: (part["operator"], tuple(part.get("values", ()))) for part in parts}
        selectors.append((pod["metadata"]["name"], keys))
    states = [
        (keys[".metadata.deletionTimestamp"][0], phase) for _, keys in selectors for phase in keys[".status.phase"][1]
    ]
    twice = {state for state in states if states.count(state) > 1}
    assert twice == {("DoesNotExist", "Pending")}
    pending = [keys for _, keys in selectors if "Pending" in keys[".status.phase"][1]][:2]
    assert 'settings | has("waiting")' in pending[0]
    assert 'settings | has("waiting") | not' in pending[1]


def test_cluster_dns_lies_in_the_services_range(layout: Layout) -> None:
    """The DNS Service has no selector: its endpoint is the node, where CoreDNS runs as a program."""
    created = dict(manifests.objects(layout, "10.96.0.10"))
    service = created["/api/v1/namespaces/kube-system/services"]
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert "selector" not in service["spec"]
    assert config.kubelet(layout, "10.96.0.10")["clusterDNS"] == ["10.96.0.10"]


def test_no_service_starts_while_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's own switch is set for as long as it takes, and a switch of the machine's owner is not touched."""
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", policy)
    with packages._no_services():
        assert policy.read_text().endswith("exit 101\n")
        assert policy.stat().st_mode & 0o111
    assert not policy.exists()
    policy.write_text("#!/bin/sh\nexit 0\n")
    with packages._no_services():
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()


def test_a_given_cluster_is_used_by_its_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable names a kubeconfig; without it there is none, and a wrong one is told at once."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert given_cluster() is None
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="no such file"):
        given_cluster()
    (tmp_path / "config").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "config"))
    given = given_cluster()
    assert given is not None
    assert given.kubeconfig == tmp_path / "config"
