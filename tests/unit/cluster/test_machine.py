"""What the test cluster reads of a machine: versions, capabilities, cgroups, networks, package sources."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.cluster import doctor, golang, packages, ports, rootfs
from tests.cluster.errors import ClusterError, MissingToolError
from tests.cluster.real import addresses, cgroups, config

SOURCES = """\
Types: deb
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.invalid/apt
Suites: stable
Components: main

Enabled: no
Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
"""


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.27rc1 linux/arm64", (1, 27)), ("gcc 12", None)],
)
def test_go_versions_are_read(text: str, version: tuple[int, int] | None) -> None:
    """Release and release candidate are understood; another program is no Go."""
    assert golang.parse_version(text) == version


def test_capabilities_are_read_bit_by_bit() -> None:
    """A capability is told from its neighbours; a status without the line has none."""
    status = "Name:\tx\nCapEff:\t000001fffeffffff\n"
    assert doctor.has_capability(status, doctor.CAP_SYS_ADMIN)
    assert not doctor.has_capability(status, 24)
    assert not doctor.has_capability("Name: x", doctor.CAP_SYS_ADMIN)


def test_cgroup_controllers_of_both_versions(tmp_path: Path) -> None:
    """Version 1 names controllers by folders, version 2 in a file."""
    (tmp_path / "memory").mkdir()
    assert doctor.cgroup_controllers(tmp_path) == {"memory"}
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert doctor.cgroup_controllers(tmp_path) == {"cpu", "memory", "pids"}
    assert doctor.cgroup_controllers(tmp_path / "none") == set()


def test_hierarchies_are_counted_once_whatever_links_lead_to_them(tmp_path: Path) -> None:
    """Version 1's customary links, such as cpu to cpu,cpuacct, do not double a hierarchy."""
    for name in ("cpu,cpuacct", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "stray").mkdir()
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu,cpuacct", tmp_path / "memory"]


def test_version_1_groups_get_cpus_before_processes(tmp_path: Path) -> None:
    """A cpuset's new group takes its parent's processors, else no process may enter it; removal takes the tree."""
    parent = tmp_path / "cpuset"
    (parent / "node").mkdir(parents=True)
    for name, text in (("cgroup.procs", ""), ("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (parent / name).write_text(text)
        (parent / "node" / name).write_text("")
    cgroups.create("node", tmp_path)
    assert (parent / "node" / "cpuset.cpus").read_text() == "0-1\n"
    assert cgroups.daemons("node", tmp_path) == "node"


def test_version_2_hands_controllers_down_and_sets_processes_aside(tmp_path: Path) -> None:
    """On version 2 the node's processes go one level deeper, so that its controllers may be handed to containers."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids rdma\n")
    cgroups.create("node", tmp_path)
    (tmp_path / "node" / "cgroup.procs").write_text("42\n")
    cgroups.delegate("node", tmp_path)
    assert (tmp_path / "node" / "node" / "cgroup.procs").read_text() == "42"
    assert (tmp_path / "node" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert cgroups.daemons("node", tmp_path) == "node/node"


def test_a_network_that_is_in_use_is_passed_over() -> None:
    """The next free range is taken, and different clusters begin their search at different places."""
    first = addresses.choose([], "/a")
    second = addresses.choose([first.network], "/a")
    assert second.network != first.network
    assert addresses.choose([f"{first.gateway}/32"], "/a").network != first.network
    assert len({addresses.choose([], f"/{index}").network for index in range(20)}) > 1


def test_all_networks_in_use_is_an_error() -> None:
    """A machine whose 10.x ranges are all taken is told so."""
    with pytest.raises(ClusterError, match="no free network"):
        addresses.choose(["10.192.0.0/10"], "/a")


def test_a_range_is_divided_without_overlap() -> None:
    """Pods, Services and the wire to the node lie apart."""
    plan = addresses.plan("10.201.0.0/16")
    assert plan == addresses.Addresses(
        "10.201.0.0/16", "10.201.0.0/17", "10.201.128.0/18", "10.201.255.1", "10.201.255.2"
    )
    assert plan.dns == "10.201.128.10"


def test_routes_name_the_networks_in_use() -> None:
    """Default routes are in nobody's way."""
    routes = json.dumps([{"dst": "default"}, {"dst": "10.200.0.0/16"}, {"type": "local", "dst": "10.210.0.2"}])
    assert addresses.used_networks(routes) == ["10.200.0.0/16", "10.210.0.2"]
    assert addresses.used_networks("") == []


def test_the_innermost_mount_tells_the_file_system() -> None:
    """A folder's file system is that of the longest mount point above it."""
    table = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /var rw shared:1 - ext4 /dev/x rw\n"
    assert config.filesystem_type(table, Path("/var/tmp/x")) == "ext4"  # noqa: S108 - only compared
    assert config.filesystem_type(table, Path("/variable")) == "overlay"


def test_ports_are_free_and_different() -> None:
    """A port that something listens on is not given out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not ports.is_free(taken.getsockname()[1])
    found = ports.free_ports(8)
    assert len(set(found)) == 8
    assert all(ports.FIRST <= port < ports.ceiling() for port in found)


def test_package_sources_are_the_machines_own_suite() -> None:
    """Entries of the suite are kept with their key; other vendors' and switched-off ones are not."""
    found = rootfs.of_suite(rootfs.deb822_sources(SOURCES), "bookworm")
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    assert found == [
        f"deb {key}http://mirror.invalid/debian bookworm main contrib",
        f"deb {key}http://mirror.invalid/debian bookworm-updates main contrib",
    ]


def test_one_line_sources_hold_binaries_only() -> None:
    """Comments and source packages are left out."""
    text = "# deb http://a.invalid x main\ndeb-src http://a.invalid x main\ndeb http://a.invalid x main\n"
    assert rootfs.one_line_sources(text) == ["deb http://a.invalid x main"]


def test_a_machine_without_sources_is_told_so(tmp_path: Path) -> None:
    """The message names the place where the sources should be."""
    with pytest.raises(MissingToolError, match="no package source for bookworm"):
        rootfs.host_sources("bookworm", tmp_path)


def test_apts_proxies_and_authorities_are_handed_on() -> None:
    """Only what says how sources are reached goes into an image's apt."""
    dump = 'APT "";\nAcquire::http::Proxy "http://proxy.invalid:3128";\nAcquire::http::Pipeline-Depth "5";\n'
    assert rootfs.host_options(dump) == ['Acquire::http::Proxy "http://proxy.invalid:3128";']


def test_root_is_asked_for_when_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the message has the whole command."""
    monkeypatch.setattr(packages, "missing", lambda _nodes: ["runc"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")
    with pytest.raises(MissingToolError, match="sudo apt-get install -y --no-install-recommends runc"):
        packages.ensure("real", print)


def test_a_program_from_elsewhere_is_as_good_as_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What counts is the program, not the package that brought it."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(packages, "KWOK", {"redis-server": "/nonexistent/redis-server"})
    monkeypatch.setenv("PATH", "")
    assert packages.missing("kwok") == ["redis-server"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.missing("kwok") == []
