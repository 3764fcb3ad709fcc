"""Building the cluster's programs: never half a program, never twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.errors import ClusterError
from tests.cluster.paths import TOOLS

GO = """\
#!/bin/sh
# Stands in for Go: "builds" by writing its target, as slowly as the test says.
case "$1" in list) echo "$MODULE"; exit 0;; esac
while [ $# -gt 1 ]; do [ "$1" = -o ] && target=$2; shift; done
echo "package/one" >&2
case "$target" in *.kwok.part) [ -e "$BROKEN" ] && { echo "syntax error" >&2; echo half > "$target"; exit 1; };; esac
echo "$1" > "$target"
echo built >> "$COUNT"
"""


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Go and an empty cache folder in place; give the file that counts builds."""
    go, module = tmp_path / "go", tmp_path / "module"
    go.write_text(GO)
    go.chmod(0o755)
    (module / "kustomize" / "stage" / "pod").mkdir(parents=True)
    (module / "kustomize" / "stage" / "pod" / "one.yaml").write_text("x")
    for name, path in (("MODULE", module), ("COUNT", tmp_path / "count"), ("BROKEN", tmp_path / "broken")):
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "ensure_go", lambda: go)
    return tmp_path / "count"


def silent(_line: str) -> None:
    """Say nothing."""


def test_every_program_of_a_shape_is_built_once(count: Path) -> None:
    """A second run builds nothing; the real shape adds what the simulated one lacks."""
    folder = build.ensure_built("kwok", silent)
    built = len(count.read_text().split())
    assert built == len(build.programs_for("kwok")) < len(build.PROGRAMS)
    build.ensure_built("kwok", silent)
    assert len(count.read_text().split()) == built
    build.ensure_built("real", silent)
    assert {path.name for path in folder.iterdir()} == {program.name for program in build.PROGRAMS}
    assert (build.stages_dir() / "pod" / "one.yaml").read_text() == "x"


def test_a_failed_build_leaves_no_program_and_is_taken_up_again(count: Path, tmp_path: Path) -> None:
    """The error has Go's words; what was finished stays; the next run builds the rest only."""
    (tmp_path / "broken").touch()
    with pytest.raises(ClusterError, match=r"building kwok failed:\n(.*\n)*syntax error"):
        build.ensure_built("kwok", silent)
    before = len(count.read_text().split())
    assert "kwok" in [program.name for program in build.missing("kwok")]
    (tmp_path / "broken").unlink()
    build.ensure_built("kwok", silent)
    assert build.missing("kwok") == []
    assert len(count.read_text().split()) == len(build.programs_for("kwok")) > before


def test_two_builders_at_once_wait_for_each_other(count: Path) -> None:
    """Builders that start together build each program once between them."""
    threads = [threading.Thread(target=build.ensure_built, args=("kwok", silent)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(count.read_text().split()) == len(build.programs_for("kwok"))


def test_a_waiting_builder_says_so(count: Path) -> None:
    """Whoever waits for the lock says why nothing happens."""
    said: list[str] = []
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with build.build_lock(silent):
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)

    def say(line: str) -> None:
        said.append(line)
        release.set()

    build.ensure_built("kwok", say)
    holder.join(30)
    assert "another process is building" in said[0]
    assert count.exists()


def test_the_version_key_follows_versions_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs of other flags lie in another folder."""
    before = build.version_key()
    assert before.startswith(build.KUBERNETES)
    monkeypatch.setattr(build, "LDFLAGS", "-s")
    assert build.version_key() != before


def test_go_mod_has_the_versions_that_the_code_names() -> None:
    """The version stamped into the programs is the version built."""
    text = (TOOLS / "go.mod").read_text()
    assert f"k8s.io/kubernetes {build.KUBERNETES}" in text
    assert f"helm.sh/helm/v3 {build.HELM}" in text
